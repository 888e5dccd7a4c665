"""Operations that move tasks from state to state, each guarded by the state and attempt it starts from."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..codec import pack
from ..errors import StaleLease
from ..events import Kind
from ..jobs import JOB_STATE, Stage, State, Task
from .ledger import Ledger
from .names import Names

SELECT_TASK = """
SELECT task.id, task.job, task.stage, task.batch, task.generation, task.state, task.attempt, task.errors,
    task.vanished, task.crashes, task.retries, task.crash_retries, task.timeout, task.priority, need.tags,
    function.digest,
    CASE WHEN task.origin IS NULL THEN payload.input ELSE origin.output END
FROM task
JOIN need ON need.id = task.need
JOIN payload ON payload.task = task.id
LEFT JOIN payload AS origin ON origin.task = task.origin
LEFT JOIN function ON function.id = task.function
"""
SELECT_QUEUED = f"""
{SELECT_TASK}
WHERE task.stage = ? AND task.need = ? AND task.state = {State.QUEUED:d}
ORDER BY task.priority DESC, task.id
LIMIT ?
"""
LEASE = f"""
UPDATE task
SET state = {State.LEASED:d}, attempt = ?, worker = ?
WHERE id = ?
"""
MOVE = """
UPDATE task
SET state = ?, errors = ?, vanished = ?, crashes = ?, not_before = ?
WHERE id = ?
"""
# The stage itself says what its next task runs: it may have been declared anew since the engine looked.
OPEN_STAGE = f"""
INSERT INTO task (id, job, stage, state, need, priority, function, retries, timeout, origin)
SELECT ?, ?, id, {State.QUEUED:d}, need, ?, function, retries, timeout, ?
FROM stage
WHERE id = ?
"""
WAKE = f"""
UPDATE task
SET state = {State.QUEUED:d}, not_before = NULL
WHERE state = {State.WAITING:d} AND not_before <= ?
RETURNING stage, need, priority
"""


def task_from(row: Sequence[Any]) -> Task:
    """Return the task of one row of `SELECT_TASK`."""
    id, job, stage, batch, generation, state, attempt, errors = row[:8]
    vanished, crashes, retries, crash_retries, timeout, priority, tags, function, input = row[8:]
    return Task(
        id=id, job=job, stage=stage, batch=batch, generation=generation, state=State(state), attempt=attempt,
        errors=errors, vanished=vanished, crashes=crashes, retries=retries, crash_retries=crash_retries,
        timeout=None if timeout is None else timeout / 1_000_000, priority=priority,
        tags=tags, function=function or b"", input=input,
    )  # fmt: skip


@dataclass(slots=True)
class Lease:
    """Hand queued tasks of one stage and one need to a worker; the result is the list of them, maybe empty."""

    rank: ClassVar[int] = 3
    stage: int
    need: int
    n: int
    worker: str
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Lease]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        alike: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for place, operation in enumerate(operations):
            alike[operation.stage, operation.need].append(place)
        results: list[list[Task]] = [[] for _ in operations]
        leased: list[tuple[object, ...]] = []
        for (stage, need), places in alike.items():
            wanted = sum(operations[place].n for place in places)
            rows = iter(connection.execute(SELECT_QUEUED, (stage, need, wanted)).fetchall())
            for place in places:
                worker = operations[place].worker
                for _, row in zip(range(operations[place].n), rows, strict=False):
                    task = task_from(row)
                    task = task.to(State.LEASED, attempt=task.attempt + 1)
                    results[place].append(task)
                    leased.append((task.attempt, worker, task.id))
                    ledger.event(Kind.LEASED, job=task.job, attempt=task.attempt, worker=worker)
                    ledger.count(stage, before=State.QUEUED, after=State.LEASED)
        connection.executemany(LEASE, leased)
        ledger.write()
        return results


@dataclass(slots=True)
class Move:
    """Store a task's move, and the task that it opens at the job's next stage.

    The result is True, or `StaleLease` if the task is no longer where it started from.
    """

    rank: ClassVar[int] = 0
    before: Task
    after: Task
    kind: Kind
    at: int
    worker: str | None = None
    contributor: str | None = None  #: who earns credit for it
    output: bytes | None = None  #: a packed result or failure, for a final state
    not_before: int | None = None  #: for a waiting one
    reason: str | None = None
    opens: Stage | None = None  #: where the job goes on, its output as input

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Move]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        current = _current(connection, (operation.before.id for operation in operations))
        results: list[Any] = []
        moved: list[Move] = []
        for operation in operations:
            before, after = operation.before, operation.after
            if current.get(before.id) != (before.state, before.attempt):
                results.append(StaleLease(before.id, before.attempt))
                continue
            current[before.id] = (after.state, after.attempt)
            moved.append(operation)
            results.append(True)
        connection.executemany(MOVE, [operation._row() for operation in moved])
        finals = [operation for operation in moved if operation.after.state.is_final]
        connection.executemany(
            "UPDATE payload SET output = ? WHERE task = ?", [(end.output, end.after.id) for end in finals]
        )
        connection.executemany(
            "UPDATE job SET state = ?, finished = ? WHERE id = ?",
            [(JOB_STATE[end.after.state], end.at, end.after.job) for end in finals if end.opens is None],
        )
        _open_stages(connection, names, [end for end in finals if end.opens is not None])
        for operation in moved:
            operation._enter(connection, names, ledger)
        ledger.write()
        return results

    def _row(self) -> tuple[object, ...]:
        task = self.after
        return (int(task.state), task.errors, task.vanished, task.crashes, self.not_before, task.id)

    def _enter(self, connection: sqlite3.Connection, names: Names, ledger: Ledger) -> None:
        before, after = self.before, self.after
        ledger.event(
            self.kind, job=after.job, batch=after.batch, attempt=after.attempt, worker=self.worker, detail=self.reason
        )
        ledger.count(after.stage, before=before.state, after=after.state)
        if self.opens is not None:
            ledger.count(self.opens.id, before=None, after=State.QUEUED)
        chunk = None
        if after.batch is not None and after.state.is_final:
            (first_job,) = connection.execute("SELECT first_job FROM batch WHERE id = ?", (after.batch,)).fetchone()
            chunk = ledger.close_items(
                after.batch, first=after.job - first_job, count=1, state=after.state,
                data=pack([self.output or b""]), worker=self.worker,
            )  # fmt: skip
        if self.contributor is not None and after.state is State.SUCCEEDED:
            project = names.project_of(connection, after.stage)
            ledger.credit(project, self.contributor, task=None if chunk else after.id, chunk=chunk)


def _open_stages(connection: sqlite3.Connection, names: Names, moves: Sequence[Move]) -> None:
    """Insert the tasks that *moves* open; the jobs start over with what they say of their progress."""
    if not moves:
        return
    tasks = [
        (id, end.after.job, end.after.priority, end.after.id, end.opens.id)
        for id, end in zip(names.reserve_tasks(connection, len(moves)), moves, strict=True)
        if end.opens is not None
    ]
    connection.executemany(OPEN_STAGE, tasks)
    connection.executemany("INSERT INTO payload (task, input) VALUES (?, x'')", [(id,) for id, *_ in tasks])
    connection.executemany("DELETE FROM progress WHERE job = ?", [(job,) for _, job, *_ in tasks])


def _current(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return state and attempt of the tasks *ids* as they stand in the file."""
    rows = connection.execute(
        "SELECT id, state, attempt FROM task WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
    )
    return {id: (state, attempt) for id, state, attempt in rows}


@dataclass(slots=True)
class WakeDue:
    """Queue the tasks whose waiting time is over; the result lists (stage, need, priority) for each."""

    rank: ClassVar[int] = 1
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[WakeDue]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        woken = connection.execute(WAKE, (max(operation.at for operation in operations),)).fetchall()
        for stage, _, _ in woken:
            ledger.count(stage, before=State.WAITING, after=State.QUEUED)
        ledger.write()
        return [woken, *([] for _ in operations[1:])]
