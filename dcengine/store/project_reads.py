"""Questions about projects: their stages, how many jobs are where, what left which stage."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..errors import NotFound
from ..jobs import JobState, Project, State, Task
from ..verbs import Flag, ImportRecord, ProjectStatus, StageOutput, StageStatus
from .leasing import SELECT_TASK, task_from
from .names import CURRENT_TASK, FIRST_LATER_TASK, FUNCTIONS
from .pages import PageReads
from .projects import PROJECTS, STAGES, project_from
from .reading import PAGE_BYTES

SELECT_PROJECT = f"""
SELECT project.id, project.name, project.is_paused, project.protocol, project.is_open,
    (SELECT json_group_object(state, n) FROM job_counter WHERE job_counter.project = project.id)
FROM project
WHERE project.id <> {FUNCTIONS} AND project.is_deleted = 0
"""
SELECT_STAGES = """
SELECT stage.project, stage.name, need.tags, stage.title, stage.kind, stage.shape, stage.is_paused,
    (SELECT json_group_object(state, n) FROM counter WHERE counter.stage = stage.id)
FROM stage
LEFT JOIN need ON need.id = stage.need
WHERE stage.position >= 0 AND (? IS NULL OR stage.project = ?)
ORDER BY stage.project, stage.position
"""
SELECT_TASK_COUNTERS = """
SELECT stage.id, project.name, stage.name, counter.state, counter.n
FROM counter
JOIN stage ON stage.id = counter.stage
JOIN project ON project.id = stage.project
WHERE project.is_deleted = 0
"""
SELECT_JOB_COUNTERS = """
SELECT project.name, job_counter.state, job_counter.n
FROM job_counter
JOIN project ON project.id = job_counter.project
WHERE project.is_deleted = 0
"""
SELECT_OUTPUT_SIZES = f"""
SELECT task.job, coalesce(length(payload.output), 0)
FROM task
JOIN payload ON payload.task = task.id
WHERE task.stage > {FUNCTIONS} AND task.stage = ? AND task.job > ?
    AND task.state IN ({State.SUCCEEDED:d}, {State.FAILED:d})
ORDER BY task.job
LIMIT ?
"""
# The states are in these words so that SQLite sees that the index of ended tasks has them all.
OUTPUTS = f"""
SELECT task.job, job.number, task.state, payload.output, stage.name, parent.number
FROM task
JOIN stage ON stage.id = task.stage
JOIN job ON job.id = task.job
LEFT JOIN job AS parent ON parent.id = job.parent
JOIN payload ON payload.task = task.id
WHERE task.stage > {FUNCTIONS} AND task.stage = ? AND task.state IN ({State.SUCCEEDED:d}, {State.FAILED:d})
"""
SELECT_OUTPUTS = f"{OUTPUTS} AND task.job > ? AND task.job <= ? ORDER BY task.job"
SELECT_NEWEST = f"{OUTPUTS} AND task.state = {State.SUCCEEDED:d} ORDER BY task.job DESC LIMIT ?"
# The plus keeps SQLite from going through all jobs of the project: the failed ones have an index of their own.
SELECT_FAILED = f"""
SELECT job.id, job.number, {State.FAILED:d}, payload.output, stage.name, parent.number
FROM job
JOIN project ON project.id = +job.project
JOIN task ON task.id = {CURRENT_TASK}
JOIN stage ON stage.id = task.stage
JOIN payload ON payload.task = task.id
LEFT JOIN job AS parent ON parent.id = job.parent
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


SELECT_PARTS = f"""
SELECT payload.output
FROM gather
JOIN job ON job.gather = gather.source AND job.state = {JobState.SUCCEEDED:d}
JOIN payload ON payload.task = {CURRENT_TASK}
WHERE gather.task = ?
ORDER BY job.id
"""
SELECT_LOST = f"""
SELECT count(*)
FROM job
JOIN gather ON gather.task = {CURRENT_TASK}
JOIN job AS part ON part.gather = gather.source
WHERE job.id = ? AND part.state IN (?, ?)
"""
SELECT_IMPORT = """
SELECT import.items, import.digest, import.updated, import.root
FROM import
JOIN project ON project.id = import.project
WHERE project.name = ? AND import.name = ?
"""
SELECT_VOTES = f"""
SELECT task.generation, flag.voter, flag.reason, flag.worker, flag.at
FROM task
JOIN flag ON flag.task = task.id
WHERE task.id = ? OR (task.job = ? AND task.id >= {FIRST_LATER_TASK})
ORDER BY flag.at
"""
# The failed ones have an index; the plus keeps SQLite from sorting all jobs of the project for each page.
SELECT_FAILED_IDS, SELECT_ENDED_BADLY = (
    f"""
SELECT job.id
FROM job
JOIN task ON task.id = {CURRENT_TASK}
CROSS JOIN stage ON stage.id = task.stage
WHERE +job.project = ? AND job.state {is_meant} AND job.id > ? AND (? IS NULL OR stage.name = ?)
    AND stage.position >= 0
ORDER BY job.id
LIMIT 1000
"""
    for is_meant in (f"= {JobState.FAILED:d}", f"IN ({JobState.FAILED:d}, {JobState.CANCELLED:d})")
)
SELECT_STATE_UNDER = f"""
SELECT task.state, task.state = {State.RETURNED:d} AND payload.output IS NOT NULL
FROM task
JOIN payload ON payload.task = task.id
WHERE task.id = ? AND task.attempt = ? AND task.token = ?
"""
SELECT_HELD = f"""
{SELECT_TASK.replace("FROM task", ", task.worker, contributor.nickname FROM task", 1)}
LEFT JOIN contributor ON contributor.id = task.contributor
WHERE task.state = {State.LEASED:d} AND task.token IS NOT NULL
"""


class ProjectReads(PageReads):
    """Answers questions about projects too."""

    async def stored_projects(self) -> list[Project]:
        """Return every project but the built-in one."""
        rows = await self._all(f"{PROJECTS} ORDER BY id")
        return [project_from(row, await self._all(STAGES, row[0])) for row in rows]

    async def project(self, name: str) -> ProjectStatus:
        """Return the project called *name*; raises `NotFound`."""
        row = await self._one(f"{SELECT_PROJECT} AND project.name = ?", name)
        if row is None:
            raise NotFound("project", name)
        return _project_status(row, await self._all(SELECT_STAGES, row[0], row[0]))

    async def projects(self) -> list[ProjectStatus]:
        """Return every project, the newest first."""
        projects = await self._all(f"{SELECT_PROJECT} ORDER BY project.id DESC")
        rows = await self._all(SELECT_STAGES, None, None)
        stages = {project: list(some) for project, some in groupby(rows, key=itemgetter(0))}
        return [_project_status(row, stages.get(row[0], [])) for row in projects]

    async def task_counters(self) -> list[tuple[int, str, str, int, int]]:
        """Return how many tasks are where: (stage, its project's name, its own name, state, n)."""
        return await self._all(SELECT_TASK_COUNTERS)

    async def job_counters(self) -> list[tuple[str, int, int]]:
        """Return how many jobs are in which state: (project, state, n); the built-in project does not count them."""
        return await self._all(SELECT_JOB_COUNTERS)

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

    async def newest_outputs(self, project: str, stage: str, *, limit: int) -> list[StageOutput]:
        """Return what the newest jobs that succeeded at *stage* came to there."""
        return [_output(row) for row in await self._all(SELECT_NEWEST, await self._stage(project, stage), limit)]

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

    async def part_outputs(self, gather: int) -> list[bytes]:
        """Return the outputs of the parts that task *gather* has waited for, in their order, without those skipped."""
        rows = await self._all(SELECT_PARTS, gather)
        return [output for (output,) in rows]

    async def cut_gathers(self) -> list[int]:
        """Return the gathers that have ended while some of their parts were open."""
        return [task for (task,) in await self._all("SELECT task FROM gather WHERE is_cut = 1")]

    async def blocking_parts(self, job: int) -> tuple[int, int, bool]:
        """Return for how many parts of how many *job* waits, and whether more are being added."""
        row = await self._one(
            f"SELECT gather.left, gather.parts, gather.is_open FROM job JOIN gather ON gather.task = {CURRENT_TASK}"
            " WHERE job.id = ?",
            job,
        )
        return (row[0], row[1], bool(row[2])) if row else (0, 0, False)

    async def lost_parts(self, job: int) -> int:
        """Return how many parts that *job* waits for have failed or were cancelled."""
        (n,) = await self._one(SELECT_LOST, job, JobState.FAILED, JobState.CANCELLED)
        return int(n)

    async def project_id(self, name: str) -> int:
        """Return the id of the project called *name*, the built-in one too; raises `NotFound`."""
        row = await self._one("SELECT id FROM project WHERE name = ? AND is_deleted = 0", name)
        if row is None:
            raise NotFound("project", name)
        return int(row[0])

    async def imported(self, project: str, name: str) -> ImportRecord | None:
        """Return how far the import called *name* has come."""
        row = await self._one(SELECT_IMPORT, project, name)
        return None if row is None else ImportRecord(items=row[0], digest=row[1], updated=row[2] / 1e6, root=row[3])

    async def votes(self, task: int) -> list[Flag]:
        """Return who has flagged the input of *task*."""
        rows = await self._all("SELECT voter, reason, worker, at FROM flag WHERE task = ? ORDER BY at", task)
        return [Flag(voter=voter, reason=reason, worker=worker, at=at / 1e6) for voter, reason, worker, at in rows]

    async def votes_of(self, job: int) -> list[tuple[int, Flag]]:
        """Return who has flagged inputs of *job* so far, each with the generation."""
        rows = await self._all(SELECT_VOTES, job, job)
        return [
            (generation, Flag(voter=voter, reason=reason, worker=worker, at=at / 1e6))
            for generation, voter, reason, worker, at in rows
        ]

    async def held(self) -> list[tuple[Task, str, str | None]]:
        """Return the tasks in the hands of outside workers, each with worker and contributor."""
        return [(task_from(row[:-2]), *row[-2:]) for row in await self._all(SELECT_HELD)]

    async def state_under(self, task: int, attempt: int, token: int) -> State | None:
        """Return where *task* is, if it was leased last in this *attempt* under this *token*.

        One that was done, and sent back later, counts as done.
        """
        row = await self._one(SELECT_STATE_UNDER, task, attempt, token)
        return None if row is None else State.SUCCEEDED if row[1] else State(row[0])

    async def stage_of(self, task: int) -> int | None:
        """Return the id of the stage that *task* is at; None for an unknown one."""
        row = await self._one("SELECT stage FROM task WHERE id = ?", task)
        return None if row is None else int(row[0])

    async def ended_badly(self, project: str, *, stage: str | None, cancelled: bool, after: int) -> list[int]:
        """Return a page of failed jobs of *project* above *after*, those that failed at *stage*, the cancelled too."""
        select = SELECT_ENDED_BADLY if cancelled else SELECT_FAILED_IDS
        rows = await self._all(select, await self.project_id(project), after, stage, stage)
        return [id for (id,) in rows]

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


def _project_status(row: Any, stages: Iterable[Any]) -> ProjectStatus:
    _, name, is_paused, protocol, is_open, counted = row
    jobs = {JobState(int(state)): n for state, n in json.loads(counted).items()}
    return ProjectStatus(
        name=name, is_paused=bool(is_paused), stages=[_stage_status(stage) for stage in stages],
        open=jobs[JobState.OPEN], succeeded=jobs[JobState.SUCCEEDED], failed=jobs[JobState.FAILED],
        cancelled=jobs[JobState.CANCELLED], protocol=protocol, is_open=bool(is_open),
    )  # fmt: skip


def _stage_status(row: Any) -> StageStatus:
    _, name, tags, title, kind, shape, is_paused, counted = row
    counts = {State(int(state)).name.lower(): n for state, n in json.loads(counted).items() if n}
    return StageStatus(
        name=name, tags=tags or "", counts=counts, title=title, kind=kind, shape=shape, is_paused=bool(is_paused)
    )


def _output(row: Any) -> StageOutput:
    job, number, state, data, stage, parent = row
    return StageOutput(job, number, State(state).name.lower(), data or b"", stage, parent)
