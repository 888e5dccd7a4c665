"""One slot of a worker: a warm child process that runs one unit at a time, and everything that can go wrong with it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from .. import codec
from ..errors import ClusterFailed, TaskCrashed, TaskTimeout
from .live import STREAMS, joined
from .nursery import ChildProcess, Nursery
from .units import Ending, Live, Unit, UnitReport
from .wire import Kind

logger = logging.getLogger(__name__)

PATIENCE = 5.0  #: seconds for a killed child to be gone
SPAWN_LIMIT = 3  #: children that may end before they had anything to do

_live_decoder = msgspec.msgpack.Decoder(Live)
_report_decoder = msgspec.msgpack.Decoder(UnitReport)
_encoder = msgspec.msgpack.Encoder()


@dataclass
class Turn:
    """A unit on its way through the slot."""

    unit: Unit
    code: bytes
    report: asyncio.Future[UnitReport]
    sequence: int = 0  #: 0 until it was sent
    started: float = 0.0
    parts: list[UnitReport] = field(default_factory=list)
    lines: int = 0  #: live messages heard
    is_cancelled: bool = False
    is_interrupted: bool = False
    killed_for: Literal["", "cancel", "time-out"] = ""
    overdue: float = 0.0  #: when the call began for which the child was killed
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class ChildSlot:
    """Runs units in a child process, one at a time; *on_live* hears what the calls say."""

    def __init__(self, nursery: Nursery, on_live: Callable[[Live], None]) -> None:
        self._nursery, self._on_live = nursery, on_live
        self._child: ChildProcess | None = None
        self._spawning: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._last_sequence = 0
        self._is_closed = False

    async def start(self) -> None:
        """Have a child ready; raises `ClusterFailed` where there can be none."""
        await self._ready_child()

    async def run(self, unit: Unit) -> UnitReport:
        """Run *unit* and report how each of its calls ended, whatever they did.

        Raises `UnknownCode` where the unit came without code that this worker lacks.
        """
        if self._is_closed:
            raise ClusterFailed("the unit", "its slot was closed")
        code = self._nursery.codes.code_of(unit)
        turn = self._turn = Turn(unit, code, asyncio.get_running_loop().create_future())
        try:
            child = await self._ready_child()
            if turn.is_cancelled:
                return padded([], unit)
            self._begin(turn, child)
            return await turn.report
        except asyncio.CancelledError:
            if turn.sequence:
                self._drop_child()
            raise
        finally:
            self._turn = None
            for timer in turn.timers:
                timer.cancel()

    def cancel(self, unit_id: int) -> None:
        """Interrupt *unit_id* if it runs here; its child is killed if that does not end it within its grace."""
        turn = self._turn
        if turn is None or turn.unit.id != unit_id or turn.is_cancelled:
            return
        turn.is_cancelled = True
        if turn.sequence and self._child is not None:
            self._child.journal.ask_to_stop(turn.sequence)
            self._child.signal(signal.SIGINT)
            self._later(turn, turn.unit.grace, lambda: self._kill(turn, "cancel"))

    def interrupt(self, unit_id: int) -> None:
        """Raise KeyboardInterrupt in the call of *unit_id* that runs here; the code may catch it and go on."""
        turn = self._turn
        if turn is None or turn.unit.id != unit_id:
            return
        turn.is_interrupted = True
        if turn.sequence and self._child is not None:
            self._child.journal.ask_to_interrupt(turn.sequence)
            self._child.signal(signal.SIGINT)

    def kill(self, unit_id: int) -> None:
        """End *unit_id* with its child at once, if it runs here."""
        turn = self._turn
        if turn is not None and turn.unit.id == unit_id:
            turn.is_cancelled = True
            self._kill(turn, "cancel")

    async def close(self) -> None:
        """End the child, and the unit with it; when this returns the child is gone."""
        self._is_closed = True
        if self._turn is not None:
            self._turn.is_cancelled = True
            self._turn.killed_for = "cancel"
        if self._spawning is not None:
            await asyncio.gather(self._spawning, return_exceptions=True)
        if self._child is not None:
            self._child.kill()
            await asyncio.wait([self._child.ended], timeout=PATIENCE)

    # ---- the child -------------------------------------------------------------------------

    async def _ready_child(self) -> ChildProcess:
        for _ in range(SPAWN_LIMIT):
            if self._child is not None:
                return self._child
            self._spawn_soon()
            assert self._spawning is not None
            await asyncio.shield(self._spawning)
        if self._child is not None:
            return self._child
        raise ClusterFailed("a child process", f"{SPAWN_LIMIT} in a row ended at once; the worker's log says why")

    def _spawn_soon(self) -> None:
        if self._spawning is None or self._spawning.done():
            self._spawning = asyncio.create_task(self._spawn())

    async def _spawn(self) -> None:
        child = await self._nursery.spawn(self._hear, self._lose)
        self._child = None if child.ended.done() else child

    def _drop_child(self) -> None:
        """Kill the child and do not wait for it; whatever it still says is not heard."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            if not self._is_closed:
                self._spawn_soon()

    def _lose(self, child: ChildProcess, status: int) -> None:
        """Explain the end of *child* to the unit that it ran, and have the next one made."""
        if child is not self._child:
            return
        self._child = None
        turn = self._turn
        if turn is None or not turn.sequence or turn.report.done():
            logger.info("child process %s %s while it had nothing to do", child.process, cause_of(status))
            return
        turn.report.set_result(self._salvaged(turn, child, status))
        if not self._is_closed:
            self._spawn_soon()

    def _kill(self, turn: Turn, reason: Literal["cancel", "time-out"]) -> None:
        if self._turn is turn and not turn.report.done() and self._child is not None:
            turn.killed_for = reason
            turn.overdue = self._child.journal.began
            self._child.kill()

    # ---- a unit ----------------------------------------------------------------------------

    def _begin(self, turn: Turn, child: ChildProcess) -> None:
        self._last_sequence += 1
        turn.sequence, turn.started = self._last_sequence, time.monotonic()
        child.journal.begin_unit(turn.sequence, turn.started)
        if turn.is_interrupted:
            child.journal.expect_interrupt(turn.sequence)
        child.send(Kind.UNIT, _encoder.encode(msgspec.structs.replace(turn.unit, code=None)))
        if turn.unit.timeout is not None:
            self._watch(turn, child, turn.unit.timeout + turn.unit.grace)

    def _watch(self, turn: Turn, child: ChildProcess, limit: float) -> None:
        """Kill the child once a call has taken *limit* seconds: its own alarm did not end it."""
        left = child.journal.began + limit - time.monotonic()
        if left <= 0:
            self._kill(turn, "time-out")
        else:
            self._later(turn, left, lambda: self._watch(turn, child, limit))

    def _later(self, turn: Turn, seconds: float, action: Callable[[], None]) -> None:
        turn.timers.append(asyncio.get_running_loop().call_later(seconds, action))

    def _hear(self, child: ChildProcess, kind: Kind, body: bytes) -> None:
        turn = self._turn
        if child is not self._child or turn is None:
            return
        if kind == Kind.LIVE:
            self._pass_on(turn, _live_decoder.decode(body))
        elif kind == Kind.NEED_CODE:
            child.send(Kind.CODE, turn.code)
        elif kind == Kind.PART:
            turn.parts.append(_report_decoder.decode(body))
        elif not turn.report.done():
            turn.report.set_result(self._complete(turn, _report_decoder.decode(body)))
            if turn.killed_for:
                self._drop_child()  # it was quicker than its SIGKILL, which must not hit the next unit

    def _pass_on(self, turn: Turn, message: Live) -> None:
        turn.lines = message.number
        try:
            self._on_live(message)
        except Exception:
            logger.exception("a message of unit %s could not be passed on", message.unit)

    def _complete(self, turn: Turn, last: UnitReport) -> UnitReport:
        if not turn.parts and len(last.endings) == turn.unit.count:
            return last  # the usual case; the values stay packed as they came
        return padded(_ended([*turn.parts, last]), turn.unit, seconds=last.seconds, lines=last.lines)

    def _salvaged(self, turn: Turn, child: ChildProcess, status: int) -> UnitReport:
        """Return what is known of a unit whose child has ended."""
        ended = _ended(turn.parts)
        ended += child.journal.records_from(len(ended))
        self._pass_on_last_words(turn, child, item=len(ended))
        if len(ended) < turn.unit.count:
            ended.append(self._ending(turn, child, status))
        return padded(ended, turn.unit, seconds=time.monotonic() - turn.started, lines=turn.lines)

    def _pass_on_last_words(self, turn: Turn, child: ChildProcess, *, item: int) -> None:
        for stream, data in joined(child.journal.text_after(turn.lines)):
            text = data.decode(errors="replace").encode()
            number = turn.lines + 1
            self._pass_on(turn, Live(unit=turn.unit.id, number=number, item=item, kind=STREAMS[stream], data=text))

    def _ending(self, turn: Turn, child: ChildProcess, status: int) -> tuple[Ending, bytes]:
        """Return how the call ended during which the child did."""
        if turn.killed_for == "cancel":
            return Ending.INTERRUPTED, b""
        if turn.killed_for == "time-out":
            if child.journal.began != turn.overdue:
                return Ending.NOT_RUN, b""  # the overdue call ended in the last moment; this one has just begun
            error = TaskTimeout(turn.unit.timeout or 0.0, "killed")
            return Ending.TIMED_OUT, codec.pack_failure(codec.failure_from(error))
        failure = codec.failure_from(TaskCrashed(cause_of(status), 1))
        return Ending.CRASHED, codec.pack_failure(
            msgspec.structs.replace(failure, traceback=child.journal.crash_report())
        )


def cause_of(status: int) -> str:
    """Return in words what ended a process with this wait *status*."""
    if not os.WIFSIGNALED(status):
        return f"ended with exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "a real-time signal"
    suspect = ", often the system's out-of-memory killer" if number == signal.SIGKILL else ""
    return f"was ended by signal {number} ({name}){suspect}"


def padded(ended: list[tuple[Ending, bytes]], unit: Unit, *, seconds: float = 0.0, lines: int = 0) -> UnitReport:
    """Return the report of *unit* whose first calls have *ended* so; the others were not run."""
    rows = [*ended, *[(Ending.NOT_RUN, b"")] * (unit.count - len(ended))]
    endings = bytes(ending for ending, _ in rows)
    return UnitReport(endings=endings, values=codec.pack([value for _, value in rows]), seconds=seconds, lines=lines)


def _ended(parts: list[UnitReport]) -> list[tuple[Ending, bytes]]:
    return [
        (Ending(ending), value)
        for part in parts
        for ending, value in zip(part.endings, codec.unpack(part.values), strict=True)
    ]
