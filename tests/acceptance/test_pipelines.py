"""A project from a TOML file and from titles, from its making to its end, on the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import dcengine
from dcengine import api
from dcengine.verbs import Completion, LeasedTask, LeaseRequest, TaskFlag
from tests.engines import environment, eventually, served

PAGE = Path(__file__).resolve().parents[2] / "docs/projects.md"
PICTURES = """
def split(found):
    return [{"url": found, "part": part} for part in range(3)]

def shrink(part):
    if part["part"] == 1 and part["url"] == "bad":
        raise ValueError("not a picture")
    return f"{part['url']}/{part['part']}"

def sheet(parts):
    return " ".join(parts)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Run]:
    """The command line beside an engine with workers; this process asks the same engine."""
    with served(tmp_path / "work.db") as told:
        url = str(told["url"])

        def run(*arguments: str, code: int = 0, input: str = "") -> subprocess.CompletedProcess[str]:
            ended = subprocess.run(
                [sys.executable, "-m", "dcengine", *arguments], env=environment(DCENGINE_URL=url), cwd=tmp_path,
                input=input, capture_output=True, text=True,
            )  # fmt: skip
            assert ended.returncode == code, ended.stdout + ended.stderr
            return ended

        yield run


def the_file(folder: Path) -> Path:
    """Write the file that the page of projects shows, and what it refers to."""
    (sample,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (folder / "pictures.py").write_text(PICTURES)
    (folder / "pipeline.toml").write_text(sample)
    return folder / "pipeline.toml"


def lease(project: str, stage: str, n: int, worker: str = "outside") -> list[LeasedTask]:
    request = LeaseRequest(project=project, stage=stage, worker=worker, n=n, wait=10)
    leased: list[LeasedTask] = api.current().call("lease", request)
    return leased


def complete(tasks: list[LeasedTask], make: Callable[[bytes], bytes] = bytes) -> None:
    done = [Completion(token=task.token, output=msgspec.Raw(make(bytes(task.input)))) for task in tasks]
    assert all(answer.is_accepted for answer in api.current().call("complete", done))


def test_the_file_of_the_page_goes_from_its_making_to_its_end(command: Run, tmp_path: Path) -> None:
    the_file(tmp_path)

    made = command("project", "create", "pipeline.toml").stdout
    assert "project thumbnails with 4 stages: fetch (CPU), split, shrink, sheet" in made
    assert "dcengine project run thumbnails" in made
    project = dcengine.Project("thumbnails")
    assert project.add(["a", "bad"]) == range(1, 3)
    assert command("project", "run", "thumbnails").stdout == "project thumbnails runs; open jobs: 2\n"

    tasks = lease("thumbnails", "fetch", 10)
    assert [bytes(task.input) for task in tasks] == [b'"a"', b'"bad"']
    complete(tasks)

    assert project.results(60) == ["a/0 a/1 a/2", "bad/0 bad/2"]
    shown = command("project", "show", "thumbnails").stdout
    assert "fetch (CPU)" in shown
    assert "expand" in shown
    (letter,) = json.loads(command("jobs", "failed", "thumbnails", "--json").stdout)
    assert (letter["stage"], letter["parent"]) == ("shrink", 2)
    assert "not a picture" in command("jobs", "failed", "thumbnails", "--stage", "shrink").stdout
    history = command("jobs", "history", "thumbnails/1").stdout
    assert [line.split()[0] for line in history.splitlines() if line.strip()][-3:] == ["fetch", "split", "sheet"]
    edited = {"url": "good", "part": 1}
    name = f"thumbnails/{letter['number']}"
    assert "at stage shrink" in command("jobs", "edit", name, "--json", json.dumps(edited)).stdout
    assert project.wait(60).failed == 0
    assert command("jobs", "retry", "--project", "thumbnails").stdout.startswith("jobs that run again: 0;")
    assert "outside" in command("leaderboard", "thumbnails", "--span", "day").stdout

    assert "deleted project thumbnails: 8 jobs" in command("project", "delete", "thumbnails", input="y\n").stdout
    assert command("project", "list").stdout.startswith("no projects yet")


def test_making_a_project_again_brings_it_up_to_date(command: Run, tmp_path: Path) -> None:
    file = the_file(tmp_path)
    command("project", "create", "pipeline.toml")
    dcengine.Project("thumbnails").add(["a"])
    command("project", "run", "thumbnails")

    file.write_text(file.read_text().replace("memory>=1GiB", "memory>=2GiB"))
    assert "it runs" in command("project", "create", "pipeline.toml").stdout

    assert dcengine.Project("thumbnails").status().stages[2].tags == "memory>=2GiB"
    file.write_text(file.read_text().replace('name = "sheet"', 'name = "page"'))
    assert "1 open job" in command("project", "create", "pipeline.toml", code=1).stderr


def test_titles_make_stages_that_send_bad_input_back_after_five_votes(command: Run) -> None:
    assert "a (CPU), b (GPU), c (Pack)" in command("project", "create", "laion", "--lease", "CPU,GPU,Pack").stdout
    project = dcengine.Project("laion")
    project.add([{"url": "x"}])
    command("project", "run", "laion")
    complete(lease("laion", "a", 1), lambda text: b'{"made": ' + text + b"}")

    for voter in range(5):
        assert project.job(1).status().flags == voter
        (task,) = lease("laion", "b", 1, worker=f"w{voter}")
        api.current().call("flag", [TaskFlag(token=task.token, reason="black")])

    job = project.job(1)
    eventually(lambda: job.status().generation == 1)
    assert job.status().stage == "a"
    assert [(step.stage, step.state) for step in job.history()] == [
        ("a", "returned"), ("b", "returned"), ("a", "queued"),
    ]  # fmt: skip
    assert job.history()[2].input == {"url": "x"}
    complete(lease("laion", "a", 1), lambda text: b'{"again": 1}')
    complete(lease("laion", "b", 1))
    complete(lease("laion", "c", 1))
    assert project.results(60) == [{"again": 1}]


def test_a_project_is_steered_on_the_command_line(command: Run, tmp_path: Path) -> None:
    the_file(tmp_path)
    command("project", "create", "pipeline.toml")
    dcengine.Project("thumbnails").add(list("abc"))

    assert "stage split of project thumbnails is paused" in (
        command("project", "pause", "thumbnails", "--stage", "split").stdout
    )
    assert json.loads(command("project", "list", "--json").stdout)[0]["stages"][1]["is_paused"]
    assert "runs" in command("project", "resume", "thumbnails", "--stage", "split").stdout
    assert command("project", "cancel", "thumbnails").stdout == "jobs of thumbnails cancelled: 3\n"
    assert command("jobs", "retry", "--project", "thumbnails", "--cancelled").stdout == "jobs that run again: 3\n"
    assert json.loads(command("jobs", "cancel", "--project", "thumbnails", "--json").stdout) == {"cancelled": 3}
    for wrong in (("show", "nobody"), ("pause", "thumbnails", "--stage", "nothing"), ("delete", "nobody", "--yes")):
        assert command("project", *wrong, code=1).stderr.startswith("no ")
