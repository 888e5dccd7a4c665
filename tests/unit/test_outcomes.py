"""What becomes of a task when a run ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine.codec import exception_from, failure_from, pack_failure, unpack_failure
from dcengine.engine.outcomes import BACK_OFF_LIMIT, after_run, after_vanishing, back_off
from dcengine.errors import JobCancelled, TaskCrashed, WorkerVanished
from dcengine.events import Kind
from dcengine.jobs import CRASH_RETRIES, NEXT, VANISHED_LIMIT, State, Task
from dcengine.runner.units import Ending

FAILURE = pack_failure(failure_from(ValueError("no")))
CRASH = pack_failure(failure_from(TaskCrashed("was ended by signal 11 (SIGSEGV)", 1)))


def leased(**changes: object) -> Task:
    return Task(id=1, job=1, stage=1, state=State.LEASED, attempt=1, **changes)  # type: ignore[arg-type]


def test_success_keeps_the_output() -> None:
    outcome = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=False)

    assert (outcome.task.state, outcome.kind, outcome.output) == (State.SUCCEEDED, Kind.SUCCEEDED, b"output")


@pytest.mark.parametrize("ending", [Ending.RAISED, Ending.TIMED_OUT])
@pytest.mark.parametrize("retries", [0, 1, 5])
def test_n_retries_allow_n_plus_one_runs(ending: Ending, retries: int) -> None:
    task, runs = leased(retries=retries), 0
    while True:
        runs += 1
        outcome = after_run(task, ending, FAILURE, unwanted=False)
        if outcome.task.state.is_final:
            break
        assert outcome.task.state is State.WAITING
        task = outcome.task.to(State.QUEUED).to(State.LEASED)

    assert (runs, outcome.task.state, outcome.output) == (retries + 1, State.FAILED, FAILURE)
    assert outcome.reason == "ValueError: no"


def test_crashes_are_counted_apart_from_errors_and_end_at_their_limit() -> None:
    task = leased(retries=5)
    for _ in range(CRASH_RETRIES):
        outcome = after_run(task, Ending.CRASHED, CRASH, unwanted=False)
        assert outcome.task.state is State.QUEUED
        task = outcome.task.to(State.LEASED)
    outcome = after_run(task, Ending.CRASHED, CRASH, unwanted=False)

    assert outcome.task.state is State.FAILED
    assert outcome.task.errors == 0
    error = exception_from(unpack_failure(outcome.output or b""))
    assert isinstance(error, TaskCrashed)
    assert "SIGSEGV" in str(error)
    assert error.times == CRASH_RETRIES + 1


def test_vanished_workers_are_forgiven_up_to_their_limit() -> None:
    task = leased()
    for _ in range(VANISHED_LIMIT - 1):
        outcome = after_vanishing(task, "w3")
        assert outcome.task.state is State.QUEUED
        task = outcome.task.to(State.LEASED)
    outcome = after_vanishing(task, "w3")

    assert outcome.task.state is State.FAILED
    assert isinstance(exception_from(unpack_failure(outcome.output or b"")), WorkerVanished)


def test_the_end_of_a_fork_server_counts_as_a_worker_that_vanished_and_not_as_a_crash() -> None:
    outcome = after_run(leased(crash_retries=0), Ending.VANISHED, b"", unwanted=False, worker="w3")

    assert (outcome.task.state, outcome.task.vanished, outcome.task.crashes) == (State.QUEUED, 1, 0)
    assert outcome.reason == "the fork server of w3 vanished"


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.NOT_RUN])
def test_what_did_not_end_goes_back_without_counting(ending: Ending) -> None:
    outcome = after_run(leased(), ending, b"", unwanted=False)

    assert outcome.task == leased().to(State.QUEUED)


@pytest.mark.parametrize(
    ("ending", "value"),
    [(Ending.INTERRUPTED, b""), (Ending.NOT_RUN, b""), (Ending.RAISED, FAILURE), (Ending.CRASHED, FAILURE)],
)
def test_what_nobody_wants_any_more_is_cancelled(ending: Ending, value: bytes) -> None:
    outcome = after_run(leased(retries=5), ending, value, unwanted=True)

    assert outcome.task.state is State.CANCELLED
    assert isinstance(exception_from(unpack_failure(outcome.output or b"")), JobCancelled)


@pytest.mark.parametrize("meant", [{"unwanted": True}, {"unwanted": False, "interrupted": True}])
def test_a_cancelled_job_says_that_it_took_force(meant: dict[str, bool]) -> None:
    outcome = after_run(leased(), Ending.INTERRUPTED, b"it took force", **meant)  # type: ignore[arg-type]

    assert outcome.task.state is State.CANCELLED
    assert outcome.reason == "it took force"
    assert str(exception_from(unpack_failure(outcome.output or b""))).endswith("was cancelled: it took force")


def test_a_result_that_came_in_time_is_kept_even_if_nobody_wants_it() -> None:
    assert after_run(leased(), Ending.SUCCEEDED, b"x", unwanted=True).task.state is State.SUCCEEDED


@given(st.integers(1, 10_000))
def test_back_off_grows_to_its_limit_and_is_never_negative(errors: int) -> None:
    assert 0 <= back_off(errors) <= BACK_OFF_LIMIT


def test_every_state_has_its_moves() -> None:
    assert set(NEXT) == set(State)
    for state, following in NEXT.items():
        for after in following:
            assert Task(id=1, job=1, stage=1, state=state).to(after).state is after
