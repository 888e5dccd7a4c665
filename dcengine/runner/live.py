"""What a running call says before it ends: gathered, kept in order, numbered and sent."""

from __future__ import annotations

import codecs
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from operator import itemgetter
from typing import Any

import msgspec

from ..errors import PayloadTooLarge
from ..verbs import Progress
from .units import Live

INTERVAL = 0.05  #: seconds that text may wait for more text
LIMIT = 64 * 1024  #: bytes of text that are sent at once
PROGRESS_INTERVAL = 0.1  #: seconds between two progress messages of one call
TEXT_LIMIT = 16 << 20  #: bytes of text that one call may print; what comes after is left out
SHOW_LIMIT = 32 << 20  #: bytes of one rich message
STREAMS = ("stdout", "stderr")
RICH = ("display", "update", "clear", "result", "error")  #: kinds of messages that are not text
KINDS = (*STREAMS, *RICH)
LEFT_OUT = f"\n... what was printed after the first {TEXT_LIMIT >> 20} MiB is left out ...\n".encode()


class LiveChannel:
    """The way of text and progress from user code to the slot.

    User threads may write too, so every public method takes the lock. *shield* keeps signals
    from becoming exceptions in the middle of a message. *noted* learns of each piece of text at
    once, and *sent* how many messages are out, for whoever has to explain a crash.
    """

    def __init__(
        self,
        emit: Callable[[Live], None],
        *,
        shield: AbstractContextManager[Any] | None = None,
        noted: Callable[[int, bytes], None] | None = None,
        sent: Callable[[int], None] | None = None,
    ) -> None:
        self.is_active = False
        self.item = 0
        self._emit, self._noted, self._sent = emit, noted, sent
        self._shield = shield or nullcontext()
        # Reentrant: a signal handler of the user's may print while the main thread prints.
        self._lock = threading.RLock()
        self._is_sending = False
        self._unit = 0
        self._number = 0
        self._waiting: list[tuple[int, bytes]] = []  #: index in `KINDS` and content
        self._size = 0
        self._printed = 0
        self._progress: Progress | None = None
        self._progress_at = 0.0
        self._ticks = threading.Event()
        self._ticker: threading.Thread | None = None
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in STREAMS]

    def begin(self, unit: int) -> None:
        """Open the channel for *unit*."""
        with self._lock:
            self._unit, self._number, self.item = unit, 0, 0
            self._printed = 0
            self.is_active = True

    def end(self) -> int:
        """Close the channel; return how many messages the unit sent."""
        self.end_item()
        with self._lock:
            self.is_active = False
            return self._number

    def end_item(self) -> None:
        """Send what the call still has to say."""
        if self._waiting or self._progress:
            self.flush(all_progress=True)
        self._progress_at = 0.0
        self._printed = 0

    def write(self, stream: int, data: bytes) -> None:
        """Take text that was printed on *stream*."""
        if not data:
            return
        with self._shield, self._lock:
            if not self.is_active or self._printed > TEXT_LIMIT:
                return
            self._printed += len(data)
            if self._printed > TEXT_LIMIT:
                data = data[: TEXT_LIMIT - self._printed] + LEFT_OUT
            self._waiting.append((stream, data))
            self._size += len(data)
            if self._noted is not None:
                self._noted(stream, data)
            if self._size >= LIMIT:
                self._send_waiting()
            elif len(self._waiting) == 1:
                self._tick_later()

    def show(self, kind: str, data: bytes) -> None:
        """Send the rich message *data*, JSON in UTF-8, at once, after the text that waits.

        *kind* is one of `RICH`. Raises `PayloadTooLarge` above `SHOW_LIMIT`.
        """
        if len(data) > SHOW_LIMIT:
            raise PayloadTooLarge(f"what the call shows ({kind})", len(data), SHOW_LIMIT)
        with self._shield, self._lock:
            if self.is_active:
                self._waiting.append((KINDS.index(kind), data))
                self._send_waiting()

    def progress(self, progress: Progress) -> None:
        """Take *progress*; the newest one is sent, at most one each `PROGRESS_INTERVAL`."""
        with self._shield, self._lock:
            if not self.is_active:
                return
            self._progress = progress
            if time.monotonic() - self._progress_at >= PROGRESS_INTERVAL:
                self._send_waiting()
                self._send_progress()
            else:
                self._tick_later()

    def flush(self, *, all_progress: bool = False) -> None:
        """Send what waits; progress only when its time has come, unless *all_progress*."""
        with self._shield, self._lock:
            if not self.is_active or self._is_sending:
                return
            self._send_waiting()
            if all_progress or time.monotonic() - self._progress_at >= PROGRESS_INTERVAL:
                self._send_progress()

    def _send_waiting(self) -> None:
        if self._is_sending:
            return  # a signal handler prints in the middle of a message; who sends that one goes on with this
        self._is_sending = True
        while self._waiting:
            waiting, self._waiting, self._size = self._waiting, [], 0
            for kind, data in self._pieces(waiting):
                self._send(KINDS[kind], data)
        self._is_sending = False
        if self._sent is not None:
            self._sent(self._number)

    def _send_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is None or self._is_sending:
            return
        self._progress_at = time.monotonic()
        self._send("progress", msgspec.msgpack.encode(progress))
        if self._sent is not None:
            self._sent(self._number)

    def _send(self, kind: str, data: bytes) -> None:
        self._number += 1
        self._emit(Live(unit=self._unit, number=self._number, item=self.item, kind=kind, data=data))

    def _pieces(self, waiting: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Yield what waits, text as valid UTF-8, neighbours of one stream joined, long pieces cut."""
        for stream, data in joined(waiting):
            if stream >= len(STREAMS):
                yield stream, data
                continue
            decoded = self._decoders[stream].decode(data)
            for start in range(0, len(decoded), LIMIT // 4):  # a character takes at most 4 bytes
                yield stream, decoded[start : start + LIMIT // 4].encode()

    # ---- a thread that sends what has waited long enough -----------------------------------

    def _tick_later(self) -> None:
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, name="dcengine-output", daemon=True)
            self._ticker.start()
        self._ticks.set()

    def _tick(self) -> None:
        while True:
            self._ticks.wait()
            self._ticks.clear()
            time.sleep(INTERVAL)
            self.flush()
            if self._progress is not None:
                self._ticks.set()


def joined(waiting: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield *waiting* with neighbours of one stream joined; rich messages stay apart."""
    for kind, pieces in itertools.groupby(waiting, key=itemgetter(0)):
        if kind < len(STREAMS):
            yield kind, b"".join(data for _, data in pieces)
        else:
            yield from pieces


# ---- whose output is this? -----------------------------------------------------------------

_of_this_context: ContextVar[LiveChannel | None] = ContextVar("dcengine_live", default=None)
_of_this_process: list[LiveChannel] = []  #: at most one: a child serves one slot, with all its threads


def current() -> LiveChannel | None:
    """Return the channel of the call that runs here, if one does."""
    channel = _of_this_context.get()
    if channel is None and _of_this_process:
        channel = _of_this_process[0]
    return channel if channel is not None and channel.is_active else None


def use_in_this_context(channel: LiveChannel) -> None:
    """Let what this thread says go to *channel*."""
    _of_this_context.set(channel)


def use_in_this_process(channel: LiveChannel) -> None:
    """Let what any thread of this process says go to *channel*."""
    _of_this_process[:] = [channel]


def use_nowhere() -> None:
    """Let what this process says go where it would without us: it was forked by user code."""
    _of_this_process.clear()
    _of_this_context.set(None)
