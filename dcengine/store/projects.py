"""Operations on projects: declare their stages, let them run, bring in jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import NotFound, ProjectInUse
from ..events import Kind
from ..jobs import JobState, Project, Stage, State
from ..verbs import AddedJobs, ItemsSubmission, ProjectSpec, StageSpec
from .ledger import Ledger
from .names import Names
from .submitting import micros

FUNCTIONS = 1  #: the built-in project: it has neither stages of its own nor a pause
STAGES = """
SELECT stage.id, stage.name, stage.need, need.tags, function.digest, stage.priority, stage.retries, stage.timeout
FROM stage
JOIN need ON need.id = stage.need
JOIN function ON function.id = stage.function
WHERE stage.project = ? AND stage.position >= 0
ORDER BY stage.position
"""
COUNT_OPEN = f"""
SELECT coalesce(sum(counter.n), 0)
FROM stage
JOIN counter ON counter.stage = stage.id
WHERE stage.project = ? AND counter.state < {State.SUCCEEDED:d}
"""
CHANGE_STAGE = """
UPDATE stage
SET function = ?, need = ?, priority = ?, retries = ?, timeout = ?
WHERE id = ? AND (function, need, priority, retries, timeout) IS NOT (?, ?, ?, ?, ?)
"""
PLACE_STAGE = """
INSERT INTO stage (project, position, name)
VALUES (?, ?, ?)
ON CONFLICT (project, name) DO UPDATE SET position = excluded.position
RETURNING id
"""
# A statement for each state, so that each finds its partial index.
CHANGE_QUEUED, CHANGE_WAITING = (
    f"""
UPDATE task
SET function = stage.function, need = stage.need, retries = stage.retries, timeout = stage.timeout
FROM stage
WHERE stage.id = ? AND task.stage = stage.id AND task.state = {state:d}
"""
    for state in (State.QUEUED, State.WAITING)
)
COUNT_QUEUED = f"""
SELECT task.stage, task.need, need.tags, task.priority, count(*)
FROM task
JOIN need ON need.id = task.need
WHERE task.stage = ? AND task.state = {State.QUEUED:d}
GROUP BY task.need, task.priority
"""
INSERT_JOB = """
INSERT INTO job (id, project, number, state, submitter, created)
VALUES (?, ?, ?, ?, ?, ?)
"""
INSERT_TASK = """
INSERT INTO task (id, job, stage, state, need, priority, function, retries, timeout)
SELECT ?, ?, id, ?, need, priority, function, retries, timeout
FROM stage
WHERE id = ?
"""


def project_in(connection: sqlite3.Connection, name: str) -> Project | None:
    """Return the project called *name* as it stands in the file; the built-in one is none."""
    row = connection.execute(
        "SELECT id, is_paused FROM project WHERE name = ? AND id <> ?", (name, FUNCTIONS)
    ).fetchone()
    if row is None:
        return None
    stages = tuple(map(stage_from, connection.execute(STAGES, (row[0],))))
    return Project(id=row[0], name=name, is_paused=bool(row[1]), stages=stages)


def stage_from(row: Sequence[Any]) -> Stage:
    """Return the stage of one row of `STAGES`."""
    id, name, need, tags, function, priority, retries, timeout = row
    return Stage(
        id=id, name=name, need=need, tags=tags, function=function, priority=priority, retries=retries,
        timeout=None if timeout is None else timeout / 1_000_000,
    )  # fmt: skip


@dataclass(slots=True)
class Declared:
    """A project as it was declared, and what is queued at stages that changed."""

    project: Project
    changed: set[int]  #: ids of stages
    queued: list[tuple[int, int, str, int, int]]  #: (stage, need, tags, priority, number of tasks) there


@dataclass(slots=True)
class DeclareProject:
    """Store a project, paused if it is new; the result is `Declared`, or `ProjectInUse` for other stages too soon.

    What changes about a stage holds for its tasks that no worker has yet. A task in a worker's hands stays as it is.
    """

    rank: ClassVar[int] = 1
    spec: ProjectSpec
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[DeclareProject]) -> list[Any]:
        return [operation._declare(connection, names) for operation in operations]

    def _declare(self, connection: sqlite3.Connection, names: Names) -> Declared | ProjectInUse:
        project = project_in(connection, self.spec.name)
        if project is None:
            id = connection.execute(
                "INSERT INTO project (name, created, is_paused) VALUES (?, ?, TRUE)", (self.spec.name, self.at)
            ).lastrowid
            assert id is not None
        else:
            id = project.id
        before = [] if project is None else [stage.name for stage in project.stages]
        if before != [spec.name for spec in self.spec.stages]:
            (open,) = connection.execute(COUNT_OPEN, (id,)).fetchone()
            if open:
                return ProjectInUse(self.spec.name, ", ".join(before), open)
            self._place(connection, id)
        changed = self._change(connection, names, id)
        queued = [tuple(row) for stage in changed for row in connection.execute(COUNT_QUEUED, (stage,))]
        declared = project_in(connection, self.spec.name)
        assert declared is not None
        return Declared(declared, changed, queued)

    def _place(self, connection: sqlite3.Connection, project: int) -> None:
        """Give the declared stages their places; the others keep their rows below zero."""
        connection.execute("UPDATE stage SET position = -id WHERE project = ?", (project,))
        for position, spec in enumerate(self.spec.stages):
            (stage,) = connection.execute(PLACE_STAGE, (project, position, spec.name)).fetchone()
            connection.executemany(
                "INSERT OR IGNORE INTO counter (stage, state, n) VALUES (?, ?, 0)",
                [(stage, int(state)) for state in State],
            )

    def _change(self, connection: sqlite3.Connection, names: Names, project: int) -> set[int]:
        """Bring the stages and what waits at them up to date; return the ids of those that changed."""
        changed = set()
        for spec in self.spec.stages:
            (stage,) = connection.execute(
                "SELECT id FROM stage WHERE project = ? AND name = ?", (project, spec.name)
            ).fetchone()
            if connection.execute(CHANGE_STAGE, _changes(connection, names, stage, spec)).rowcount:
                changed.add(stage)
                connection.execute(CHANGE_QUEUED, (stage,))
                connection.execute(CHANGE_WAITING, (stage,))
        return changed


def _changes(connection: sqlite3.Connection, names: Names, stage: int, spec: StageSpec) -> tuple[object, ...]:
    """Return the parameters of `CHANGE_STAGE`."""
    options = spec.options
    function, need = names.function(connection, spec.function), names.need(connection, options.tags)
    values = (function, need, options.priority, options.retries, micros(options))
    return (*values, stage, *values)


@dataclass(slots=True)
class RunProject:
    """Let the tasks of a project be handed out; the result is the `Project`, or `NotFound`."""

    rank: ClassVar[int] = 1
    name: str

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[RunProject]) -> list[Any]:
        connection.executemany(
            "UPDATE project SET is_paused = FALSE WHERE name = ?", [(operation.name,) for operation in operations]
        )
        return [
            project_in(connection, operation.name) or NotFound("project", operation.name) for operation in operations
        ]


@dataclass(slots=True)
class AddProjectJobs:
    """Store a job for each of *values* at a project's first stage.

    The result is `AddedJobs` and whether they are new, not those of a repeated request; or `NotFound`.
    """

    rank: ClassVar[int] = 1
    submission: ItemsSubmission
    values: list[bytes]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddProjectJobs]) -> list[Any]:
        return [operation._add(connection, names) for operation in operations]

    def _add(self, connection: sqlite3.Connection, names: Names) -> tuple[AddedJobs, bool] | NotFound:
        submission, count = self.submission, len(self.values)
        project = project_in(connection, submission.project)
        if project is None:
            return NotFound("project", submission.project)
        known = self._known(connection)
        if known is not None:
            return known, False
        first, number = names.reserve_jobs(connection, project.id, count)
        if not count:
            return AddedJobs(first, number, 0), True
        names.save_numbers(connection, project.id)
        stage = project.stages[0].id
        connection.executemany(
            INSERT_JOB,
            (
                (first + n, project.id, number + n, JobState.OPEN, submission.submitter, self.at)
                for n in range(count)
            ),
        )  # fmt: skip
        # The first task of a job has the job's own id: one lookup less on the way.
        connection.executemany(INSERT_TASK, ((id, id, State.QUEUED, stage) for id in range(first, first + count)))
        connection.executemany("INSERT INTO payload (task, input) VALUES (?, ?)", enumerate(self.values, first))
        if submission.request is not None:
            connection.execute(
                "INSERT INTO request (id, at, job) VALUES (?, ?, ?)", (submission.request, self.at, first)
            )
        ledger = Ledger(connection, names, self.at)
        ledger.event(Kind.JOB_SUBMITTED, job=first, units=count)
        ledger.count(stage, before=None, after=State.QUEUED, n=count)
        ledger.write()
        return AddedJobs(first, number, count), True

    def _known(self, connection: sqlite3.Connection) -> AddedJobs | None:
        """Return what an earlier submission with this request id added."""
        row = connection.execute(
            "SELECT job.id, job.number FROM request JOIN job ON job.id = request.job WHERE request.id = ?",
            (self.submission.request,),
        ).fetchone()
        return AddedJobs(row[0], row[1], len(self.values)) if row else None
