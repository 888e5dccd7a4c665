"""What takes too long: moved, cut short or run a second time where there is a free slot, and stopped when asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..cluster import ClusterSettings, Slot
from ..errors import StoreError
from ..jobs import Chunk, How, Task
from ..store import now
from ..store.moving import ShiftBackOffs, WakeDue
from .clocks import WallClock
from .dispatch import Dispatch
from .feeding import fits
from .running import Running
from .waiting import OpenBatch, TaskSource

logger = logging.getLogger(__name__)

HOUSEKEEPING_SECONDS = 0.5  #: between two looks at what is late, idle or unsaved
LATE_SECONDS, LATE_TIMES = 0.5, 2.0  #: a unit is late that takes longer than this, and so many times what is usual
STRAGGLER_SECONDS = 1.0  #: a call that took less is not run a second time
UNKNOWN_SECONDS = 2.5  #: what a call is taken to need as long as none of its function has ended

Stop = Callable[[int, Slot], Awaitable[None]]


class Stragglers(Dispatch):
    """Looks after what takes too long."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._wall = WallClock()

    # ---- looking after things --------------------------------------------------------------

    async def _look_after_things(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self._transcripts.save()
                await self._wake_due()
                await self._drop_idle_claims()
            except StoreError as error:  # it will say why itself; the next round tries again
                logger.warning("%s", error)
            self._look_for_stragglers()
            if self._feed.batches:
                self._hungry.set()  # the time of one may have come

    async def _wake_due(self) -> None:
        """Queue the tasks whose waiting time is over."""
        if step := self._wall.step():
            logger.info("the clock was set by %+.1f s; what waits for another try waits for as long as before", step)
            await self._store.apply(ShiftBackOffs(int(step * 1e6)))
        woken = Counter(map(tuple, await self._store.apply(WakeDue(now()))))
        for (stage, need, submitter, priority, flags), n in woken.items():
            expression = await self._store.reads.expression(need)
            self._feed.count([(stage, need, expression, submitter, priority, bool(flags), n)])
            self._hungry.set()
            self._bus.publish(("stage", stage))

    async def _drop_idle_claims(self) -> None:
        """Let nobody wait behind tasks that wait for devices but were all cancelled meanwhile."""
        for source in self._feed.sources():
            if isinstance(source, TaskSource) and self._devices.has_claim(source.tags):
                added = source.added
                if not await self._store.reads.any_queued(source.stage, source.need, source.submitter):
                    source.has_none(added)
                    self._hungry.set()

    def _look_for_stragglers(self) -> None:
        """Let slots without anything to do help those that are late."""
        idle = self._idle_slots()
        for slot, sent in list(self._on.items()):
            first, *waiting = sent.values() if sent else (None,)
            if first is None:
                continue
            if idle:
                self._take_back(slot, waiting)
            if not first.is_alone:
                self._cut_if_late(first, idle)
            elif idle:
                self._run_again_if_late(first, idle)

    def _idle_slots(self) -> list[Slot]:
        """Return the slots without anything to do, if nothing waits for one of them."""
        idle = [slot for slot in self._cluster.slots if not self._held[slot]]
        sources = self._feed.sources()
        waits = any(self._could_run(source, slot.worker) for source in sources for slot in idle)
        return [] if waits else idle

    def _take_back(self, slot: Slot, waiting: list[Running]) -> None:
        """Take the units that wait behind a long one from *slot*."""
        late = time.monotonic() - HOUSEKEEPING_SECONDS
        for running in waiting:
            if running.since < late:
                self._own(self._cluster.recall(running.unit, slot))

    # ---- cut short -------------------------------------------------------------------------

    def _cut_if_late(self, running: Running, idle: list[Slot]) -> None:
        """Let *running* end with the call that runs if it is late, and others could do the rest or wait for it."""
        if not self._is_late(running, LATE_SECONDS):
            return
        need = self._need_of(running.work)
        others = any(
            not self._is_same(source, running) and fits(source.tags, running.slot.worker)
            for source in self._feed.sources()
        )
        if others or any(fits(need, slot.worker) for slot in idle):
            self._own(self._cut_short(running))

    async def _cut_short(self, running: Running) -> None:
        """Let *running* end with the call that runs, and queue the others again."""
        begun = await self._cluster.cut(running.unit, running.slot)
        if running.is_cut or not begun or self._running.get(running.unit) is not running:
            return
        running.is_cut = True
        elapsed = time.monotonic() - running.since
        self._feed.pace(running.function).take_at_least(elapsed / begun, running.slot.worker.name)
        if begun < running.left:
            others = running.keep(begun)
            if isinstance(others, Chunk) and (batch := self._feed.batches.get(others.batch)) is not None:
                batch.running -= others.count
            await self._break_off(others)

    async def _stop_call(self, running: Running, job: int, stop: Stop) -> None:
        """Have the call for *job* stopped by *stop* if it runs; those beside it in *running* go on, or wait again."""
        if not running.is_alone:
            await self._cut_short(running)
        is_meant = running.has(job) and (not running.is_cut or running.job_of(running.left - 1) == job)
        if is_meant and self._running.get(running.unit) is running:
            await stop(running.unit, running.slot)

    # ---- a second run ----------------------------------------------------------------------

    def _run_again_if_late(self, running: Running, idle: list[Slot]) -> None:
        """Run the call of *running* a second time on one of the *idle* slots, if it may be, and is late."""
        if running.first is not None or running.had_second or not running.left:
            return
        if not self._is_safe_twice(running.last) or not self._is_late(running, STRAGGLER_SECONDS):
            return
        need, subject = self._need_of(running.work), self._subject_of(running.work)
        for slot in idle:
            worker = slot.worker
            is_elsewhere = not self._held[slot] and worker.name != running.slot.worker.name
            is_able = fits(need, worker) and self._devices.has_free(need, worker)
            if is_elsewhere and is_able and not self._is_spared(subject, need, worker.name):
                self._begin_second(running, slot, need)
                return

    def _begin_second(self, running: Running, slot: Slot, need: str) -> None:
        second = running.begin_second(slot)
        job, work = second.job_of(0), second.work
        worker, slow = slot.worker.name, running.slot.worker.name
        logger.info("job %d: a second run on %s, because %s is slow", job, worker, slow)
        self._transcripts.note(job, f"a second run was started on {worker} because {slow} was slow")
        self._hold(slot, 1, need)
        if isinstance(work, Task):
            self._own(self._run_held(work, slot, second))
        elif isinstance(work, Chunk):
            self._own(self._run_held_chunk(work, self._feed.batches[work.batch], slot, second))

    def _is_safe_twice(self, work: Task | Chunk) -> bool:
        """Tell whether *work* may be run twice, and none of its kind waits any more."""
        if isinstance(work, Chunk):
            batch = self._feed.batches.get(work.batch)
            is_last = batch is not None and not batch.waiting and not batch.is_cancelling
            return batch is not None and is_last and bool(batch.info.how & How.SPECULATIVE)
        source = self._feed.known(work.stage, work.tags, work.submitter)
        return bool(work.how & How.SPECULATIVE) and (source is None or not source.size) and not self._is_unwanted(work)

    # ---- what late means -------------------------------------------------------------------

    def _is_late(self, running: Running, seconds: float) -> bool:
        """Tell whether *running* takes longer than *seconds*, and than it should by what is usual for its function."""
        usual = self._feed.pace(running.function).usual
        expected = (UNKNOWN_SECONDS if usual is None else usual) * running.left
        return time.monotonic() - running.since > max(seconds, LATE_TIMES * expected)

    def _is_same(self, source: object, running: Running) -> bool:
        work = running.work
        return isinstance(source, OpenBatch) and isinstance(work, Chunk) and source.info.id == work.batch
