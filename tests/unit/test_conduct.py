"""Which workers are set aside, for what, and until when."""

from __future__ import annotations

import itertools

import pytest

from dcengine.engine import conduct
from dcengine.engine.conduct import LONGEST_PAUSE_SECONDS, PAUSE_SECONDS, Conduct

WORKERS = {"w1", "w2", "w3"}
JOBS = itertools.count(100)


class Judged(Conduct):
    """A conduct over three workers that all fit, with a clock of its own."""

    def fail(self, worker: str, times: int = 1, job: int | None = None, seconds: float = 1.0) -> str | None:
        """Have *worker* fail, each time at another job unless said which; return why it is set aside, if it is."""
        reasons = [
            self.failed(
                "p", worker, job or next(JOBS), "OSError: no disk", WORKERS - {worker}, name="p", seconds=seconds
            )
            for _ in range(times)
        ]
        return next((reason for reason in reasons if reason), None)

    def succeed(self, worker: str, times: int = 1) -> None:
        self.succeeded("p", worker, times, name="p")

    def is_spared(self, worker: str) -> bool:
        return self.spares("p", worker, WORKERS - {worker}) is not None


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(conduct, "time", clock)
    return clock


@pytest.fixture
def judged(clock: Clock) -> Judged:
    return Judged()


def test_three_failures_in_a_row_set_a_worker_aside_with_the_reason(judged: Judged) -> None:
    assert judged.fail("w1", 2) is None

    assert judged.fail("w1") == "3 failures in a row, the last: OSError: no disk"
    assert judged.is_spared("w1")
    assert judged.reasons("w1") == {"p": "3 failures in a row, the last: OSError: no disk"}
    assert not judged.is_spared("w2")


def test_a_success_between_them_forgives(judged: Judged) -> None:
    judged.fail("w1", 2)
    judged.succeed("w1")

    assert judged.fail("w1", 2) is None


def test_it_is_set_aside_for_that_project_only(judged: Judged) -> None:
    judged.fail("w1", 3)

    assert judged.spares("other", "w1", WORKERS) is None


def test_the_only_worker_is_not_set_aside(judged: Judged) -> None:
    assert all(judged.failed("p", "w1", next(JOBS), "no", set(), name="p") is None for _ in range(9))


def test_who_was_set_aside_is_let_in_where_nobody_else_is_left(judged: Judged) -> None:
    judged.fail("w1", 3)

    assert judged.spares("p", "w1", set()) is None


def test_where_all_fail_it_is_the_code_and_nobody_is_judged_until_one_succeeds(judged: Judged) -> None:
    for worker in sorted(WORKERS):
        judged.fail(worker, 3)
    assert not any(map(judged.is_spared, WORKERS))
    assert judged.fail("w1", 9) is None

    judged.succeed("w2", 100)

    assert judged.fail("w1", 3) is not None


def test_others_that_did_better_meanwhile_keep_it_aside(judged: Judged) -> None:
    judged.fail("w1", 3)
    judged.fail("w2", 3)
    judged.succeed("w3")
    judged.fail("w3", 9)

    assert judged.is_spared("w1")


def test_where_others_fail_often_too_three_in_a_row_tell_nothing(judged: Judged) -> None:
    for _ in range(10):
        judged.fail("w2")
        judged.succeed("w2", 3)

    assert judged.fail("w1", 6) is None
    assert judged.fail("w1", 6) is not None


def test_after_a_while_it_gets_one_for_trial(judged: Judged, clock: Clock) -> None:
    judged.fail("w1", 3)
    clock.now += PAUSE_SECONDS
    assert not judged.is_spared("w1")

    assert judged.give("p", "w1")

    assert judged.is_spared("w1")
    judged.succeed("w1")
    assert not judged.is_spared("w1")
    assert not judged.reasons("w1")


def test_a_trial_that_fails_doubles_the_time_up_to_a_limit(judged: Judged, clock: Clock) -> None:
    judged.fail("w1", 3)
    pauses = []
    for _ in range(8):
        began = clock.now
        while judged.is_spared("w1"):
            clock.now += PAUSE_SECONDS
        pauses.append(clock.now - began)
        judged.give("p", "w1")
        judged.fail("w1")

    assert pauses[:3] == [PAUSE_SECONDS, 2 * PAUSE_SECONDS, 4 * PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    assert "failed again" in judged.reasons("w1")["p"]


def test_a_trial_of_which_nobody_hears_is_no_end(judged: Judged, clock: Clock) -> None:
    judged.fail("w1", 3)
    clock.now += PAUSE_SECONDS
    judged.give("p", "w1")

    clock.now += PAUSE_SECONDS

    assert judged.give("p", "w1")


def test_what_was_on_its_way_when_it_was_set_aside_does_not_count_again(judged: Judged, clock: Clock) -> None:
    judged.fail("w1", 6)
    clock.now += PAUSE_SECONDS

    assert not judged.is_spared("w1")


def test_a_worker_that_comes_back_has_a_new_start(judged: Judged) -> None:
    judged.fail("w1", 3)
    judged.keep({"w2", "w3"})

    assert not judged.is_spared("w1")


def test_what_failed_on_one_is_left_to_others_for_a_while(judged: Judged, clock: Clock) -> None:
    judged.fail("w1", job=7)

    assert judged.leaves_to_others(7, "p", "w1", lambda: {"w2"})
    assert not judged.leaves_to_others(7, "p", "w1", set)
    assert not judged.leaves_to_others(7, "p", "w2", lambda: {"w1"})
    assert not judged.leaves_to_others(8, "p", "w1", lambda: {"w2"})

    clock.now += conduct.LEFT_SECONDS
    assert not judged.leaves_to_others(7, "p", "w1", lambda: {"w2"})


def test_the_longer_it_took_the_longer_it_is_left_to_others(judged: Judged, clock: Clock) -> None:
    judged.fail("w1", job=7, seconds=60.0)

    clock.now += 119
    assert judged.leaves_to_others(7, "p", "w1", lambda: {"w2"})
    clock.now += 1
    assert not judged.leaves_to_others(7, "p", "w1", lambda: {"w2"})


def test_what_failed_on_all_is_anybodys(judged: Judged) -> None:
    judged.fail("w1", job=7)
    judged.fail("w2", job=7)

    assert not judged.leaves_to_others(7, "p", "w1", lambda: {"w2"})
    assert judged.leaves_to_others(7, "p", "w1", lambda: {"w2", "w3"})


def test_what_failed_is_not_left_to_those_who_are_set_aside(judged: Judged) -> None:
    judged.fail("w2", 3)
    judged.fail("w1", job=7)

    assert not judged.leaves_to_others(7, "p", "w1", lambda: {"w2"})
    assert judged.leaves_to_others(7, "p", "w1", lambda: {"w2", "w3"})
    assert judged.leaves_to_others(7, "another", "w1", lambda: {"w2"})


def test_a_job_that_fails_again_and_again_says_nothing_of_workers(judged: Judged) -> None:
    judged.succeed("w2", 100)

    assert judged.fail("w1", 30, job=7) is None
    assert judged.fail("w2", 30, job=7) is None
    assert judged.fail("w1", 2) == "3 failures in a row, the last: OSError: no disk"
