"""A job of 45,000 parts, done by outside workers: its gather runs exactly once, when all are in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import dcengine
from dcengine import api
from dcengine.verbs import Completion, LeasedTask, LeaseRequest, TaskAnswer
from tests.engines import embedded

PARTS, TOTAL = 45_000, 45_000 * 44_999
PAGE = 1000  #: parts in one lease


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "marks"
    folder.mkdir()
    with embedded(tmp_path / "work.db", processes=False):
        yield folder


def lease(stage: str) -> list[LeasedTask]:
    request = LeaseRequest(project="many", stage=stage, worker="w1", nickname="alice", n=PAGE, wait=10)
    tasks: list[LeasedTask] = api.current().call("lease", request)
    return tasks


def complete(tasks: list[LeasedTask]) -> None:
    done = [Completion(token=task.token, output=msgspec.Raw(b"%d" % (2 * int(bytes(task.input))))) for task in tasks]
    answers: list[TaskAnswer] = api.current().call("complete", done)
    assert all(answer.is_accepted for answer in answers)


@pytest.mark.timeout(300)
def test_a_gather_of_45_000_parts_runs_exactly_once_when_all_are_in(marks: Path) -> None:
    project = dcengine.Project("many")
    project.expand(name="split")(range)
    project.lease_stage("double")

    @project.gather
    def add_up(values: list[int]) -> tuple[int, int]:
        import os
        import uuid

        open(os.path.join(folder, uuid.uuid4().hex), "w").close()
        return len(values), sum(values)

    folder = str(marks)
    project.add([PARTS])
    project.run()
    for page in range(PARTS // PAGE):
        tasks = lease("double")
        assert len(tasks) == PAGE
        if page == PARTS // PAGE - 1:
            complete(tasks[:-1])
            assert "waits for 1 of its 45000 parts" in project.job(1).why()
            assert list(marks.iterdir()) == []
            tasks = tasks[-1:]
        complete(tasks)

    assert project.job(1).result(timeout=60) == (PARTS, TOTAL)
    assert len(list(marks.iterdir())) == 1
    assert project.status().succeeded == PARTS + 1
    assert [(row.nickname, row.tasks) for row in project.leaderboard() if row.nickname == "alice"] == [("alice", PARTS)]
