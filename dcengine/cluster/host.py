"""What lives on each Dask worker: our slots there, their queues, and what their calls say before they end.

It is installed by the engine, answers over the worker's own connections, and is kept apart by engine:
several engines may use one worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from distributed import Worker, WorkerPlugin, get_worker

from ..errors import ClusterFailed, SessionLost
from ..runner.calls import Functions
from ..runner.code_cache import CodeCache, UnknownCode
from ..runner.nursery import Nursery
from ..runner.reports import report_of_nothing
from ..runner.sessions import Sessions
from ..runner.sharing import SharingSlot
from ..runner.slot import ChildSlot
from ..runner.threads import ThreadSlot
from ..runner.units import Ending, Unit, UnitReport
from ..runner.values import UnknownValues
from . import facts
from .lane import LaneServer
from .nodes import IDENTITY
from .outbox import Outbox
from .settings import Identity
from .shelf import Shelf

logger = logging.getLogger(__name__)

PLUGIN = "dcengine"
REMEMBERED = 1000  #: ended or refused units a slot remembers
PILOT_CHECK = 0.5  #: seconds between a pilot's looks at its own task

#: What engines ask, each a method of `Host`.
ANSWERS = (
    "run", "listen", "cut", "cancel", "interrupt", "kill", "tell", "vacate", "end_session", "recall", "stop", "look_up",
    "tag", "value", "lane",
)  # fmt: skip

AnySlot = ChildSlot | ThreadSlot | SharingSlot

_unit_decoder, _encoder = msgspec.msgpack.Decoder(Unit), msgspec.msgpack.Encoder()


def topic_of(engine: str) -> str:
    """Return the Dask topic on which workers talk to *engine*."""
    return f"dcengine-{engine}"


# ---- one slot ------------------------------------------------------------------------------


class SlotClosed(Exception):
    """The slot was closed under a running unit, which nobody had asked to stop."""


class HostedSlot:
    """One warm slot on this worker, and the units that wait for it."""

    def __init__(self, slot: AnySlot) -> None:
        self._slot = slot
        self._running: int | None = None
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._over: deque[int] = deque(maxlen=REMEMBERED)
        self._refused: deque[int] = deque(maxlen=REMEMBERED)
        self._unwanted: int | None = None
        self._is_closed = False
        self.idle_since = _now()

    @property
    def is_idle(self) -> bool:
        return self._running is None and not self._has_sessions

    @property
    def _has_sessions(self) -> bool:
        return isinstance(self._slot, SharingSlot) and bool(self._slot.sessions)

    async def run(self, unit: Unit) -> UnitReport:
        """Run *unit* when its turn comes; raises `SlotClosed` if it was cut short by the end of the slot."""
        if unit.id in self._refused or not await self._turn(unit.id):
            return report_of_nothing(unit)
        try:
            if self._unwanted == unit.id:  # in the moment between its turn and its start
                return report_of_nothing(unit)
            report = await self._slot.run(unit)
            self._over.append(unit.id)
            if report.session and isinstance(self._slot, SharingSlot):
                self._slot.keep(report.session)
            if self._is_closed and self._unwanted != unit.id and Ending.INTERRUPTED in report.endings:
                raise SlotClosed
            return report
        finally:
            self._pass_on()

    def recall(self, unit: int) -> bool:
        """Drop *unit* unless it has begun; return whether it will not run."""
        if unit == self._running or unit in self._over:
            return False
        turn = self._waiting.pop(unit, None)
        if turn is None:  # the request overtook the unit itself
            self._refused.append(unit)
        else:
            turn.set_result(False)
        return True

    async def cut(self, unit: int) -> int:
        """Let *unit* end with the call that runs, drop it if it waits; return how many of its calls can have begun.

        That is 0 too for one that has ended.
        """
        if unit == self._running:
            return await self._slot.cut(unit) or 0
        self.recall(unit)
        return 0

    def cancel(self, unit: int) -> None:
        """Stop *unit* if it runs, drop it if it waits."""
        if unit == self._running:
            self._unwanted = unit
            self._slot.cancel(unit)
        else:
            self.recall(unit)

    def interrupt(self, unit: int) -> None:
        """Raise KeyboardInterrupt in *unit* if it runs, drop it if it waits."""
        if unit == self._running:
            self._slot.interrupt(unit)
        else:
            self.recall(unit)

    def kill(self, unit: int) -> None:
        """End *unit* with its process if it runs, drop it if it waits."""
        if unit == self._running:
            self._unwanted = unit
            self._slot.kill(unit)
        else:
            self.recall(unit)

    def tell(self, unit: int, item: int, message: bytes) -> bool:
        """Hand *message* to call *item* of *unit*; return whether its process has it."""
        return unit == self._running and self._slot.tell(unit, item, message)

    async def vacate(self) -> None:
        """Let go of devices that nothing here uses at the moment."""
        await self._slot.vacate()

    async def end_session(self, name: str) -> None:
        """End the process of a session, if it is here."""
        if isinstance(self._slot, SharingSlot):
            await self._slot.sessions.end(name)

    async def close(self) -> None:
        """End the slot; what waits comes back as not run."""
        self._is_closed = True
        for unit in list(self._waiting):
            self.recall(unit)
        await self._slot.close()

    async def _turn(self, unit: int) -> bool:
        """Wait until it is the turn of *unit*; return False if it was taken back."""
        if self._running is None:
            self._running = unit
            return True
        turn = self._waiting[unit] = asyncio.get_running_loop().create_future()
        return bool(await turn)

    def _pass_on(self) -> None:
        """Give the slot to the next unit that waits."""
        self._running, self.idle_since = None, _now()
        if self._waiting:
            unit = next(iter(self._waiting))
            self._running = unit
            self._waiting.pop(unit).set_result(True)


# ---- one engine on this worker -------------------------------------------------------------


class Guest:
    """One engine's slots on this worker and what they say before they end."""

    def __init__(self, worker: Worker, engine: str, shelf: Shelf) -> None:
        self._worker = worker
        self.shelf = shelf
        self._topic = topic_of(engine)
        self.outbox = Outbox()
        self.slots: dict[int, HostedSlot] = {}

    async def open(self, number: int, slot: AnySlot, *, key: str) -> HostedSlot:
        """Start *slot* as number *number* and tell the engine that the pilot *key* is ready."""
        await slot.start()
        self.slots[number] = HostedSlot(slot)
        self._worker.log_event(self._topic, {"ready": key})
        return self.slots[number]

    async def close_slot(self, hosted: HostedSlot) -> None:
        """End one slot."""
        self.slots = {number: slot for number, slot in self.slots.items() if slot is not hosted}
        await hosted.close()

    async def close(self) -> None:
        """End all slots."""
        hosted = list(self.slots.values())
        self.slots.clear()
        await asyncio.gather(*(slot.close() for slot in hosted))
        self.outbox.close()


# ---- the worker ----------------------------------------------------------------------------


class Host(WorkerPlugin):
    """All engines' slots on one Dask worker."""

    name = PLUGIN

    def __init__(self) -> None:
        self._worker: Worker
        self._guests: dict[str, Guest] = {}
        self._codes, self._functions = CodeCache(), Functions()  # of all slots
        self._nursery: Nursery | None = None
        self._nursery_lock = asyncio.Lock()
        self._shelves: dict[str, Shelf] = {}  # by the database that they are for
        self._held = 0  # pilots that need the nursery

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the plug-in is added."""
        self._worker = worker
        answers = {name: getattr(self, name) for name in ANSWERS}
        worker.handlers.update({f"dcengine_{name}": answer for name, answer in answers.items()})
        self._lanes = LaneServer(answers)

    async def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker closes."""
        for engine in list(self._guests):
            await self.stop(engine)
        await self._lanes.close()
        await self._close_nursery()

    def _shelf_of(self, home: str, limit: int) -> Shelf:
        """Return the shelf for the values of the database *home*, whichever of its engines is here."""
        if home not in self._shelves:
            folder = Path(self._worker.local_directory) / f"dcengine-values-{home}"
            self._shelves[home] = Shelf(folder, limit)
        return self._shelves[home]

    async def welcome(self, engine: str, home: str, values_limit: int) -> None:
        """Make a new and empty place for *engine*."""
        await self.stop(engine)
        self._guests[engine] = Guest(self._worker, engine, self._shelf_of(home, values_limit))

    async def hold(self, engine: str, number: int, *, key: str, processes: bool, idle: float | None) -> str:
        """Keep a slot for *engine* until it is stopped, its task is cancelled, or it had no work for *idle* seconds."""
        guest = self._guests[engine]
        self._held += 1
        try:
            hosted = await guest.open(number, await self._new_slot(guest, processes=processes), key=key)
            try:
                return await self._watch(guest, hosted, key=key, idle=idle)
            finally:
                await guest.close_slot(hosted)
        finally:
            self._held -= 1
            if not self._held:
                await self._close_nursery()

    async def _watch(self, guest: Guest, hosted: HostedSlot, *, key: str, idle: float | None) -> str:
        """Return why a pilot has to end, once it has to."""
        while True:
            await asyncio.sleep(PILOT_CHECK if idle is None else min(PILOT_CHECK, idle / 4))
            if hosted not in guest.slots.values():
                return "stopped"
            # Dask never stops a running task: it only marks it, also when the engine's process is gone
            task = self._worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                return "cancelled"
            if idle is not None and hosted.is_idle and _now() - hosted.idle_since > idle:
                return "idle"

    async def run(self, engine: str, slot: int, unit: bytes) -> dict[str, Any]:
        """Answer an engine that sends a unit."""
        order = _unit_decoder.decode(unit)
        guest = self._guests.get(engine)
        if guest is None:
            return {"status": "slot closed"}
        hosted = guest.slots.get(slot)
        if hosted is None:
            return {"status": "no slot", "report": _encoder.encode(report_of_nothing(order))}
        try:
            with guest.shelf.at_hand(order) as order_with_values:
                report = await hosted.run(order_with_values)
                if order.stays:
                    guest.shelf.keep_results(report)
            guest.outbox.send()  # the engine waits for all that was said before it believes the report
            return {"status": "done", "report": _encoder.encode(report)}
        except UnknownCode:
            return {"status": "unknown code"}
        except UnknownValues as unknown:
            return {"status": "unknown values", "keys": unknown.keys}
        except SlotClosed:
            return {"status": "slot closed"}
        except SessionLost as lost:
            return {"status": "session lost", "what": lost.what, "at": lost.at}
        except ClusterFailed as error:
            logger.warning("slot %d is given up: %s", slot, error)
            await guest.close_slot(hosted)
            return {"status": "no slot", "report": _encoder.encode(report_of_nothing(order))}

    async def listen(self, engine: str, patience: float) -> bytes | None:
        """Answer an engine that wants to hear what its calls here say, and that this worker is alive."""
        guest = self._guests.get(engine)
        return _encoder.encode(await guest.outbox.listen(patience)) if guest else None

    async def cut(self, engine: str, slot: int, unit: int) -> int:
        """Answer an engine that wants to give the calls of a unit that have not begun to others."""
        hosted = self._slot(engine, slot)
        return await hosted.cut(unit) if hosted else 0

    async def cancel(self, engine: str, slot: int, unit: int) -> bool:
        """Answer an engine that wants a unit stopped."""
        if hosted := self._slot(engine, slot):
            hosted.cancel(unit)
        return True

    async def interrupt(self, engine: str, slot: int, unit: int) -> bool:
        """Answer an engine that wants KeyboardInterrupt raised in a unit."""
        if hosted := self._slot(engine, slot):
            hosted.interrupt(unit)
        return True

    async def kill(self, engine: str, slot: int, unit: int) -> bool:
        """Answer an engine that wants a unit ended by force."""
        if hosted := self._slot(engine, slot):
            hosted.kill(unit)
        return True

    async def tell(self, engine: str, slot: int, unit: int, item: int, message: bytes) -> bool:
        """Answer an engine that has a message for a call that runs."""
        hosted = self._slot(engine, slot)
        return hosted is not None and hosted.tell(unit, item, message)

    async def vacate(self, engine: str, slot: int) -> bool:
        """Answer an engine that is about to lend the devices of a slot to another."""
        if hosted := self._slot(engine, slot):
            await hosted.vacate()
        return True

    async def end_session(self, engine: str, slot: int, name: str) -> bool:
        """Answer an engine that ends a session."""
        if hosted := self._slot(engine, slot):
            await hosted.end_session(name)
        return True

    async def recall(self, engine: str, slot: int, unit: int) -> bool:
        """Answer an engine that wants a unit back."""
        hosted = self._slot(engine, slot)
        return hosted.recall(unit) if hosted else False

    async def stop(self, engine: str) -> bool:
        """Answer an engine that leaves."""
        if guest := self._guests.pop(engine, None):
            await guest.close()
        return True

    async def value(self, engine: str, what: str, **facts: Any) -> Any:
        """Answer an engine that asks about values here."""
        guest = self._guests.get(engine)
        return await guest.shelf.ask(what, **facts) if guest else None

    async def look_up(self, engine: str, names: list[str]) -> dict[str, str | None]:
        """Answer an engine that wants to know what this machine has of *names*."""
        return await asyncio.to_thread(facts.look_up, names)

    async def tag(self, engine: str, tags: str, nickname: str) -> bool:
        """Take other tags of its owner's making; every engine that meets this worker from now on is told them."""
        setattr(self._worker, IDENTITY, Identity(tags=tags, nickname=nickname))
        return True

    async def lane(self, engine: str) -> str:
        """Answer an engine that looks for a shorter way here, should it be on this machine."""
        if not self._lanes.path:
            await self._lanes.open(Path(self._worker.local_directory))
        return self._lanes.path

    def _slot(self, engine: str, number: int) -> HostedSlot | None:
        guest = self._guests.get(engine)
        return guest.slots.get(number) if guest else None

    async def _new_slot(self, guest: Guest, *, processes: bool) -> AnySlot:
        name, say = str(self._worker.name), guest.outbox.say
        thread = ThreadSlot(name, say, self._codes, self._functions)
        if processes:
            nursery = await self._open_nursery()
            return SharingSlot(ChildSlot(nursery, say), thread, Sessions(nursery, say, name))
        return thread

    async def warm_up(self) -> None:
        """Have the process that forks children started before the first slot is opened."""
        await self._open_nursery()

    async def _open_nursery(self) -> Nursery:
        async with self._nursery_lock:
            if self._nursery is None:
                nursery = Nursery(str(self._worker.name), self._codes)
                await nursery.start()
                self._nursery = nursery
            return self._nursery

    async def _close_nursery(self) -> None:
        async with self._nursery_lock:
            if self._nursery:
                nursery, self._nursery = self._nursery, None
                await nursery.close()


async def make_ready(dask_worker: Worker) -> None:
    """Have ready on our own *dask_worker*, as soon as it is there, what its calls will run in."""
    await dask_worker.plugin_add(plugin=Host(), name=PLUGIN, catch_errors=False)
    with suppress(ClusterFailed):  # whoever opens a slot is told
        await _host_of(dask_worker).warm_up()


async def install(
    engine: str, names: list[str], dask_worker: Worker, home: str = "", values_limit: int = 0
) -> dict[str, str | None]:
    """Make room for *engine* on *dask_worker*; return the tags that the machine offers, and what it has of *names*.

    Called by the engine through Dask when a worker joins, and again when it was lost from sight.
    """
    if PLUGIN not in dask_worker.plugins:
        await dask_worker.plugin_add(plugin=Host(), name=PLUGIN, catch_errors=False)
    await _host_of(dask_worker).welcome(engine, home, values_limit)
    return await asyncio.to_thread(lambda: {**facts.discover(), **facts.look_up(names)})


async def hold_slot(*, engine: str, number: int, pilot: str, processes: bool, idle: float | None) -> str:
    """Hold one slot of the worker on which this is called as a Dask task; return why it ended."""
    return await _host_of(get_worker()).hold(engine, number, key=pilot, processes=processes, idle=idle)


def _host_of(worker: Worker) -> Host:
    host = worker.plugins[PLUGIN]
    assert isinstance(host, Host)
    return host


def _now() -> float:
    return asyncio.get_running_loop().time()
