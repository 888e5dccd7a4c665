"""From what waits to the slots: the feeding loop, the call itself, and how what follows is stored."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from ..cluster import ClusterSettings, Slot
from ..errors import DatabaseLocked, DcengineError, DiskFull
from ..jobs import Bundle, Chunk, Task
from ..runner.units import Ending, Unit, UnitReport
from ..store import Operation, now
from ..store.leasing import FlaggedTasks, Holder, Lease, LeaseFlagged
from .placement import Placement
from .running import Running, Work
from .session_places import Place
from .waiting import FlaggedSource, OpenBatch, TaskSource

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
D = TypeVar("D", bound="Dispatch")

HEAR_OUT_SECONDS = 5.0  #: how long a report waits for what its calls said: that comes another way
CAREFUL_SECONDS = 30.0  #: after a lease that did not become durable, during which none is told before it is
DISK_FULL_PAUSE_SECONDS = 0.3  #: before a write that found the disk full is tried again


class Decided(Exception):
    """Nothing of it is left to decide: the other run of the same call has, or will."""


def to_the_end(
    verb: Callable[Concatenate[D, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[D, P], Coroutine[Any, Any, T]]:
    """Have a *verb* go on if its caller goes away: of what is stored already, the rest of the engine must learn."""

    @wraps(verb)
    async def asked(self: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._to_the_end(verb(self, *args, **kwargs))

    return asked


class Dispatch(Placement):
    """Feeds slots and carries units; what becomes of the work is decided above."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._careful_until = 0.0
        self._asked: set[asyncio.Task[Any]] = set()  #: what callers asked for, whether they are still there or not

    @abstractmethod
    async def run(self, task: Task, slot: Slot, *, second: Running | None = None) -> None:
        """Take one leased *task* through *slot* to its end; *second* is given where this is a second run of it."""

    @abstractmethod
    async def run_together(self, bundle: Bundle, slot: Slot) -> None:
        """Take the leased tasks of *bundle* through *slot* to their ends."""

    @abstractmethod
    async def run_chunk(self, chunk: Chunk, batch: OpenBatch, slot: Slot, *, second: Running | None = None) -> int:
        """Take the items of *chunk* through *slot* to their ends; return how many of them this run answered for."""

    @abstractmethod
    def _feed_session(self, source: TaskSource, slot: Slot) -> None:
        """Have the next task of *source* run in its session."""

    @abstractmethod
    def _heard_in_session(self, place: Place, report: UnitReport) -> None:
        """Take note of the *report* of a call in a session."""

    @abstractmethod
    async def _failed_in_session(self, place: Place, error: DcengineError) -> None:
        """Take note that there is no report of a call in a session."""

    @abstractmethod
    async def _left_in_session(self, running: Running, name: str) -> None:
        """Take note that the process of *running* stays as session *name*."""

    @abstractmethod
    async def _break_off(self, work: Work, reason: str | None = None) -> None:
        """Queue *work*, which a slot was given, again."""

    @abstractmethod
    async def _unit_of(self, work: Work) -> Unit:
        """Return what a slot is given to do *work*."""

    @abstractmethod
    def _is_unwanted(self, work: Work) -> bool:
        """Tell whether *work*, or a part of it, was cancelled meanwhile."""

    # ---- feeding ----------------------------------------------------------------------------

    async def _feed_forever(self) -> None:
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            self._feed_once()

    def _feed_once(self) -> None:
        """Give every slot with room what it should do next."""
        if self._feed.mentioned:
            self._cluster.look_up(self._feed.mentioned)
            self._feed.mentioned.clear()
        if self._feed.is_empty():  # as usual after a lone call: nothing is to be chosen for any slot
            self._devices.keep_claims(set())
            return
        slots = self._cluster.slots
        for slot in sorted(slots, key=self._held.__getitem__):
            if self._feed.is_empty():
                break
            while (room := self._room(slot)) and (source := self._choose(slot)) is not None:
                if source.session is not None and isinstance(source, TaskSource):
                    self._feed_session(source, slot)
                    continue
                subject = self._subject_at(source)
                is_trial = subject is not None and self._conduct.give(subject, slot.worker.name)
                if isinstance(source, TaskSource):
                    self._feed_tasks(source, slot, 1 if is_trial else room, len(slots), is_trial=is_trial)
                elif isinstance(source, FlaggedSource):
                    self._hold(slot, 1, source.tags)
                    self._own(self._run_flagged(source, slot))
                    break
                elif chunk := source.take(len(slots), slot.worker.name, at_most=1 if is_trial else None):
                    self._hold(slot, 1, source.tags)
                    self._own(self._run_held_chunk(chunk, source, slot))
        waiting = self._feed.sources()
        self._devices.keep_claims({source.tags for source in waiting})
        if waiting:
            self._cluster.want(lambda worker: any(self._could_run(source, worker) for source in waiting))

    def _feed_tasks(self, source: TaskSource, slot: Slot, room: int, slots: int, *, is_trial: bool) -> None:
        """Lease tasks of *source* for *slot*: as many as it has room for, or a bundle where they are known to be short.

        The lease is handed in here, not once the chore begins: so it shares the commit of what was handed in just now.
        """
        bundled = 1 if is_trial else self._bundle_size(source, slots, slot.worker.name)
        n = source.take(bundled if bundled > 1 else min(room, max(1, source.size // slots)))
        may_begin = time.monotonic() >= self._careful_until and not self._gathers(source)
        on_lost = partial(self._lost, source) if may_begin else None
        leased = self._lease(source, n, Holder(slot.worker.name), on_lost)
        if bundled > 1:
            self._hold(slot, 1, source.tags)
            self._own(self._run_bundled(leased, slot, source))
        else:
            self._hold(slot, n, source.tags)
            self._own(self._run_leased(leased, slot, n, source))

    def _lease(
        self,
        source: TaskSource,
        n: int,
        holder: Holder,
        on_lost: Callable[[list[Task]], None] | None = None,
        *,
        patience: float = math.inf,
    ) -> Coroutine[Any, Any, list[Task]]:
        """Hand in a lease of *n* tasks of *source* at once; return what to await for them.

        With *on_lost* they are told before their lease is durable, and begin while the disk is written. What a run
        comes to is believed only after its lease became durable: the store keeps the order. Should the lease be lost,
        with a full disk or with the engine, the tasks run again, as after any end of an engine.
        """
        lease = Lease(source.stage, source.need, source.submitter, n, holder, now(), on_lost)
        return self._leased(self._write(lease, patience), source, n, source.added)

    def _lost(self, source: TaskSource, tasks: list[Task]) -> None:
        """Queue *tasks* again whose lease was told but not stored; wait for the disk from now on, for a while."""
        self._careful_until = time.monotonic() + CAREFUL_SECONDS
        # The source itself may be forgotten by now.
        source = self._feed.tasks(source.stage, source.need, source.tags, source.submitter)
        for task in tasks:
            source.add(task.priority, function=task.function, is_next=True)
        self._hungry.set()

    async def _leased(
        self, written: Coroutine[Any, Any, list[Task]], source: TaskSource, n: int, added: int
    ) -> list[Task]:
        try:
            tasks = await written
        except (DiskFull, DatabaseLocked):  # they wait as before
            queued = self._feed.tasks(source.stage, source.need, source.tags, source.submitter)
            queued.add(queued.priority or 0, n, is_next=True)
            self._bus.publish(("stage", source.stage))
            raise
        if len(tasks) < n:
            source.has_none(added)
        return tasks

    async def _run_leased(self, leased: Awaitable[list[Task]], slot: Slot, n: int, source: TaskSource) -> None:
        """Run what *leased* brings for *slot*: *n* tasks, fewer where others took them, or should."""
        worker = slot.worker.name
        tasks, others = self._apart(await leased, source, worker, lambda task: self._is_for_others(task, worker))
        for _ in range(n - len(tasks)):
            self._let_go(slot)
        for task in tasks[1:]:
            self._own(self._run_held(task, slot))
        if others:
            await self._break_off(Bundle(tuple(others)))
        for task in tasks[:1]:  # here: a chore of its own would begin a turn of the loop later
            await self._run_held(task, slot)

    async def _run_flagged(self, source: FlaggedSource, slot: Slot) -> None:
        """Run a task that others have flagged, if there is one that the worker's contributor has not."""
        tasks = await self._lease_flagged(source, slot.worker.contributor, 1, Holder(slot.worker.name))
        if not tasks:
            self._let_go(slot)
        for task in tasks:
            self._own(self._run_held(task, slot))

    async def _lease_flagged(
        self, source: FlaggedSource, voter: str, n: int, holder: Holder, patience: float = math.inf
    ) -> list[Task]:
        """Lease up to *n* flagged tasks that *voter* has not flagged."""
        added = source.added
        lease = LeaseFlagged(source.stage, source.need, voter, n, holder, now())
        found: FlaggedTasks = await self._write(lease, patience)
        source.take(len(found.tasks))
        if found.is_all:
            source.has_none_for(voter, added)
        return found.tasks

    async def _run_bundled(self, leased: Awaitable[list[Task]], slot: Slot, source: TaskSource) -> None:
        """Run what *leased* brings for *slot* in few units; what should not wait there is for others."""
        works, others = self._units_for(await leased, slot, source)
        for _ in works[1:]:
            self._hold(slot, 1)
        if not works:
            self._let_go(slot)
        for work in works:
            alone = len(work.tasks) == 1
            self._own(self._run_held(work.tasks[0], slot) if alone else self._run_held_together(work, slot))
        if others:
            await self._break_off(Bundle(tuple(others)))

    async def _run_held_together(self, bundle: Bundle, slot: Slot) -> None:
        try:
            await self.run_together(bundle, slot)
        finally:
            self._let_go(slot)

    async def _run_held(self, task: Task, slot: Slot, second: Running | None = None) -> None:
        try:
            await self.run(task, slot, second=second)
        finally:
            self._let_go(slot)

    async def _run_held_chunk(self, chunk: Chunk, batch: OpenBatch, slot: Slot, second: Running | None = None) -> None:
        left = 0  # what a second run answers for is counted by the first, until it is decided
        if second is None:
            batch.running += (left := chunk.count)
        try:
            left = await self.run_chunk(chunk, batch, slot, second=second)
        finally:
            batch.running -= left
            self._let_go(slot)

    # ---- the call ---------------------------------------------------------------------------

    async def _call(self, running: Running) -> UnitReport:
        """Send the work of *running* to its slot; return its report once everything said before it has arrived.

        Afterwards the work is what *running* answers for: of the calls in the report the first ones. Raises `Decided`
        if it answers for none any more, `WorkerGone` if the worker disappears.
        """
        slot, submitter, subject = running.slot, self._submitter_of(running.work), self._subject_of(running.work)
        try:
            report = await self._sent(running)
        except DcengineError as error:
            self._race_over(running, None)
            if running.place is not None:
                await self._failed_in_session(running.place, error)
            if not running.left:
                raise Decided from None
            raise
        if running.place is not None:
            self._heard_in_session(running.place, report)
        elif report.session:
            await self._left_in_session(running, report.session)
        self._feed.usage.charge(submitter, report.seconds)
        if not running.left:
            raise Decided
        begun = sum(1 for ending in report.endings if ending != Ending.NOT_RUN)
        if begun:
            self._feed.pace(running.function).learn(begun, report.seconds, slot.worker.name)
        self._judge(running, report, subject)
        return report

    async def _sent(self, running: Running) -> UnitReport:
        """Send the work of *running* to its slot, and return the report that comes back."""
        slot = running.slot
        for other in self._devices.left_to(slot if running.place is None else running.place.holder):
            await self._cluster.vacate(other)
        if not running.left:  # of a second run: the first has ended meanwhile
            raise Decided
        unit = await self._unit_for(running, slot)
        if not running.left:
            raise Decided
        running.sent(unit)
        self._running[unit.id] = self._on[slot][unit.id] = running
        self._feed_more()  # there may be room for more behind it
        if self._is_unwanted(running.work):  # cancelled on its way here, when there was nothing to interrupt
            self._cancel_running(lambda other: other is running)
        try:
            report = await self._cluster.run(unit, slot)
            self._race_over(running, report.endings)
            if running.left:
                await self._hear_out(running, report.lines)
        finally:
            del self._running[unit.id], self._on[slot][unit.id]
            if following := next(iter(self._on[slot].values()), None):
                following.since = time.monotonic()
        return report

    async def _unit_for(self, running: Running, slot: Slot) -> Unit:
        """Return what *slot* is given to do the work of *running*: with its devices there, and how much may fail."""
        work, place = running.work, running.place
        unit, holder = await self._unit_of(work), slot if place is None else place.holder
        unit = self._devices.for_unit(unit, holder, has_processes=self._settings.processes)
        if place is not None:
            return msgspec.structs.replace(unit, session=place.name, begins=not place.is_begun)
        if unit.count == 1:
            return unit
        others = self._others(self._need_of(work), slot.worker.name)
        return msgspec.structs.replace(unit, patience=self._conduct.patience(self._subject_of(work), others))

    async def _hear_out(self, running: Running, lines: int) -> None:
        """Wait until *lines* live messages of the unit have arrived: they travel another way than its report."""
        deadline = time.monotonic() + HEAR_OUT_SECONDS
        while running.lines < lines and (left := deadline - time.monotonic()) > 0:
            news = self._bus.news(("unit", running.unit))
            await self._bus.within(news, left)
        if running.lines < lines:
            logger.warning("unit %d: %d of %d live messages were lost", running.unit, lines - running.lines, lines)

    # ---- what is stored ----------------------------------------------------------------------

    def _write(self, operation: Operation, patience: float = math.inf) -> Coroutine[Any, Any, Any]:
        """Hand in at once what the engine itself has to say; await its result.

        A full or locked file is asked again, within so many seconds of *patience*.
        """
        return self._written(self._store.apply(operation), operation, time.monotonic() + patience)

    async def _written(self, result: asyncio.Future[Any], operation: Operation, deadline: float) -> Any:
        while True:
            try:
                return await result
            except (DiskFull, DatabaseLocked) as full:
                if time.monotonic() > deadline:
                    raise
                logger.debug("%s; %s waits", full, type(operation).__name__)
                await asyncio.sleep(DISK_FULL_PAUSE_SECONDS)
                result = self._store.apply(operation)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await *work*, which goes on if the caller goes away."""
        task = asyncio.get_running_loop().create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return await asyncio.shield(task)

    async def _kept(self, data: bytes, patience: float = math.inf) -> bytes:
        """Return what to store for *data*; raises `BlobError`. A full disk is asked again, with *patience*."""
        deadline, is_told = time.monotonic() + patience, False
        while True:
            try:
                return await self._values.keep(data)
            except DiskFull as full:
                if time.monotonic() > deadline:
                    raise
                if not is_told:
                    logger.warning("%s; a value of %d bytes waits", full, len(data))
                is_told = True
                await asyncio.sleep(DISK_FULL_PAUSE_SECONDS)

    async def _submit(self, operation: Operation, size: int, then: Callable[[Any], None]) -> Any:
        """Hand in *operation*; once it is durable, *then* learns its result, even if the caller has gone away."""
        return await learned(self._store.submit(operation, size), then)


async def learned(stored: asyncio.Future[T], then: Callable[[T], None]) -> T:
    """Return the result of *stored* once *then* has learned it, which it does in any case."""
    stored.add_done_callback(lambda done: None if done.cancelled() or done.exception() else then(done.result()))
    return await asyncio.shield(stored)
