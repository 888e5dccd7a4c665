"""How fast a project goes, and when it will be done: told at half-way of steady runs, beside what they then took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import dcengine
from dcengine.api import current
from dcengine.codec import pack, pack_json
from dcengine.jobs import StageKind
from dcengine.verbs import Completion, ItemsSubmission, LeaseRequest, ProjectSpec, ProjectStatus, StageSpec, TaskFailure
from tests.driven import Driven
from tests.engines import embedded, eventually

NEAR = 0.2  #: of the right answer


@pytest.fixture
def driven() -> Iterator[Driven]:
    driven = Driven()
    yield driven
    driven.close()
    driven.remove()


@dataclass
class Crew:
    """Outside workers of one stage, who together do so many tasks in a second."""

    driven: Driven
    stage: str
    per_second: float
    fails: int = 0  #: each so-and-so-many-th task fails
    owed: float = 0.0
    done: int = 0

    def work(self, seconds: float) -> None:
        """Do what is done in *seconds*."""
        self.owed += self.per_second * seconds
        if n := min(int(self.owed), 1000):
            engine = self.driven.engine
            tasks = self.driven.call(engine.lease(LeaseRequest(project="p", stage=self.stage, worker=self.stage, n=n)))
            bad = [task for place, task in enumerate(tasks, self.done) if self.fails and place % self.fails == 0]
            good = [task for task in tasks if task not in bad]
            self.driven.call(engine.complete([Completion(token=task.token) for task in good]))
            self.driven.call(engine.fail([TaskFailure(token=task.token, reason="no") for task in bad]))
            self.done += len(tasks)
            self.owed = min(self.owed - len(tasks), 1.0)


def declare(driven: Driven, *stages: str, jobs: int, kind: StageKind = "lease", retries: int = 3) -> None:
    specs = [StageSpec(name=name, kind=kind, retries=retries) for name in stages]
    driven.call(driven.engine.declare_project(ProjectSpec(name="p", stages=specs)))
    blocks = [pack([pack_json(n, what="an item") for n in range(jobs)])]
    driven.call(driven.engine.add_jobs(ItemsSubmission(project="p", blocks=blocks, count=jobs)))
    driven.call(driven.engine.run_project("p"))


def status(driven: Driven) -> ProjectStatus:
    return driven.call(driven.engine.project("p"))


def work_until(driven: Driven, crews: list[Crew], done: int, step: float = 0.5) -> float:
    """Have *crews* work until so many jobs have ended; return the seconds that took."""
    began = driven.clock.monotonic()
    while status(driven).done < done:
        driven.pass_by(step)
        for crew in crews:
            crew.work(step)
        assert driven.clock.monotonic() < began + 3600
    return driven.clock.monotonic() - began


def check_half_way(driven: Driven, crews: list[Crew], jobs: int) -> None:
    """See to the end whether what is told now comes true."""
    told = status(driven)
    assert told.eta is not None
    took = work_until(driven, crews, jobs)
    assert told.eta == pytest.approx(took, rel=NEAR)


# ---- steady runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(("per_second", "jobs"), [(20.0, 400), (2.0, 400), (0.2, 40)])
def test_at_half_way_of_a_steady_run_the_end_is_told(driven: Driven, per_second: float, jobs: int) -> None:
    declare(driven, "a", jobs=jobs)
    crews = [Crew(driven, "a", per_second)]
    work_until(driven, crews, jobs // 2)

    assert status(driven).rate == pytest.approx(per_second, rel=NEAR)
    check_half_way(driven, crews, jobs)


@pytest.mark.parametrize("paces", [(10.0, 10.0, 10.0), (20.0, 10.0, 5.0), (5.0, 10.0, 20.0), (20.0, 5.0, 10.0)])
def test_of_three_stages_the_slowest_decides(driven: Driven, paces: tuple[float, ...]) -> None:
    declare(driven, "a", "b", "c", jobs=300)
    crews = [Crew(driven, name, pace) for name, pace in zip("abc", paces, strict=True)]

    work_until(driven, crews, 100)  # a third, so that the quicker stages have work yet

    check_half_way(driven, crews, 300)


def test_tasks_that_fail_have_ended_too(driven: Driven) -> None:
    declare(driven, "a", jobs=400, retries=0)
    crews = [Crew(driven, "a", 10.0, fails=3)]
    work_until(driven, crews, 200)

    assert status(driven).failed > 50
    check_half_way(driven, crews, 400)


def test_a_stage_that_nobody_does_has_no_end_in_sight(driven: Driven) -> None:
    declare(driven, "a", "b", jobs=100)

    work = Crew(driven, "a", 10.0)
    for _ in range(10):
        driven.pass_by(0.5)
        work.work(0.5)

    assert status(driven).rate > 0
    assert status(driven).eta is None


# ---- what comes between --------------------------------------------------------------------


def test_after_a_pause_it_goes_on_as_fast_as_before(driven: Driven) -> None:
    declare(driven, "a", jobs=400)
    crews = [Crew(driven, "a", 10.0)]
    work_until(driven, crews, 200)

    driven.call(driven.engine.pause_project("p"))
    assert (status(driven).rate, status(driven).eta) == (0.0, None)
    driven.pass_by(500)
    driven.call(driven.engine.run_project("p"))

    check_half_way(driven, crews, 400)


@pytest.mark.parametrize("how", ["close", "crash"])
def test_after_a_restart_it_goes_on_as_fast_as_before(driven: Driven, how: str) -> None:
    declare(driven, "a", "b", jobs=300)
    crews = [Crew(driven, "a", 10.0), Crew(driven, "b", 5.0)]
    work_until(driven, crews, 150)
    flow = sum(driven.call(driven.engine.throughput("p")).stages["b"])

    driven.clock.pass_by(1000)  # in which nothing runs
    (driven.reopen if how == "close" else driven.crash)()

    assert sum(driven.call(driven.engine.throughput("p")).stages["b"]) == flow >= 150
    check_half_way(driven, crews, 300)


# ---- with a real engine --------------------------------------------------------------------


def test_real_workers_finish_when_it_was_said(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=2, processes=False):
        project = dcengine.Project("naps")
        project.stage(time.sleep, name="nap")
        project.lease_stage("look")
        project.add([0.05] * 120)
        ending = threading.Event()
        worker = threading.Thread(target=look, args=(ending,))
        worker.start()
        project.run()
        eventually(lambda: project.status().done >= 60)
        began, told = time.monotonic(), project.status()

        project.wait(60)

        took = time.monotonic() - began
        ending.set()
        worker.join()
        print(f"told {told.eta:.2f} s, took {took:.2f} s" if told.eta else "told nothing")
        assert told.eta == pytest.approx(took, rel=NEAR, abs=0.5)


def look(ending: threading.Event) -> None:
    """Do all there is at the second stage, as fast as it comes."""
    while not ending.is_set():
        tasks = current().call("lease", LeaseRequest(project="naps", stage="look", worker="w", n=5, wait=0.2))
        current().call("complete", [Completion(token=task.token, output=b"1") for task in tasks])
