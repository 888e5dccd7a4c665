"""What becomes of a task when one of its runs has ended: the rules, and nothing else. No I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from ..codec import Failure, failure_from, pack_failure, pack_json, unpack, unpack_failure
from ..errors import InputRejected, JobCancelled, TaskCrashed, WorkerVanished
from ..events import Kind
from ..jobs import BACK_OFF, BACK_OFF_LIMIT, VANISHED_LIMIT, Stage, State, Task, Vote
from ..runner.units import Ending
from .stages import END, Following


class Outcome(msgspec.Struct, frozen=True):
    """A task after a run, and what to store with it."""

    task: Task
    kind: Kind
    output: bytes | None = None  #: a packed result or failure, once it is final
    delay: float = 0.0  #: seconds before it may run again, while it waits
    reason: str | None = None
    following: Following = END  #: where its job goes on
    parts: list[bytes] | None = None  #: packed values: its job goes on with each of them
    vote: Vote | None = None


def after_run(
    task: Task,
    ending: Ending,
    value: bytes,
    *,
    unwanted: bool,
    interrupted: bool = False,
    stage: Stage | None = None,
    following: Following = END,
    worker: str = "",
) -> Outcome:
    """Return what becomes of leased *task* at *stage*, None for a call without a project, after a run on *worker*.

    *unwanted* means that somebody cancelled it meanwhile, *interrupted* that somebody interrupted it: whatever
    comes of that, there is no further run. *following* is where the job goes on if it succeeded; one that was
    cancelled does not, though it has come to the end of this stage.
    """
    if ending is Ending.SUCCEEDED and not (unwanted and following.stage is not None):
        return succeeded(task, value, stage=stage, following=following)
    if ending is Ending.INTERRUPTED and (unwanted or interrupted):
        return cancelled(task, value.decode())
    if unwanted or (interrupted and not value):
        return cancelled(task)
    if interrupted:
        return failed(task, unpack_failure(value))
    if ending is Ending.CRASHED:
        return _after_crash(task, unpack_failure(value))
    if ending is Ending.VANISHED:
        return after_vanishing(task, f"the fork server of {worker}")
    if ending in (Ending.RAISED, Ending.TIMED_OUT, Ending.FLAGGED):
        return after_error(task, value, stage=stage)
    return Outcome(task.to(State.QUEUED), Kind.RELEASED)


def succeeded(task: Task, value: bytes, *, stage: Stage | None = None, following: Following = END) -> Outcome:
    """Return *task* succeeded with *value*; after an expand that is a frame of values, each for a job of its own."""
    done = task.to(State.SUCCEEDED)
    if stage is None or stage.shape != "expand":
        return Outcome(done, Kind.SUCCEEDED, value, following=following)
    parts = unpack(value)
    # The parts hold the values; what is left of the task itself is how many there are.
    output = pack_json(len(parts), what="the number of parts")
    return Outcome(done, Kind.SUCCEEDED, output, following=following, parts=parts)


def after_vanishing(task: Task, worker: str) -> Outcome:
    """Return what becomes of *task* whose *worker* disappeared."""
    times = task.vanished + 1
    if times < VANISHED_LIMIT:
        return Outcome(task.to(State.QUEUED, vanished=times), Kind.RELEASED, reason=f"{worker} vanished")
    return _failed(task, failure_from(WorkerVanished(times, worker)), vanished=times)


def after_error(task: Task, value: bytes, *, stage: Stage | None = None) -> Outcome:
    """Return what becomes of *task* whose code erred, *value* being the packed failure."""
    errors, failure = task.errors + 1, unpack_failure(value)
    if errors > task.retries:
        return Outcome(task.to(State.FAILED, errors=errors), Kind.FAILED, value, reason=failure.sentence)
    base, limit = (BACK_OFF, BACK_OFF_LIMIT) if stage is None else (stage.back_off, stage.back_off_limit)
    delay = back_off(errors, base, limit)
    return Outcome(task.to(State.WAITING, errors=errors), Kind.RETRIED, delay=delay, reason=failure.sentence)


def after_flag(task: Task, stage: Stage, vote: Vote, earlier: Sequence[str], told: Sequence[str]) -> Outcome:
    """Return what becomes of *task* at *stage* whose input got another *vote*, after those of the *earlier* voters.

    *told* is what voters said of the job's inputs before, in all generations, for people.
    """
    votes = len({*earlier, vote.voter})
    said = f"{vote.voter}: {vote.reason}" if vote.reason else vote.voter
    if votes < stage.votes:
        reason = f"flagged {votes} of {stage.votes} by {said}"
        return Outcome(task.to(State.QUEUED, flags=votes), Kind.FLAGGED, reason=reason, vote=vote)
    all_told = [*told, f"generation {task.generation}: {said}"]
    if task.origin is None:
        return _rejected(task, votes, vote, InputRejected(stage.name, "no stage before has made it", all_told))
    if task.generation >= stage.generations:
        problem = f"it has been sent back {task.generation} time(s), which is the limit"
        return _rejected(task, votes, vote, InputRejected(stage.name, problem, all_told))
    reason = f"sent back by {votes} vote(s), the last {said}"
    return Outcome(task.to(State.RETURNED, flags=votes), Kind.RETURNED, reason=reason, vote=vote)


def released(task: Task, reason: str | None = None) -> Outcome:
    """Return *task* back in the queue through nobody's fault."""
    return Outcome(task.to(State.QUEUED), Kind.RELEASED, reason=reason)


def cancelled(task: Task, how: str = "") -> Outcome:
    """Return *task* cancelled; *how* says what that took, if it was not simple."""
    failure = pack_failure(failure_from(JobCancelled(task.job, how)))
    return Outcome(task.to(State.CANCELLED), Kind.CANCELLED, failure, reason=how or None)


def failed(task: Task, failure: Failure) -> Outcome:
    """Return *task* failed for good, whatever retries it had left."""
    return _failed(task, failure)


def _rejected(task: Task, votes: int, vote: Vote, error: InputRejected) -> Outcome:
    return msgspec.structs.replace(_failed(task, failure_from(error), flags=votes), vote=vote)


def _after_crash(task: Task, failure: Failure) -> Outcome:
    times = task.crashes + 1
    if times <= task.crash_retries:
        return Outcome(task.to(State.QUEUED, crashes=times), Kind.RELEASED, reason=failure.sentence)
    cause = str(failure.ours[0]) if failure.ours else failure.message
    return _failed(task, failure_from(TaskCrashed(cause, times)), crashes=times)


def _failed(task: Task, failure: Failure, **changes: object) -> Outcome:
    return Outcome(task.to(State.FAILED, **changes), Kind.FAILED, pack_failure(failure), reason=failure.sentence)


def back_off(errors: int, base: float = BACK_OFF, limit: float = BACK_OFF_LIMIT) -> float:
    """Return the seconds to wait after the n-th error: exponential with full jitter.

    The policy is "full jitter" of M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(limit, base * 2.0 ** min(errors - 1, 20)))
