"""Import and export from the command line, as people do them, over an engine of its own."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

import dcengine
from dcengine import codec
from dcengine.api import current
from dcengine.pipelines import leased
from dcengine.verbs import Completion, LeaseRequest, ProjectStatus
from tests.engines import environment, eventually, served, serving

MANY = 60_000  #: items that take a good part of a second


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """An engine for all tests that leave it alive."""
    with serving(tmp_path_factory.mktemp("engine") / "work.db", workers=1) as (_, told):
        yield told


@pytest.fixture
def folder(tmp_path: Path, address: dict[str, object]) -> Iterator[Path]:
    """Where commands run that are to ask this engine, as this process does."""
    (tmp_path / "dcengine.toml").write_text(f"url = {json.dumps(address['url'])}\n")
    dcengine.connect(str(address["url"]))
    yield tmp_path
    dcengine.connect(None)


numbers = count(1)


@pytest.fixture
def laion(folder: Path) -> str:
    """A project of two lease stages."""
    name = f"laion-{next(numbers)}"
    current().call("declare_project", leased(name, ["CPU", "GPU"]))
    return name


@pytest.fixture
def stored(address: dict[str, object]) -> Callable[[str], list[object]]:
    """What looks up the inputs of a project's jobs, in order of their numbers."""
    return lambda name: inputs_in(Path(str(address["db"])), name)


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    ours = {name: value for name, value in environment().items() if not name.startswith("DCENGINE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "dcengine", *arguments],
        cwd=folder, env=ours, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def command(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    process = start(folder, *arguments, stdin=subprocess.PIPE)
    out, error = process.communicate(given, timeout=90)
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def good(folder: Path, *arguments: str, given: str | None = None) -> str:
    ended = command(folder, *arguments, given=given)
    assert ended.returncode == 0, ended
    return ended.stdout


def told(folder: Path, *arguments: str, given: str | None = None) -> str:
    """Return the one paragraph that a command said before it ended with an error."""
    ended = command(folder, *arguments, given=given)
    assert ended.returncode == 1, ended
    assert (ended.stdout, "Traceback" in ended.stderr) == ("", False)
    (paragraph,) = ended.stderr.strip().splitlines()
    return paragraph


def status(name: str) -> ProjectStatus:
    found: ProjectStatus = current().call("project", name)
    return found


def inputs_in(db: Path, name: str) -> list[object]:
    connection = sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        rows = connection.execute(
            "SELECT job.number, input FROM job JOIN payload ON payload.task = job.id "
            "WHERE project = (SELECT id FROM project WHERE name = ?) AND input <> x'' ORDER BY job.number",
            (name,),
        ).fetchall()
    finally:
        connection.close()
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
    return [codec.loads(value) for _, value in rows]


def lease_all(name: str, stage: str) -> list[tuple[int, Any]]:
    """Be a worker that leaves nothing undone: return number and input of every job that *stage* handed out."""
    current().call("run_project", name)
    found: list[tuple[int, Any]] = []
    while leased := current().call("lease", LeaseRequest(project=name, stage=stage, worker="w", n=1000)):
        current().call("complete", [Completion(token=task.token, output=task.input) for task in leased])
        found += [(task.number, msgspec.json.decode(task.input)) for task in leased]
    return sorted(found)


def write_lines(file: Path, count: int) -> list[str]:
    lines = [f"s3://bucket/{number:06}.tar" for number in range(count)]
    file.write_text("".join(f"{line}\n" for line in lines))
    return lines


def kill_at(adding: subprocess.Popen[str], name: str, enough: int) -> bool:
    """Kill *adding* once the project has so many jobs; return whether it was still at work."""
    eventually(lambda: status(name).total >= enough or adding.poll() is not None)
    was_at_work = adding.poll() is None
    adding.kill()
    adding.communicate()
    return was_at_work


# ---- every item, once ----------------------------------------------------------------------


def test_jobs_of_every_kind_of_source_reach_the_workers_as_they_are(folder: Path, laion: str) -> None:
    (folder / "list.json").write_text('["one", {"a": [1.5, null]}, "\\ud83d\\ude00"]')
    (folder / "values.ndjson").write_text('"two"\n{"b": true}\n')
    (folder / "lines.txt").write_bytes("drei\r\nvïer\n".encode())

    for arguments in (
        ["--json", "list.json"], ["--ndjson", "values.ndjson"], ["--txt", "lines.txt"], ["--brace", "x/{08..10}"],
    ):  # fmt: skip
        good(folder, "jobs", "add", laion, *arguments)
    good(folder, "jobs", "add", laion, "-", given="standard\ninput")

    assert [value for _, value in lease_all(laion, "a")] == [
        "one", {"a": [1.5, None]}, "😀", "two", {"b": True}, "drei", "vïer", "x/08", "x/09", "x/10", "standard",
        "input",
    ]  # fmt: skip


def test_an_import_that_is_killed_again_and_again_loses_and_doubles_nothing(
    folder: Path, laion: str, stored: Callable[[str], list[object]], dice: random.Random
) -> None:
    lines = write_lines(folder / "lines.txt", MANY)
    add, kills = ["jobs", "add", laion, "--txt", "lines.txt"], 0

    for part in range(1, 6):  # each somewhere else on the way
        enough = MANY * part // 7 + dice.randrange(MANY // 7)
        kills += kill_at(start(folder, *add), laion, enough)
        assert status(laion).total <= MANY
    good(folder, *add)

    assert kills >= 3
    assert status(laion).total == MANY
    assert "are there already" in good(folder, *add)
    assert stored(laion) == lines


def test_ctrl_c_stops_between_two_blocks_and_says_how_to_go_on(
    folder: Path, laion: str, stored: Callable[[str], list[object]], dice: random.Random
) -> None:
    lines = write_lines(folder / "lines.txt", MANY)
    enough = dice.randrange(1, MANY // 2)
    process = start(folder, "jobs", "add", laion, "--txt", "lines.txt")
    eventually(lambda: status(laion).total >= enough)

    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)

    assert process.returncode == 130
    assert out == ""
    added = status(laion).total
    assert error == f"stopped: {added:,} item(s) of lines.txt are in {laion}; the same command goes on after them\n"
    good(folder, "jobs", "add", laion, "--txt", "lines.txt")
    assert stored(laion) == lines


def test_an_import_whose_engine_is_killed_goes_on_in_the_next_one(tmp_path: Path, dice: random.Random) -> None:
    lines = write_lines(tmp_path / "lines.txt", MANY)
    db, enough = tmp_path / "work.db", dice.randrange(1, MANY // 2)
    with serving(db, workers=0) as (engine, address):
        dcengine.connect(str(address["url"]))
        good(tmp_path, "project", "create", "laion", "--lease", "CPU", "--url", str(address["url"]))
        adding = start(tmp_path, "jobs", "add", "laion", "--txt", "lines.txt", "--url", str(address["url"]))
        eventually(lambda: status("laion").total >= enough)

        engine.kill()
        _, error = adding.communicate(timeout=60)

    dcengine.connect(None)
    assert adding.returncode == 1
    so_far, reason = error.splitlines()
    assert so_far.endswith("item(s) of lines.txt are in laion; the same command goes on after them")
    assert reason.startswith("no engine answers at")
    with served(db, workers=0) as next_address:
        good(tmp_path, "jobs", "add", "laion", "--txt", "lines.txt", "--url", str(next_address["url"]))
        assert inputs_in(db, "laion") == lines


def test_two_imports_of_the_same_at_once_bring_it_once(
    folder: Path, laion: str, stored: Callable[[str], list[object]]
) -> None:
    lines = write_lines(folder / "lines.txt", MANY)

    both = [start(folder, "jobs", "add", laion, "--txt", "lines.txt") for _ in range(2)]
    ends = [process.communicate(timeout=90) for process in both]

    assert [process.returncode for process in both] == [0, 0], ends
    assert stored(laion) == lines


def test_a_file_that_grew_adds_its_new_lines_and_one_that_changed_adds_none(folder: Path, laion: str) -> None:
    write_lines(folder / "lines.txt", 5_000)
    good(folder, "jobs", "add", laion, "--txt", "lines.txt")
    longer = write_lines(folder / "lines.txt", 10_000)

    said = good(folder, "jobs", "add", laion, "--txt", "lines.txt")

    assert said.startswith("5,000 job(s) added")
    (folder / "lines.txt").write_text("something else\n" + "\n".join(longer))
    refusal = told(folder, "jobs", "add", laion, "--txt", "lines.txt")
    assert "lines.txt' stands at 10,000 item(s)" in refusal
    assert lease_all(laion, "a") == list(enumerate(longer, 1))


def test_an_item_whose_key_is_known_makes_no_second_job(folder: Path, laion: str) -> None:
    good(folder, "jobs", "add", laion, "--brace", "{a,b,c}", "--keys")

    said = good(folder, "jobs", "add", laion, "--brace", "{b,c,d}", "--keys")

    assert "1 job(s) added" in said
    assert "2 of the others had their jobs already" in said
    assert [value for _, value in lease_all(laion, "a")] == ["a", "b", "c", "d"]


def test_priority_and_time_are_those_that_were_asked_for(folder: Path, laion: str) -> None:
    good(folder, "jobs", "add", laion, "--brace", "{low,lower}")
    good(folder, "jobs", "add", laion, "--brace", "{high,higher}", "--priority", "5")
    good(folder, "jobs", "add", laion, "--brace", "{later,latest}", "--not-before", "+1h")
    current().call("run_project", laion)

    (first,) = current().call("lease", LeaseRequest(project=laion, stage="a", worker="w"))
    rest = current().call("lease", LeaseRequest(project=laion, stage="a", worker="w", n=10))

    assert [bytes(task.input) for task in (first, *rest)] == [b'"high"', b'"higher"', b'"low"', b'"lower"']
    assert status(laion).stages[0].counts["waiting"] == 2


def test_a_gather_gets_all_of_an_import_that_was_killed_on_its_way(
    folder: Path, laion: str, dice: random.Random
) -> None:
    name = f"{laion} gathered"
    project = dcengine.Project(name)
    project.lease_stage("look")

    @project.gather
    def count(found: list[str]) -> list[object]:
        return [len(found), min(found), max(found)]

    project.run()
    write_lines(folder / "lines.txt", 10_000)
    add, enough = ["jobs", "add", name, "--txt", "lines.txt"], dice.randrange(1, 8_000)
    kill_at(start(folder, *add), name, enough)
    good(folder, *add)

    leased = lease_all(name, "look")

    assert len(leased) == 10_000
    first = [10_000, "s3://bucket/000000.tar", "s3://bucket/009999.tar"]
    assert project.results(60) == [first]
    write_lines(folder / "lines.txt", 10_003)  # what comes later is gathered by itself
    good(folder, *add)
    lease_all(name, "look")
    assert project.results(60) == [first, [3, "s3://bucket/010000.tar", "s3://bucket/010002.tar"]]


def test_a_long_import_takes_no_more_memory_than_a_short_one(folder: Path, laion: str) -> None:
    script = """
        import re, sys
        from pathlib import Path
        from dcengine.cli import app
        app(sys.argv[1:], standalone_mode=False)
        # Not from getrusage: there a process begins with what the one that forked it has taken.
        print("peak", *re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()))
    """

    def peak(pattern: str) -> int:
        """Return the most memory that the import took, in kilobytes."""
        line = [sys.executable, "-c", textwrap.dedent(script), "jobs", "add", laion, "--brace", pattern]
        ended = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=90)
        assert ended.returncode == 0, ended.stderr
        return int(ended.stdout.split()[-1])

    short, long = peak("short/{1..100}"), peak("long/{000000..199999}")

    assert long < 150_000
    assert long - short < 30_000


# ---- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "data", "problem"),
    [
        ("--json", b'{"a": 1}', "it is not a JSON list, which begins with '[': '{' stands at line 1, character 1"),
        ("--json", b"", "it is empty, not a JSON list"),
        ("--json", b"[1, 2, 3", "the list ends too early at line 1, character 9"),
        ("--json", b"one\ntwo", "it is not a JSON list"),
        ("--ndjson", b"1\n{", "line 2 is no JSON"),
        ("--txt", b"one\ntwo\n\xff\n", "line 3 is no UTF-8 text"),
    ],
)
def test_of_a_file_that_is_not_what_it_should_be_nothing_is_stored(
    folder: Path, laion: str, option: str, data: bytes, problem: str
) -> None:
    (folder / "items").write_bytes(data)

    said = told(folder, "jobs", "add", laion, option, "items")

    assert said.startswith(f"items: {problem}")
    assert "nothing was added" in said
    assert status(laion).total == 0


def test_a_list_broken_in_the_middle_keeps_what_is_before_and_goes_on_once_it_is_right(
    folder: Path, laion: str
) -> None:
    values = [f"item {number}" for number in range(10_000)]
    right = json.dumps(values)
    (folder / "list.json").write_text(right.replace('"item 9000"', "oops"))

    said = told(folder, "jobs", "add", laion, "--json", "list.json")

    place = right.index('"item 9000"') + 1
    assert f"no JSON value begins at line 1, character {place:,};" in said
    assert "the 8,192 item(s) before it are in the project" in said
    assert status(laion).total == 8_192
    (folder / "list.json").write_text(right)
    good(folder, "jobs", "add", laion, "--json", "list.json")
    assert [value for _, value in lease_all(laion, "a")] == values


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("{0..999999}{0..999999}", "at most 100,000,000 items; this one stands for 1,000,000,000,000"),
        ("s3://x/{0..", "a brace that is not closed at character 8"),
        ("s3://x/1.tar", "no braces at character 1"),
    ],
)
def test_a_pattern_that_cannot_be_adds_nothing(folder: Path, laion: str, pattern: str, problem: str) -> None:
    assert problem in told(folder, "jobs", "add", laion, "--brace", pattern)
    assert status(laion).total == 0


def test_unknown_projects_and_stages_are_named(folder: Path, laion: str) -> None:
    assert "no project nowhere" in told(folder, "jobs", "add", "nowhere", "--brace", "{a,b}")
    assert "no project nowhere" in told(folder, "export", "nowhere")
    assert "'colour'" in told(folder, "export", laion, "--stage", "colour", "-o", "out")
    assert not (folder / "out").exists()


# ---- out of it -----------------------------------------------------------------------------


def test_what_the_workers_made_is_exported(folder: Path, laion: str) -> None:
    good(folder, "jobs", "add", laion, "-", given="one\ntwo, three\n")
    good(folder, "jobs", "add", laion, "--ndjson", "-", given='{"a": "ü"}')
    lease_all(laion, "a")

    lines = [json.loads(line) for line in good(folder, "export", laion, "--stage", "a").splitlines()]
    good(folder, "export", laion, "--stage", "a", "--format", "csv", "-o", "out.csv")

    assert [(line["number"], line["state"], line["value"]) for line in lines] == [
        (1, "succeeded", "one"), (2, "succeeded", "two, three"), (3, "succeeded", {"a": "ü"}),
    ]  # fmt: skip
    with open(folder / "out.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["number", "job", "state", "value"]
    assert [row[3] for row in rows] == ["one", "two, three", '{"a":"ü"}']
    assert [int(row[1]) for row in rows] == [line["job"] for line in lines]
    assert good(folder, "export", laion) == ""  # nothing has left the last stage


def test_what_functions_returned_and_how_they_failed_is_exported(folder: Path, laion: str) -> None:
    project = dcengine.Project(f"{laion} by functions")

    @project.stage
    def divide(number: int) -> object:
        return {"tenth": 10 / number} if number != 5 else {number, number + 1}

    project.add([0, 4, 5, 10])
    project.run().wait(60)

    ended = command(folder, "export", project.name)
    failed = [json.loads(line) for line in good(folder, "export", project.name, "--failed").splitlines()]
    at_stage = good(folder, "export", project.name, "--failed", "--stage", "divide").splitlines()

    values = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line.get("value", line.get("repr")) for line in values] == [{"tenth": 2.5}, "{5, 6}", {"tenth": 1.0}]
    assert "1 value(s) are no JSON" in ended.stderr
    assert [(line["number"], line["stage"], line["error"]) for line in failed] == [
        (1, "divide", "ZeroDivisionError: division by zero")
    ]
    assert [json.loads(line) for line in at_stage] == failed


def test_a_reader_that_has_seen_enough_ends_the_export_quietly(folder: Path, laion: str) -> None:
    good(folder, "jobs", "add", laion, "--brace", "{1..5000}")
    lease_all(laion, "a")
    process = start(folder, "export", laion, "--stage", "a")
    assert process.stdout is not None
    assert process.stderr is not None

    assert json.loads(process.stdout.readline())["value"] == "1"
    process.stdout.close()

    assert process.wait(30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


# ---- copies --------------------------------------------------------------------------------


def test_a_backup_is_an_engine_s_file_like_any_other(folder: Path, laion: str, tmp_path: Path) -> None:
    good(folder, "jobs", "add", laion, "--brace", "{1..100}")

    said = good(folder, "backup", "copy.db")

    copy = folder / "copy.db"
    assert said.startswith(f"{copy}: {copy.stat().st_size:,} bytes")
    assert copy.stat().st_mode & 0o077 == 0
    good(folder, "jobs", "add", laion, "--brace", "{101..200}")
    with served(copy, workers=0):
        assert status(laion).total == 100


def test_a_backup_overwrites_nothing(folder: Path, laion: str) -> None:
    (folder / "copy.db").write_text("precious")

    assert "what is there is not overwritten" in told(folder, "backup", "copy.db")
    assert (folder / "copy.db").read_text() == "precious"


def test_a_backup_that_cannot_be_written_is_said_so(folder: Path, laion: str) -> None:
    assert "missing" in told(folder, "backup", "missing/copy.db")
    assert not (folder / "missing").exists()


def test_vacuum_gives_the_room_of_a_deleted_project_back(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with served(db, workers=0) as address:
        url = str(address["url"])
        good(tmp_path, "project", "create", "laion", "--lease", "CPU", "--url", url)
        good(tmp_path, "jobs", "add", "laion", "--brace", "{1..20000}", "--url", url)
        good(tmp_path, "project", "delete", "laion", "--yes", "--url", url)
        eventually(lambda: rows_of_jobs(db) == 0)

        said = json.loads(good(tmp_path, "vacuum", "--json", "--url", url))

    assert said["after"] < said["before"] / 2


def rows_of_jobs(db: Path) -> int:
    connection = sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        (count,) = connection.execute("SELECT count(*) FROM job").fetchone()
    finally:
        connection.close()
    return int(count)
