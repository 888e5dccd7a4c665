"""Numbers, durations and states as people say them."""

from __future__ import annotations

from typing import Any

import pytest

from dcengine.verbs import BatchStatus, FailedItem, JobStatus, Progress, ProjectStatus, StageStatus
from dcengine_magics.views import figures


def batch(**facts: object) -> BatchStatus:
    known: dict[str, object] = {"id": 1, "project": "functions", "name": "f", "state": "open", "count": 288}
    return BatchStatus(**{**known, **facts})  # type: ignore[arg-type]


def job(**facts: object) -> JobStatus:
    known: dict[str, object] = {"id": 1, "project": "functions", "number": 1, "name": "f", "state": "open"}
    return JobStatus(**{**known, "task_state": "queued", **facts})  # type: ignore[arg-type]


def said(some: list[figures.Figure]) -> str:
    return ", ".join(figure.text for figure in some)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "1 s"), (4.4, "4 s"), (60, "1 min"), (125, "2 min 5 s"), (3725, "1 h 2 min"), (200000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(41.2, "41/s"), (12345, "12,345/s"), (1.0, "1/s"), (3.44, "3.4/s"), (0.5, "30/min"), (0.001, "3.6/h"), (0, "")],
)
def test_rates(per_second: float, text: str) -> None:
    assert figures.rate(per_second) == text


def test_a_batch_at_work() -> None:
    status = batch(succeeded=117, failed=3, running=2, rate=41.0, workers=["w0", "w1"])

    assert said(figures.of_batch(status)) == "120 of 288, 2 running, 3 failed, 41/s, 4 s left, on w0 and w1"


def test_without_a_rate_nobody_says_how_long_it_takes() -> None:
    assert said(figures.of_batch(batch(succeeded=10, running=2))) == "10 of 288, 2 running"
    assert said(figures.of_batch(batch(rate=1e-9))) == "0 of 288"


def test_a_batch_that_is_over_says_how_long_it_took() -> None:
    status = batch(state="failed", succeeded=280, failed=8, rate=41.0, created=100.0, finished=107.0)

    assert said(figures.of_batch(status)) == "288 of 288, 8 failed, in 7 s"


def test_many_workers_are_counted() -> None:
    assert figures.names(["w0"]) == "w0"
    assert figures.names([f"w{n}" for n in range(9)]) == "w0, w1, w2, w3 and 5 more"


def test_failures_are_grouped_by_reason_the_most_frequent_first() -> None:
    failed = [FailedItem(4, 5, "ValueError: bad"), FailedItem(5, 6, "OSError: no"), FailedItem(17, 18, "OSError: no")]

    found = figures.reasons(failed)

    assert [(reason.times, reason.text, reason.where) for reason in found] == [
        (2, "OSError: no", "(items 5, 17)"),
        (1, "ValueError: bad", "(item 4)"),
    ]


def test_no_more_than_five_reasons_and_items_are_named() -> None:
    failed = [FailedItem(n, n + 1, f"OSError: {n % 7}") for n in range(70)]

    found = figures.reasons(failed)

    assert len(found) == 5
    assert found[0].where == "(items 0, 7, 14, 21, 28, …)"


def test_a_job_says_what_it_does() -> None:
    running = job(task_state="leased", worker="w1", progress=Progress(3, 10, "epoch 3"))

    assert said(figures.of_job(job())) == "waits for its turn"
    assert said(figures.of_job(running)) == "runs, 3 of 10, epoch 3, on w1"
    assert said(figures.of_job(job(task_state="waiting", errors=1))) == "waits to run again, after 1 error so far"


def test_a_job_that_is_over_says_how() -> None:
    ended = job(state="failed", task_state="failed", errors=3, created=0.0, finished=12.0)

    assert said(figures.of_job(ended)) == "failed, in 12 s, after 3 errors"


def test_a_project_is_measured_in_jobs_and_its_pace_in_tasks() -> None:
    stages = [StageStatus(name="load", tags="", counts={"succeeded": 20, "leased": 2})]
    status = ProjectStatus(
        name="p", is_paused=False, stages=stages, open=10, succeeded=19, failed=1, workers=["w0"], rate=2.5, eta=4.0
    )

    assert said(figures.of_project(status)) == "20 of 30 jobs, 2 running, 1 failed, 2.5 tasks/s, 4 s left, on w0"


def test_a_stage_says_what_waits_for_parts_and_what_came_back() -> None:
    stage = StageStatus(name="a", tags="", counts={"succeeded": 1, "blocked": 2, "returned": 3}, is_paused=True)

    assert said(figures.aside_of_stage(stage)) == "2 waiting for parts, 3 returned, paused"


def test_a_bar_is_full_when_all_that_come_to_its_stage_are_done() -> None:
    def stage(shape: Any, **counts: int) -> StageStatus:
        return StageStatus(name=shape, shape=shape, tags="", counts=counts)

    opened = [
        stage("expand", succeeded=4, returned=1),
        stage("map", succeeded=90, queued=10),
        stage("gather", blocked=4),
    ]
    assert figures.wholes([*opened, stage("map")]) == [4, 100, 4, 4]
    assert figures.wholes([stage("map", succeeded=1000), stage("gather", succeeded=1), stage("map")]) == [1000, 1, 1]
    assert figures.wholes([stage("map", queued=5), stage("expand"), stage("map")]) == [5, 5, 1]
    assert figures.wholes([]) == []


def test_a_paused_project_says_how_it_goes_on() -> None:
    status = ProjectStatus(name="p", is_paused=True, stages=[], open=10)

    assert said(figures.of_project(status)) == "0 of 10 jobs, paused: run() starts it"
