"""What workers end in an hour, by what they ended in the last."""

from __future__ import annotations

import pytest

from dcengine.engine.worker_rates import STEP, STEPS, WorkerRates


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0 * STEP

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rates(clock: Clock) -> WorkerRates:
    return WorkerRates(clock)


def test_a_worker_that_is_there_for_less_than_an_hour_is_taken_at_its_pace(clock: Clock, rates: WorkerRates) -> None:
    since = clock.now
    clock.now += 600
    rates.note("w1", 5)

    assert rates.per_hour("w1", since) == pytest.approx(30)
    assert rates.per_hour("w2", since) == 0


def test_the_first_task_does_not_make_a_worker_quick(clock: Clock, rates: WorkerRates) -> None:
    rates.note("w1")

    assert rates.per_hour("w1", clock.now) <= 60


def test_what_is_older_than_an_hour_counts_no_more(clock: Clock, rates: WorkerRates) -> None:
    since = clock.now
    rates.note("w1", 1000)
    for _ in range(STEPS):
        clock.now += STEP
        rates.note("w1", 10)

    assert rates.per_hour("w1", since) == pytest.approx(120, rel=0.1)
    clock.now += 2 * STEP * STEPS
    assert rates.per_hour("w1", since) == 0


def test_a_worker_that_has_gone_is_forgotten(clock: Clock, rates: WorkerRates) -> None:
    rates.note("w1")
    rates.note(("crawl", "w1"))
    rates.forget(("crawl", "w1"))
    rates.keep(lambda worker: worker != "w1")

    assert rates.per_hour("w1", clock.now) == rates.per_hour(("crawl", "w1"), clock.now) == 0
