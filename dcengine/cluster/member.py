"""One Dask worker as the engine sees it: what it is, its pilots, and the units in its hands."""

from __future__ import annotations

import asyncio
import logging
import platform
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import msgspec

from .._version import __version__
from ..errors import InvalidTags, SessionLost, WorkerFull, WorkerUnfit
from ..jobs import Worker
from ..runner.units import Live, Unit, UnitReport
from ..tags import Offer, parse_offer
from .carrier import TRIES, Carrier, Source
from .facts import FOUND_AT_START
from .lane import Lane
from .link import Link
from .settings import Slot, WorkerGone

logger = logging.getLogger(__name__)

REACH_SECONDS = 10.0  #: a worker that this process cannot connect to by then is unfit
LONGEST_SILENCE = 5.0  #: seconds after which a worker that has nothing to tell says so
LOOKS = 10  #: for an answer, before a worker counts as silent
#: What goes the short way, where there is one: what a call waits for, and what has to come after it.
ON_LANE = frozenset(["run", "cut", "cancel", "interrupt", "kill", "tell", "recall"])
PILOT_PAUSE = 1.0  #: seconds before a pilot that ended by itself is sent again
CODES_KNOWN = 10_000  #: functions of which it is remembered that a worker has them

_encoder, _report_decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(UnitReport)
_live_decoder = msgspec.msgpack.Decoder(list[Live])


class Member:
    """A worker of the cluster from the moment it joins until it is gone."""

    def __init__(
        self,
        link: Link,
        address: str,
        *,
        lease: float,
        on_change: Callable[[], None],
        on_live: Callable[[Live], None],
        values: Source,
        judge: Callable[[Member], Coroutine[Any, Any, None]],
    ) -> None:
        self.address = address
        self.worker: Worker | None = None  #: None until it was examined
        self.slots: dict[str, Slot] = {}  #: ready ones, by the key of their pilot
        self.pilots: dict[int, asyncio.Task[None]] = {}  #: by slot number
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ends_before = 0  #: processes of its name that had ended when it joined
        self.joined = self.heard = time.time()  #: when it came, and when it last answered; Unix seconds
        self._link, self._lease = link, lease
        self._on_change, self._on_live, self._judge = on_change, on_live, judge
        self._listening: asyncio.Task[None] | None = None
        self._answers: dict[str, Any] = {}  # to the question what it is
        self._found: dict[str, str | None] = {}  # tags that are not of its owner's making
        self._asking: frozenset[str] = frozenset()  # names that it is just being asked for
        self._codes: set[bytes] = set()  # digests of the functions it has
        self._values = values
        self._keys: dict[str, int] = {}  # pilot -> slot number
        self._lane: Lane | None = None  # where the worker is on this machine

    @property
    def name(self) -> str:
        return self.worker.name if self.worker else self.address

    # ---- joining and leaving -------------------------------------------------------------------

    async def join(self, names: frozenset[str]) -> None:
        """Find out what the worker is, and has of *names*; afterwards `worker` is set, unfit or ready for pilots."""
        self._answers = await self._link.probe(self.address)
        try:
            self.worker = await self._examined(names)
        except WorkerUnfit as reason:
            self.worker = _worker(self.address, self._answers, tags={}, unfit=str(reason))
            logger.warning("%s", reason)
        self._on_change()

    async def _examined(self, names: frozenset[str]) -> Worker:
        """Return the worker that has answered, ready for pilots; raises `WorkerUnfit`."""
        answers = self._answers
        name = answers["name"]
        if problem := _why_unfit(answers):
            raise WorkerUnfit(name, problem)
        try:
            offered = parse_offer(answers["tags"])
        except InvalidTags as error:
            raise WorkerUnfit(name, f"its tags do not parse: {error}") from error
        try:
            await asyncio.wait_for(self._link.reach(self.address), REACH_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            problem = f"this machine cannot connect to it at {self.address}; open that address to the engine's machine"
            raise WorkerUnfit(name, problem) from error
        found = await self._link.install(self.address, names, home=self._values.home, values_limit=self._values.limit)
        self._lane = await self._link.lane(self.address, await self.ask("lane"))
        self._listening = asyncio.create_task(self._listen())
        self.carrier = Carrier(name, self._ask_of_values, self._values)
        await self.carrier.begin()
        self._found = {**found, **dict.fromkeys(answers["resources"])}
        return self._described(offered, asked=FOUND_AT_START | names)

    def _ask_of_values(self, what: str, **facts: Any) -> Coroutine[Any, Any, Any]:
        return self.ask("value", what=what, **facts)

    def _described(self, offered: Offer, asked: frozenset[str]) -> Worker:
        """Return the worker with what its machine has, and what its owner says that it *offered*."""
        tags = {**self._found, **offered}
        return _worker(self.address, self._answers, tags=tags, own=frozenset(offered), asked=asked)

    async def _listen(self) -> None:
        """Hear what our calls on the worker say, until it is gone; give it up when it is silent for too long."""
        patience = min(LONGEST_SILENCE, self._lease / 4)
        with suppress(WorkerGone):
            while True:
                said = await self._in_time(self.ask("listen", patience=patience), self._lease + patience)
                self.heard = time.time()
                for live in _live_decoder.decode(said):
                    self._on_live(live)

    async def _in_time(self, asking: Coroutine[Any, Any, Any], seconds: float) -> Any:
        """Return the result of *asking* unless it takes *seconds* or more: then give the worker up."""
        answer = asyncio.create_task(asking)
        try:
            # In several looks: this process itself may have stood still, and the answer lies unread.
            for _ in range(LOOKS):
                await asyncio.wait([answer], timeout=seconds / LOOKS)
                if answer.done():
                    return answer.result()
        finally:
            answer.cancel()
        logger.warning("worker %s was silent for %g s; what it was given runs elsewhere", self.name, self._lease)
        self.leave()
        raise WorkerGone(self.name)

    async def stop(self) -> None:
        """Ask the worker to end our slots."""
        self._stop_listening()
        if self.worker and not self.worker.unfit:
            with suppress(WorkerGone):
                await self.ask("stop")

    def leave(self) -> None:
        """Give the worker up: everything in its hands raises `WorkerGone`."""
        if not self.gone.done():
            self.gone.set_result(None)
        if self._lane is not None:
            self._lane.close()
        self._stop_listening()
        for pilot in self.pilots.values():
            pilot.cancel()
        self.slots.clear()

    def _stop_listening(self) -> None:
        if self._listening is not None and self._listening is not asyncio.current_task():
            self._listening.cancel()

    # ---- tags ----------------------------------------------------------------------------------

    def not_asked(self, names: frozenset[str]) -> frozenset[str]:
        """Return those of *names* that the worker should be asked for, because it has not been."""
        if self.worker is None or self.worker.unfit:
            return frozenset()
        return names - self.worker.asked - self._asking

    async def look_up(self, names: frozenset[str]) -> None:
        """Find out what the worker has of *names*, as far as it was not asked; raises `WorkerGone`."""
        unknown = self.not_asked(names)
        if not unknown:
            return
        self._asking |= unknown
        try:
            found = await self.ask("look_up", names=sorted(unknown))
        finally:
            self._asking -= unknown
        assert self.worker
        self._found.update(found)
        self._become(self._described(parse_offer(self._answers["tags"]), self.worker.asked | unknown))

    async def tag(self, tags: str) -> None:
        """Give the worker *tags* in place of those of its owner's making; raises `InvalidTags`, `WorkerGone`."""
        offered = parse_offer(tags)
        await self.ask("tag", tags=tags, nickname=self._answers["nickname"])
        self._answers["tags"] = tags
        assert self.worker
        self._become(self._described(offered, self.worker.asked))

    def _become(self, worker: Worker) -> None:
        self.worker = worker
        for slot in self.slots.values():
            slot.worker = worker

    # ---- pilots --------------------------------------------------------------------------------

    def open_slot(self, number: int, *, processes: bool, idle: float | None) -> None:
        """Send a pilot for slot *number*; with *idle* it may end by itself after so many seconds without work."""
        hold = self._hold_once if idle is not None else self._hold_always
        self.pilots[number] = asyncio.create_task(hold(number, processes=processes, idle=idle))

    def ready(self, pilot: str) -> None:
        """Take note that *pilot* has its slot ready."""
        if pilot in self._keys and self.worker:
            self.slots[pilot] = Slot(self.worker, self._keys[pilot])
            self._on_change()

    async def _hold_always(self, number: int, *, processes: bool, idle: float | None) -> None:
        while True:
            await self._hold(number, processes=processes, idle=idle)
            await asyncio.sleep(PILOT_PAUSE)

    async def _hold_once(self, number: int, *, processes: bool, idle: float | None) -> None:
        try:
            await self._hold(number, processes=processes, idle=idle)
        finally:
            self.pilots.pop(number, None)
            self._on_change()

    async def _hold(self, number: int, *, processes: bool, idle: float | None) -> None:
        """Hold slot *number* for the life of one pilot."""
        key = f"dcengine-pilot-{secrets.token_hex(8)}"
        self._keys[key] = number
        pilot = self._link.send_pilot(self.address, key=key, number=number, processes=processes, idle=idle)
        try:
            await pilot
        except CancelledError:
            pass  # Dask's word for a scheduler or worker that is gone
        except Exception as error:
            logger.warning("worker %s could not hold a slot: %s: %s", self.name, type(error).__name__, error)
        finally:
            pilot.release()  # Dask marks the task, our side on the worker sees the mark
            del self._keys[key]
            if self.slots.pop(key, None):
                self._on_change()

    # ---- units ---------------------------------------------------------------------------------

    async def run(self, unit: Unit, slot: Slot) -> UnitReport:
        """Run *unit* on *slot*; raises `WorkerGone`, or what its judge makes of that."""
        slot.in_flight += 1
        try:
            return await self._run(unit, slot)
        except WorkerGone:
            await self._judge(self)
            raise
        finally:
            slot.in_flight -= 1

    async def _run(self, unit: Unit, slot: Slot) -> UnitReport:
        reply = await self._send_with_values(unit, slot.number)
        if reply["status"] in ("no slot", "slot closed"):
            self._close_slot(slot.number)
        if reply["status"] == "slot closed":
            raise WorkerGone(self.name)
        if reply["status"] == "session lost":
            raise SessionLost(unit.session, self.name, reply["what"], reply["at"])
        return _report_decoder.decode(reply["report"])

    async def _send_with_values(self, unit: Unit, number: int) -> dict[str, Any]:
        """Send *unit* once the worker has what its calls refer to, and return the reply."""
        for _ in range(TRIES):
            reply = await self._send(await self.carrier.prepared(unit), number)
            if reply["status"] != "unknown values":
                return reply
            self.carrier.forget(reply["keys"])
        raise WorkerFull(self.name, f"it loses again and again what {unit.name} refers to")

    async def _send(self, unit: Unit, number: int) -> dict[str, Any]:
        """Send *unit*, with its code only if the worker lacks it, and return the reply."""
        if unit.function in self._codes:
            stripped = msgspec.structs.replace(unit, code=None)
            reply = await self.ask("run", slot=number, unit=_encoder.encode(stripped))
            if reply["status"] != "unknown code":
                return dict(reply)
        reply = await self.ask("run", slot=number, unit=_encoder.encode(unit))
        if len(self._codes) >= CODES_KNOWN:  # what is sent once too often does no harm
            self._codes.clear()
        self._codes.add(unit.function)
        return dict(reply)

    def _close_slot(self, number: int) -> None:
        """Take note that slot *number* is closed before its pilot says so."""
        self.slots = {pilot: slot for pilot, slot in self.slots.items() if slot.number != number}
        self._on_change()

    async def ask(self, operation: str, **facts: Any) -> Any:
        """Ask our side on the worker; whatever goes wrong with that is the worker's end: raises `WorkerGone`."""
        try:
            reply = await self._asked(operation, facts)
        except OSError as error:
            logger.info("lost worker %s: %s", self.name, error)
        except WorkerGone:
            raise
        except Exception:
            logger.exception("worker %s does not answer as it should", self.name)
        else:
            if reply is not None:
                return reply
            logger.warning("worker %s has forgotten this engine", self.name)
        self.leave()
        raise WorkerGone(self.name)

    async def _asked(self, operation: str, facts: dict[str, Any]) -> Any:
        if self._lane is not None and operation in ON_LANE:
            return await self._lane.ask(operation, engine=self._link.engine, **facts)
        return await self._while_here(self._link.ask(self.address, operation, **facts))

    async def _while_here(self, asking: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of *asking* unless the worker goes first: a stopped machine never answers."""
        answer = asyncio.create_task(asking)
        either: set[asyncio.Future[Any]] = {answer, self.gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise WorkerGone(self.name)
        finally:
            answer.cancel()


def _why_unfit(answers: dict[str, Any]) -> str | None:
    """Return why a worker that gave *answers* cannot run our tasks."""
    where = f"its Python ({answers['executable']} on {answers['host']})"
    upgrade = f"install dcengine {__version__} there: pip install dcengine=={__version__}"
    if answers["version"] is None:
        return f"{where} cannot import dcengine ({answers['problem']}); {upgrade}"
    if answers["version"] != __version__:
        return f"{where} has dcengine {answers['version']}, the engine has {__version__}; {upgrade}"
    here = platform.python_version()
    if _minor(answers["python"]) != _minor(here):
        return (
            f"{where} is version {answers['python']}, the engine's is {here}, "
            f"and functions do not travel between the two; start it with Python {_minor(here)}"
        )
    return None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _worker(
    address: str,
    answers: dict[str, Any],
    *,
    tags: dict[str, str | None],
    own: frozenset[str] = frozenset(),
    asked: frozenset[str] = frozenset(),
    unfit: str | None = None,
) -> Worker:
    # a tag of the worker's own making may name its contributor
    nickname = tags.pop("nickname", None) or answers["nickname"]
    return Worker(
        name=answers["name"],
        address=address,
        contributor=nickname or f"{answers['user']}@{answers['host']}",
        tags=tags,
        own=own & tags.keys(),
        slots=answers["slots"],
        host=answers["host"],
        version=answers["version"] or "",
        unfit=unfit,
        asked=asked,
    )
