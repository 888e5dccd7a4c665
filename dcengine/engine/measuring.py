"""The engine in numbers, and whether it takes jobs."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from ..errors import DiskFull, EngineClosed
from ..jobs import JobState, State
from ..store.touching import Touch
from ..verbs.figures import Figures
from .whose import Whose

ROOM = 1 << 20  #: bytes on the disk, without which jobs may be refused
LAG_SECONDS = 0.5  #: between two looks at how late the loop is


class Measuring(Whose):
    """Answers `verbs.figures.Measured`."""

    async def check_ready(self) -> None:
        """Raise why no jobs are taken now."""
        if self._is_closing:
            raise EngineClosed(str(self.db))
        if self.broken is not None:
            raise self.broken
        if shutil.disk_usage(self.db.parent).free < ROOM:
            raise DiskFull(str(self.db))
        if self._store.writer.trouble is not None:  # the last write failed: would the next one?
            await self._store.apply(Touch())
        await self._store.reads.counts()

    async def figures(self) -> Figures:
        """Return the engine in numbers; a scrape costs two small reads and no look at any job."""
        tasks = await self._store.reads.task_counters()
        jobs = await self._store.reads.job_counters()
        writer = self._store.writer
        names = {stage: (project, name) for stage, project, name, _, _ in tasks}
        return Figures(
            tasks=[(project, name, State(state).name.lower(), n) for _, project, name, state, n in tasks],
            jobs=[(project, JobState(state).text, n) for project, state, n in jobs],
            leases=self._held_at(names),
            outside_workers=self._outsiders_of({project for project, _, _ in jobs}),
            workers=Counter(status.state for status in self._statuses_of(list(self._cluster.workers.values()))),
            slots=self._slots(),
            accepted=_by_name(self._tallies.accepted, names),
            expired=_by_name(self._tallies.expired, names),
            refused=self._tallies.refused,
            commits=writer.commits,
            operations=writer.operations,
            inbox=writer.inbox[0],
            inbox_bytes=writer.inbox[1],
            held_log=writer.held_log,
            lag=self._tallies.lag,
        )

    def _held_at(self, names: Mapping[int, tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Return how many tasks of each lease stage are in the hands of outside workers."""
        stages = (self._stages.get(stage) for stage in names)
        counts = Counter(dict.fromkeys((stage.id for stage in stages if stage and stage.kind == "lease"), 0))
        counts.update(held.stage.id for held in self._leases.values())
        return _by_name(counts, names)

    def _outsiders_of(self, projects: Iterable[str]) -> dict[str, int]:
        """Return how many outside workers each of *projects* has."""
        counts = Counter(dict.fromkeys(projects, 0))
        counts.update(project for project, _ in self._outsiders if project in counts)
        return counts

    def _slots(self) -> dict[str, int]:
        busy = sum(1 for slot in self._cluster.slots if slot.in_flight)
        return {"busy": busy, "idle": len(self._cluster.slots) - busy}

    async def _measure_lag(self) -> None:
        """Note again and again how much later than asked for the loop wakes us."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._tallies.lag.note(max(0.0, time.monotonic() - due))


def _by_name(counts: Mapping[int, int], names: Mapping[int, tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return *counts* by project and stage; those of projects that are gone are left out."""
    sums: Counter[tuple[str, str]] = Counter()
    for stage, n in counts.items():
        if stage in names:
            sums[names[stage]] += n
    return sums
