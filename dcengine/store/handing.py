"""What follows from a task's end, in the same transaction: the next task, parts, the way back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ..events import Kind
from ..jobs import JobState, Stage, State, Task
from .ledger import Ledger
from .names import Names
from .rows import execute_rows

# The stage itself says what its next task runs: it may have been declared anew since the engine looked.
OPEN_TASK = """
WITH opened (id, job, stage, generation, state, origin) AS (VALUES (?, ?, ?, ?, ?, ?))
INSERT INTO task (
    id, job, stage, generation, state, origin, need, priority, function, retries, crash_retries, timeout, submitter, how
)
SELECT opened.id, job.id, stage.id, opened.generation, opened.state, opened.origin, stage.need,
    job.priority + stage.priority, stage.function, stage.retries, stage.crash_retries, stage.timeout,
    coalesce(job.submitter, 0), stage.how
FROM opened
CROSS JOIN stage ON stage.id = opened.stage
CROSS JOIN job ON job.id = opened.job
RETURNING id, submitter, priority
"""
END_JOB = """
WITH ended (job, state, finished) AS (VALUES (?, ?, ?))
UPDATE job
SET state = ended.state, finished = ended.finished, expires = ended.finished + keep
FROM ended
WHERE job.id = ended.job
"""
INSERT_PAYLOAD = "INSERT INTO payload (task, input) VALUES (?, ?)"
SAVE_OUTPUT = """
WITH ended (task, output) AS (VALUES (?, ?))
UPDATE payload
SET output = ended.output
FROM ended
WHERE payload.task = ended.task
"""
FORGET_PROGRESS = "DELETE FROM progress WHERE job IN (VALUES (?))"
COUNT_UP = """
WITH RECURSIVE place (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM place WHERE n + 1 < :count)
"""
INSERT_JOBS = f"""
{COUNT_UP}
INSERT INTO job (id, project, number, state, submitter, created, priority, parent, gather, keep)
SELECT :first + n, :project, :number + n, {JobState.OPEN:d}, :submitter, :at, :priority, :parent, :gather, :keep
FROM place
"""
INSERT_TASKS = f"""
{COUNT_UP}
INSERT INTO task (
    id, job, stage, state, not_before, need, priority, function, retries, crash_retries, timeout, submitter, how
)
SELECT :first + n, :first + n, stage.id, :state, :not_before, stage.need, :priority + stage.priority, stage.function,
    stage.retries, stage.crash_retries, stage.timeout, :submitter, stage.how
FROM place, stage
WHERE stage.id = :stage
"""
SELECT_ORIGIN = """
SELECT task.stage, task.state, task.origin, payload.input, gather.source, gather.parts
FROM task
JOIN payload ON payload.task = task.id
LEFT JOIN gather ON gather.task = task.id
WHERE task.id = ?
"""


@dataclass(slots=True)
class Queued:
    """Tasks that can run now."""

    stage: int
    submitter: int
    priority: int
    n: int = 1


@dataclass(slots=True)
class Ended:
    """A job that ended because of another one."""

    job: int
    state: JobState
    output: bytes
    reason: str


@dataclass(slots=True)
class Ready:
    """A call that has waited for its arguments, and can run now, or once its time has come."""

    need: int
    tags: str
    submitter: int
    priority: int
    due: int | None


class Consequences(msgspec.Struct):
    """What else a move has moved."""

    queued: list[Queued] = []
    ready: list[Ready] = []
    ended: list[Ended] = []
    cut: list[int] = []  #: gathers that ended: what is open of their parts is to be cancelled


@dataclass(slots=True)
class NewJobs:
    """Jobs to be made: consecutive ids, all at one stage."""

    project: int
    stage: int
    first: int
    number: int
    values: Sequence[bytes]
    at: int
    submitter: int
    priority: int = 0
    parent: int | None = None
    gather: int | None = None
    keep: int | None = None
    not_before: int | None = None

    @property
    def state(self) -> State:
        return State.QUEUED if self.not_before is None else State.WAITING

    def insert(self, connection: sqlite3.Connection) -> None:
        """Write their rows: jobs, first tasks (each has its job's own id), values."""
        if not self.values:
            return
        shared = {
            "count": len(self.values), "first": self.first, "project": self.project, "number": self.number,
            "submitter": self.submitter, "at": self.at, "priority": self.priority, "parent": self.parent,
            "gather": self.gather, "keep": self.keep, "state": int(self.state), "not_before": self.not_before,
            "stage": self.stage,
        }  # fmt: skip
        connection.execute(INSERT_JOBS, shared)
        connection.execute(INSERT_TASKS, shared)
        execute_rows(connection, INSERT_PAYLOAD, list(enumerate(self.values, self.first)))

    def enter(self, ledger: Ledger) -> None:
        """Write down that they are there."""
        count = len(self.values)
        if count:
            ledger.event(
                Kind.JOB_SUBMITTED, job=self.first, task=self.first, stage=self.stage, state=self.state, units=count
            )
            ledger.count(self.stage, before=None, after=self.state, n=count)
            ledger.count_jobs(self.project, before=None, after=JobState.OPEN, n=count)


def open_task(
    connection: sqlite3.Connection,
    ledger: Ledger,
    *,
    id: int,
    job: int,
    stage: int,
    state: State = State.QUEUED,
    generation: int = 0,
    origin: int | None = None,
    input: bytes = b"",
) -> Queued:
    """Insert a job's next task; return its place in the queue."""
    ((_, submitter, priority),) = connection.execute(OPEN_TASK, (id, job, stage, generation, int(state), origin))
    connection.execute(INSERT_PAYLOAD, (id, input))
    ledger.event(Kind.OPENED, job=job, task=id, stage=stage, state=state)
    ledger.count(stage, before=None, after=state)
    return Queued(stage, submitter, priority)


def hand_on(
    connection: sqlite3.Connection, names: Names, ledger: Ledger, ends: Sequence[tuple[Task, Stage, Consequences]]
) -> None:
    """Open the task at the stage beside each done task whose output is its input; its job's progress starts over."""
    ids = names.reserve_tasks(connection, len(ends))
    opened = [
        (id, done.job, stage.id, done.generation, int(State.QUEUED), done.id)
        for id, (done, stage, _) in zip(ids, ends, strict=True)
    ]
    places = {id: place for id, *place in execute_rows(connection, OPEN_TASK, opened)}
    execute_rows(connection, INSERT_PAYLOAD, [(id, b"") for id in ids])
    execute_rows(connection, FORGET_PROGRESS, [(done.job,) for done, _, _ in ends])
    for id, (done, stage, consequences) in zip(ids, ends, strict=True):
        ledger.event(Kind.OPENED, job=done.job, task=id, stage=stage.id, state=State.QUEUED)
        ledger.count(stage.id, before=None, after=State.QUEUED)
        consequences.queued.append(Queued(stage.id, *places[id]))


def open_parts(
    connection: sqlite3.Connection,
    names: Names,
    ledger: Ledger,
    done: Task,
    values: Sequence[bytes],
    stage: Stage,
    gather: Stage | None,
    consequences: Consequences,
    *,
    at: int,
) -> None:
    """Make a job at *stage* of each of *values*; have the job of the *done* task wait for them at *gather*."""
    project, submitter, priority, keep = connection.execute(
        "SELECT project, coalesce(submitter, 0), priority, keep FROM job WHERE id = ?", (done.job,)
    ).fetchone()
    waiting = None
    if gather is not None:
        (waiting,) = names.reserve_tasks(connection, 1)
        open_task(
            connection, ledger, id=waiting, job=done.job, stage=gather.id, state=State.BLOCKED,
            generation=done.generation,
        )  # fmt: skip
        connection.execute(
            "INSERT INTO gather (task, source, parts, left) VALUES (?, ?, ?, ?)",
            (waiting, waiting, len(values), len(values)),
        )
    first, number = names.reserve_jobs(connection, project, len(values))
    names.save_numbers(connection, project)
    parts = NewJobs(
        project, stage.id, first, number, values, at, submitter, priority=priority, parent=done.job, gather=waiting,
        keep=keep,
    )  # fmt: skip
    parts.insert(connection)
    parts.enter(ledger)
    consequences.queued.append(Queued(stage.id, submitter, priority + stage.priority, len(values)))


def send_back(
    connection: sqlite3.Connection, names: Names, ledger: Ledger, flagged: Task, consequences: Consequences
) -> None:
    """Open the stage before anew with its own input; what it had made of that counts no more, its credit neither."""
    origin = flagged.origin
    assert origin is not None
    stage, state, before, input, source, parts = connection.execute(SELECT_ORIGIN, (origin,)).fetchone()
    connection.execute("UPDATE task SET state = ? WHERE id = ?", (int(State.RETURNED), origin))
    contributor, credit = ledger.take_back(origin)
    ledger.event(
        Kind.RETURNED, job=flagged.job, task=origin, stage=stage, state=State.RETURNED, contributor=contributor,
        credit=credit,
    )  # fmt: skip
    ledger.count(stage, before=State(state), after=State.RETURNED)
    (id,) = names.reserve_tasks(connection, 1)
    consequences.queued.append(
        open_task(
            connection, ledger, id=id, job=flagged.job, stage=stage, generation=flagged.generation + 1,
            origin=before, input=input,
        )
    )  # fmt: skip
    if source is not None:  # it gathers the same parts again
        connection.execute(
            "INSERT INTO gather (task, source, parts, left) VALUES (?, ?, ?, 0)", (id, source, parts)
        )  # fmt: skip
    connection.execute(FORGET_PROGRESS, (flagged.job,))


def reject(connection: sqlite3.Connection, ledger: Ledger, flagged: Task) -> None:
    """Take the credit for the input of a task back that voters have flagged for the last time."""
    if flagged.origin is None:
        return
    contributor, credit = ledger.take_back(flagged.origin)
    if credit is not None:
        (stage,) = connection.execute("SELECT stage FROM task WHERE id = ?", (flagged.origin,)).fetchone()
        ledger.event(
            Kind.RETURNED, job=flagged.job, task=flagged.origin, stage=stage, contributor=contributor, credit=credit
        )
