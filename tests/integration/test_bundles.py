"""Short tasks of a stage run together on a slot, and yet each is by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.engine import Engine
from dcengine.engine.running import Running
from dcengine.jobs import Bundle
from dcengine.runner.units import UnitReport
from tests.engines import embedded, eventually

ITEMS = 600


class Seen:
    """Counts the units of an engine by what they are."""

    def __init__(self, core: Engine) -> None:
        self.bundles: list[int] = []
        self._call = core._call
        core._call = self._noted  # type: ignore[method-assign]

    async def _noted(self, running: Running) -> UnitReport:
        if isinstance(running.work, Bundle):
            self.bundles.append(len(running.work.tasks))
        return await self._call(running)


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    with embedded(tmp_path / "work.db", workers=1) as engine:
        yield Seen(engine._engine)


def test_many_short_tasks_need_few_units(seen: Seen) -> None:
    project = dcengine.Project("short")
    project.stage(name="one")(lambda item: item + 1)
    project.stage(name="two")(lambda item: item * 2)
    project.add(range(ITEMS))

    assert project.run().results(60) == [(item + 1) * 2 for item in range(ITEMS)]

    assert sum(seen.bundles) > ITEMS
    assert len(seen.bundles) < ITEMS / 4
    assert sum(row.tasks for row in project.leaderboard()) == 2 * ITEMS


def test_what_a_task_prints_is_its_own(seen: Seen) -> None:
    project = dcengine.Project("talk")

    @project.stage
    def say(item: int) -> None:
        print(f"this is {item}")

    project.add(range(ITEMS))
    project.run().wait(60)

    assert seen.bundles
    for number in (1, ITEMS // 2, ITEMS):
        assert str(project.job(number).output) == f"this is {number - 1}\n"


def test_an_error_is_that_of_its_task_only(seen: Seen) -> None:
    project = dcengine.Project("err")

    @project.stage(retries=1, back_off=0.01)
    def halve(item: int) -> int:
        if item % 2:
            raise ValueError(item)
        return item // 2

    project.add(range(ITEMS))
    status = project.run().wait(60)

    assert seen.bundles
    assert (status.succeeded, status.failed) == (ITEMS // 2, ITEMS // 2)
    assert all(str(error) == str(number - 1) for number, error in project.failures.items())
    assert {job.status().errors for job in (project.job(2), project.job(ITEMS))} == {2}


def test_a_crash_is_that_of_its_task_only(seen: Seen) -> None:
    project = dcengine.Project("crash")

    @project.stage(crash_retries=0)
    def fall(item: int) -> int:
        if item == 500:
            os._exit(7)
        return item

    project.add(range(ITEMS))
    status = project.run().wait(60)

    assert seen.bundles
    assert (status.succeeded, status.failed) == (ITEMS - 1, 1)
    assert list(project.failures) == [501]
    assert isinstance(project.failures[501], dcengine.TaskCrashed)


def test_one_is_cancelled_and_the_others_go_on(seen: Seen, tmp_path: Path) -> None:
    project, gate = dcengine.Project("stop"), tmp_path / "gate"
    reached = tmp_path / "reached"

    @project.stage
    def wait(item: int) -> int:
        import time

        if item == 400:
            reached.touch()
            while not gate.exists():
                time.sleep(0.01)
        return item

    project.add(range(ITEMS))
    project.run()
    eventually(reached.exists)

    project.job(401).cancel()
    status = project.wait(60)

    assert seen.bundles
    assert (status.succeeded, status.cancelled) == (ITEMS - 1, 1)
    assert project.job(401).status().state == "cancelled"
