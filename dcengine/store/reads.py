"""Questions to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ..codec import unpack_failure
from ..errors import NotFound
from ..jobs import JobState, State, Task
from ..verbs import Function, JobStatus, Line, Progress
from .batch_reads import BatchReads
from .leasing import SELECT_TASK, task_from
from .names import CURRENT_TASK, KNOWN
from .reading import PAGE_ROWS, page_end

SELECT_JOB = f"""
SELECT job.id, project.name, job.number, function.name, job.state, task.state, job.batch, task.attempt, task.errors,
    need.tags, task.priority, task.worker, job.created, job.finished, progress.done, progress.total, progress.text,
    CASE WHEN job.state = 2 THEN payload.output END, stage.name, task.generation, task.flags, job.parent,
    (SELECT name FROM submitter WHERE submitter.id = job.submitter), job.key
FROM job
JOIN project ON project.id = job.project AND project.is_deleted = 0
JOIN task ON task.id = {CURRENT_TASK}
JOIN need ON need.id = task.need
JOIN payload ON payload.task = task.id
LEFT JOIN stage ON stage.id = task.stage AND stage.project <> 1
LEFT JOIN function ON function.id = task.function
LEFT JOIN progress ON progress.job = job.id
"""
# Where several states are asked for, each has a part of its own, so that each finds its partial index.
SELECT_QUEUED = " UNION ALL ".join(
    f"""
SELECT task.stage, task.need, need.tags, task.submitter, task.priority, {is_flagged}, count(*)
FROM task
JOIN need ON need.id = task.need
WHERE task.state = {State.QUEUED:d} AND task.flags {flags}
GROUP BY task.stage, task.need, task.submitter, task.priority
"""
    for is_flagged, flags in ((0, "= 0"), (1, "> 0"))
)
SELECT_OPEN_JOBS = " UNION ALL ".join(
    f"SELECT job FROM task WHERE batch IS NULL AND state = {state:d} {more}"
    " AND stage NOT IN (SELECT stage.id FROM stage JOIN project ON project.id = stage.project WHERE is_deleted <> 0)"
    for state, more in (
        (State.QUEUED, "AND flags = 0"),
        (State.QUEUED, "AND flags > 0"),
        (State.WAITING, "AND not_before >= 0"),
        (State.BLOCKED, ""),
        (State.LEASED, ""),
    )
)
SELECT_OUTPUT = """
SELECT CASE
    WHEN kind IN ('stdout', 'stderr') THEN text
    WHEN kind IN ('display', 'result') THEN json_extract(text, '$.data."text/plain"') || char(10)
    END
FROM output
WHERE job = ?
ORDER BY number
"""
AHEAD_LIMIT = 10_000  #: tasks that are counted to say how many are before another
SELECT_AHEAD = f"""
SELECT count(*)
FROM (
    SELECT 1
    FROM task
    WHERE stage = ? AND need = ? AND submitter = ? AND state = {State.QUEUED:d} AND flags = 0
        AND (priority > ? OR priority = ? AND id < ?)
    LIMIT {AHEAD_LIMIT}
)
"""


SELECT_END = f"""
SELECT job.state, payload.output
FROM job
JOIN project ON project.id = job.project AND project.is_deleted = 0
JOIN payload ON payload.task = {CURRENT_TASK}
WHERE job.id = ?
"""


class StoredEnd(NamedTuple):
    """How a job ended, as it is stored."""

    state: str  #: succeeded, failed, cancelled
    data: bytes | None  #: None once it has expired
    place: int | None = None  #: within the frame of values that *data* is, for an item of a batch
    of: int = 1  #: so many values in that frame


class Reads(BatchReads):
    """Answers questions about what is stored."""

    def __init__(self, db: Path) -> None:
        super().__init__(db)
        self._needs: dict[str, int] = {}

    # ---- jobs ------------------------------------------------------------------------------

    async def job(self, id: int) -> JobStatus:
        """Return job *id*, an item of a batch without rows of its own included; raises `NotFound`."""
        row = await self._one(f"{SELECT_JOB} WHERE job.id = ?", id)
        return job_status(row) if row else await self._item(id)

    async def _item(self, id: int) -> JobStatus:
        batch = await self._batch_of(id)
        status = await self.batch(batch)
        (first_number,) = await self._one("SELECT first_number FROM batch WHERE id = ?", batch)
        chunk = await self._chunk_of(batch, id - status.first_job)
        state = State(chunk[2]) if chunk else State.QUEUED
        return JobStatus(
            id=id, project=status.project, number=first_number + id - status.first_job, name=status.name,
            state="open" if chunk is None else state.name.lower(), task_state=state.name.lower(), batch=batch,
            tags=status.tags, priority=status.priority, created=status.created, attempt=1 if chunk else 0,
            worker=chunk[3] if chunk else None, finished=chunk[4] / 1e6 if chunk else None, submitter=status.submitter,
        )  # fmt: skip

    async def _batch_of(self, job: int) -> int:
        row = await self._one(
            "SELECT id, first_job, count FROM batch WHERE first_job <= ? ORDER BY first_job DESC LIMIT 1", job
        )
        if row is None or job >= row[1] + row[2]:
            raise NotFound("job", job)
        return int(row[0])

    async def _chunk_of(self, batch: int, index: int) -> Any:
        row = await self._one(
            "SELECT first, count, state, worker, finished, data FROM chunk WHERE batch = ? AND first <= ?"
            " ORDER BY first DESC LIMIT 1",
            batch,
            index,
        )
        return row if row and index < row[0] + row[1] else None

    async def end(self, id: int) -> StoredEnd | None:
        """Return the end of job *id*, None while it is open; raises `NotFound`."""
        row = await self._one(SELECT_END, id)
        if row is not None:
            return None if row[0] == JobState.OPEN else StoredEnd(JobState(row[0]).text, row[1])
        batch = await self._batch_of(id)
        (first_job,) = await self._one("SELECT first_job FROM batch WHERE id = ?", batch)
        chunk = await self._chunk_of(batch, id - first_job)
        if chunk is None:
            return None
        first, count, state, _, _, data = chunk
        if not data:  # cancelled items never had any
            return StoredEnd(State(state).name.lower(), b"" if state == State.CANCELLED else None)
        return StoredEnd(State(state).name.lower(), data, id - first_job - first, count)

    async def output(self, id: int) -> str:
        """Return what job *id* printed, on either stream, and the plain form of what it displayed."""
        return "".join(text for (text,) in await self._all(SELECT_OUTPUT, id) if text)

    async def lines(self, job: int, *, after: int) -> tuple[list[Line], bool]:
        """Return a page of what was said in *job* after line *after*, and whether that is all there is."""
        sizes = await self._all(
            "SELECT number, length(text) FROM output WHERE job = ? AND number > ? ORDER BY number LIMIT ?",
            job,
            after,
            PAGE_ROWS,
        )
        if not sizes:
            return [], True
        until = page_end(sizes, after)
        rows = await self._all(
            "SELECT number, kind, text FROM output WHERE job = ? AND number > ? AND number <= ? ORDER BY number",
            job,
            after,
            until,
        )
        return [Line(*row) for row in rows], until == sizes[-1][0] and len(sizes) < PAGE_ROWS

    async def task(self, job: int) -> Task | None:
        """Return the current task of *job*, None for an item of a batch without a row of its own."""
        row = await self._one(f"{SELECT_TASK} JOIN job ON job.id = ? WHERE task.id = {CURRENT_TASK}", job)
        return task_from(row) if row else None

    async def tasks(self, state: State, *, batch: int | None = None) -> list[Task]:
        """Return the tasks in *state*, of one batch or of all."""
        sql = f"{SELECT_TASK} WHERE task.state = {state:d}"
        rows = await (self._all(sql) if batch is None else self._all(f"{sql} AND task.batch = ?", batch))
        return [task_from(row) for row in rows]

    async def queued(self) -> list[tuple[int, int, str, int, int, int, int]]:
        """Return what is queued as (stage, need, tags, submitter, priority, whether flagged, number of tasks)."""
        return [tuple(row) for row in await self._all(SELECT_QUEUED)]

    async def need(self, expression: str) -> int:
        """Return the id of a tag expression that some task has."""
        if expression not in self._needs:
            if len(self._needs) >= KNOWN:
                self._needs.clear()
            (self._needs[expression],) = await self._one("SELECT id FROM need WHERE tags = ?", expression)
        return self._needs[expression]

    async def expression(self, need: int) -> str:
        """Return the tag expression of the id *need*."""
        (expression,) = await self._one("SELECT tags FROM need WHERE id = ?", need)
        return str(expression)

    async def ahead_of(self, task: Task) -> int:
        """Return how many queued tasks of the same need and submitter run before *task*; it stops at `AHEAD_LIMIT`."""
        need = await self.need(task.tags)
        (n,) = await self._one(SELECT_AHEAD, task.stage, need, task.submitter, task.priority, task.priority, task.id)
        return int(n)

    async def not_before(self, job: int) -> int | None:
        """Return when *job* may run again, None if it need not wait."""
        row = await self._one(
            f"SELECT task.not_before FROM job JOIN task ON task.id = {CURRENT_TASK} WHERE job.id = ?", job
        )  # fmt: skip
        return None if row is None else row[0]

    async def open_jobs(self, *, limit: int = 1000) -> list[int]:
        """Return ids of open jobs that belong to no batch, oldest first."""
        rows = await self._all(f"{SELECT_OPEN_JOBS} LIMIT ?", limit)
        return sorted(id for (id,) in rows)

    # ---- the rest --------------------------------------------------------------------------

    async def function(self, digest: bytes) -> Function:
        """Return the function with this digest; raises `NotFound`."""
        row = await self._one("SELECT digest, name, code FROM function WHERE digest = ?", digest)
        if row is None:
            raise NotFound("function", digest.hex())
        return Function(*row)

    async def store_id(self) -> str:
        """Return what tells this file from all others."""
        (id,) = await self._one("SELECT value FROM meta WHERE key = 'id'")
        return str(id)

    async def counts(self) -> dict[str, int]:
        """Return how many tasks, items of batches included, are in each state."""
        rows = await self._all("SELECT state, sum(n) FROM counter GROUP BY state")  # a handful of rows for each stage
        return {State(state).name.lower(): n for state, n in rows}


def job_status(row: Any) -> JobStatus:
    (id, project, number, name, state, task_state, batch, attempt, errors, tags, priority, worker) = row[:12]
    created, finished, done, total, text, failure, stage, generation, flags, parent, submitter, key = row[12:]
    return JobStatus(
        id=id, project=project, number=number, name=name or "", state=JobState(state).text,
        task_state=State(task_state).name.lower(), batch=batch, attempt=attempt, errors=errors,
        stage=stage or "", generation=generation, flags=flags, parent=parent, tags=tags, priority=priority,
        worker=worker, created=created / 1e6, submitter=submitter or "", key=key,
        finished=None if finished is None else finished / 1e6,
        progress=None if done is None else Progress(done, total, text),
        reason=unpack_failure(failure).sentence if failure else None,
    )  # fmt: skip
