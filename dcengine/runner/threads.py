"""A slot in a thread of this process, for ``processes=False`` and ``isolate=False``: no isolation, no interrupt."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable

from ..errors import ClusterFailed
from . import capture, live
from .calls import Calls, Functions, Gate
from .code_cache import CodeCache
from .reports import padded
from .units import Ending, Live, Unit, UnitReport


class ThreadTurn:
    """A unit on its way through the slot."""

    def __init__(self, unit: Unit, code: bytes) -> None:
        self.unit, self.code = unit, code
        self.gate = Gate()
        self.gate.how_timed_out += " (isolate=False)" if unit.is_shared else " (processes=False)"
        self.report: asyncio.Future[UnitReport] = asyncio.get_running_loop().create_future()
        self.ended: list[tuple[Ending, bytes]] = []

    def keep(self, ending: Ending, value: bytes) -> None:
        """Note how the next call ended."""
        self.ended.append((ending, value))


class ThreadSlot:
    """Runs units in a thread, one at a time; the same surface as `ChildSlot`.

    A running call cannot be stopped: cancel, interrupt, kill and time-out take effect when it ends.
    A crash takes this process along. Slots that are given the same *functions* load each once: so they share
    what it keeps in its globals.
    """

    def __init__(
        self,
        worker: str,
        on_live: Callable[[Live], None],
        codes: CodeCache | None = None,
        functions: Functions | None = None,
    ) -> None:
        self._worker, self._on_live = worker, on_live
        self._codes = codes if codes is not None else CodeCache()
        self._functions = functions if functions is not None else Functions()
        self._inbox: queue.SimpleQueue[ThreadTurn | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: ThreadTurn | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Start the thread; otherwise the first unit does."""
        self._loop = asyncio.get_running_loop()
        # A daemon: a call that never ends must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._serve, name="dcengine-slot", daemon=True)
        _capture_for(self)
        self._thread.start()

    async def run(self, unit: Unit) -> UnitReport:
        """Run *unit* and report how each of its calls ended; raises `UnknownCode` as `ChildSlot` does."""
        if self._is_closed:
            raise ClusterFailed("the unit", "its slot was closed")
        if self._thread is None:
            await self.start()
        turn = self._turn = ThreadTurn(unit, self._codes.code_of(unit))
        self._inbox.put(turn)
        try:
            return await turn.report
        except asyncio.CancelledError:
            turn.gate.is_asked = True
            raise
        finally:
            self._turn = None

    def cancel(self, unit_id: int) -> None:
        """Let *unit_id* end after the call that runs."""
        if self._turn is not None and self._turn.unit.id == unit_id:
            self._turn.gate.is_asked = True

    interrupt = kill = cancel  # a thread knows no more forceful way

    def tell(self, unit_id: int, item: int, message: bytes) -> bool:
        """Tell nothing: in a process of many calls nobody could know for which of them it is."""
        return False

    async def cut(self, unit_id: int) -> int | None:
        """Let *unit_id* end with the call that runs; return how many of its calls can have begun then."""
        turn = self._turn
        if turn is None or turn.unit.id != unit_id:
            return None
        turn.gate.is_cut = True
        return min(turn.gate.item + 1, turn.unit.count)

    async def vacate(self) -> None:
        """Keep what there is: this process sees the same devices for all its life."""

    async def close(self) -> None:
        """Report the running unit as interrupted and let go of the thread, which ends after the running call."""
        self._is_closed = True
        self._inbox.put(None)
        _release_for(self)
        turn = self._turn
        if turn is not None and not turn.report.done():
            turn.gate.is_asked = True
            interrupted = (Ending.INTERRUPTED, b"")
            turn.report.set_result(padded([*turn.ended, interrupted][: turn.unit.count], turn.unit))

    # ---- in the thread ---------------------------------------------------------------------

    def _serve(self) -> None:
        channel = live.LiveChannel(self._emit)
        live.use_in_this_context(channel)
        while (turn := self._inbox.get()) is not None:
            report = self._run(turn, channel)
            self._tell_loop(_set_unless_done, turn.report, report)

    def _run(self, turn: ThreadTurn, channel: live.LiveChannel) -> UnitReport:
        capture.capture()  # again: the program may have put its own streams there since
        channel.begin(turn.unit.id, turn.unit.output_limit)
        started = time.perf_counter()
        calls = Calls(
            turn.unit,
            self._functions,
            lambda: turn.code,
            worker=self._worker,
            gate=turn.gate,
            channel=channel,
            keep=turn.keep,
        )
        calls.run()
        seconds = time.perf_counter() - started
        return padded(turn.ended, turn.unit, seconds=seconds, lines=channel.end())

    def _emit(self, message: Live) -> None:
        self._tell_loop(self._on_live, message)

    def _tell_loop(self, callback: Callable[..., object], *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise  # else nobody is left to be told


def _set_unless_done(future: asyncio.Future[UnitReport], report: UnitReport) -> None:
    if not future.done():
        future.set_result(report)


_capturing: set[ThreadSlot] = set()  #: slots for which this process's output streams are captured


def _capture_for(slot: ThreadSlot) -> None:
    _capturing.add(slot)
    capture.capture()


def _release_for(slot: ThreadSlot) -> None:
    _capturing.discard(slot)
    if not _capturing:
        capture.release()
