"""Questions about what calls wait for."""

from __future__ import annotations

from .histories import HistoryReads

SELECT_WAITS = """
SELECT min(CASE WHEN is_open = 1 THEN job END), sum(is_open), count(*)
FROM dependency
WHERE task = ?
"""


class DependencyReads(HistoryReads):
    """Answers questions about what calls wait for too."""

    async def waits_for(self, call: int) -> tuple[int | None, int, int]:
        """Return a job whose result job *call* waits for, None if there is none; how many there are, and of how many.

        Those are the jobs whose results it takes.
        """
        job, left, all = await self._one(SELECT_WAITS, call)
        return job, left or 0, all
