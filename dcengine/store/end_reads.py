"""Questions about which of many jobs have ended."""

from __future__ import annotations

import json
from bisect import bisect_right

from ..jobs import JobState
from .upkeep_reads import UpkeepReads


class EndReads(UpkeepReads):
    """Reads which of many jobs have ended."""

    async def ended_among(self, jobs: list[int]) -> list[int]:
        """Return those of *jobs* that are not open, those that do not exist included: `end` says what they are."""
        rows = await self._all(
            "SELECT id, state FROM job WHERE id IN (SELECT value FROM json_each(?))", json.dumps(jobs)
        )  # fmt: skip
        states: dict[int, int] = dict(rows)
        ended = [id for id, state in states.items() if state != JobState.OPEN]
        return ended + await self._ended_items([id for id in jobs if id not in states])

    async def _ended_items(self, jobs: list[int]) -> list[int]:
        """Return the same for *jobs* that have no row of their own: items of batches, if anything."""
        ended: list[int] = []
        waiting = sorted(jobs, reverse=True)
        while waiting:
            row = await self._one(
                "SELECT id, first_job, count FROM batch WHERE first_job <= ? ORDER BY first_job DESC LIMIT 1",
                waiting[-1],
            )
            if row is None or waiting[-1] >= row[1] + row[2]:
                ended.append(waiting.pop())
                continue
            batch, first_job, count = row
            runs = await self.ended_runs(batch)
            firsts = [first for first, _ in runs]
            while waiting and waiting[-1] < first_job + count:
                job = waiting.pop()
                place = bisect_right(firsts, job - first_job) - 1
                if place >= 0 and job - first_job < sum(runs[place]):
                    ended.append(job)
        return ended
