"""Questions about batches."""

from __future__ import annotations

from typing import Any

from ..codec import unpack, unpack_failure
from ..errors import NotFound
from ..jobs import BatchInfo, JobState, State
from ..verbs import BatchStatus, FailedItem, Report
from .reading import PAGE_ROWS, Reading, page_end

SELECT_BATCH = """
SELECT batch.id, project.name, function.name, batch.state, batch.count, batch.succeeded, batch.failed, batch.cancelled,
    batch.first_job, need.tags, batch.priority, batch.created, batch.finished,
    (SELECT name FROM submitter WHERE submitter.id = batch.submitter)
FROM batch
JOIN stage ON stage.id = batch.stage
JOIN project ON project.id = stage.project
JOIN function ON function.id = batch.function
JOIN need ON need.id = batch.need
"""
SELECT_BATCH_INFO = """
SELECT batch.stage, batch.need, need.tags, batch.first_job, batch.count, batch.priority, batch.retries,
    batch.timeout, function.digest, function.name, coalesce(batch.submitter, 0), batch.not_before, batch.how
FROM batch
JOIN need ON need.id = batch.need
JOIN function ON function.id = batch.function
WHERE batch.id = ?
"""
# Every failed item has a row of its own: `job_failed` finds them, and no report that succeeded is read.
SELECT_FAILURES = f"""
SELECT chunk.first, job.id, chunk.data
FROM batch
JOIN job ON job.id >= batch.first_job AND job.id < batch.first_job + batch.count AND job.state = {JobState.FAILED:d}
JOIN chunk ON chunk.batch = batch.id AND chunk.first = job.id - batch.first_job
WHERE batch.id = ?
ORDER BY job.id
LIMIT ?
"""


class BatchReads(Reading):
    """Answers questions about batches."""

    async def batch(self, id: int) -> BatchStatus:
        """Return batch *id*; raises `NotFound`."""
        row = await self._one(f"{SELECT_BATCH} WHERE batch.id = ?", id)
        if row is None:
            raise NotFound("batch", id)
        return _batch_status(row)

    async def batches(self, *, before: int | None, limit: int) -> list[BatchStatus]:
        """Return up to *limit* batches, newest first, from below id *before* on."""
        rows = await self._all(
            f"{SELECT_BATCH} WHERE batch.id < ? ORDER BY batch.id DESC LIMIT ?", before or 1 << 62, limit
        )
        return [_batch_status(row) for row in rows]

    async def open_batches(self) -> list[int]:
        """Return the ids of batches with items left, oldest first."""
        return [id for (id,) in await self._all("SELECT id FROM batch WHERE state = 0 ORDER BY id")]

    async def batch_info(self, id: int) -> BatchInfo:
        """Return what does not change about batch *id*."""
        row = await self._one(SELECT_BATCH_INFO, id)
        (stage, need, expression, first_job, count, priority, retries, timeout, function, name) = row[:10]
        return BatchInfo(
            id=id, stage=stage, need=need, tags=expression, first_job=first_job, count=count, priority=priority,
            retries=retries, timeout=None if timeout is None else timeout / 1e6, function=function, name=name,
            submitter=row[10], not_before=None if row[11] is None else row[11] / 1e6, how=row[12],
        )  # fmt: skip

    async def ended_runs(self, batch: int) -> list[tuple[int, int]]:
        """Return the (first, count) runs of *batch* that have ended, in order of their items."""
        return [
            tuple(row)
            for row in await self._all("SELECT first, count FROM chunk WHERE batch = ? ORDER BY first", batch)
        ]

    async def stray_jobs(self, batch: int) -> set[int]:
        """Return the job ids of items of *batch* that have rows of their own."""
        return {id for (id,) in await self._all("SELECT job FROM task WHERE batch = ?", batch)}

    async def block(self, batch: int, index: int) -> tuple[int, int, bytes]:
        """Return first index, count and packed inputs of the block that holds item *index*."""
        row = await self._one(
            "SELECT first, count, data FROM block WHERE batch = ? AND first <= ? ORDER BY first DESC LIMIT 1",
            batch,
            index,
        )
        return row[0], row[1], row[2]

    async def blocks(self, batch: int) -> list[tuple[int, int]]:
        """Return first index and count of every block of *batch*, in order."""
        return [
            tuple(row)
            for row in await self._all("SELECT first, count FROM block WHERE batch = ? ORDER BY first", batch)
        ]

    async def reports(self, batch: int, *, after: int) -> list[Report]:
        """Return what was accepted for *batch* after the cursor *after*, oldest first, a page at a time."""
        sizes = await self._all(
            "SELECT id, length(data) FROM chunk WHERE batch = ? AND id > ? ORDER BY id LIMIT ?", batch, after, PAGE_ROWS
        )
        until = page_end(sizes, after)
        rows = await self._all(
            "SELECT id, first, count, state, data FROM chunk WHERE batch = ? AND id > ? AND id <= ? ORDER BY id",
            batch,
            after,
            until,
        )
        return [Report(id, first, count, State(state).name.lower(), data) for id, first, count, state, data in rows]

    async def failures(self, batch: int, *, limit: int) -> list[FailedItem]:
        """Return the first failed items of *batch*, in order."""
        rows = await self._all(SELECT_FAILURES, batch, limit)
        return [FailedItem(index, job, _reason(unpack(data)[0])) for index, job, data in rows]


def _reason(failure: bytes) -> str:
    return unpack_failure(failure).sentence if failure else "failed without a word"


def _batch_status(row: Any) -> BatchStatus:
    (id, project, name, state, count, succeeded, failed, cancelled, first_job, tags, priority, created) = row[:12]
    finished, submitter = row[12:]
    return BatchStatus(
        id=id, project=project, name=name, state=JobState(state).text, count=count, succeeded=succeeded, failed=failed,
        cancelled=cancelled, first_job=first_job, tags=tags, priority=priority, created=created / 1e6,
        finished=None if finished is None else finished / 1e6, submitter=submitter or "",
    )  # fmt: skip
