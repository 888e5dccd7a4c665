"""Operations on the items of a batch: accepted runs, items that need a row of their own, cancel and reopen."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..codec import pack
from ..events import Kind
from ..jobs import JOB_STATE, Chunk, JobState, State, Task
from .depending import settle_calls, settle_calls_after, waited_for_among
from .handing import Consequences
from .ledger import Ledger
from .names import Names
from .reopening import Reopening

INSERT_STRAY_JOB = """
INSERT INTO job (id, project, number, state, function, batch, submitter, created, finished, priority)
SELECT ?, ?, batch.first_number + ?, ?, batch.function, batch.id, batch.submitter, batch.created, ?, batch.priority
FROM batch
WHERE batch.id = ?
"""
INSERT_STRAY_TASK = """
INSERT INTO task (
    id, job, stage, batch, state, need, priority, function, attempt, errors, vanished, crashes, retries, timeout,
    not_before, worker, finished, submitter, how
)
SELECT ?, ?, batch.stage, batch.id, ?, batch.need, batch.priority, batch.function, ?, ?, ?, ?, batch.retries,
    batch.timeout, ?, ?, ?, coalesce(batch.submitter, 0), batch.how
FROM batch
WHERE batch.id = ?
"""
REOPEN_TASKS = f"""
UPDATE task
SET state = {State.QUEUED:d}, errors = 0, vanished = 0, crashes = 0, finished = NULL
WHERE batch = ? AND state IN ({State.FAILED:d}, {State.CANCELLED:d})
RETURNING job
"""
REOPEN_BATCH = f"""
UPDATE batch
SET state = {JobState.OPEN:d}, failed = 0, cancelled = 0, finished = NULL, expires = NULL
WHERE id = ? AND failed + cancelled > 0 AND (state = {JobState.OPEN:d} OR keep IS NULL OR expires > ?)
RETURNING stage, need, submitter, priority, first_job
"""
UNSUCCESSFUL = f"batch = ? AND state IN ({State.FAILED:d}, {State.CANCELLED:d})"


@dataclass(slots=True)
class AcceptChunk:
    """Store the results of consecutive items of a batch: one row, one event, one credit entry.

    The result is `Consequences`.
    """

    rank: ClassVar[int] = 0
    stage: int
    chunk: Chunk
    data: bytes
    worker: str
    contributor: str
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AcceptChunk]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        results = [Consequences() for _ in operations]
        for operation, consequences in zip(operations, results, strict=True):
            chunk = operation.chunk
            row = ledger.close_items(
                chunk.batch,
                first=chunk.first,
                count=chunk.count,
                state=State.SUCCEEDED,
                data=operation.data,
                worker=operation.worker,
            )
            project = names.project_of(connection, operation.stage)
            contributor = ledger.credit(project, operation.contributor, chunk=row, units=chunk.count)
            ledger.event(
                Kind.SUCCEEDED, batch=chunk.batch, job=chunk.first_job, stage=operation.stage, state=State.SUCCEEDED,
                units=chunk.count, worker=operation.worker, contributor=contributor, credit=chunk.count,
            )  # fmt: skip
            ledger.count(operation.stage, before=State.QUEUED, after=State.SUCCEEDED, n=chunk.count)
            settle_calls_after(connection, ledger, chunk.first_job, chunk.count, consequences)
        ledger.write()
        return results


@dataclass(slots=True)
class AddStray:
    """Give an item of a batch rows of its own: it is to be retried, has failed, or was cancelled.

    The result is `Consequences`.
    """

    rank: ClassVar[int] = 1
    task: Task
    index: int  #: the item's place in its batch
    kind: Kind
    at: int
    worker: str | None = None
    output: bytes | None = None
    not_before: int | None = None
    reason: str | None = None

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddStray]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        results = [operation._add(connection, names, ledger) for operation in operations]
        ledger.write()
        return results

    def _add(self, connection: sqlite3.Connection, names: Names, ledger: Ledger) -> Consequences:
        task = self.task
        job_state = JOB_STATE.get(task.state, JobState.OPEN)
        finished = self.at if task.state.is_final else None
        project = names.project_of(connection, task.stage)
        connection.execute(INSERT_STRAY_JOB, (task.job, project, self.index, job_state, finished, task.batch))
        connection.execute(
            INSERT_STRAY_TASK,
            (
                task.id,
                task.job,
                int(task.state),
                task.attempt,
                task.errors,
                task.vanished,
                task.crashes,
                self.not_before,
                self.worker,
                finished,
                task.batch,
            ),
        )
        connection.execute(
            "INSERT INTO payload (task, input, output) VALUES (?, ?, ?)", (task.id, task.input, self.output)
        )
        ledger.event(
            self.kind, job=task.job, task=task.id, stage=task.stage, state=task.state, batch=task.batch,
            attempt=task.attempt, worker=self.worker, detail=self.reason,
        )  # fmt: skip
        ledger.count(task.stage, before=State.QUEUED, after=task.state)
        if task.state.is_final:
            assert task.batch is not None
            ledger.close_items(
                task.batch,
                first=self.index,
                count=1,
                state=task.state,
                data=pack([self.output or b""]),
                worker=self.worker,
            )
        consequences = Consequences()
        if task.state.is_final:
            settle_calls(connection, ledger, [task.job], consequences)
        return consequences


@dataclass(slots=True)
class CancelItems:
    """Cancel items of a batch that have no rows of their own, given as (first, count) runs.

    The result is `Consequences`.
    """

    rank: ClassVar[int] = 1
    stage: int
    batch: int
    runs: list[tuple[int, int]]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[CancelItems]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        results = [Consequences() for _ in operations]
        for operation, consequences in zip(operations, results, strict=True):
            (first_job,) = connection.execute("SELECT first_job FROM batch WHERE id = ?", (operation.batch,)).fetchone()
            for first, count in operation.runs:
                ledger.close_items(
                    operation.batch, first=first, count=count, state=State.CANCELLED, data=b"", worker=None
                )
                ledger.event(
                    Kind.CANCELLED, batch=operation.batch, job=first_job + first, stage=operation.stage,
                    state=State.CANCELLED, units=count,
                )  # fmt: skip
                ledger.count(operation.stage, before=State.QUEUED, after=State.CANCELLED, n=count)
                settle_calls_after(connection, ledger, first_job + first, count, consequences)
        ledger.write()
        return results


@dataclass(slots=True)
class Reopened:
    """What a reopened batch has to do again."""

    stage: int
    need: int
    submitter: int
    priority: int
    jobs: list[int]  #: items with a row of their own, queued again
    runs: list[tuple[int, int]]  #: (first, count) of those without
    calls: list[int]  #: jobs that go on too, since they take results of these


@dataclass(slots=True)
class ReopenBatch:
    """Queue the failed and cancelled items of a batch again; the result is `Reopened`, or None if none can be."""

    rank: ClassVar[int] = 1
    batch: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[ReopenBatch]) -> list[Any]:
        return [operation._reopen(connection, names) for operation in operations]

    def _reopen(self, connection: sqlite3.Connection, names: Names) -> Reopened | None:
        row = connection.execute(REOPEN_BATCH, (self.batch, self.at)).fetchone()
        if row is None:
            return None
        stage, need, submitter, priority, first_job = row
        jobs = [job for (job,) in connection.execute(REOPEN_TASKS, (self.batch,)).fetchall()]
        connection.executemany(
            f"UPDATE job SET state = {JobState.OPEN:d}, finished = NULL WHERE id = ?", [(job,) for job in jobs]
        )
        connection.executemany("UPDATE payload SET output = NULL WHERE task = ?", [(job,) for job in jobs])
        ledger = Ledger(connection, names, self.at)
        strays = {job - first_job for job in jobs}
        runs = []
        ended = connection.execute(
            f"SELECT first, count, state FROM chunk WHERE {UNSUCCESSFUL}", (self.batch,)
        ).fetchall()
        for first, count, state in ended:
            ledger.count(stage, before=State(state), after=State.QUEUED, n=count)
            if first not in strays:
                runs.append((first, count))
        connection.execute(f"DELETE FROM chunk WHERE {UNSUCCESSFUL}", (self.batch,))
        for first, count, state in ended:
            is_stray = first in strays
            ledger.event(
                Kind.REOPENED, batch=self.batch, job=first_job + first, task=first_job + first if is_stray else None,
                stage=stage, state=State.QUEUED, units=count, detail=None if is_stray else State(state).name.lower(),
            )  # fmt: skip
        reopening = Reopening(connection, ledger)
        for first, count, _ in ended:
            reopening.go_on_after(waited_for_among(connection, first_job + first, count))
        ledger.write()
        return Reopened(stage, need, submitter, priority, jobs, runs, reopening.result.jobs)
