"""Operations that hand queued tasks to workers, and the rows that a task is made from."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from ..events import Kind
from ..jobs import State, Task
from .ledger import Ledger
from .names import FUNCTIONS, Names
from .rows import execute_rows

LOOK_LIMIT = 256  #: flagged tasks that one lease looks through
STATES = tuple(State)

SELECT_TASK = """
SELECT task.id, task.job, task.stage, task.batch, task.generation, task.state, task.attempt, task.errors,
    task.vanished, task.crashes, task.retries, task.crash_retries, task.timeout / 1000000.0, task.priority, need.tags,
    coalesce(function.digest, x''),
    CASE WHEN task.origin IS NULL THEN payload.input ELSE origin.output END,
    task.submitter, task.flags, task.origin, coalesce(task.token, 0), task.how,
    (SELECT number FROM job WHERE job.id = task.job)
FROM task
JOIN need ON need.id = task.need
JOIN payload ON payload.task = task.id
LEFT JOIN payload AS origin ON origin.task = task.origin
LEFT JOIN function ON function.id = task.function
"""
SELECT_QUEUED = f"""
{SELECT_TASK}
WHERE task.stage = ? AND task.need = ? AND task.submitter = ? AND task.state = {State.QUEUED:d} AND task.flags = 0
ORDER BY task.priority DESC, task.id
LIMIT ?
"""
# A bounded look: one who has flagged a million tasks must not make the store go through all of them.
SELECT_FLAGGED = f"""
SELECT task.id, EXISTS (SELECT 1 FROM flag WHERE flag.task = task.id AND flag.voter = ?)
FROM task
WHERE task.stage = ? AND task.need = ? AND task.state = {State.QUEUED:d} AND task.flags > 0 AND task.id > ?
ORDER BY task.id
LIMIT {LOOK_LIMIT}
"""
SELECT_TAKING = "SELECT DISTINCT task FROM dependency WHERE task IN (SELECT value FROM json_each(?))"
LEASE = f"""
WITH leased (task, attempt, worker, contributor, token, deadline) AS (VALUES (?, ?, ?, ?, ?, ?))
UPDATE task
SET state = {State.LEASED:d}, attempt = leased.attempt, worker = leased.worker, contributor = leased.contributor,
    token = leased.token, deadline = leased.deadline
FROM leased
WHERE task.id = leased.task
"""


def task_from(row: Sequence[Any]) -> Task:
    """Return the task of one row of `SELECT_TASK`."""
    return Task(*(*row[:5], STATES[row[5]], *row[6:]))  # by place: with 23 names it takes seven times as long


class Holder(msgspec.Struct, frozen=True):
    """Who is handed tasks."""

    worker: str
    contributor: str | None = None  #: of an outside worker
    deadline: int | None = None  #: of an outside worker's lease, which then has a token too


class _Handed:
    """The tasks that one group of operations hands out, written together."""

    def __init__(self, connection: sqlite3.Connection, names: Names, at: int) -> None:
        self._connection, self._names = connection, names
        self._ledger = Ledger(connection, names, at)
        self._rows: list[tuple[object, ...]] = []

    def hand(self, row: Sequence[Any], holder: Holder) -> Task:
        """Return the task of *row* in the hands of *holder*."""
        task = task_from(row)
        is_outside = holder.deadline is not None
        task = task.to(State.LEASED, attempt=task.attempt + 1, token=secrets.randbits(62) if is_outside else 0)
        contributor = None
        if holder.contributor is not None:
            contributor = self._names.contributor(self._connection, holder.contributor)
        self._rows.append(
            (task.id, task.attempt, holder.worker, contributor, task.token or None, holder.deadline)
        )  # fmt: skip
        self._ledger.event(
            Kind.LEASED, job=task.job, task=task.id, stage=task.stage, state=State.LEASED, batch=task.batch,
            attempt=task.attempt, worker=holder.worker, contributor=contributor,
        )  # fmt: skip
        self._ledger.count(task.stage, before=State.QUEUED, after=State.LEASED)
        return task

    def write(self) -> None:
        execute_rows(self._connection, LEASE, self._rows)
        self._ledger.write()


class Lease(msgspec.Struct):
    """Hand queued tasks of one stage, one need and one submitter to a worker; the result is the list of them.

    With *on_lost* it is told before it is durable: what is run too early runs at most once more. That is not so for
    calls that take results of jobs: these may have ended in the same commit, and nobody can read them before it.
    """

    rank: ClassVar[int] = 3
    is_quick: ClassVar[bool] = True
    stage: int
    need: int
    submitter: int
    n: int
    holder: Holder
    at: int
    on_lost: Callable[[list[Task]], None] | None = None

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Lease]) -> list[Any]:
        handed = _Handed(connection, names, operations[0].at)
        alike: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
        for place, operation in enumerate(operations):
            alike[operation.stage, operation.need, operation.submitter].append(place)
        results: list[list[Task]] = [[] for _ in operations]
        for source, places in alike.items():
            wanted = sum(operations[place].n for place in places)
            rows = iter(connection.execute(SELECT_QUEUED, (*source, wanted)).fetchall())
            for place in places:
                operation = operations[place]
                some = zip(range(operation.n), rows, strict=False)
                results[place] = [handed.hand(row, operation.holder) for _, row in some]
        handed.write()
        _tell_when_durable(connection, operations, results)
        return results


def _tell_when_durable(
    connection: sqlite3.Connection, operations: Sequence[Lease], results: Sequence[list[Task]]
) -> None:
    """Have those *operations* told when they are durable, not before, that hand out calls which take results."""
    early = [
        (operation, {task.id for task in tasks})
        for operation, tasks in zip(operations, results, strict=True)
        if operation.stage == FUNCTIONS and operation.on_lost is not None
    ]
    if early:
        ids = json.dumps([id for _, some in early for id in some])
        taking = {id for (id,) in connection.execute(SELECT_TAKING, (ids,))}
        for operation, some in early:
            if not taking.isdisjoint(some):
                operation.on_lost = None


@dataclass(slots=True)
class FlaggedTasks:
    """What a look through flagged tasks brought."""

    tasks: list[Task] = field(default_factory=list)
    is_all: bool = False  #: none is left that the voter has not flagged, all were looked at


@dataclass(slots=True)
class LeaseFlagged:
    """Hand flagged tasks to a worker whose *voter* has not flagged them; the result is `FlaggedTasks`.

    One look goes through some of them only; the next one of the same voter begins where it stopped.
    """

    rank: ClassVar[int] = 3
    is_quick: ClassVar[bool] = True
    stage: int
    need: int
    voter: str
    n: int
    holder: Holder
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[LeaseFlagged]) -> list[Any]:
        handed = _Handed(connection, names, operations[0].at)
        taken: set[int] = set()
        results = [operation._look(connection, names, handed, taken) for operation in operations]
        handed.write()
        return results

    def _look(self, connection: sqlite3.Connection, names: Names, handed: _Handed, taken: set[int]) -> FlaggedTasks:
        place = (self.stage, self.need, self.voter)
        start, has_found = names.flagged_until.pop(place, (0, False))
        seen = connection.execute(SELECT_FLAGGED, (self.voter, self.stage, self.need, start)).fetchall()
        good = [id for id, is_flagged in seen if not is_flagged and id not in taken][: self.n]
        taken.update(good)
        has_found = has_found or bool(good)
        at_end = len(seen) < LOOK_LIMIT and len(good) < self.n
        if not at_end:
            names.flagged_until[place] = (good[-1] if len(good) == self.n else seen[-1][0], has_found)
        return FlaggedTasks(
            [handed.hand(row, self.holder) for row in _rows(connection, good)], at_end and not has_found
        )


def _rows(connection: sqlite3.Connection, ids: Iterable[int]) -> Iterable[Sequence[Any]]:
    for id in ids:
        yield connection.execute(f"{SELECT_TASK} WHERE task.id = ?", (id,)).fetchone()
