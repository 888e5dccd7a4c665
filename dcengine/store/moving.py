"""Operations that move tasks from state to state, each guarded by the state and attempt it starts from."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ..codec import pack
from ..errors import StaleLease
from ..events import Kind
from ..jobs import JOB_STATE, JobState, Stage, State, Task, Vote
from .depending import settle_calls
from .gathering import settle
from .handing import END_JOB, SAVE_OUTPUT, Consequences, Queued, hand_on, open_parts, reject, send_back
from .ledger import Ledger
from .names import CALL, Names
from .rows import execute_rows

WAKE_LIMIT = 10_000  #: tasks woken in one operation

# Which of some tasks are no longer where they are said to be. Those are few, so little is read.
SELECT_STALE = """
WITH said (task, state, attempt) AS (VALUES (?, ?, ?))
SELECT said.task
FROM said
LEFT JOIN task ON task.id = said.task
WHERE task.state IS NOT said.state OR task.attempt IS NOT said.attempt
"""
MOVE = """
WITH moved (task, state, errors, vanished, crashes, flags, not_before, finished, contributor, keeps_token) AS (
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
)
UPDATE task
SET state = moved.state, errors = moved.errors, vanished = moved.vanished, crashes = moved.crashes,
    flags = moved.flags, not_before = moved.not_before, finished = moved.finished,
    contributor = coalesce(moved.contributor, task.contributor), token = CASE WHEN moved.keeps_token THEN token END
FROM moved
WHERE task.id = moved.task
"""
VOTE = """
INSERT OR IGNORE INTO flag (task, voter, reason, worker, at)
VALUES (?, ?, ?, ?, ?)
"""
# One of those who flagged it may have been banned meanwhile, and count no more.
COUNT_FLAGS = """
UPDATE task
SET flags = (SELECT count(*) FROM flag WHERE flag.task = task.id)
WHERE id = ?
RETURNING flags, submitter, priority
"""
WAKE = f"""
UPDATE task
SET state = {State.QUEUED:d}, not_before = NULL
WHERE id IN (
    SELECT id FROM task WHERE state = {State.WAITING:d} AND not_before <= ? ORDER BY not_before LIMIT {WAKE_LIMIT}
)
RETURNING id, job, stage, need, submitter, priority, flags, batch
"""

# Whoever waits and has erred before waits for another try; the rest wait for a moment that somebody has named.
SHIFT_BACK_OFFS = f"""
UPDATE task
SET not_before = not_before + ?
WHERE state = {State.WAITING:d} AND errors > 0
"""


class Move(msgspec.Struct):
    """Store a task's move, and all that follows from it: the next task, parts, a gather that is complete.

    The result is `handing.Consequences`, or `StaleLease` if the task is no longer where it started from.
    """

    rank: ClassVar[int] = 0
    is_quick: ClassVar[bool] = True
    before: Task
    after: Task
    kind: Kind
    at: int
    worker: str | None = None
    contributor: str | None = None  #: who earns credit for it
    output: bytes | None = None  #: a packed result or failure, for a final state
    not_before: int | None = None  #: for a waiting one
    reason: str | None = None
    units: int = 1  #: of credit
    seconds: float | None = None  #: that the run took
    opens: Stage | None = None  #: where the job goes on, its output as input; where its parts begin, if there are any
    parts: list[bytes] | None = None  #: packed values, each to become a job
    gather: Stage | None = None  #: where the job waits for its parts
    vote: Vote | None = None
    keeps_token: bool = False  #: the holder said so itself, and may say it again

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Move]) -> list[Any]:
        befores = [operation.before for operation in operations]
        if len({before.id for before in befores}) < len(befores):  # two moves of one task: one after the other
            return [cls.apply(connection, names, [operation])[0] for operation in operations]
        ledger = Ledger(connection, names, operations[0].at)
        said = [(before.id, int(before.state), before.attempt) for before in befores]
        stale = {id for (id,) in execute_rows(connection, SELECT_STALE, said)}
        results: list[Any] = []
        moved: list[tuple[Move, Consequences]] = []
        for operation in operations:
            before = operation.before
            if before.id in stale:
                results.append(StaleLease(before.id, before.attempt))
                continue
            results.append(Consequences())
            moved.append((operation, results[-1]))
        _write(connection, names, [operation for operation, _ in moved])
        for operation, _ in moved:
            operation._enter(connection, names, ledger)
        for operation, consequences in moved:
            if operation.after.flags:
                operation._count_flags(connection, consequences)
            operation._follow(connection, names, ledger, consequences)
        going_on = [
            (operation.after, operation.opens, consequences)
            for operation, consequences in moved
            if operation.opens is not None and operation.parts is None
        ]
        if going_on:
            hand_on(connection, names, ledger, going_on)
        ends = [
            (operation.after.job, operation.reason, consequences)
            for operation, consequences in moved
            if operation.ends_job and operation.after.stage != CALL
        ]
        if ends:
            settle(connection, ledger, ends)
        if moved:
            ended = [ended.job for _, consequences in moved for ended in consequences.ended]
            ended += [operation.after.job for operation, _ in moved if operation.ends_job]
            settle_calls(connection, ledger, ended, moved[0][1])
        ledger.write()
        return results

    @property
    def ends_job(self) -> bool:
        """Whether the job has come to its end with this."""
        goes_on = self.opens is not None and (self.parts is None or self.gather is not None)
        return self.after.state in JOB_STATE and not goes_on

    def _row(self, connection: sqlite3.Connection, names: Names) -> tuple[object, ...]:
        task = self.after
        contributor = None if self.contributor is None else names.contributor(connection, self.contributor)
        finished = self.at if task.state.is_final else None
        return (
            task.id, int(task.state), task.errors, task.vanished, task.crashes, task.flags, self.not_before, finished,
            contributor, int(self.keeps_token),
        )  # fmt: skip

    def _enter(self, connection: sqlite3.Connection, names: Names, ledger: Ledger) -> None:
        """Write down what happened, who has earned something, and the end of an item of a batch."""
        before, after = self.before, self.after
        project = names.project_of(connection, after.stage)
        chunk = contributor = credit = None
        if after.batch is not None and after.state.is_final:
            (first_job,) = connection.execute("SELECT first_job FROM batch WHERE id = ?", (after.batch,)).fetchone()
            chunk = ledger.close_items(
                after.batch, first=after.job - first_job, count=1, state=after.state,
                data=pack([self.output or b""]), worker=self.worker,
            )  # fmt: skip
        if self.contributor is not None and after.state is State.SUCCEEDED:
            credit = self.units
            task = None if chunk else after.id
            contributor = ledger.credit(project, self.contributor, task=task, chunk=chunk, units=credit)
        ledger.event(
            self.kind, job=after.job, task=after.id, stage=after.stage, state=after.state, batch=after.batch,
            attempt=after.attempt, worker=self.worker, contributor=contributor, credit=credit,
            seconds=self.seconds, detail=self.reason,
        )  # fmt: skip
        ledger.count(after.stage, before=before.state, after=after.state)
        if self.ends_job and after.batch is None:
            ledger.count_jobs(project, before=JobState.OPEN, after=JOB_STATE[after.state])

    def _count_flags(self, connection: sqlite3.Connection, consequences: Consequences) -> None:
        """Write how many have flagged the task; where nobody has any more, it is queued among the others."""
        ((flags, submitter, priority),) = connection.execute(COUNT_FLAGS, (self.after.id,))
        if not flags and self.after.state is State.QUEUED:
            consequences.queued.append(Queued(self.after.stage, submitter, priority))

    def _follow(self, connection: sqlite3.Connection, names: Names, ledger: Ledger, consequences: Consequences) -> None:
        if self.vote is not None and self.after.state is State.FAILED:
            reject(connection, ledger, self.after)
        is_cut = self.before.state is State.BLOCKED and self.after.state.is_final and self.after.stage != CALL
        if is_cut:  # its parts are not wanted any more
            connection.execute("UPDATE gather SET is_cut = 1 WHERE task = ?", (self.after.id,))
            consequences.cut.append(self.after.id)
        if self.after.state is State.RETURNED:
            send_back(connection, names, ledger, self.after, consequences)
        elif self.parts is not None and self.opens is not None:
            open_parts(
                connection, names, ledger, self.after, self.parts, self.opens, self.gather, consequences, at=self.at
            )


def _write(connection: sqlite3.Connection, names: Names, moves: Sequence[Move]) -> None:
    """Write the rows of the tasks that move, and of the jobs that end with them."""
    execute_rows(connection, MOVE, [move._row(connection, names) for move in moves])
    finals = [(move.after.id, move.output) for move in moves if move.after.state.is_final]
    execute_rows(connection, SAVE_OUTPUT, finals)
    ends = [(move.after.job, int(JOB_STATE[move.after.state]), move.at) for move in moves if move.ends_job]
    execute_rows(connection, END_JOB, ends)
    votes = [
        (move.after.id, move.vote.voter, move.vote.reason, move.worker, move.at)
        for move in moves
        if move.vote is not None
    ]
    execute_rows(connection, VOTE, votes)


@dataclass(slots=True)
class WakeDue:
    """Queue tasks whose waiting time is over; the result lists (stage, need, submitter, priority, flags) for each."""

    rank: ClassVar[int] = 1
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[WakeDue]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        woken = connection.execute(WAKE, (max(operation.at for operation in operations),)).fetchall()
        for id, job, stage, *_, batch in woken:
            ledger.event(Kind.WOKEN, job=job, task=id, stage=stage, state=State.QUEUED, batch=batch)
            ledger.count(stage, before=State.WAITING, after=State.QUEUED)
        ledger.write()
        return [[row[2:7] for row in woken], *([] for _ in operations[1:])]


@dataclass(slots=True)
class ShiftBackOffs:
    """Have tasks that wait for another try do so for as long as before, now that the clock was set by *step*."""

    rank: ClassVar[int] = 0  # before anything is woken
    step: int  #: microseconds, below zero for back

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[ShiftBackOffs]) -> list[Any]:
        connection.execute(SHIFT_BACK_OFFS, (sum(operation.step for operation in operations),))
        return [None] * len(operations)
