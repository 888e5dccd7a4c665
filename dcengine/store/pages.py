"""Lists of jobs, page after page.

Reader and writer both take Python's lock, and one who reads page after page would take most of it: so there is one page
at a time, and between two as much time for the writer as the first of them took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..jobs import JobState
from ..verbs import JobStatus
from .reads import SELECT_JOB, Reads, job_status

# So that the next page begins where the last one ended, however far down that is.
NUMBER_BEFORE = f"""
coalesce((SELECT number FROM job JOIN project ON project.id = job.project WHERE job.id = ? AND name = ?), {1 << 62})
"""


class PageReads(Reads):
    """Answers questions for pages of jobs too."""

    def __init__(self, db: Path) -> None:
        super().__init__(db)
        self._turn = asyncio.Lock()
        self._free = 0.0  #: when the next page may be read

    async def jobs(self, *, state: str | None, project: str | None, before: int | None, limit: int) -> list[JobStatus]:
        """Return jobs with rows of their own, newest first."""
        conditions, parameters, order = ["job.batch IS NULL", "job.id < ?"], list[object]([before or 1 << 62]), "id"
        if state is not None:
            conditions.append(f"job.state = {JobState[state.upper()]:d}")
        if project is not None:  # by number, which has an index and grows with the id
            conditions += ["job.project = (SELECT id FROM project WHERE name = ?)", f"job.number < {NUMBER_BEFORE}"]
            parameters += [project, before, project]
            order = "number"
        sql = f"{SELECT_JOB} WHERE {' AND '.join(conditions)} ORDER BY job.{order} DESC LIMIT ?"
        async with self._page():
            return [job_status(row) for row in await self._all(sql, *parameters, limit)]

    @asynccontextmanager
    async def _page(self) -> AsyncIterator[None]:
        """Wait for one's turn to read a page; who comes alone need not wait."""
        async with self._turn:
            await asyncio.sleep(max(0.0, self._free - time.monotonic()))
            began = time.monotonic()
            try:
                yield
            finally:
                ended = time.monotonic()
                self._free = ended + (ended - began)
