"""Operations that give ended jobs another try, or a job another input."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import NotEditable, NotFound, StageRetired
from ..events import Kind
from ..jobs import JobState, State
from .depending import lost_with, open_before
from .gathering import count_down
from .handing import Consequences, Queued, open_task
from .ledger import Ledger
from .names import CURRENT_TASK, FUNCTIONS, Names

ENDED_BADLY = (JobState.FAILED, JobState.CANCELLED)
SELECT_JOB = f"""
SELECT job.state, job.project, job.gather, task.id, task.state, task.stage, task.submitter, task.priority,
    task.generation, gather.source, gather.left > 0 OR gather.is_open, job.keep IS NOT NULL AND job.expires IS NULL,
    stage.name, stage.position < 0
FROM job
JOIN task ON task.id = {CURRENT_TASK}
JOIN stage ON stage.id = task.stage
LEFT JOIN gather ON gather.task = task.id
WHERE job.id = ?
"""
REOPEN_TASK = """
UPDATE task
SET state = ?, errors = 0, vanished = 0, crashes = 0, flags = 0, finished = NULL
WHERE id = ?
"""
REOPEN_JOB = f"""
UPDATE job
SET state = {JobState.OPEN:d}, finished = NULL, expires = NULL
WHERE id = ?
"""


@dataclass(slots=True)
class Reopened:
    """What goes on."""

    jobs: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)  #: jobs that go on too, and had been given up while they ran
    consequences: Consequences = field(default_factory=Consequences)


class _Job:
    """A job and its current task, as they stand."""

    def __init__(self, connection: sqlite3.Connection, id: int) -> None:
        row = connection.execute(SELECT_JOB, (id,)).fetchone()
        if row is None:
            raise NotFound("job", id)
        self.id = id
        self.state, self.project, self.gather, self.task = JobState(row[0]), row[1], row[2], row[3]
        self.task_state, self.stage, self.submitter, self.priority = State(row[4]), row[5], row[6], row[7]
        self.generation, self.source, self.lacks_parts = row[8], row[9], bool(row[10])
        self.has_expired = bool(row[11]) and self.state != JobState.OPEN
        self.stage_name, self.is_retired = row[12], bool(row[13])

    @property
    def has_ended_badly(self) -> bool:
        return self.state in ENDED_BADLY


class Reopening:
    """Another try for jobs; with a part, for the job that gave up with it, with an argument, for the calls that did."""

    def __init__(self, connection: sqlite3.Connection, ledger: Ledger) -> None:
        self._connection, self._ledger = connection, ledger
        self.result = Reopened()

    def retry(self, id: int) -> None:
        """Queue job *id* again, or the job above it that has ended with it; one that did not end badly stays.

        What it takes and lacks is tried again before it, and the calls that failed for it go on too.
        """
        for job in lost_with(self._connection, [id], and_before=True):
            if job == id or self._is_single(job):
                self._retry(job)

    def go_on_after(self, jobs: Collection[int]) -> None:
        """Have calls go on that failed for *jobs*, which do so already."""
        for job in lost_with(self._connection, jobs):
            if job not in jobs:
                self._retry(job)

    def _retry(self, id: int) -> None:
        job = self._top_of(_Job(self._connection, id))
        if job.has_ended_badly and not job.has_expired:
            self._reopen(job)

    def _is_single(self, job: int) -> bool:
        """Tell whether *job* can be tried again by itself: items of batches cannot, nor what was deleted."""
        row = self._connection.execute(
            "SELECT 1 FROM job JOIN project ON project.id = job.project"
            " WHERE job.id = ? AND batch IS NULL AND is_deleted = 0",
            (job,),
        ).fetchone()
        return row is not None

    def above(self, job: _Job) -> _Job | None:
        """Return the job that gave up because of *job*, one of its parts; None if there is none."""
        if job.gather is None:
            return None
        (id,) = self._connection.execute("SELECT job FROM task WHERE id = ?", (job.gather,)).fetchone()
        whole = _Job(self._connection, id)
        gave_up = whole.has_ended_badly and whole.source == job.gather and whole.lacks_parts
        return whole if gave_up else None

    def _top_of(self, job: _Job) -> _Job:
        """Return the job that the try has to begin with: the highest that has ended with this one."""
        whole = self.above(job) if job.has_ended_badly else None
        return job if whole is None else self._top_of(whole)

    def _reopen(self, job: _Job) -> None:
        if job.source is not None and job.lacks_parts:
            self._open(job, State.BLOCKED, Kind.BLOCKED)
            self._reopen_parts(job)
            return
        lacking = open_before(self._connection, job.task)
        if any(end.is_lost for end in lacking):
            return  # it would only fail for that again
        if lacking:
            self._open(job, State.BLOCKED, Kind.BLOCKED)
        else:
            self._open(job, State.QUEUED, Kind.REOPENED)
            self.result.consequences.queued.append(Queued(job.stage, job.submitter, job.priority))

    def _reopen_parts(self, job: _Job) -> None:
        """Reopen the parts of *job* that did not succeed, and count anew how many are missing."""
        parts = self._connection.execute(
            "SELECT id, state FROM job WHERE gather = ? AND state <> ?", (job.source, JobState.SUCCEEDED)
        ).fetchall()
        self.result.wanted += [part for part, state in parts if state == JobState.OPEN]
        for part, state in parts:
            if state in ENDED_BADLY:
                self._reopen(_Job(self._connection, part))
        self._connection.execute(
            "UPDATE gather SET is_cut = 0, left = (SELECT count(*) FROM job WHERE gather = ? AND state <> ?)"
            " WHERE task = ?",
            (job.source, JobState.SUCCEEDED, job.task),
        )
        count_down(self._connection, self._ledger, job.task, 0, self.result.consequences)

    def _open(self, job: _Job, state: State, kind: Kind) -> None:
        self._connection.execute(REOPEN_TASK, (int(state), job.task))
        self._connection.execute("UPDATE payload SET output = NULL WHERE task = ?", (job.task,))
        self._connection.execute("DELETE FROM flag WHERE task = ?", (job.task,))
        self._ledger.event(kind, job=job.id, task=job.task, stage=job.stage, state=state)
        self._ledger.count(job.stage, before=job.task_state, after=state)
        self.open_job(job)

    def open_job(self, job: _Job) -> None:
        """Have the job itself go on; a gather that went on without it waits for it again, if it still waits.

        Raises `StageRetired` if nobody would ever do it.
        """
        if job.is_retired:
            (project,) = self._connection.execute("SELECT name FROM project WHERE id = ?", (job.project,)).fetchone()
            raise StageRetired(job.id, job.stage_name, project)
        self._connection.execute(REOPEN_JOB, (job.id,))
        self._ledger.count_jobs(job.project, before=job.state, after=JobState.OPEN)
        self.result.jobs.append(job.id)
        if job.gather is not None:
            self._connection.execute(
                "UPDATE gather SET left = left + 1 FROM task, stage WHERE gather.task = ? AND task.id = gather.task"
                f" AND stage.id = task.stage AND task.state = {State.BLOCKED:d} AND stage.on_failed_part = 'skip'",
                (job.gather,),
            )


@dataclass(slots=True)
class RetryJobs:
    """Queue failed and cancelled jobs again, where they ended; the result is `Reopened`."""

    rank: ClassVar[int] = 1
    jobs: list[int]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[RetryJobs]) -> list[Any]:
        results = []
        for operation in operations:
            ledger = Ledger(connection, names, operation.at)
            reopening = Reopening(connection, ledger)
            for job in operation.jobs:
                reopening.retry(job)
            ledger.write()
            results.append(reopening.result)
        return results


@dataclass(slots=True)
class EditJob:
    """Give a job another input where it is or ended, and queue it there; the result is `Reopened`.

    It is `NotFound` for an unknown one, `NotEditable` for one that runs, waits for its parts, or succeeded.
    """

    rank: ClassVar[int] = 1
    job: int
    input: bytes
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[EditJob]) -> list[Any]:
        return [operation._edit(connection, names) for operation in operations]

    def _edit(self, connection: sqlite3.Connection, names: Names) -> Reopened | NotFound | NotEditable:
        try:
            job = _Job(connection, self.job)
        except NotFound as unknown:
            return unknown
        movable = (State.QUEUED, State.WAITING, State.FAILED, State.CANCELLED)
        if job.project == FUNCTIONS or job.source is not None or job.task_state not in movable:
            return NotEditable(self.job, job.task_state.name)
        ledger = Ledger(connection, names, self.at)
        reopening = Reopening(connection, ledger)
        connection.execute(
            "UPDATE task SET state = ?, finished = ? WHERE id = ?", (int(State.RETURNED), self.at, job.task)
        )  # fmt: skip
        ledger.event(
            Kind.RETURNED, job=job.id, task=job.task, stage=job.stage, state=State.RETURNED,
            detail="its input was edited",
        )  # fmt: skip
        ledger.count(job.stage, before=job.task_state, after=State.RETURNED)
        (id,) = names.reserve_tasks(connection, 1)
        queued = open_task(
            connection, ledger, id=id, job=job.id, stage=job.stage, generation=job.generation, input=self.input
        )
        reopening.result.consequences.queued.append(queued)
        if job.state is not JobState.OPEN:
            reopening.open_job(job)
            whole = reopening.above(job)
            if whole is not None:
                reopening.retry(whole.id)
        ledger.write()
        return reopening.result
