"""Calls that take the results of other jobs: what they wait for, and what becomes of them when that has ended.

They are always newer than the jobs they wait for, so nothing ever waits for itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..codec import failure_from, pack_failure, unpack_failure
from ..errors import DependencyFailed, NotFound, ResultExpired
from ..events import Kind
from ..jobs import JobState, State
from .handing import END_JOB, SAVE_OUTPUT, Consequences, Ended, Ready
from .ledger import Ledger
from .names import CURRENT_TASK, Names
from .rows import execute_rows

INSERT_DEPENDENCY = "INSERT INTO dependency (task, job, is_open) VALUES (?, ?, ?)"
ANY_WAITS = "SELECT EXISTS (SELECT 1 FROM dependency WHERE is_open = 1)"
SELECT_WAITED_FOR = "SELECT DISTINCT job FROM dependency WHERE is_open = 1 AND job IN (SELECT value FROM json_each(?))"
SELECT_WAITED_FOR_ITEMS = "SELECT DISTINCT job FROM dependency WHERE is_open = 1 AND job >= ? AND job < ?"
SELECT_ALL_WAITED_FOR = f"""
SELECT DISTINCT dependency.job
FROM task
JOIN dependency ON dependency.task = task.id AND dependency.is_open = 1
WHERE task.state = {State.BLOCKED:d}
"""
SELECT_WAITED_FOR_OF_PROJECT = """
SELECT DISTINCT dependency.job
FROM dependency
JOIN job ON job.id = dependency.job
WHERE dependency.is_open = 1 AND job.project = ?
"""
SELECT_JOB = f"""
SELECT job.state, payload.output IS NULL, CASE WHEN job.state = {JobState.FAILED:d} THEN payload.output END,
    coalesce(function.name, project.name || '/' || job.number), project.is_deleted, job.batch
FROM job
JOIN project ON project.id = job.project
JOIN payload ON payload.task = {CURRENT_TASK}
LEFT JOIN function ON function.id = job.function
WHERE job.id = ?
"""
SELECT_BATCH = """
SELECT batch.id, batch.first_job, batch.count, function.name
FROM batch
JOIN function ON function.id = batch.function
WHERE batch.first_job <= ?
ORDER BY batch.first_job DESC
LIMIT 1
"""
SELECT_CHUNK = """
SELECT first, count, state, data
FROM chunk
WHERE batch = ? AND first <= ?
ORDER BY first DESC
LIMIT 1
"""
CLOSE = """
UPDATE dependency
SET is_open = 0
WHERE is_open = 1 AND job IN (SELECT value FROM json_each(?))
RETURNING task
"""
RELEASE = f"""
UPDATE task
SET state = CASE WHEN not_before > :at THEN {State.WAITING:d} ELSE {State.QUEUED:d} END,
    not_before = CASE WHEN not_before > :at THEN not_before END
WHERE id IN (SELECT value FROM json_each(:tasks)) AND state = {State.BLOCKED:d}
    AND NOT EXISTS (SELECT 1 FROM dependency WHERE dependency.task = task.id AND is_open = 1)
RETURNING id, job, stage, state, not_before, need, (SELECT tags FROM need WHERE need.id = task.need), submitter,
    priority
"""
SELECT_BLOCKED_BY = f"""
SELECT task.id, task.job, task.stage, task.attempt
FROM dependency
JOIN task ON task.id = dependency.task
WHERE dependency.job = ? AND dependency.is_open = 1 AND task.state = {State.BLOCKED:d}
"""
SELECT_FAILED_BY = f"""
SELECT task.job, payload.output
FROM dependency
JOIN task ON task.id = dependency.task
JOIN payload ON payload.task = task.id
WHERE dependency.job = ? AND dependency.is_open = 1 AND task.state = {State.FAILED:d}
"""
FAIL_TASK = f"""
WITH ended (task, finished) AS (VALUES (?, ?))
UPDATE task
SET state = {State.FAILED:d}, finished = ended.finished, not_before = NULL
FROM ended
WHERE task.id = ended.task
"""


class End(NamedTuple):
    """How a job stands, as far as those who take its result need to know."""

    job: int
    name: str
    state: JobState | None  #: None once it has been deleted
    is_gone: bool = False  #: it has succeeded, but its result was kept for a set time only
    failure: bytes = b""  #: packed, if it failed
    batch: int | None = None  #: whose item it is

    @property
    def is_in(self) -> bool:
        """Whether its result can be taken."""
        return self.state is JobState.SUCCEEDED and not self.is_gone

    @property
    def is_lost(self) -> bool:
        """Whether nothing will come of it, unless somebody tries it again."""
        return not self.is_in and self.state is not JobState.OPEN

    @property
    def reason(self) -> str:
        """Why there is no result, to be read after its name."""
        if self.state is None:
            return "was deleted"
        if self.is_gone:
            return "has succeeded, but its result was kept for a set time only and is gone"
        if self.state is JobState.CANCELLED:
            return "was cancelled"
        return f"failed: {unpack_failure(self.failure).sentence}" if self.failure else "failed"

    @property
    def cause(self) -> tuple[int, str, str, int | None]:
        """The job that is to blame, its name, what became of it, its batch: perhaps this one failed for another."""
        failure = unpack_failure(self.failure) if self.failure else None
        if failure is not None and failure.kind == DependencyFailed.__name__ and failure.ours:
            job, name, reason, batch = failure.ours[2:]
            return job, name, reason, batch
        return self.job, self.name, self.reason, self.batch


# ---- how the jobs stand --------------------------------------------------------------------


def end_of(connection: sqlite3.Connection, job: int) -> End:
    """Return how *job* stands, which may be an item of a batch without a row of its own."""
    row = connection.execute(SELECT_JOB, (job,)).fetchone()
    if row is None:
        return _end_of_item(connection, job)
    state, has_none, failure, name, is_deleted, batch = row
    if is_deleted:
        return End(job, name, None)
    return End(job, name, JobState(state), state == JobState.SUCCEEDED and bool(has_none), failure or b"", batch)


def _end_of_item(connection: sqlite3.Connection, job: int) -> End:
    batch, first_job, count, name = connection.execute(SELECT_BATCH, (job,)).fetchone() or (0, 0, 0, "")
    index = job - first_job
    if index >= count:
        return End(job, "", None)
    chunk = connection.execute(SELECT_CHUNK, (batch, index)).fetchone()
    if chunk is None or index >= chunk[0] + chunk[1]:
        return End(job, name, JobState.OPEN)
    _, _, state, data = chunk
    if state == State.CANCELLED:
        return End(job, name, JobState.CANCELLED, batch=batch)
    return End(job, name, JobState.SUCCEEDED, is_gone=not data)  # a failed one has a row of its own


def ends_of(connection: sqlite3.Connection, jobs: Iterable[int]) -> list[End]:
    """Return how *jobs* stand that a new call takes; raises `NotFound` or `ResultExpired`."""
    ends = [end_of(connection, job) for job in jobs]
    for end in ends:
        if end.state is None:
            raise NotFound("job", end.job)
        if end.is_gone:
            raise ResultExpired(end.job)
    return ends


def open_before(connection: sqlite3.Connection, task: int) -> list[End]:
    """Return how those of the jobs that *task* takes stand which have not succeeded yet."""
    rows = connection.execute("SELECT job FROM dependency WHERE task = ? AND is_open = 1", (task,)).fetchall()
    return [end_of(connection, job) for (job,) in rows]


# ---- another try ---------------------------------------------------------------------------


def lost_with(connection: sqlite3.Connection, jobs: Iterable[int], *, and_before: bool = False) -> list[int]:
    """Return *jobs* with the calls that failed for them, and so down the chains, oldest first.

    If *and_before*, with what they themselves take and lack too.
    """
    found = set[int]()
    pending = list(jobs)
    while and_before and pending:
        job = pending.pop()
        found.add(job)
        pending += [end.job for end in open_before(connection, job) if end.is_lost and end.job not in found]
    pending = list(found) or list(jobs)
    found.update(pending)
    while pending:
        for job, output in connection.execute(SELECT_FAILED_BY, (pending.pop(),)).fetchall():
            if job not in found and output and unpack_failure(output).kind == DependencyFailed.__name__:
                found.add(job)
                pending.append(job)
    return sorted(found)


# ---- calls come, jobs end ------------------------------------------------------------------


def add_dependencies(
    connection: sqlite3.Connection, ledger: Ledger, calls: Sequence[tuple[int, Sequence[End]]]
) -> Consequences:
    """Have each new call, given by its task, wait for those of its *ends* that are not in; some may have failed."""
    rows = [(task, end.job, int(not end.is_in)) for task, ends in calls for end in ends]
    execute_rows(connection, INSERT_DEPENDENCY, rows)
    consequences = Consequences()
    lost = {end.job: end for _, ends in calls for end in ends if end.is_lost}
    _fail(connection, ledger, list(lost.values()), consequences)
    return consequences


def settle_calls(
    connection: sqlite3.Connection, ledger: Ledger, jobs: Sequence[int], consequences: Consequences
) -> None:
    """Let the calls go on, or fail, that wait for those of *jobs* which have ended."""
    if jobs and _any_waits(connection):
        waited_for = connection.execute(SELECT_WAITED_FOR, (json.dumps(jobs),)).fetchall()
        _settle(connection, ledger, [job for (job,) in waited_for], consequences)


def settle_calls_after(
    connection: sqlite3.Connection, ledger: Ledger, first: int, count: int, consequences: Consequences
) -> None:
    """Do the same for consecutive jobs, items of a batch."""
    if _any_waits(connection):
        _settle(connection, ledger, waited_for_among(connection, first, count), consequences)


def waited_for_among(connection: sqlite3.Connection, first: int, count: int) -> list[int]:
    """Return those of *count* jobs from *first* on that have not succeeded, though calls take their results."""
    return [job for (job,) in connection.execute(SELECT_WAITED_FOR_ITEMS, (first, first + count))]


def settle_calls_of_project(
    connection: sqlite3.Connection, ledger: Ledger, project: int, consequences: Consequences
) -> None:
    """Do the same for the jobs of a *project*, which has been deleted."""
    waited_for = connection.execute(SELECT_WAITED_FOR_OF_PROJECT, (project,)).fetchall()
    _settle(connection, ledger, [job for (job,) in waited_for], consequences)


def _any_waits(connection: sqlite3.Connection) -> bool:
    """Tell whether anything may wait at all; mostly nothing does, and that is found out at once."""
    return bool(connection.execute(ANY_WAITS).fetchone()[0])


def _settle(connection: sqlite3.Connection, ledger: Ledger, jobs: Iterable[int], consequences: Consequences) -> None:
    ends = [end_of(connection, job) for job in jobs]
    if come := [end.job for end in ends if end.is_in]:
        tasks = {task for (task,) in connection.execute(CLOSE, (json.dumps(come),))}
        _release(connection, ledger, sorted(tasks), consequences)
    _fail(connection, ledger, [end for end in ends if end.is_lost], consequences)


def _release(connection: sqlite3.Connection, ledger: Ledger, tasks: Sequence[int], consequences: Consequences) -> None:
    """Queue those of *tasks* that wait for nothing any more."""
    released = connection.execute(RELEASE, {"at": ledger.at, "tasks": json.dumps(tasks)}).fetchall()
    for task, job, stage, state, due, need, tags, submitter, priority in sorted(released):
        ledger.event(Kind.GATHERED, job=job, task=task, stage=stage, state=State(state))
        ledger.count(stage, before=State.BLOCKED, after=State(state))
        consequences.ready.append(Ready(need, tags, submitter, priority, due))


def _fail(connection: sqlite3.Connection, ledger: Ledger, lost: Sequence[End], consequences: Consequences) -> None:
    """Fail the calls that wait for a *lost* job, and so down the chain."""
    failed: dict[int, Ended] = {}
    pending = [(end.job, end.cause) for end in lost]
    while pending:
        argument, cause = pending.pop()
        for task, job, stage, attempt in connection.execute(SELECT_BLOCKED_BY, (argument,)).fetchall():
            if task not in failed:
                error = failure_from(DependencyFailed(job, argument, *cause))
                failed[task] = Ended(job, JobState.FAILED, pack_failure(error), error.sentence)
                ledger.event(
                    Kind.FAILED, job=job, task=task, stage=stage, state=State.FAILED, attempt=attempt,
                    detail=error.sentence,
                )  # fmt: skip
                ledger.count(stage, before=State.BLOCKED, after=State.FAILED)
                pending.append((job, cause))
    execute_rows(connection, FAIL_TASK, [(task, ledger.at) for task in failed])
    execute_rows(connection, SAVE_OUTPUT, [(task, ended.output) for task, ended in failed.items()])
    execute_rows(connection, END_JOB, [(ended.job, int(ended.state), ledger.at) for ended in failed.values()])
    consequences.ended += failed.values()


# ---- after a restart -----------------------------------------------------------------------


@dataclass(slots=True)
class SettleBlocked:
    """Look at all that calls wait for, in case it has ended unnoticed; the result is `Consequences`."""

    rank: ClassVar[int] = 1
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[SettleBlocked]) -> list[Any]:
        results = []
        for operation in operations:
            ledger, consequences = Ledger(connection, names, operation.at), Consequences()
            waited_for = connection.execute(SELECT_ALL_WAITED_FOR).fetchall()
            _settle(connection, ledger, [job for (job,) in waited_for], consequences)
            ledger.write()
            results.append(consequences)
        return results
