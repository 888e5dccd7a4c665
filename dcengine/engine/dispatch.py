"""From what waits to the slots: the feeding loop, the call itself, and what is heard meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..blobs import is_reference
from ..cluster import ClusterSettings, Slot
from ..errors import DatabaseLocked, DiskFull, StoreError
from ..jobs import Bundle, Chunk, State, Task
from ..runner.units import Ending, Live, Unit, UnitReport
from ..store import Operation, now
from ..store.leasing import FlaggedTasks, Holder, Lease, LeaseFlagged
from ..store.moving import WakeDue
from .feeding import DEPTH, FlaggedSource, OpenBatch, TaskSource, fits
from .questions import Running, Work, tasks_of
from .reasons import Reasons

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
D = TypeVar("D", bound="Dispatch")

BRISK_SECONDS = 0.25  #: behind a unit that should take less, a slot may hold more, to hide the way to it
HEAR_OUT_SECONDS = 1.0  #: how long a report waits for what its calls printed
DISK_FULL_PAUSE_SECONDS = 0.3  #: before a write that found the disk full is tried again
BUNDLE_LIMIT, BUNDLE_BYTES = 250, 1 << 20  #: of tasks that run together, and of their inputs
HOUSEKEEPING_SECONDS = 0.5  #: between two looks at what is late, idle or unsaved


def to_the_end(
    verb: Callable[Concatenate[D, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[D, P], Coroutine[Any, Any, T]]:
    """Have a *verb* go on if its caller goes away: of what is stored already, the rest of the engine must learn."""

    @wraps(verb)
    async def asked(self: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._to_the_end(verb(self, *args, **kwargs))

    return asked


class Dispatch(Reasons):
    """Feeds slots and carries units; what becomes of the work is decided above."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._hungry = asyncio.Event()
        self._held: Counter[Slot] = Counter()  #: units on their way to, on, or from a slot
        self._on: defaultdict[Slot, dict[int, Running]] = defaultdict(dict)  #: those of them that were sent
        self._units = itertools.count(1)
        self._chores: set[asyncio.Task[object]] = set()
        self._asked: set[asyncio.Task[Any]] = set()  #: what callers asked for, whether they are still there or not

    @abstractmethod
    async def run(self, task: Task, slot: Slot) -> None:
        """Take one leased *task* through *slot* to its end."""

    @abstractmethod
    async def run_together(self, bundle: Bundle, slot: Slot) -> None:
        """Take the leased tasks of *bundle* through *slot* to their ends."""

    @abstractmethod
    async def run_chunk(self, chunk: Chunk, batch: OpenBatch, slot: Slot) -> None:
        """Take the items of *chunk* through *slot* to their ends."""

    @abstractmethod
    async def _unit_of(self, work: Work) -> Unit:
        """Return what a slot is given to do *work*."""

    @abstractmethod
    def _is_unwanted(self, work: Work) -> bool:
        """Tell whether *work*, or a part of it, was cancelled meanwhile."""

    # ---- feeding ---------------------------------------------------------------------------

    async def _feed_forever(self) -> None:
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            self._feed_once()

    def _feed_once(self) -> None:
        """Give every slot with room what it should do next."""
        slots = self._cluster.slots
        for slot in sorted(slots, key=self._held.__getitem__):
            while (room := self._room(slot)) and (source := self._feed.choose(slot.worker)) is not None:
                if isinstance(source, TaskSource):
                    self._feed_tasks(source, slot, room, len(slots))
                elif isinstance(source, FlaggedSource):
                    self._hold(slot, 1)
                    self._own(self._run_flagged(source, slot))
                    break
                elif chunk := source.take(len(slots)):
                    self._hold(slot, 1)
                    self._own(self._run_held_chunk(chunk, source, slot))
        waiting = self._feed.sources()
        if waiting:
            self._cluster.want(lambda worker: any(fits(source.tags, worker) for source in waiting))

    def _feed_tasks(self, source: TaskSource, slot: Slot, room: int, slots: int) -> None:
        """Lease tasks of *source* for *slot*: as many as it has room for, or a bundle where they are known to be short.

        The lease is handed in here, not once the chore begins: so it shares the commit of what was handed in just now.
        """
        bundled = self._bundle_size(source, slots)
        n = source.take(bundled if bundled > 1 else min(room, max(1, source.size // slots)))
        leased = self._lease(source, n, Holder(slot.worker.name))
        if bundled > 1:
            self._hold(slot, 1)
            self._own(self._run_bundled(leased, slot))
        else:
            self._hold(slot, n)
            self._own(self._run_leased(leased, slot, n))

    def _lease(self, source: TaskSource, n: int, holder: Holder) -> Coroutine[Any, Any, list[Task]]:
        """Hand in a lease of *n* tasks of *source* at once; return what to await for them."""
        lease = Lease(source.stage, source.need, source.submitter, n, holder, now())
        return self._leased(self._write(lease), source, n, source.added)

    async def _leased(
        self, written: Coroutine[Any, Any, list[Task]], source: TaskSource, n: int, added: int
    ) -> list[Task]:
        tasks = await written
        if len(tasks) < n:
            source.has_none(added)
        return tasks

    def _bundle_size(self, source: TaskSource, slots: int) -> int:
        """Return how many tasks of *source* should run together."""
        stage = self._stages.get(source.stage)
        if stage is None or stage.shape != "map":
            return 1
        return min(self._feed.pace(stage.function).chunk(source.size, slots), BUNDLE_LIMIT)

    def _room(self, slot: Slot) -> int:
        """Return how many more units *slot* may hold: one, or a few while those it has are known to be short."""
        held, sent = self._held[slot], self._on[slot]
        if not held:
            return 1
        if held >= DEPTH or len(sent) < held:
            return 0
        return DEPTH - held if all(map(self._is_brisk, sent.values())) else 0

    def _is_brisk(self, running: Running) -> bool:
        """Tell whether *running* should end soon: its function is known to be quick, and it is not late."""
        each = self._feed.pace(running.function).seconds
        seconds = each * running.calls if each is not None else BRISK_SECONDS
        return max(seconds, time.monotonic() - running.since) < BRISK_SECONDS

    def _hold(self, slot: Slot, n: int) -> None:
        self._held[slot] += n

    def _let_go(self, slot: Slot) -> None:
        self._held[slot] -= 1
        if not self._held[slot]:
            del self._held[slot]
        self._hungry.set()

    async def _run_leased(self, leased: Awaitable[list[Task]], slot: Slot, n: int) -> None:
        """Run what *leased* brings for *slot*: *n* tasks, fewer where others took them."""
        tasks = await leased
        for _ in range(n - len(tasks)):
            self._let_go(slot)
        for task in tasks:
            self._own(self._run_held(task, slot))

    async def _run_flagged(self, source: FlaggedSource, slot: Slot) -> None:
        """Run a task that others have flagged, if there is one that the worker's contributor has not."""
        tasks = await self._lease_flagged(source, slot.worker.contributor, 1, Holder(slot.worker.name))
        if not tasks:
            self._let_go(slot)
        for task in tasks:
            self._own(self._run_held(task, slot))

    async def _lease_flagged(self, source: FlaggedSource, voter: str, n: int, holder: Holder) -> list[Task]:
        """Lease up to *n* flagged tasks that *voter* has not flagged."""
        added = source.added
        found: FlaggedTasks = await self._write(LeaseFlagged(source.stage, source.need, voter, n, holder, now()))
        source.take(len(found.tasks))
        if found.is_all:
            source.has_none_for(voter, added)
        return found.tasks

    async def _run_bundled(self, leased: Awaitable[list[Task]], slot: Slot) -> None:
        """Run what *leased* brings for *slot* in as few units as it may be."""
        bundles = _bundles(await leased)
        for _ in bundles[1:]:
            self._hold(slot, 1)
        if not bundles:
            self._let_go(slot)
        for bundle in bundles:
            alone = len(bundle.tasks) == 1
            self._own(self._run_held(bundle.tasks[0], slot) if alone else self._run_held_together(bundle, slot))

    async def _run_held_together(self, bundle: Bundle, slot: Slot) -> None:
        try:
            await self.run_together(bundle, slot)
        finally:
            self._let_go(slot)

    async def _run_held(self, task: Task, slot: Slot) -> None:
        try:
            await self.run(task, slot)
        finally:
            self._let_go(slot)

    async def _run_held_chunk(self, chunk: Chunk, batch: OpenBatch, slot: Slot) -> None:
        batch.running += chunk.count
        try:
            await self.run_chunk(chunk, batch, slot)
        finally:
            batch.running -= chunk.count
            self._let_go(slot)

    # ---- the call --------------------------------------------------------------------------

    async def _call(self, work: Work, slot: Slot) -> UnitReport:
        """Send *work* to *slot*; return its report once everything said before it has arrived.

        Raises `WorkerGone` if the worker disappears.
        """
        unit = await self._unit_of(work)
        running = Running(unit.id, unit.function, unit.count, work, slot, time.monotonic())
        self._running[unit.id] = self._on[slot][unit.id] = running
        self._hungry.set()  # there may be room for more behind it
        if self._is_unwanted(work):  # cancelled on its way here, when there was nothing to interrupt
            self._cancel_running(lambda other: other is running)
        try:
            report = await self._cluster.run(unit, slot)
            await self._hear_out(running, report.lines)
        finally:
            del self._running[unit.id], self._on[slot][unit.id]
        begun = sum(1 for ending in report.endings if ending != Ending.NOT_RUN)
        if begun:
            self._feed.pace(unit.function).learn(begun, report.seconds)
        self._feed.usage.charge(self._submitter_of(work), report.seconds)
        return report

    async def _hear_out(self, running: Running, lines: int) -> None:
        """Wait until *lines* live messages of the unit have arrived: they travel another way than its report."""
        deadline = time.monotonic() + HEAR_OUT_SECONDS
        while running.lines < lines and (left := deadline - time.monotonic()) > 0:
            news = self._bus.news(("unit", running.unit))
            await asyncio.wait([news], timeout=left)
        if running.lines < lines:
            logger.warning("unit %d: %d of %d live messages were lost", running.unit, lines - running.lines, lines)

    def _submitter_of(self, work: Work) -> int:
        if not isinstance(work, Chunk):
            return tasks_of(work)[0].submitter
        batch = self._feed.batches.get(work.batch)
        return batch.submitter if batch is not None else 0

    def _on_live(self, live: Live) -> None:
        running = self._running.get(live.unit)
        if running is None:
            return
        self._transcripts.hear(running.job_of(live.item), live.kind, live.data)
        running.lines += 1
        self._bus.publish(("unit", live.unit))

    def _on_change(self) -> None:
        for slot in self._on.keys() - set(self._cluster.slots):
            if not self._on[slot]:
                del self._on[slot]
        self._hungry.set()
        self._bus.publish("workers")

    def _tally(self, id: int, state: State, n: int) -> None:
        """Note that *n* items of batch *id* ended; a batch with none left is closed."""
        batch = self._feed.batches.get(id)
        if batch is not None:
            batch.end(state, n)
            if batch.is_done:
                del self._feed.batches[id]
                logger.info("batch %d ended: %s", id, batch.tally)

    # ---- looking after things --------------------------------------------------------------

    async def _look_after_things(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self._transcripts.save()
                await self._wake_due()
            except StoreError as error:  # it will say why itself; the next round tries again
                logger.warning("%s", error)
            self._take_back_late_units()
            if self._feed.batches:
                self._hungry.set()  # the time of one may have come

    async def _wake_due(self) -> None:
        """Queue the tasks whose waiting time is over."""
        woken = Counter(map(tuple, await self._store.apply(WakeDue(now()))))
        for (stage, need, submitter, priority, flags), n in woken.items():
            expression = await self._store.reads.expression(need)
            self._feed.count([(stage, need, expression, submitter, priority, bool(flags), n)])
            self._hungry.set()
            self._bus.publish(("stage", stage))

    def _take_back_late_units(self) -> None:
        """Take units that wait behind a long one from their slot while another slot has nothing to do."""
        idle = [slot.worker for slot in self._cluster.slots if not self._held[slot]]
        if not idle or any(fits(source.tags, worker) for source in self._feed.sources() for worker in idle):
            return
        late = time.monotonic() - HOUSEKEEPING_SECONDS
        for slot, sent in self._on.items():
            for running in list(sent.values())[1:]:
                if running.since < late:
                    self._own(self._cluster.recall(running.unit, slot))

    def _cancel_running(self, is_meant: Callable[[Running], bool]) -> None:
        """Have the running work that *is_meant* stopped, without waiting for it: a worker may be slow to answer."""
        for running in self._running.values():
            if is_meant(running):
                self._own(self._cluster.cancel(running.unit, running.slot))

    def _write(self, operation: Operation) -> Coroutine[Any, Any, Any]:
        """Hand in at once what the engine itself has to say; await its result; a full or locked file is asked again."""
        return self._written(self._store.apply(operation), operation)

    async def _written(self, result: asyncio.Future[Any], operation: Operation) -> Any:
        while True:
            try:
                return await result
            except (DiskFull, DatabaseLocked) as full:
                logger.error("%s; %s waits", full, type(operation).__name__)
                await asyncio.sleep(DISK_FULL_PAUSE_SECONDS)
                result = self._store.apply(operation)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await *work*, which goes on if the caller goes away."""
        task = asyncio.get_running_loop().create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return await asyncio.shield(task)

    async def _kept(self, data: bytes) -> bytes:
        """Return what to store for *data*; raises `BlobError`. A full disk is asked again and again."""
        while True:
            try:
                return await self._values.keep(data)
            except DiskFull as full:
                logger.warning("%s; a value of %d bytes waits", full, len(data))
                await asyncio.sleep(DISK_FULL_PAUSE_SECONDS)

    async def _submit(self, operation: Operation, size: int, then: Callable[[Any], None]) -> Any:
        """Hand in *operation*; once it is durable, *then* learns its result, even if the caller has gone away."""
        return await learned(self._store.submit(operation, size), then)

    def _own(self, chore: Coroutine[Any, Any, object]) -> None:
        """Run *chore*; it is cancelled when the engine closes, and its failure is logged."""
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[object]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the engine stumbled", exc_info=task.exception())


async def learned(stored: asyncio.Future[T], then: Callable[[T], None]) -> T:
    """Return the result of *stored* once *then* has learned it, which it does in any case."""
    stored.add_done_callback(lambda done: None if done.cancelled() or done.exception() else then(done.result()))
    return await asyncio.shield(stored)


def _bundles(tasks: Iterable[Task]) -> list[Bundle]:
    """Return *tasks* in bundles that can run as one unit each: alike, and small enough to travel together."""
    bundles: list[Bundle] = []
    alike: dict[tuple[bytes, float | None], list[Task]] = {}
    for task in tasks:
        if is_reference(task.input):  # it is big, and may be lost
            bundles.append(Bundle((task,)))
        else:
            alike.setdefault((task.function, task.timeout), []).append(task)
    for some in alike.values():
        bundle, size = list[Task](), 0
        for task in some:
            if bundle and size + len(task.input) > BUNDLE_BYTES:
                bundles.append(Bundle(tuple(bundle)))
                bundle, size = [], 0
            bundle.append(task)
            size += len(task.input)
        bundles.append(Bundle(tuple(bundle)))
    return bundles
