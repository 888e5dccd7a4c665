"""Operations that cancel many jobs: the open parts of a gather that has ended, the open jobs of a project."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..codec import failure_from, pack_failure
from ..errors import JobCancelled
from ..events import Kind
from ..jobs import JobState, State
from .depending import settle_calls
from .gathering import settle
from .handing import Consequences
from .ledger import Ledger
from .names import CURRENT_TASK, Names

CANCEL_TASK = f"""
UPDATE task
SET state = {State.CANCELLED:d}, finished = ?, not_before = NULL
WHERE id = ?
"""
CANCEL_JOB = f"""
UPDATE job
SET state = {JobState.CANCELLED:d}, finished = ?, expires = ? + keep
WHERE id = ?
"""
SELECT_OPEN_PARTS = f"""
SELECT task.id, task.job, task.stage, task.state, job.project
FROM job
JOIN gather ON gather.source = job.gather
JOIN task ON task.id = {CURRENT_TASK}
WHERE gather.task = ? AND job.gather = ? AND job.state = {JobState.OPEN:d} AND job.id > ?
ORDER BY job.id
LIMIT ?
"""
END_CUT = f"""
UPDATE gather
SET is_cut = 0
WHERE task = ? AND NOT EXISTS (SELECT 1 FROM job WHERE gather = ? AND state = {JobState.OPEN:d})
"""
# A statement for each state, so that each finds its partial index.
SELECT_OPEN_TASKS = tuple(
    f"""
SELECT task.id, task.job, task.stage, task.state, job.project
FROM task
JOIN job ON job.id = task.job
WHERE task.stage = ? AND {which}
LIMIT ?
"""
    for which in (
        f"task.state = {State.BLOCKED:d}",  # first: else they would fail with their parts
        f"task.state = {State.QUEUED:d} AND task.flags = 0",
        f"task.state = {State.QUEUED:d} AND task.flags > 0",
        f"task.state = {State.WAITING:d}",
    )
)
SELECT_RUNNING = f"""
SELECT job
FROM task
WHERE state = {State.LEASED:d} AND stage IN (SELECT value FROM json_each(?))
"""


@dataclass(slots=True)
class Cancelled:
    """What was cancelled, and what is still to be."""

    jobs: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)  #: jobs in a worker's hands
    consequences: Consequences = field(default_factory=Consequences)
    last: int = 0  #: the last job looked at
    is_all: bool = True  #: nothing else waits


def _cancel(
    connection: sqlite3.Connection, ledger: Ledger, rows: Sequence[tuple[int, int, int, int, int]], result: Cancelled
) -> None:
    """Cancel the tasks of *rows* (id, job, stage, state, project) with their jobs; leased ones are only named."""
    at = ledger.at
    for task, job, stage, state, project in rows:
        result.last = max(result.last, job)
        if state == State.LEASED:
            result.running.append(job)
            continue
        connection.execute(CANCEL_TASK, (at, task))
        connection.execute(CANCEL_JOB, (at, at, job))
        output = pack_failure(failure_from(JobCancelled(job)))
        connection.execute("UPDATE payload SET output = ? WHERE task = ?", (output, task))
        if state == State.BLOCKED:
            connection.execute("UPDATE gather SET is_cut = 1 WHERE task = ?", (task,))
            result.consequences.cut.append(task)
        ledger.event(Kind.CANCELLED, job=job, task=task, stage=stage, state=State.CANCELLED)
        ledger.count(stage, before=State(state), after=State.CANCELLED)
        ledger.count_jobs(project, before=JobState.OPEN, after=JobState.CANCELLED)
        result.jobs.append(job)


@dataclass(slots=True)
class CutParts:
    """Cancel open parts of a gather that has ended, after job *after*; the result is `Cancelled`."""

    rank: ClassVar[int] = 1
    gather: int
    after: int
    limit: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[CutParts]) -> list[Any]:
        return [operation._cut(connection, names) for operation in operations]

    def _cut(self, connection: sqlite3.Connection, names: Names) -> Cancelled:
        ledger = Ledger(connection, names, self.at)
        row = connection.execute("SELECT source FROM gather WHERE task = ? AND is_cut = 1", (self.gather,)).fetchone()
        result = Cancelled()
        if row is None:  # somebody has taken it up again
            return result
        rows = connection.execute(SELECT_OPEN_PARTS, (self.gather, row[0], self.after, self.limit)).fetchall()
        _cancel(connection, ledger, rows, result)
        result.is_all = len(rows) < self.limit
        if result.is_all:  # while one of them runs, an engine that starts looks again
            connection.execute(END_CUT, (self.gather, row[0]))
        settle_calls(connection, ledger, result.jobs, result.consequences)
        ledger.write()
        return result


@dataclass(slots=True)
class CancelWaiting:
    """Cancel jobs that wait at one of *stages*, a slice of them; the result is `Cancelled`.

    What runs is named with the last slice: looked at later, it may have gone on to wait again.
    """

    rank: ClassVar[int] = 1
    stages: list[int]
    limit: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[CancelWaiting]) -> list[Any]:
        return [operation._cancel(connection, names) for operation in operations]

    def _cancel(self, connection: sqlite3.Connection, names: Names) -> Cancelled:
        ledger, result = Ledger(connection, names, self.at), Cancelled()
        for statement in SELECT_OPEN_TASKS:
            for stage in self.stages:
                room = self.limit - len(result.jobs)
                if room > 0:
                    _cancel(connection, ledger, connection.execute(statement, (stage, room)).fetchall(), result)
        result.is_all = len(result.jobs) < self.limit
        if result.is_all:
            running = connection.execute(SELECT_RUNNING, (json.dumps(self.stages),))
            result.running = [job for (job,) in running]
        settle(connection, ledger, [(job, "cancelled", result.consequences) for job in result.jobs])
        failed = [ended.job for ended in result.consequences.ended]
        settle_calls(connection, ledger, [*result.jobs, *failed], result.consequences)
        ledger.write()
        return result
