"""Operations that bring new work into the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import NotFound, ResultExpired
from ..events import Kind
from ..jobs import JobState, State
from ..verbs import BatchSubmission, Options, Submission
from .depending import End, add_dependencies, ends_of
from .handing import INSERT_PAYLOAD, Consequences
from .ledger import Ledger
from .names import Names
from .rows import execute_rows

INSERT_JOB = """
INSERT INTO job (id, project, number, state, function, key, submitter, created, priority, keep)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_TASK = """
INSERT INTO task (
    id, job, stage, state, not_before, need, priority, function, submitter, retries, timeout, crash_retries, how
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_BATCH = """
INSERT INTO batch (
    stage, function, need, first_job, first_number, count, priority, retries, timeout, submitter,
    not_before, keep, how, created, state, finished
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(slots=True)
class Added:
    """What a new job or batch was stored as."""

    id: int
    number: int  #: the job's number within its project; the first job id of a batch
    need: int
    is_new: bool  #: False when its key or its request id had been seen before
    submitter: int = 0
    state: State = State.QUEUED
    consequences: Consequences | None = None  #: of what it takes, which may have failed already


@dataclass(slots=True)
class AddJob:
    """Store one job with its first task, queued."""

    rank: ClassVar[int] = 1
    is_quick: ClassVar[bool] = True
    project: int
    stage: int
    submission: Submission
    at: int
    takes: Sequence[int] = ()  #: jobs whose results are arguments

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddJob]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        rows = _NewRows()
        results: list[Added | NotFound | ResultExpired] = []
        keys: dict[tuple[int, str], Added] = {}
        for operation in operations:
            place = (operation.project, operation.submission.key or "")
            known = operation.known(connection) or keys.get(place)
            if known is not None:
                results.append(known)
                continue
            try:
                added = rows.add(operation, connection, names)
            except (NotFound, ResultExpired) as refused:
                results.append(refused)
                continue
            ledger.event(Kind.JOB_SUBMITTED, job=added.id, task=added.id, stage=operation.stage, state=added.state)
            ledger.count(operation.stage, before=None, after=added.state)
            if operation.submission.key is not None:
                keys[place] = replace(added, is_new=False)
            results.append(added)
        rows.write(connection, names, ledger)
        ledger.write()
        return results

    def known(self, connection: sqlite3.Connection) -> Added | None:
        """Return the job that an earlier submission with this key or request id made."""
        row = None
        if self.submission.request is not None:
            row = connection.execute("SELECT job FROM request WHERE id = ?", (self.submission.request,)).fetchone()
        if row is None and self.submission.key is not None:
            row = connection.execute(
                "SELECT id FROM job WHERE project = ? AND key = ?", (self.project, self.submission.key)
            ).fetchone()
        return Added(row[0], 0, 0, False) if row else None


class _NewRows:
    """The rows of new jobs, written together."""

    def __init__(self) -> None:
        self._jobs: list[tuple[object, ...]] = []
        self._tasks: list[tuple[object, ...]] = []
        self._payloads: list[tuple[object, ...]] = []
        self._projects: set[int] = set()
        self._takers: list[tuple[Added, list[End]]] = []

    def add(self, operation: AddJob, connection: sqlite3.Connection, names: Names) -> Added:
        """Make the rows of one job; return what it is stored as.

        Raises `NotFound` or `ResultExpired` for what it takes.
        """
        submission, options, at = operation.submission, operation.submission.options, operation.at
        ends = ends_of(connection, operation.takes)
        function = names.function(connection, submission.function)
        need = names.need(connection, options.tags)
        submitter = names.submitter(connection, submission.submitter)
        due = due_after(options, at)
        state = State.QUEUED if due is None else State.WAITING
        if not all(end.is_in for end in ends):
            state = State.BLOCKED
        id, number = names.reserve_jobs(connection, operation.project, 1)
        self._projects.add(operation.project)
        self._jobs.append(
            (
                id, operation.project, number, int(JobState.OPEN), function, submission.key, submitter, at,
                options.priority, micros(options.keep),
            )
        )  # fmt: skip
        # The first task of a job has the job's own id: one lookup less on the way.
        limits = (options.retries, micros(options.timeout), options.crash_retries, options.how)
        self._tasks.append(
            (id, id, operation.stage, int(state), due, need, options.priority, function, submitter, *limits)
        )  # fmt: skip
        self._payloads.append((id, submission.input))
        if submission.request is not None:
            connection.execute("INSERT INTO request (id, at, job) VALUES (?, ?, ?)", (submission.request, at, id))
        added = Added(id, number, need, True, submitter, state)
        if ends:
            self._takers.append((added, ends))
        return added

    def write(self, connection: sqlite3.Connection, names: Names, ledger: Ledger) -> None:
        """Write them all; fail those that take what has failed."""
        execute_rows(connection, INSERT_JOB, self._jobs)
        execute_rows(connection, INSERT_TASK, self._tasks)
        execute_rows(connection, INSERT_PAYLOAD, self._payloads)
        for project in self._projects:
            names.save_numbers(connection, project)
        if self._takers:
            calls = [(added.id, ends) for added, ends in self._takers]
            self._takers[0][0].consequences = add_dependencies(connection, ledger, calls)


@dataclass(slots=True)
class AddBatch:
    """Store the items of one map: a row for the batch, packed inputs, a reserved range of job ids."""

    rank: ClassVar[int] = 2
    project: int
    stage: int
    submission: BatchSubmission
    counts: list[int]  #: items in each block
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddBatch]) -> list[Any]:
        return [operation._add(connection, names) for operation in operations]

    def _add(self, connection: sqlite3.Connection, names: Names) -> Added:
        submission = self.submission
        known = self._known(connection)
        if known is not None:
            return known
        options = submission.options
        function = names.function(connection, submission.function)
        need = names.need(connection, options.tags)
        submitter = names.submitter(connection, submission.submitter)
        # An empty one takes an id too: every batch has a range of its own.
        first_job, first_number = names.reserve_jobs(connection, self.project, max(1, submission.count))
        names.save_numbers(connection, self.project)
        end = (JobState.OPEN, None) if submission.count else (JobState.SUCCEEDED, self.at)  # a map over nothing is done
        batch = connection.execute(
            INSERT_BATCH,
            (
                self.stage,
                function,
                need,
                first_job,
                first_number,
                submission.count,
                options.priority,
                options.retries,
                micros(options.timeout),
                submitter,
                due_after(options, self.at),
                micros(options.keep),
                options.how,
                self.at,
                *end,
            ),
        ).lastrowid
        assert batch is not None
        self._add_blocks(connection, batch)
        if submission.request is not None:
            connection.execute(
                "INSERT INTO request (id, at, batch) VALUES (?, ?, ?)", (submission.request, self.at, batch)
            )
        ledger = Ledger(connection, names, self.at)
        ledger.event(
            Kind.BATCH_SUBMITTED, batch=batch, stage=self.stage, state=State.QUEUED, units=submission.count
        )  # fmt: skip
        ledger.count(self.stage, before=None, after=State.QUEUED, n=submission.count)
        ledger.write()
        return Added(batch, first_job, need, True, submitter)

    def _known(self, connection: sqlite3.Connection) -> Added | None:
        if self.submission.request is None:
            return None
        row = connection.execute("SELECT batch FROM request WHERE id = ?", (self.submission.request,)).fetchone()
        return Added(row[0], 0, 0, False) if row else None

    def _add_blocks(self, connection: sqlite3.Connection, batch: int) -> None:
        first = 0
        for count, data in zip(self.counts, self.submission.blocks, strict=True):
            connection.execute(
                "INSERT INTO block (batch, first, count, data) VALUES (?, ?, ?, ?)", (batch, first, count, data)
            )
            first += count


def due_after(options: Options, at: int) -> int | None:
    """Return when what is submitted now may run, None if that is now."""
    due = micros(options.not_before)
    return due if due is not None and due > at else None


def micros(seconds: float | None) -> int | None:
    """Return *seconds* as they are stored."""
    return None if seconds is None else int(seconds * 1_000_000)
