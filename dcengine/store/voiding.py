"""Voiding what a contributor has done: its credit is taken back, and the work is done again, slice by slice.

A job goes back to the first stage at which the contributor's work is part of what has become of it. What is done again
is done in a new generation; who did something behind it keeps the credit for that.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from ..codec import failure_from, pack_failure
from ..errors import JobCancelled
from ..events import Kind
from ..jobs import JobState, State
from .handing import FORGET_PROGRESS, OPEN_TASK, Consequences, Queued
from .ledger import Ledger
from .names import CURRENT_TASK, FIRST_LATER_TASK, FUNCTIONS, Names
from .rows import execute_rows
from .standings import HOUR, void_credit

LOOK_LIMIT = 50_000  #: entries of credit that one slice goes through

SELECT_EARNED = """
SELECT credit.id, credit.task
FROM credit
JOIN project ON project.id = credit.project AND project.is_deleted = 0
WHERE credit.id > :after AND credit.id <= :until AND credit.contributor = :contributor AND credit.void = 0
    AND credit.at >= :since
ORDER BY credit.id
LIMIT :limit
"""
SELECT_JOBS = f"""
SELECT DISTINCT job.id, job.state, job.project, job.gather, {CURRENT_TASK},
    job.keep IS NOT NULL AND job.expires IS NULL AND job.state <> {JobState.OPEN:d},
    EXISTS (SELECT 1 FROM dependency WHERE dependency.job = job.id AND dependency.is_open = 0)
FROM task
JOIN job ON job.id = task.job
WHERE task.id IN (SELECT value FROM json_each(?))
ORDER BY job.id
"""
# From where each job is back to where it came in, or to where its input was edited last.
SELECT_LINES = """
WITH RECURSIVE line (task, place) AS (
    SELECT value, 0 FROM json_each(:currents)
    UNION ALL
    SELECT task.origin, line.place + 1
    FROM line
    JOIN task ON task.id = line.task
    WHERE task.origin IS NOT NULL
)
SELECT task.job, task.id, task.stage, task.state, task.generation, task.attempt, coalesce(task.token, 0), task.origin,
    stage.shape, stage.position < 0,
    (
        SELECT credit.id
        FROM credit
        WHERE credit.task = task.id AND credit.void = 0 AND credit.contributor = :contributor AND credit.at >= :since
    )
FROM line
JOIN task ON task.id = line.task
JOIN stage ON stage.id = task.stage
ORDER BY line.place
"""
# The newest of those that gather the same parts.
SELECT_GATHER = f"""
SELECT gather.task, task.state, stage.on_failed_part
FROM task AS first
JOIN task ON task.id = first.job OR task.job = first.job AND task.id >= {FIRST_LATER_TASK}
JOIN gather ON gather.task = task.id AND gather.source = first.id
JOIN stage ON stage.id = task.stage
WHERE first.id = ?
ORDER BY task.id DESC
LIMIT 1
"""
VOID = """
UPDATE credit
SET void = 1
WHERE void = 0 AND id IN (VALUES (?))
RETURNING id, project, contributor, units, at, task, (SELECT task.job FROM task WHERE task.id = credit.task),
    coalesce(
        (SELECT task.stage FROM task WHERE task.id = credit.task),
        (SELECT batch.stage FROM chunk JOIN batch ON batch.id = chunk.batch WHERE chunk.id = credit.chunk)
    )
"""
PUT_AWAY = f"""
WITH away (task, at) AS (VALUES (?, ?))
UPDATE task
SET state = {State.RETURNED:d}, finished = coalesce(finished, away.at), not_before = NULL, token = NULL, deadline = NULL
FROM away
WHERE task.id = away.task
"""
COPY_INPUT = """
WITH again (task, before) AS (VALUES (?, ?))
INSERT INTO payload (task, input)
SELECT again.task, payload.input
FROM again
CROSS JOIN payload ON payload.task = again.before
"""
GATHER_AGAIN = """
WITH again (task, before) AS (VALUES (?, ?))
INSERT INTO gather (task, source, parts, left)
SELECT again.task, gather.source, gather.parts, 0
FROM again
CROSS JOIN gather ON gather.task = again.before
"""
OPEN_JOBS = f"""
UPDATE job
SET state = {JobState.OPEN:d}, finished = NULL, expires = NULL
WHERE id IN (VALUES (?))
"""


class _Job(NamedTuple):
    """A job as it stands."""

    id: int
    state: int
    project: int
    gather: int | None
    current: int
    has_expired: bool
    is_taken: bool  #: a call has had its result as an argument

    @property
    def is_fixed(self) -> bool:
        """Whether it stays as it is, whatever its work was worth."""
        return self.project == FUNCTIONS or self.has_expired or self.is_taken


class _Step(NamedTuple):
    """A task on the way that led a job to where it is."""

    id: int
    stage: int
    state: int
    generation: int
    attempt: int
    token: int
    origin: int | None
    shape: str
    is_retired: bool
    credit: int | None  #: the entry to be voided, where it is the work of whoever is banned

    @property
    def has_parts(self) -> bool:
        """Whether jobs were made of its output that travel by themselves."""
        return self.shape == "expand" and self.state == State.SUCCEEDED


class _Return(NamedTuple):
    """A job that goes back, and from where to where: the last of the steps is done again."""

    job: _Job
    steps: Sequence[_Step]
    gather: tuple[int, int, str] | None  #: that waits for it as one of its parts: task, state, on_failed_part


class _Gone(NamedTuple):
    """An entry of credit that was voided."""

    id: int
    project: int
    contributor: int
    units: int
    at: int
    task: int | None
    job: int | None
    stage: int


@dataclass(slots=True)
class Voided:
    """What one slice came to."""

    voided: int = 0
    requeued: int = 0
    jobs: list[int] = field(default_factory=list)  #: that had ended, and go on
    taken: list[tuple[int, int, int]] = field(default_factory=list)  #: from workers: task, attempt, token
    consequences: Consequences = field(default_factory=Consequences)
    last: int = 0  #: the last entry of credit that was looked at
    is_all: bool = False


@dataclass(slots=True)
class VoidWork:
    """Void some of what a contributor has earned, and have it done again; the result is `Voided`.

    Said twice, it finds the less to do.
    """

    rank: ClassVar[int] = 1
    contributor: int
    nickname: str
    since: int
    after: int  #: the entry of credit after which to look
    until: int  #: the last one to look at
    limit: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[VoidWork]) -> list[Any]:
        return [operation._void(connection, names) for operation in operations]

    def _void(self, connection: sqlite3.Connection, names: Names) -> Voided:
        until = min(self.until, self.after + LOOK_LIMIT)
        scope = {"contributor": self.contributor, "since": self.since, "after": self.after, "until": until}
        rows = connection.execute(SELECT_EARNED, {**scope, "limit": self.limit}).fetchall()
        voiding = _Voiding(connection, names, self)
        result = voiding.void([id for id, _ in rows], [task for _, task in rows if task is not None])
        result.last = until if len(rows) < self.limit else rows[-1][0]
        result.is_all = result.last >= self.until
        return result


class _Voiding:
    """What one slice does: first it is seen which jobs go back, then all of it is written together."""

    def __init__(self, connection: sqlite3.Connection, names: Names, ban: VoidWork) -> None:
        self._connection, self._names, self._ban = connection, names, ban
        self._ledger = Ledger(connection, names, ban.at)
        self._why = f"{ban.nickname} was banned"
        self._result = Voided()

    def void(self, credits: Sequence[int], tasks: Sequence[int]) -> Voided:
        """Void the entries of *credits*, some of which are for *tasks*."""
        returns = self._returns(tasks)
        on_the_way = {step.credit for back in returns for step in back.steps if step.credit is not None}
        gone = self._take_back(on_the_way.union(credits))
        for each in gone:
            if each.id not in on_the_way:
                self._note(each)
        self._put_away(returns, {each.task: each for each in gone if each.task is not None})
        self._begin_again(returns)
        self._ledger.write()
        return self._result

    # ---- what is to be done ----------------------------------------------------------------

    def _returns(self, tasks: Sequence[int]) -> list[_Return]:
        """Return which jobs of *tasks* go back."""
        jobs = [_Job(*row) for row in self._connection.execute(SELECT_JOBS, (json.dumps(tasks),))]
        lines: defaultdict[int, list[_Step]] = defaultdict(list)
        scope = {"contributor": self._ban.contributor, "since": self._ban.since}
        currents = json.dumps([job.current for job in jobs if not job.is_fixed])
        for job, *step in self._connection.execute(SELECT_LINES, {**scope, "currents": currents}):
            lines[job].append(_Step(*step))
        found = (self._return(job, lines[job.id]) for job in jobs if job.id in lines)
        return [back for back in found if back is not None]

    def _return(self, job: _Job, line: Sequence[_Step]) -> _Return | None:
        """Return from where to where *job* goes back; None if it stays, since something else was made of it."""
        first = max((place for place, step in enumerate(line) if step.credit is not None), default=-1)
        steps = line[: first + 1]
        if not steps or steps[-1].is_retired or any(step.has_parts for step in steps):
            return None
        gather = None if job.gather is None else self._connection.execute(SELECT_GATHER, (job.gather,)).fetchone()
        if gather is not None and gather[1] not in (State.BLOCKED, State.FAILED, State.CANCELLED):
            return None
        return _Return(job, steps, gather)

    # ---- what is written -------------------------------------------------------------------

    def _take_back(self, credits: Iterable[int]) -> list[_Gone]:
        """Void entries of credit, and take them out of all sums."""
        gone = [_Gone(*row) for row in execute_rows(self._connection, VOID, [(id,) for id in sorted(credits)])]
        sums: Counter[tuple[int, int, int]] = Counter()
        for each in gone:
            sums[each.project, each.contributor, each.at // HOUR] += each.units
            self._result.voided += 1 if each.task is not None else each.units
        for (project, contributor, hour), units in sums.items():
            void_credit(self._connection, project, contributor, units, hour * HOUR)
        return gone

    def _note(self, gone: _Gone) -> None:
        """Write down that credit is gone where nothing else changes."""
        self._ledger.event(
            Kind.RETURNED, job=gone.job, task=gone.task, stage=gone.stage, contributor=gone.contributor,
            credit=-gone.units, detail=self._why,
        )  # fmt: skip

    def _put_away(self, returns: Sequence[_Return], gone: dict[int, _Gone]) -> None:
        """Put the tasks away that count no more; who did one of them well, of what was given, keeps its credit."""
        at = self._ledger.at
        execute_rows(self._connection, PUT_AWAY, [(step.id, at) for back in returns for step in back.steps])
        for back in returns:
            for step in back.steps:
                credit = gone.get(step.id)
                self._ledger.event(
                    Kind.RETURNED, job=back.job.id, task=step.id, stage=step.stage, state=State.RETURNED,
                    contributor=credit and credit.contributor, credit=credit and -credit.units, detail=self._why,
                )  # fmt: skip
                self._ledger.count(step.stage, before=State(step.state), after=State.RETURNED)
                if step.state == State.LEASED:
                    self._result.taken.append((step.id, step.attempt, step.token))

    def _begin_again(self, returns: Sequence[_Return]) -> None:
        """Open the first of the steps of each job anew, with the input that it had."""
        ids = self._names.reserve_tasks(self._connection, len(returns))
        pairs = [(id, back.steps[-1].id) for id, back in zip(ids, returns, strict=True)]
        opened = [
            (
                id,
                back.job.id,
                back.steps[-1].stage,
                back.steps[0].generation + 1,
                int(_state(back)),
                back.steps[-1].origin,
            )
            for id, back in zip(ids, returns, strict=True)
        ]
        places = {id: place for id, *place in execute_rows(self._connection, OPEN_TASK, opened)}
        execute_rows(self._connection, COPY_INPUT, pairs)
        gathering = [pair for pair, back in zip(pairs, returns, strict=True) if back.steps[-1].shape == "gather"]
        execute_rows(self._connection, GATHER_AGAIN, gathering)  # the same parts
        execute_rows(self._connection, FORGET_PROGRESS, [(back.job.id,) for back in returns])
        for id, back in zip(ids, returns, strict=True):
            stage, state = back.steps[-1].stage, _state(back)
            self._ledger.event(Kind.OPENED, job=back.job.id, task=id, stage=stage, state=state)
            self._ledger.count(stage, before=None, after=state)
            if state is State.CANCELLED:
                self._stay_cancelled(back.job.id, id)
            else:
                self._result.requeued += sum(step.credit is not None for step in back.steps)
                self._result.consequences.queued.append(Queued(stage, *places[id]))
        self._open([back for back in returns if back.job.state not in (JobState.OPEN, JobState.CANCELLED)])

    def _stay_cancelled(self, job: int, task: int) -> None:
        """Have a cancelled job's new task be cancelled: nobody wants it, but retried, it would begin there."""
        output = pack_failure(failure_from(JobCancelled(job)))
        self._connection.execute("UPDATE task SET finished = ? WHERE id = ?", (self._ledger.at, task))
        self._connection.execute("UPDATE payload SET output = ? WHERE task = ?", (output, task))

    def _open(self, returns: Sequence[_Return]) -> None:
        """Have ended jobs go on; a gather that has counted one of them waits for it again."""
        self._result.jobs = [back.job.id for back in returns]
        execute_rows(self._connection, OPEN_JOBS, [(id,) for id in self._result.jobs])
        for job, _, gather in returns:
            self._ledger.count_jobs(job.project, before=JobState(job.state), after=JobState.OPEN)
            if gather is not None and (job.state == JobState.SUCCEEDED or gather[2] == "skip"):
                self._connection.execute("UPDATE gather SET left = left + 1 WHERE task = ?", (gather[0],))


def _state(back: _Return) -> State:
    return State.CANCELLED if back.job.state == JobState.CANCELLED else State.QUEUED
