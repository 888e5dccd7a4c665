"""What becomes of a task when one of its runs has ended: the rules, and nothing else. No I/O."""

from __future__ import annotations

import random

import msgspec

from ..codec import Failure, failure_from, pack_failure, unpack_failure
from ..errors import JobCancelled, TaskCrashed, WorkerVanished
from ..events import Kind
from ..jobs import VANISHED_LIMIT, Stage, State, Task
from ..runner.units import Ending

BACK_OFF_BASE = 0.1  #: seconds before the second run, at most
BACK_OFF_LIMIT = 60.0  #: seconds between two runs, at most


class Outcome(msgspec.Struct, frozen=True):
    """A task after a run, and what to store with it."""

    task: Task
    kind: Kind
    output: bytes | None = None  #: a packed result or failure, once it is final
    delay: float = 0.0  #: seconds before it may run again, while it waits
    reason: str | None = None
    opens: Stage | None = None  #: where its job goes on


def after_run(
    task: Task,
    ending: Ending,
    value: bytes,
    *,
    unwanted: bool,
    interrupted: bool = False,
    following: Stage | None = None,
) -> Outcome:
    """Return what becomes of leased *task*.

    *unwanted* means that somebody cancelled it meanwhile, *interrupted* that somebody interrupted it: whatever
    comes of that, there is no further run. *following* is the stage where the job goes on if it succeeded; one
    that was cancelled does not, though it has come to the end of this stage.
    """
    if ending is Ending.SUCCEEDED and not (unwanted and following is not None):
        return Outcome(task.to(State.SUCCEEDED), Kind.SUCCEEDED, value, opens=following)
    if unwanted or (interrupted and not value):
        return cancelled(task)
    if interrupted:
        return failed(task, unpack_failure(value))
    if ending is Ending.CRASHED:
        return _after_crash(task, unpack_failure(value))
    if ending in (Ending.RAISED, Ending.TIMED_OUT):
        return _after_error(task, value)
    return Outcome(task.to(State.QUEUED), Kind.RELEASED)


def after_vanishing(task: Task, worker: str) -> Outcome:
    """Return what becomes of *task* whose *worker* disappeared."""
    times = task.vanished + 1
    if times < VANISHED_LIMIT:
        return Outcome(task.to(State.QUEUED, vanished=times), Kind.RELEASED, reason=f"{worker} vanished")
    return _failed(task, failure_from(WorkerVanished(times, worker)), vanished=times)


def cancelled(task: Task) -> Outcome:
    """Return *task* cancelled."""
    return Outcome(task.to(State.CANCELLED), Kind.CANCELLED, pack_failure(failure_from(JobCancelled(task.job))))


def failed(task: Task, failure: Failure) -> Outcome:
    """Return *task* failed for good, whatever retries it had left."""
    return _failed(task, failure)


def _after_error(task: Task, value: bytes) -> Outcome:
    errors, failure = task.errors + 1, unpack_failure(value)
    if errors > task.retries:
        return Outcome(task.to(State.FAILED, errors=errors), Kind.FAILED, value, reason=failure.sentence)
    return Outcome(task.to(State.WAITING, errors=errors), Kind.RETRIED, delay=back_off(errors), reason=failure.sentence)


def _after_crash(task: Task, failure: Failure) -> Outcome:
    times = task.crashes + 1
    if times <= task.crash_retries:
        return Outcome(task.to(State.QUEUED, crashes=times), Kind.RELEASED, reason=failure.sentence)
    cause = str(failure.ours[0]) if failure.ours else failure.message
    return _failed(task, failure_from(TaskCrashed(cause, times)), crashes=times)


def _failed(task: Task, failure: Failure, **changes: object) -> Outcome:
    return Outcome(task.to(State.FAILED, **changes), Kind.FAILED, pack_failure(failure), reason=failure.sentence)


def back_off(errors: int) -> float:
    """Return the seconds to wait after the n-th error: exponential with full jitter.

    The policy is "full jitter" of M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(BACK_OFF_LIMIT, BACK_OFF_BASE * 2.0 ** min(errors - 1, 20)))
