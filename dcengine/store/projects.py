"""Operations on projects: declare their stages, hold them back, let them run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InvalidOption, NotFound, ProjectInUse
from ..events import Kind
from ..jobs import JobState, Project, Stage, State, check_shapes
from ..verbs import ProjectSpec, StageSpec
from .gathering import count_down
from .handing import Consequences
from .ledger import Ledger
from .names import FUNCTIONS, Names

PROJECTS = f"""
SELECT id, name, is_paused, protocol, is_open
FROM project
WHERE id <> {FUNCTIONS} AND is_deleted = 0
"""
STAGES = """
SELECT stage.id, stage.name, stage.need, need.tags, function.digest, stage.priority, stage.retries,
    stage.crash_retries, stage.timeout, stage.title, stage.kind, stage.shape, stage.lease_seconds, stage.back_off,
    stage.back_off_limit, stage.votes, stage.generations, stage.credit, stage.on_failed_part, stage.how,
    stage.is_paused
FROM stage
JOIN need ON need.id = stage.need
LEFT JOIN function ON function.id = stage.function
WHERE stage.project = ? AND stage.position >= 0
ORDER BY stage.position
"""
COUNT_OPEN = f"""
SELECT coalesce(sum(n), 0)
FROM job_counter
WHERE project = ? AND state = {JobState.OPEN:d}
"""
OPTIONS = (
    "function", "need", "priority", "retries", "crash_retries", "timeout", "title", "kind", "shape", "lease_seconds",
    "back_off", "back_off_limit", "votes", "generations", "credit", "on_failed_part", "how",
)  # fmt: skip
PLACES = ", ".join("?" * len(OPTIONS))
CHANGE_STAGE = f"""
UPDATE stage
SET ({", ".join(OPTIONS)}) = ({PLACES})
WHERE id = ? AND ({", ".join(OPTIONS)}) IS NOT ({PLACES})
"""
PLACE_STAGE = """
INSERT INTO stage (project, position, name, is_paused)
VALUES (?, ?, ?, ?)
ON CONFLICT (project, name) DO UPDATE SET position = excluded.position
RETURNING id
"""
# A statement for each state, so that each finds its partial index.
CHANGE_WAITING = tuple(
    f"""
UPDATE task
SET function = stage.function, need = stage.need, retries = stage.retries, crash_retries = stage.crash_retries,
    timeout = stage.timeout, how = stage.how, priority = job.priority + stage.priority
FROM stage, job
WHERE stage.id = ? AND job.id = task.job AND task.stage = stage.id AND {which}
"""
    for which in (
        f"task.state = {State.QUEUED:d} AND task.flags = 0",
        f"task.state = {State.QUEUED:d} AND task.flags > 0",
        f"task.state = {State.WAITING:d}",
        f"task.state = {State.BLOCKED:d}",
    )
)
COUNT_PARTS = f"""
UPDATE gather
SET left = (
    SELECT count(*)
    FROM job
    WHERE job.gather = gather.source
        AND (job.state = {JobState.OPEN:d} OR (job.state <> {JobState.SUCCEEDED:d} AND NOT ?))
)
WHERE task IN (SELECT id FROM task WHERE stage = ? AND state = {State.BLOCKED:d})
RETURNING task
"""
COUNT_QUEUED = tuple(
    f"""
SELECT task.stage, task.need, need.tags, task.submitter, task.priority, {is_flagged}, count(*)
FROM task
JOIN need ON need.id = task.need
WHERE task.stage = ? AND task.state = {State.QUEUED:d} AND task.flags {flags}
GROUP BY task.need, task.submitter, task.priority
"""
    for is_flagged, flags in ((0, "= 0"), (1, "> 0"))
)


def project_in(connection: sqlite3.Connection, name: str) -> Project | None:
    """Return the project called *name* as it stands in the file; the built-in one is none."""
    row = connection.execute(f"{PROJECTS} AND name = ?", (name,)).fetchone()
    return None if row is None else project_from(row, connection.execute(STAGES, (row[0],)))


def project_from(row: Sequence[Any], stages: Iterable[Sequence[Any]]) -> Project:
    """Return the project of one row of `PROJECTS`, with the *stages* of rows of `STAGES`."""
    id, name, is_paused, protocol, is_open = row
    return Project(
        id=id, name=name, is_paused=bool(is_paused), stages=tuple(map(stage_from, stages)), protocol=protocol,
        is_open=bool(is_open),
    )  # fmt: skip


def stage_from(row: Sequence[Any]) -> Stage:
    """Return the stage of one row of `STAGES`."""
    id, name, need, tags, function, priority, retries, crash_retries, timeout, title, kind, shape = row[:12]
    lease_seconds, back_off, back_off_limit, votes, generations, credit, on_failed_part, how, is_paused = row[12:]
    return Stage(
        id=id, name=name, need=need, tags=tags, function=function or b"", priority=priority, retries=retries,
        crash_retries=crash_retries, timeout=None if timeout is None else timeout / 1_000_000, title=title, kind=kind,
        shape=shape, lease_seconds=lease_seconds, back_off=back_off, back_off_limit=back_off_limit, votes=votes,
        generations=generations, credit=credit, on_failed_part=on_failed_part, how=how, is_paused=bool(is_paused),
    )  # fmt: skip


@dataclass(slots=True)
class Declared:
    """A project as it was declared, and what is queued at stages that changed."""

    project: Project
    changed: set[int]  #: ids of stages
    #: What waits there: (stage, need, tags, submitter, priority, whether flagged, number of tasks).
    queued: list[tuple[int, int, str, int, int, int, int]]


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

    def _declare(self, connection: sqlite3.Connection, names: Names) -> Declared | ProjectInUse | InvalidOption:
        project = project_in(connection, self.spec.name)
        steps = self._steps(project)
        try:
            check_shapes([(step.name, step.shape) for step in steps])
        except InvalidOption as error:
            return error
        if project is None:
            id = connection.execute(
                "INSERT INTO project (name, created, is_paused) VALUES (?, ?, TRUE)", (self.spec.name, self.at)
            ).lastrowid
            assert id is not None
            connection.executemany(
                "INSERT INTO job_counter (project, state, n) VALUES (?, ?, 0)", [(id, int(state)) for state in JobState]
            )
        else:
            id = project.id
        before = [] if project is None else [(stage.name, stage.kind, stage.shape) for stage in project.stages]
        if before != [(step.name, step.kind, step.shape) for step in steps]:
            (open,) = connection.execute(COUNT_OPEN, (id,)).fetchone()
            if open:
                return ProjectInUse(self.spec.name, ", ".join(name for name, *_ in before), open)
            self._place(connection, id, steps)
        if project is None or not self.spec.is_partial:
            connection.execute(
                "UPDATE project SET protocol = ?, is_open = ? WHERE id = ?", (self.spec.protocol, self.spec.is_open, id)
            )
        changed = self._change(connection, names, id)
        declared = project_in(connection, self.spec.name)
        assert declared is not None
        ledger = Ledger(connection, names, self.at)
        self._count_anew(connection, ledger, [] if project is None else project.stages, declared.stages)
        if project is None or changed or project.stages != declared.stages:
            ledger.event(Kind.DECLARED, stage=declared.stages[0].id, units=0)
        ledger.write()
        queued = [
            tuple(row) for stage in changed for count in COUNT_QUEUED for row in connection.execute(count, (stage,))
        ]
        return Declared(declared, changed, queued)

    def _steps(self, project: Project | None) -> Sequence[Stage | StageSpec]:
        """Return the whole row of stages: of a partial spec with those of *project* that it does not name."""
        if project is None or not self.spec.is_partial:
            return self.spec.stages
        named = {spec.name: spec for spec in self.spec.stages}
        return [*(named.pop(stage.name, stage) for stage in project.stages), *named.values()]

    def _place(self, connection: sqlite3.Connection, project: int, steps: Sequence[Stage | StageSpec]) -> None:
        """Give the stages in *steps* their places; the others keep their rows below zero."""
        connection.execute("UPDATE stage SET position = -id WHERE project = ?", (project,))
        for position, step in enumerate(steps):
            (stage,) = connection.execute(PLACE_STAGE, (project, position, step.name, step.is_paused)).fetchone()
            connection.executemany(
                "INSERT OR IGNORE INTO counter (stage, state, n) VALUES (?, ?, 0)",
                [(stage, int(state)) for state in State],
            )

    def _count_anew(
        self, connection: sqlite3.Connection, ledger: Ledger, before: Sequence[Stage], after: Sequence[Stage]
    ) -> None:
        """Count what blocked gathers wait for again where another is said of failed parts than *before*."""
        said = {stage.id: stage.on_failed_part for stage in before}
        for stage in after:
            if said.get(stage.id, stage.on_failed_part) != stage.on_failed_part:
                for (gather,) in connection.execute(COUNT_PARTS, (stage.on_failed_part == "skip", stage.id)).fetchall():
                    count_down(connection, ledger, gather, 0, Consequences())

    def _change(self, connection: sqlite3.Connection, names: Names, project: int) -> set[int]:
        """Bring the stages and what waits at them up to date; return the ids of those that changed."""
        changed = set()
        for spec in self.spec.stages:
            (stage,) = connection.execute(
                "SELECT id FROM stage WHERE project = ? AND name = ?", (project, spec.name)
            ).fetchone()
            if connection.execute(CHANGE_STAGE, _changes(connection, names, stage, spec)).rowcount:
                changed.add(stage)
                for statement in CHANGE_WAITING:
                    connection.execute(statement, (stage,))
        return changed


def _changes(connection: sqlite3.Connection, names: Names, stage: int, spec: StageSpec) -> tuple[object, ...]:
    """Return the parameters of `CHANGE_STAGE`."""
    function = None if spec.function is None else names.function(connection, spec.function)
    timeout = None if spec.timeout is None else int(spec.timeout * 1_000_000)
    values = (
        function, names.need(connection, spec.tags), spec.priority, spec.retries, spec.crash_retries, timeout,
        spec.title, spec.kind, spec.shape, float(spec.lease_time), float(spec.back_off), float(spec.back_off_limit),
        spec.votes_needed, spec.generations, spec.credit, spec.on_failed_part, spec.how,
    )  # fmt: skip
    return (*values, stage, *values)


@dataclass(slots=True)
class HoldProject:
    """Pause a project or one stage of it, or let it run; the result is the `Project`, or `NotFound`."""

    rank: ClassVar[int] = 1
    name: str
    stage: str | None
    is_paused: bool
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[HoldProject]) -> list[Any]:
        return [operation._hold(connection, names) for operation in operations]

    def _hold(self, connection: sqlite3.Connection, names: Names) -> Project | NotFound:
        project = project_in(connection, self.name)
        if project is None:
            return NotFound("project", self.name)
        if self.stage is None:
            connection.execute("UPDATE project SET is_paused = ? WHERE id = ?", (self.is_paused, project.id))
        elif connection.execute(
            "UPDATE stage SET is_paused = ? WHERE project = ? AND name = ? AND position >= 0",
            (self.is_paused, project.id, self.stage),
        ).rowcount == 0:  # fmt: skip
            return NotFound("stage", f"{self.stage!r} of project {self.name!r}")
        held = project_in(connection, self.name)
        assert held is not None
        ledger = Ledger(connection, names, self.at)
        for stage in held.stages:
            if self.stage in (None, stage.name):
                ledger.event(Kind.PAUSED if self.is_paused else Kind.RESUMED, stage=stage.id, units=0)
        ledger.write()
        return held
