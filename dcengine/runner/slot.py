"""One slot of a worker: a warm child process that runs one unit at a time, and everything that can go wrong with it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from .. import codec
from ..errors import ClusterFailed, TaskCrashed, TaskTimeout
from .live import STREAMS, joined
from .nursery import ChildProcess, Nursery
from .reports import cause_of, ended_in, hidden, padded, report_of_nothing
from .tail import left_out_line
from .turn import Turn
from .units import Ending, Live, Told, Unit, UnitReport
from .wire import Kind

logger = logging.getLogger(__name__)

PATIENCE = 5.0  #: seconds for a killed child to be gone
CUT_SECONDS = 0.002  #: after which a child has surely seen that its unit is cut before it begins the next call
REST_SECONDS = 60.0  #: after which a child that holds devices and has nothing to do is ended
HEALTHY_SECONDS = 1.0  #: a child that lived so long is followed by another at once; others wait for work
SPAWN_LIMIT = 3  #: children that may end before they had anything to do
UNREAD_LIMIT = 64 << 20  #: bytes that a child may have been told and not read before it is told no more
OVERHEAR_SECONDS = 0.1  #: between two looks at what a child's C code writes and the child does not read

_live_decoder = msgspec.msgpack.Decoder(Live)
_report_decoder = msgspec.msgpack.Decoder(UnitReport)
_encoder = msgspec.msgpack.Encoder()


class ChildSlot:
    """Runs units in a child process, one at a time; *on_live* hears what the calls say."""

    def __init__(self, nursery: Nursery, on_live: Callable[[Live], None]) -> None:
        self._nursery, self._on_live = nursery, on_live
        self._child: ChildProcess | None = None
        self._spawning: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._last_sequence = 0
        self._dropped: asyncio.Future[int] | None = None  #: the end of the last child that was not to live on
        self._resting: asyncio.TimerHandle | None = None
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
        if (report := hidden(unit)) is not None:
            return report
        turn = self._turn = Turn(unit, code, asyncio.get_running_loop().create_future())
        try:
            child = await self._child_for(unit)
            if turn.is_cancelled:
                return report_of_nothing(unit)
            self._begin(turn, child)
            return await turn.report
        except asyncio.CancelledError:
            if turn.sequence:
                self._drop_child()
            raise
        finally:
            self._turn = None
            self._rest_later()
            for timer in (*turn.timers, turn.next_look):
                if timer is not None:
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

    async def cut(self, unit_id: int) -> int | None:
        """Let *unit_id* end with the call that runs; return how many of its calls can have begun then.

        None if it does not run here (any more).
        """
        turn = self._turn
        if turn is None or turn.unit.id != unit_id or not turn.sequence or self._child is None:
            return None
        self._child.journal.cut(turn.sequence)
        await asyncio.sleep(CUT_SECONDS)
        if self._turn is not turn or turn.report.done() or self._child is None:
            return None
        return min(self._child.journal.item + 1, turn.unit.count)

    def interrupt(self, unit_id: int) -> None:
        """Raise KeyboardInterrupt in the call of *unit_id* that runs here; the code may catch it and go on.

        Code that does not even come to know of it within its grace is ended with its process.
        """
        turn = self._turn
        if turn is None or turn.unit.id != unit_id:
            return
        turn.is_interrupted = True
        if turn.sequence and self._child is not None:
            self._child.journal.ask_to_interrupt(turn.sequence)
            self._child.signal(signal.SIGINT)
            self._later(turn, turn.unit.grace, lambda: self._kill_if_deaf(turn))

    def kill(self, unit_id: int) -> None:
        """End *unit_id* with its child at once, if it runs here."""
        turn = self._turn
        if turn is not None and turn.unit.id == unit_id:
            turn.is_cancelled = True
            self._kill(turn, "kill")

    def tell(self, unit_id: int, item: int, message: bytes) -> bool:
        """Hand *message* to the process that runs call *item* of *unit_id*; return whether it has it.

        It has not if it does not run here, or lets too much lie unread.
        """
        turn, child = self._turn, self._child
        if turn is None or turn.unit.id != unit_id or not turn.sequence or turn.report.done() or child is None:
            return False
        if child.unread > UNREAD_LIMIT:
            return False
        child.send(Kind.TELL, _encoder.encode(Told(unit=unit_id, item=item, data=message)))
        return True

    async def vacate(self) -> None:
        """End a child that holds devices and has nothing to do: somebody else is to have all of their memory."""
        if self._turn is None:
            self._rest()
        await self._leave()

    async def close(self) -> None:
        """End the child, and the unit with it; when this returns the child is gone."""
        self._is_closed = True
        self._stop_resting()
        if self._turn is not None:
            self._turn.is_cancelled = True
            self._turn.killed_for = "kill"
        if self._spawning is not None:
            await asyncio.gather(self._spawning, return_exceptions=True)
        if self._child is not None:
            self._child.kill()
            await asyncio.wait([self._child.ended], timeout=PATIENCE)

    def part_with_child(self) -> ChildProcess | None:
        """Give away the child, which has just reported; the next unit gets another."""
        child, self._child = self._child, None
        self._stop_resting()
        if not self._is_closed:
            self._spawn_soon()
        return child

    # ---- the child -------------------------------------------------------------------------

    async def _child_for(self, unit: Unit) -> ChildProcess:
        """Return a child that never saw other devices than those of *unit*: programs look for them only once."""
        self._stop_resting()
        if self._child is not None and self._child.devices not in (None, unit.devices):
            self._drop_child()
        if unit.devices:
            await self._leave()
        child = await self._ready_child()
        child.devices = unit.devices
        return child

    def _rest_later(self) -> None:
        """Let a child with devices end, unless it is needed again within a while: it may hold their memory."""
        if self._child is not None and self._child.devices and not self._is_closed:
            self._resting = asyncio.get_running_loop().call_later(REST_SECONDS, self._rest)

    def _stop_resting(self) -> None:
        if self._resting is not None:
            self._resting.cancel()

    def _rest(self) -> None:
        if self._child is not None and self._child.devices:
            self._drop_child()

    async def _leave(self) -> None:
        """Wait until the last child that was dropped is gone."""
        if self._dropped is not None:
            await asyncio.wait([self._dropped], timeout=PATIENCE)

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
            self._spawning.add_done_callback(_heard_of)

    async def _spawn(self) -> None:
        for left in reversed(range(SPAWN_LIMIT)):
            try:
                child = await self._nursery.spawn(self._hear, self._lose)
            except ClusterFailed:  # its fork server may have ended in just this moment; the next one is tried
                if self._is_closed or not left:
                    raise
            else:
                self._child = None if child.ended.done() else child
                return

    def _drop_child(self) -> None:
        """Kill the child and do not wait for it; whatever it still says is not heard."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            self._dropped = child.ended
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
            if not self._is_closed and child.age > HEALTHY_SECONDS:
                self._spawn_soon()
            return
        turn.report.set_result(self._salvaged(turn, child, status))
        if not self._is_closed:
            self._spawn_soon()

    def _kill_if_deaf(self, turn: Turn) -> None:
        """Kill the child if its code still does not know that it is to be interrupted: it is not back in Python."""
        if self._turn is turn and self._child is not None and self._child.journal.awaits_interrupt(turn.sequence):
            self._kill(turn, "cancel")

    def _kill(self, turn: Turn, reason: Literal["cancel", "kill", "time-out"]) -> None:
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
        self._look_again(turn, child, OVERHEAR_SECONDS)

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
        if turn.overheard:
            message = msgspec.structs.replace(message, number=message.number + turn.overheard)
        self._tell(message)

    def _tell(self, message: Live) -> None:
        try:
            self._on_live(message)
        except Exception:
            logger.exception("a message of unit %s could not be passed on", message.unit)

    def _overhear(self, turn: Turn, child: ChildProcess) -> None:
        """Read what the child's C code writes and nobody reads there: it keeps the interpreter's lock.

        C code that writes more than a pipe holds would wait for ever otherwise.
        """
        seconds = OVERHEAR_SECONDS
        if child.pipes.has_text():
            if turn.readings == child.journal.readings:
                seconds = 0.001  # more may have waited for the room
                item = turn.running_item(child.journal)  # before it is read: then it may have ended
                self._say_for(turn, turn.within_limit(child.pipes.read()), item=item)
            turn.readings = child.journal.readings
        self._look_again(turn, child, seconds)

    def _look_again(self, turn: Turn, child: ChildProcess, seconds: float) -> None:
        turn.next_look = asyncio.get_running_loop().call_later(seconds, self._overhear, turn, child)

    def _say_for(self, turn: Turn, pieces: Iterable[tuple[int, bytes]], *, item: int) -> None:
        """Pass on what the child could not say itself."""
        for stream, text in pieces:
            turn.overheard += 1
            number = turn.lines + turn.overheard
            self._tell(Live(unit=turn.unit.id, number=number, item=item, kind=STREAMS[stream], data=text))

    def _complete(self, turn: Turn, last: UnitReport) -> UnitReport:
        if turn.overheard:
            last = msgspec.structs.replace(last, lines=last.lines + turn.overheard)
        if not turn.parts and len(last.endings) == turn.unit.count:
            return last  # the usual case; the values stay packed as they came
        whole = padded(ended_in([*turn.parts, last]), turn.unit, seconds=last.seconds, lines=last.lines)
        return msgspec.structs.replace(whole, session=last.session)

    def _salvaged(self, turn: Turn, child: ChildProcess, status: int) -> UnitReport:
        """Return what is known of a unit whose child has ended."""
        ended = ended_in(turn.parts)
        ended += child.journal.records_from(len(ended))
        self._say_last_words(turn, child, item=len(ended))
        if len(ended) < turn.unit.count:
            ended.append(self._ending(turn, child, status))
        lines = turn.lines + turn.overheard
        return padded(ended, turn.unit, seconds=time.monotonic() - turn.started, lines=lines)

    def _say_last_words(self, turn: Turn, child: ChildProcess, *, item: int) -> None:
        pieces = child.journal.text_after(turn.lines)
        if left_out := child.journal.left_out_before(pieces):
            pieces.insert(0, (pieces[0][0] if pieces else 0, left_out_line(left_out)))
        words = [(stream, data.decode(errors="replace").encode()) for stream, data in joined(pieces)]
        self._say_for(turn, [*words, *child.pipes.read()], item=item)

    def _ending(self, turn: Turn, child: ChildProcess, status: int) -> tuple[Ending, bytes]:
        """Return how the call ended during which the child did."""
        if turn.killed_for == "kill":
            return Ending.INTERRUPTED, b""
        by_force = f"did not stop within {turn.unit.grace:g} s"
        if turn.killed_for == "cancel":
            return Ending.INTERRUPTED, f"it {by_force}, so its process was killed".encode()
        if turn.killed_for == "time-out":
            if child.journal.began != turn.overdue:
                return Ending.NOT_RUN, b""  # the overdue call ended in the last moment; this one has just begun
            error = TaskTimeout(turn.unit.timeout or 0.0, f"killed, since it {by_force}")
            return Ending.TIMED_OUT, codec.pack_failure(codec.failure_from(error))
        if child.is_bereft:
            return Ending.VANISHED, b""
        failure = codec.failure_from(TaskCrashed(cause_of(status), 1))
        return Ending.CRASHED, codec.pack_failure(
            msgspec.structs.replace(failure, traceback=child.journal.crash_report())
        )


def _heard_of(spawning: asyncio.Task[None]) -> None:
    """Take note of how *spawning* has ended: whoever waits for its child is told, but there may be nobody."""
    if not spawning.cancelled() and (error := spawning.exception()) is not None:
        logger.warning("%s", error)
