"""Exports over pages of outputs: every job once, values as they are, and nothing half-written."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dcengine import codec
from dcengine.cli import app
from dcengine.errors import NotFound
from dcengine.jobs import StageKind
from dcengine.verbs import BackupDone, ProjectStatus, StageOutput, StageStatus, VacuumDone


class Odd:
    """Something that JSON has no form for."""

    def __repr__(self) -> str:
        return "<odd, with a comma>"


class Broken:
    def __repr__(self) -> str:
        raise ValueError("no text")


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("unpickled",)


class Engine:
    """A project of two stages, the last one for outside workers, in pages of three."""

    def __init__(self) -> None:
        self.kinds: dict[str, StageKind] = {"load": "function", "caption": "lease"}
        self.left: dict[str, list[StageOutput]] = {"load": [], "caption": [], "former": []}
        self.asked: list[str] = []

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(verb)
        return getattr(self, verb)(*args, **kwargs)

    def project(self, name: str) -> ProjectStatus:
        if name != "photos":
            raise NotFound("project", name)
        stages = [StageStatus(name=stage, tags="", counts={}, kind=kind) for stage, kind in self.kinds.items()]
        return ProjectStatus(name=name, is_paused=False, stages=stages)

    def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        if stage not in self.left:
            raise NotFound("stage", f"{project}/{stage}")
        return [each for each in self.left[stage] if each.number > after][: min(limit, 3)]

    def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        failed = [each for outputs in self.left.values() for each in outputs if each.state == "failed"]
        return [each for each in sorted(failed, key=lambda each: each.number) if each.number > after][:3]

    def backup(self, path: str) -> BackupDone:
        return BackupDone(path=path, bytes=12_345_678, blobs=self.blobs, seconds=0.25)

    def vacuum(self) -> VacuumDone:
        return VacuumDone(before=2_000_000, after=1_000_000, blobs=self.blobs, blob_bytes=7, seconds=1.5)

    blobs = 0

    def leaves(self, stage: str, *values: bytes, state: str = "succeeded") -> None:
        """Have the next jobs leave *stage*."""
        first = len(self.left[stage]) + 1
        self.left[stage] += [StageOutput(100 + n, n, state, value, stage) for n, value in enumerate(values, first)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    double = Engine()
    monkeypatch.setattr("dcengine.api.current", lambda: double)
    monkeypatch.chdir(tmp_path)
    for name in ("DCENGINE_URL", "DCENGINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return double


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def good(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def lines(*arguments: str) -> list[dict[str, Any]]:
    """Return what is exported as lines of JSON."""
    return [json.loads(line) for line in good("export", "photos", *arguments).stdout.splitlines()]


def rows(*arguments: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(good("export", "photos", "--format", "csv", *arguments).stdout)))


def text(value: object) -> bytes:
    return codec.pack_json(value, what="a value")


# ---- what is written -----------------------------------------------------------------------


def test_every_job_is_a_line_in_order_of_its_number(engine: Engine) -> None:
    engine.leaves("load", *(codec.dumps(number * 10) for number in range(1, 11)))

    assert lines("--stage", "load") == [
        {"number": number, "job": 100 + number, "state": "succeeded", "value": number * 10} for number in range(1, 11)
    ]


def test_the_last_stage_is_the_one_that_is_not_named(engine: Engine) -> None:
    engine.leaves("caption", text("a cat"))

    assert [line["value"] for line in lines()] == ["a cat"]


def test_values_are_json_whoever_gave_them(engine: Engine) -> None:
    values = [None, True, 1.5, "tëxt\n", [1, {"a": "b"}], 10**30, "\ud800"]
    engine.leaves("load", *map(codec.dumps, values))
    engine.leaves("caption", *map(text, values))

    assert [line["value"] for line in lines("--stage", "load")] == values
    assert [line["value"] for line in lines("--stage", "caption")] == values


def test_a_value_that_was_written_over_several_lines_comes_on_one(engine: Engine) -> None:
    engine.leaves("caption", b'J{\n  "a": 1,\r\n  "b": "x\\ny"\n}')

    assert [line["value"] for line in lines()] == [{"a": 1, "b": "x\ny"}]


def test_a_table_has_texts_as_they_are_and_the_rest_as_json(engine: Engine) -> None:
    engine.leaves("caption", text("one, two"), text('say "no"\nor yes'), text([1, "a"]), text(2.5), text(None))

    header, *found = rows()

    assert header == ["number", "job", "state", "value"]
    assert found == [
        ["1", "101", "succeeded", "one, two"],
        ["2", "102", "succeeded", 'say "no"\nor yes'],
        ["3", "103", "succeeded", '[1,"a"]'],
        ["4", "104", "succeeded", "2.5"],
        ["5", "105", "succeeded", "null"],
    ]


def test_a_value_without_json_is_written_as_python_shows_it_and_counted(engine: Engine) -> None:
    engine.leaves("load", codec.dumps({1, 2}), codec.dumps(Odd()), codec.dumps(Broken()), codec.dumps(5))

    result = good("export", "photos", "--stage", "load")

    first, second, third, fourth = map(json.loads, result.stdout.splitlines())
    assert first == {"number": 1, "job": 101, "state": "succeeded", "repr": "{1, 2}"}
    assert second["repr"] == "<odd, with a comma>"
    assert "its repr fails: no text" in third["repr"]
    assert fourth["value"] == 5
    assert "3 value(s) are no JSON" in result.stderr
    assert [row[3] for row in rows("--stage", "load")[1:3]] == ["{1, 2}", "<odd, with a comma>"]


def test_a_value_of_a_module_that_is_not_here_is_told_of(engine: Engine) -> None:
    engine.leaves("load", b"\x80\x04cno_such_module\nThing\n.", b"\x80garbage")

    first, second = lines("--stage", "load")

    assert "No module named 'no_such_module'" in first["repr"]
    assert "cannot be read here" in second["repr"]


def test_what_outside_workers_gave_is_never_unpickled(engine: Engine) -> None:
    engine.leaves("caption", pickle.dumps(Evil()))

    (line,) = lines()

    assert "no JSON" in line["repr"]
    assert not Path("unpickled").exists()


def test_a_stage_of_former_times_is_read_without_unpickling(engine: Engine) -> None:
    engine.leaves("former", text("old"), pickle.dumps(Evil()))

    first, second = lines("--stage", "former")

    assert first["value"] == "old"
    assert "repr" in second
    assert not Path("unpickled").exists()


def test_a_value_that_was_not_kept_says_so(engine: Engine) -> None:
    engine.leaves("caption", b"")

    assert [line["repr"] for line in lines()] == ["it was kept for a set time, which is over"]


# ---- failed ones ---------------------------------------------------------------------------


def test_failed_jobs_are_left_out_or_come_alone(engine: Engine) -> None:
    failure = codec.pack_failure(codec.failure_from(ValueError("too dark")))
    engine.leaves("load", codec.dumps(1), codec.dumps(2))
    engine.leaves("load", failure, state="failed")
    engine.leaves("load", codec.dumps(4))

    assert [line["number"] for line in lines("--stage", "load")] == [1, 2, 4]
    assert lines("--stage", "load", "--failed") == [
        {"number": 3, "job": 103, "state": "failed", "stage": "load", "error": "ValueError: too dark"}
    ]


def test_without_a_stage_those_that_failed_anywhere_are_exported(engine: Engine) -> None:
    failure = codec.pack_failure(codec.failure_from(ValueError("too dark")))
    engine.leaves("load", failure, state="failed")
    engine.leaves("caption", text("fine"))
    engine.leaves("caption", *[failure] * 5, state="failed")

    assert [(line["number"], line["stage"]) for line in lines("--failed")][:2] == [(1, "load"), (2, "caption")]
    header, first, *rest = rows("--failed")
    assert header == ["number", "job", "state", "stage", "error"]
    assert first == ["1", "101", "failed", "load", "ValueError: too dark"]
    assert len(rest) == 5


# ---- where to ------------------------------------------------------------------------------


def test_a_file_takes_the_place_of_what_was_there_at_the_end(engine: Engine) -> None:
    engine.leaves("caption", text("new"))
    Path("out.jsonl").write_text("old")

    result = good("export", "photos", "-o", "out.jsonl")

    assert json.loads(Path("out.jsonl").read_text())["value"] == "new"
    assert result.stdout == ""
    assert "1 job(s) written to out.jsonl" in result.stderr
    assert os.listdir() == ["out.jsonl"]


def test_of_an_export_that_fails_nothing_is_left(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.leaves("caption", *[text("new")] * 7)
    Path("out.jsonl").write_text("old")
    pages = engine.outputs

    def breaking(project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        if after > 3:
            raise KeyboardInterrupt
        return pages(project, stage, after=after, limit=limit)

    monkeypatch.setattr(engine, "outputs", breaking)
    result = run("export", "photos", "-o", "out.jsonl")

    assert result.exit_code == 130
    assert "nothing was written" in result.stderr
    assert Path("out.jsonl").read_text() == "old"
    assert os.listdir() == ["out.jsonl"]


def test_a_link_stays_a_link_to_what_is_written(engine: Engine) -> None:
    engine.leaves("caption", text("new"))
    Path("real.jsonl").write_text("old")
    Path("link.jsonl").symlink_to("real.jsonl")

    good("export", "photos", "-o", "link.jsonl")

    assert Path("link.jsonl").is_symlink()
    assert "new" in Path("real.jsonl").read_text()


def test_a_link_where_the_unfinished_file_is_to_be_is_not_followed(engine: Engine) -> None:
    engine.leaves("caption", text("new"))
    Path("precious").write_text("old")
    Path(f".out.jsonl.{os.getpid()}.partial").symlink_to("precious")

    good("export", "photos", "-o", "out.jsonl")

    assert Path("precious").read_text() == "old"
    assert "new" in Path("out.jsonl").read_text()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_written_into_and_stays_one(engine: Engine) -> None:
    engine.leaves("caption", text("new"))
    os.mkfifo("pipe")
    read: list[str] = []
    reading = threading.Thread(target=lambda: read.append(Path("pipe").read_text()))
    reading.start()

    good("export", "photos", "-o", "pipe")
    reading.join(10)

    assert json.loads(read[0])["value"] == "new"
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


# ---- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["films"], "no project films"),
        (["photos", "--stage", "colour"], "no stage photos/colour"),
        (
            ["photos", "-o", "missing/out.jsonl"],
            "-o cannot be 'missing/out.jsonl'; expected a file that can be written",
        ),
        (["photos", "-o", "."], "-o cannot be '.'"),
    ],
)
def test_a_mistake_is_named_and_leaves_no_file(engine: Engine, arguments: list[str], problem: str) -> None:
    result = run("export", *arguments)

    assert result.exit_code == 1
    assert problem in result.stderr
    assert result.stdout == ""
    assert os.listdir() == []


# ---- backup and vacuum ---------------------------------------------------------------------


def test_a_backup_says_where_it_is_how_large_and_how_long_it_took(engine: Engine, tmp_path: Path) -> None:
    engine.blobs = 3

    assert good("backup", "copy.db").stdout == (
        f"{tmp_path}/copy.db: 12,345,678 bytes, and 3 value(s) beside it, in 0.2 s\n"
    )
    assert json.loads(good("backup", "copy.db", "--json").stdout)["path"] == f"{tmp_path}/copy.db"


def test_a_backup_overwrites_nothing(engine: Engine, tmp_path: Path) -> None:
    Path("copy.db").write_text("precious")

    result = run("backup", "copy.db")

    assert result.exit_code == 1
    assert "copy.db'; expected a new one: what is there is not overwritten" in result.stderr
    assert "backup" not in engine.asked
    assert Path("copy.db").read_text() == "precious"


def test_vacuum_says_what_it_gave_back(engine: Engine) -> None:
    assert good("vacuum").stdout == "2,000,000 bytes before, 1,000,000 after, in 1.5 s\n"
    engine.blobs = 2
    assert "2 value(s) beside the file went, with 7 bytes" in good("vacuum").stdout
