"""The operation that brings jobs into a project: a block of items, their keys, the import they are from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ..errors import ImportChanged, NotFound
from ..events import Kind
from ..jobs import JobState, Project, Stage, State, closing_gather
from ..verbs import AddedJobs, ItemsSubmission
from .gathering import count_down
from .handing import Consequences, NewJobs
from .ledger import Ledger
from .names import Names
from .projects import project_in
from .submitting import micros

INSERT_ROOT = f"""
INSERT INTO job (id, project, number, state, submitter, created, priority, keep)
VALUES (?, ?, ?, {JobState.OPEN:d}, ?, ?, ?, ?)
"""
INSERT_ROOT_TASK = f"""
INSERT INTO task (id, job, stage, state, need, priority, function, retries, crash_retries, timeout, submitter, how)
SELECT ?, ?, id, {State.BLOCKED:d}, need, ? + priority, function, retries, crash_retries, timeout, ?, how
FROM stage
WHERE id = ?
"""
SELECT_ROOT = """
SELECT task.state
FROM gather
JOIN task ON task.id = gather.task
JOIN job ON job.id = task.job
WHERE gather.task = ? AND job.project = ?
"""
SAVE_IMPORT = """
INSERT INTO import (project, name, items, digest, root, updated)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (project, name) DO UPDATE SET
    items = excluded.items, digest = excluded.digest, root = excluded.root, updated = excluded.updated
"""


@dataclass(slots=True)
class Brought:
    """What adding jobs has brought."""

    added: AddedJobs
    consequences: Consequences
    is_waiting: bool = False  #: the new jobs wait for their time
    submitter: int = 0
    stage: Stage | None = None  #: where the new jobs are
    priority: int = 0


@dataclass(slots=True)
class AddProjectJobs:
    """Store a job for each of *values* at a project's first stage.

    The result is `Brought`; or `NotFound`, or `ImportChanged`.
    """

    rank: ClassVar[int] = 1
    submission: ItemsSubmission
    values: list[bytes]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddProjectJobs]) -> list[Any]:
        ledger = Ledger(connection, names, operations[0].at)
        results = [operation._add(connection, names, ledger) for operation in operations]
        ledger.write()
        return results

    def _add(self, connection: sqlite3.Connection, names: Names, ledger: Ledger) -> Brought | NotFound | ImportChanged:
        project = project_in(connection, self.submission.project)
        if project is None:
            return NotFound("project", self.submission.project)
        known = self._known(connection) or self._imported(connection, project)
        if isinstance(known, AddedJobs):
            return Brought(known, Consequences())
        if known is not None:
            return known
        brought = self._bring(connection, names, ledger, project)
        self._remember(connection, project, brought.added)
        return brought

    def _bring(self, connection: sqlite3.Connection, names: Names, ledger: Ledger, project: Project) -> Brought:
        submission, consequences = self.submission, Consequences()
        submitter = names.submitter(connection, submission.submitter)
        values, keys = self._new_values(connection, project)
        root, gather = None, None
        if values or submission.root is not None:  # for what is all known nobody need wait
            root, gather = self._root(connection, names, ledger, project, submitter)
        first, number = names.reserve_jobs(connection, project.id, len(values))
        names.save_numbers(connection, project.id)
        jobs = NewJobs(
            project.id, project.stages[0].id, first, number, values, self.at, submitter, priority=submission.priority,
            parent=root, gather=gather, keep=micros(submission.keep), not_before=self._due(),
        )  # fmt: skip
        jobs.insert(connection)
        jobs.enter(ledger)
        connection.executemany("UPDATE job SET key = ? WHERE id = ?", [(key, id) for id, key in enumerate(keys, first)])
        if gather is not None:
            self._widen(connection, ledger, gather, len(values), consequences)
        added = AddedJobs(first, number, len(values), root, len(self.values) - len(values))
        return Brought(
            added, consequences, jobs.state is State.WAITING, submitter, project.stages[0], submission.priority
        )  # fmt: skip

    def _due(self) -> int | None:
        due = micros(self.submission.not_before)
        return due if due is not None and due > self.at else None

    def _new_values(self, connection: sqlite3.Connection, project: Project) -> tuple[list[bytes], list[str]]:
        """Return the values whose keys the project does not know yet, and their keys, if they have any."""
        if self.submission.keys is None:
            return self.values, []
        rows = connection.execute(
            "SELECT key FROM job WHERE project = ? AND key IN (SELECT value FROM json_each(?))",
            (project.id, json.dumps(self.submission.keys)),
        )
        known, values, keys = {key for (key,) in rows}, [], []
        for key, value in zip(self.submission.keys, self.values, strict=True):
            if key not in known:
                known.add(key)
                keys.append(key)
                values.append(value)
        return values, keys

    # ---- the job whose parts they are ------------------------------------------------------

    def _root(
        self, connection: sqlite3.Connection, names: Names, ledger: Ledger, project: Project, submitter: int
    ) -> tuple[int | None, int | None]:
        """Return the job that gathers the items and its task that waits for them, made for the first of them."""
        stage = closing_gather(project.stages)
        if stage is None:
            return None, None
        if self.submission.root is not None and self._can_grow(connection, project, self.submission.root):
            return self.submission.root, self.submission.root  # a root's first task has the root's own id
        id, number = names.reserve_jobs(connection, project.id, 1)
        priority, keep = self.submission.priority, micros(self.submission.keep)
        connection.execute(INSERT_ROOT, (id, project.id, number, submitter, self.at, priority, keep))
        connection.execute(INSERT_ROOT_TASK, (id, id, priority, submitter, stage.id))
        connection.execute("INSERT INTO payload (task, input) VALUES (?, x'')", (id,))
        connection.execute("INSERT INTO gather (task, source, parts, left, is_open) VALUES (?, ?, 0, 0, 1)", (id, id))
        ledger.event(Kind.JOB_SUBMITTED, job=id, task=id, stage=stage.id, state=State.BLOCKED)
        ledger.count(stage.id, before=None, after=State.BLOCKED)
        ledger.count_jobs(project.id, before=None, after=JobState.OPEN)
        return id, id

    def _can_grow(self, connection: sqlite3.Connection, project: Project, root: int) -> bool:
        """Tell whether *root* still waits for parts, or may be retried with them; else they need a root of their own.

        Raises `NotFound` for a job that gathers nothing in this project.
        """
        row = connection.execute(SELECT_ROOT, (root, project.id)).fetchone()
        if row is None:
            raise NotFound("job", root)
        return row[0] in (State.BLOCKED, State.FAILED, State.CANCELLED)

    def _widen(
        self, connection: sqlite3.Connection, ledger: Ledger, gather: int, parts: int, consequences: Consequences
    ) -> None:
        """Have *gather* wait for so many more parts; if it has failed meanwhile, they are cancelled with the others."""
        (state,) = connection.execute("SELECT state FROM task WHERE id = ?", (gather,)).fetchone()
        is_over = state in (State.FAILED, State.CANCELLED)
        connection.execute(
            "UPDATE gather SET parts = parts + ?, left = left + ?, is_open = ?, is_cut = is_cut OR ? WHERE task = ?",
            (parts, parts, not self.submission.is_last, is_over, gather),
        )
        if is_over:
            consequences.cut.append(gather)
        count_down(connection, ledger, gather, 0, consequences)

    # ---- said before -----------------------------------------------------------------------

    def _known(self, connection: sqlite3.Connection) -> AddedJobs | None:
        """Return what an earlier submission with this request id added."""
        row = connection.execute("SELECT answer FROM request WHERE id = ?", (self.submission.request,)).fetchone()
        return msgspec.json.decode(row[0], type=AddedJobs) if row and row[0] else None

    def _imported(self, connection: sqlite3.Connection, project: Project) -> AddedJobs | ImportChanged | None:
        """Return that these items of an import are there, or why they cannot follow; None if they are the next."""
        step = self.submission.imported
        if step is None:
            return None
        row = connection.execute(
            "SELECT items, digest, root FROM import WHERE project = ? AND name = ?", (project.id, step.name)
        ).fetchone()
        items, digest, root = row or (0, b"", None)
        if items >= step.offset + len(self.values) and row:
            return AddedJobs(0, 0, 0, root, len(self.values))
        if (items, digest) != (step.offset, step.before):
            return ImportChanged(step.name, items)
        return None

    def _remember(self, connection: sqlite3.Connection, project: Project, added: AddedJobs) -> None:
        step, request = self.submission.imported, self.submission.request
        if step is not None:
            connection.execute(
                SAVE_IMPORT,
                (project.id, step.name, step.offset + len(self.values), step.after, added.root, self.at),
            )
        elif request is not None:
            connection.execute(
                "INSERT INTO request (id, at, job, answer) VALUES (?, ?, ?, ?)",
                (request, self.at, added.first_id, msgspec.json.encode(added).decode()),
            )
