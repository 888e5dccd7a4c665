"""Questions about projects: their stages, how many jobs are where, what left which stage."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from ..errors import NotFound
from ..jobs import JobState, Project, State
from ..verbs import ProjectStatus, StageOutput, StageStatus
from .projects import FUNCTIONS, STAGES, stage_from
from .reads import PAGE_BYTES, Reads

# The counters of retired stages count too: their jobs are among those that the project ever had.
SELECT_COUNTS = f"""
SELECT project.name, project.is_paused, project.last_number, stage.name, stage.position, need.tags,
    counter.state, counter.n
FROM project
JOIN stage ON stage.project = project.id
JOIN counter ON counter.stage = stage.id
LEFT JOIN need ON need.id = stage.need
WHERE project.id <> {FUNCTIONS}
"""
SELECT_OUTPUT_SIZES = f"""
SELECT task.job, length(payload.output)
FROM task
JOIN payload ON payload.task = task.id
WHERE task.stage > {FUNCTIONS} AND task.stage = ? AND task.job > ?
    AND task.state IN ({State.SUCCEEDED:d}, {State.FAILED:d})
ORDER BY task.job
LIMIT ?
"""
SELECT_OUTPUTS = f"""
SELECT task.job, job.number, task.state, payload.output
FROM task
JOIN job ON job.id = task.job
JOIN payload ON payload.task = task.id
WHERE task.stage > {FUNCTIONS} AND task.stage = ? AND task.job > ? AND task.job <= ?
    AND task.state IN ({State.SUCCEEDED:d}, {State.FAILED:d})
ORDER BY task.job
"""
# The plus keeps SQLite from going through all jobs of the project: the failed ones have an index of their own.
SELECT_FAILED = f"""
SELECT job.id, job.number, {State.FAILED:d}, payload.output
FROM job
JOIN project ON project.id = +job.project
JOIN payload ON payload.task = (SELECT max(id) FROM task WHERE task.job = job.id)
WHERE project.name = ? AND job.id > ? AND job.state = {JobState.FAILED:d}
ORDER BY job.id
LIMIT ?
"""
SELECT_ITEM = """
SELECT batch.first_job + ? - batch.first_number
FROM batch
JOIN stage ON stage.id = batch.stage
JOIN project ON project.id = stage.project
WHERE project.name = ? AND ? BETWEEN batch.first_number AND batch.first_number + batch.count - 1
"""


class ProjectReads(Reads):
    """Answers questions about projects too."""

    async def stored_projects(self) -> list[Project]:
        """Return every project but the built-in one."""
        rows = await self._all("SELECT id, name, is_paused FROM project WHERE id <> ? ORDER BY id", FUNCTIONS)
        return [
            Project(
                id=id, name=name, is_paused=bool(is_paused), stages=tuple(map(stage_from, await self._all(STAGES, id)))
            )
            for id, name, is_paused in rows
        ]

    async def project(self, name: str) -> ProjectStatus:
        """Return the project called *name*; raises `NotFound`."""
        rows = await self._all(f"{SELECT_COUNTS} AND project.name = ? ORDER BY stage.position", name)
        if not rows:
            raise NotFound("project", name)
        return _status(rows)

    async def projects(self) -> list[ProjectStatus]:
        """Return every project, the newest first."""
        rows = await self._all(f"{SELECT_COUNTS} ORDER BY project.id DESC, stage.position")
        return [_status(list(of_one)) for _, of_one in groupby(rows, key=lambda row: row[0])]

    async def _stage(self, project: str, name: str) -> int:
        """Return the id of a stage, of a retired one too; raises `NotFound`."""
        row = await self._one(
            "SELECT stage.id FROM stage JOIN project ON project.id = stage.project"
            " WHERE project.name = ? AND stage.name = ? AND project.id <> ?",
            project,
            name,
            FUNCTIONS,
        )
        if row is None:
            raise NotFound("stage", f"{name!r} of project {project!r}")
        return int(row[0])

    async def outputs(self, project: str, stage: str, *, after: int, limit: int) -> list[StageOutput]:
        """Return how jobs with a number above *after* left *stage*, in order, a page at a time."""
        id, last_job = await self._stage(project, stage), await self._last_job(project, after)
        until, total = last_job, 0
        for job, size in await self._all(SELECT_OUTPUT_SIZES, id, last_job, limit):
            if total and total + size > PAGE_BYTES:
                break
            until, total = job, total + size
        return [_output(row) for row in await self._all(SELECT_OUTPUTS, id, last_job, until)]

    async def failed_jobs(self, project: str, *, after: int, limit: int) -> list[StageOutput]:
        """Return the failed jobs of *project* with a number above *after*, in order, a page at a time."""
        rows = await self._all(SELECT_FAILED, project, await self._last_job(project, after), limit)
        return [_output(row) for row in rows]

    async def _last_job(self, project: str, number: int) -> int:
        """Return the newest job of *project* with at most this number: ids grow with the numbers."""
        row = await self._one(
            "SELECT job.id FROM job JOIN project ON project.id = job.project"
            " WHERE project.name = ? AND job.number <= ? ORDER BY job.number DESC LIMIT 1",
            project,
            number,
        )
        return row[0] if row else 0

    async def find_job(self, project: str, number: int) -> int:
        """Return the id of the job that has *number* in *project*; raises `NotFound`."""
        row = await self._one(
            "SELECT job.id FROM job JOIN project ON project.id = job.project WHERE project.name = ? AND job.number = ?",
            project,
            number,
        ) or await self._one(SELECT_ITEM, number, project, number)
        if row is None:
            raise NotFound("job", f"{project}/{number}")
        return int(row[0])


def _status(rows: list[Any]) -> ProjectStatus:
    """Return the project of *rows*, one for each counter."""
    name, is_paused, jobs = rows[0][:3]
    ends = {state: sum(row[7] for row in rows if row[6] == state) for state in State}
    open = sum(n for state, n in ends.items() if not state.is_final)
    failed, cancelled = ends[State.FAILED], ends[State.CANCELLED]
    stages: dict[str, StageStatus] = {}
    for _, _, _, stage, position, tags, state, n in rows:
        if position >= 0:
            status = stages.setdefault(stage, StageStatus(name=stage, tags=tags or "", counts={}))
            if n:
                status.counts[State(state).name.lower()] = n
    return ProjectStatus(
        name=name, is_paused=bool(is_paused), stages=list(stages.values()), open=open,
        succeeded=jobs - open - failed - cancelled, failed=failed, cancelled=cancelled,
    )  # fmt: skip


def _output(row: Any) -> StageOutput:
    job, number, state, data = row
    return StageOutput(job, number, State(state).name.lower(), data or b"")
