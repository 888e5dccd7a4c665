"""What happens to jobs of a project at moments that are rare by themselves."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.engine import Engine
from dcengine.projects import Project
from dcengine.store.adding import AddProjectJobs
from dcengine.store.moving import Move
from dcengine.verbs import ItemsSubmission
from tests.engines import embedded, eventually


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Engine]:
    with embedded(tmp_path / "work.db", workers=1, processes=False) as engine:
        yield engine._engine


@pytest.fixture
def project() -> Project:
    project = dcengine.Project("photos")
    project.stage(name="first")(lambda item: item + 1)
    project.stage(name="second")(lambda item: item * 10)
    return project


class HeldHandOver:
    """Keeps the first output that opens a stage from being stored until it is let go."""

    def __init__(self, core: Engine) -> None:
        self.reached, self.gate = threading.Event(), threading.Event()
        self._apply = core._store.apply
        core._store.apply = self._hold  # type: ignore[method-assign]

    def _hold(self, operation: Any) -> asyncio.Future[Any]:
        if isinstance(operation, Move) and operation.opens is not None and not self.reached.is_set():
            self.reached.set()
            return asyncio.ensure_future(self._let_go(operation))
        return self._apply(operation)

    async def _let_go(self, operation: Move) -> Any:
        await asyncio.to_thread(self.gate.wait)
        return await self._apply(operation)


def test_a_job_cancelled_while_its_output_is_being_stored_goes_no_further(core: Engine, project: Project) -> None:
    held = HeldHandOver(core)
    project.add([1])
    project.run()
    assert held.reached.wait(30)

    project.job(1).cancel()
    held.gate.set()

    assert project.wait(30).cancelled == 1
    assert project.outputs("first") == {1: 2}
    with pytest.raises(dcengine.JobCancelled):
        project.job(1).result()
    eventually(lambda: not core._unwanted)


def test_a_stage_declared_anew_while_an_output_for_it_is_being_stored_gets_it(core: Engine, project: Project) -> None:
    held = HeldHandOver(core)
    project.add([1])
    project.run()
    assert held.reached.wait(30)

    project.stage(name="second", tags="!quantum")(lambda item: "anew")
    project.run()
    held.gate.set()

    assert project.results(30) == ["anew"]


def test_jobs_are_run_even_if_their_author_did_not_wait_for_the_answer(core: Engine, project: Project) -> None:
    project.run()
    submit, asked = core._store.submit, threading.Event()

    def interrupted(operation: Any, size: int) -> Any:
        stored = submit(operation, size)
        if isinstance(operation, AddProjectJobs):
            assert asked.wait(30)
            question.cancel()  # as Ctrl-C does
        return stored

    core._store.submit = interrupted  # type: ignore[method-assign]
    link = dcengine.api.current()
    block = dcengine.codec.pack([dcengine.codec.dumps(1)])
    question = link.start("add_jobs", ItemsSubmission(project="photos", blocks=[block], count=1))
    asked.set()
    with pytest.raises(CancelledError):
        question.result(30)

    eventually(lambda: project.status().total == 1)
    assert project.results(30) == [20]


def test_waiting_for_a_project_looks_at_it_a_few_times_only(core: Engine, project: Project) -> None:
    looks, look = [], core._store.reads.project

    async def counted(name: str) -> Any:
        looks.append(name)
        return await look(name)

    project.add(range(300))
    core._store.reads.project = counted  # type: ignore[method-assign]
    project.run()
    before = len(looks)

    status = project.wait(60)

    created, finished = project.job(1).status().created, project.job(300).status().finished
    assert status.succeeded == 300
    assert finished is not None
    assert len(looks) - before <= 4 + (finished - created + 1) / 0.05
    assert len(looks) - before < 300


def test_a_file_that_another_program_keeps_locked_costs_time_and_nothing_else(
    core: Engine, project: Project, tmp_path: Path
) -> None:
    gate, reached = tmp_path / "gate", tmp_path / "reached"

    def hold(item: int) -> int:
        import time

        reached.touch()
        while not gate.exists():
            time.sleep(0.01)
        return item

    single = dcengine.submit(hold, 7)
    eventually(reached.exists)
    core._store._writer._connection.execute("PRAGMA busy_timeout = 20")
    shell = sqlite3.connect(core.db, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    refused = core._store._writer._failed
    met: list[Exception] = []
    core._store._writer._failed = lambda error: met.append(refused(error)) or met[-1]  # type: ignore[method-assign,func-returns-value]
    gate.touch()
    eventually(lambda: any(isinstance(error, dcengine.DatabaseLocked) for error in met))

    shell.execute("ROLLBACK")
    shell.close()

    assert single.result(30) == 7
    project.add([1])
    assert project.run().results(30) == [20]
