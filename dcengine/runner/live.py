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
from typing import Any, Protocol

import msgspec

from ..errors import PayloadTooLarge
from ..verbs import Progress
from .journal import Journal
from .tail import Tail, left_out_line
from .units import Live

INTERVAL = 0.05  #: seconds that text may wait for more text
LIMIT = 64 * 1024  #: bytes of text that are sent at once
PROGRESS_INTERVAL = 0.1  #: seconds between two progress messages of one call
OUTPUT_LIMIT = 16 << 20  #: bytes of text of one call that are kept, unless its unit says otherwise
SHOW_LIMIT = 32 << 20  #: bytes of one rich message
STREAMS = ("stdout", "stderr")
RICH = ("display", "update", "clear", "result", "error", "comm")  #: kinds of messages that are not text
KINDS = (*STREAMS, *RICH)


class Aside(Protocol):
    """What else is written while a call runs, past Python's streams."""

    def catch_up(self) -> None:
        """Say what was written before this moment."""
        ...

    def finish(self) -> None:
        """Say all that the call has written; called at its end."""
        ...


class LiveChannel:
    """The way of text and progress from user code to the slot.

    The first half of a call's text goes out as it comes. Of what it says beyond that the newest is
    kept, and goes out at the end of the call.

    User threads may write too, so every public method takes the lock. *shield* keeps signals
    from becoming exceptions in the middle of a message. *journal* learns of each piece of text at
    once, and how many messages are out, for whoever has to explain a crash.
    """

    def __init__(
        self,
        emit: Callable[[Live], None],
        *,
        shield: AbstractContextManager[Any] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.is_active = False
        self.item = 0
        self.aside: Aside | None = None
        self._emit, self._journal = emit, journal
        self._shield = shield or nullcontext()
        # Reentrant: a signal handler of the user's may print while the main thread prints.
        self._lock = threading.RLock()
        self._is_sending = False
        self._unit = 0
        self._number = 0
        self._taken = 0
        self._waiting: list[tuple[int, bytes]] = []  #: index in `KINDS` and content
        self._size = 0
        self._printed = 0
        self._limit = OUTPUT_LIMIT
        self._tail: Tail | None = None  #: once a call has said more than goes out as it comes
        self._progress: Progress | None = None
        self._progress_at = 0.0
        self._ticks = threading.Event()
        self._ticker: threading.Thread | None = None
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in STREAMS]

    def begin(self, unit: int, limit: int = OUTPUT_LIMIT) -> None:
        """Open the channel for *unit*; of the text of each call *limit* bytes are kept."""
        with self._lock:
            self._unit, self._number, self.item = unit, 0, 0
            self._printed, self._limit, self._tail = 0, limit, None
            self.is_active = True

    def end(self) -> int:
        """Close the channel; return how many messages the unit sent."""
        self.end_item()
        with self._lock:
            self.is_active = False
            return self._number

    @property
    def taken(self) -> int:
        """How many pieces of text and rich messages there were so far; it grows if a call says something."""
        self._catch_up()
        return self._taken

    def is_at(self, unit: int, item: int) -> bool:
        """Tell whether call *item* of *unit* is the one that runs."""
        return self.is_active and (self._unit, self.item) == (unit, item)

    def end_item(self) -> None:
        """Send what the call still has to say."""
        if self.aside is not None:
            self.aside.finish()
        if self._printed:
            self._end_text()
        if self._waiting or self._progress:
            self.flush(all_progress=True)
        self._progress_at = 0.0

    def write(self, stream: int, data: bytes) -> None:
        """Take text that was printed on *stream*, after what was written aside before it."""
        with self._shield:
            self._catch_up()
            self.take(stream, data)

    def _catch_up(self) -> None:
        if self.aside is not None and self.is_active:
            self.aside.catch_up()

    def take(self, stream: int, data: bytes) -> None:
        """Take text for *stream*."""
        with self._shield, self._lock:
            if not self.is_active or not data:
                return
            self._taken += 1
            room = max(0, self._limit // 2 - self._printed)
            self._printed += len(data)
            if len(data) <= room:
                self._gather(stream, data)
            else:
                self._keep(stream, data, room)

    def _gather(self, stream: int, data: bytes) -> None:
        """Take text that goes out in a moment."""
        self._waiting.append((stream, data))
        self._size += len(data)
        if self._journal is not None:
            self._journal.append_text(stream, data)
        if self._size >= LIMIT:
            self._send_waiting()
        elif len(self._waiting) == 1:
            self._tick_later()

    def _keep(self, stream: int, data: bytes, room: int) -> None:
        """Take text of which only the newest may go out, once the call has ended; the first *room* bytes go before."""
        if self._tail is None:
            if room:
                self._gather(stream, data[:room])
                data = data[room:]
            self._send_waiting()
            self._tail = Tail(self._limit - self._limit // 2)
        self._tail.add(stream, data)
        if self._journal is not None:
            self._journal.append_text(stream, data, is_beyond=True)

    def _end_text(self) -> None:
        """Send the text of a call that has ended."""
        with self._shield, self._lock:
            tail, self._tail, self._printed = self._tail, None, 0
            if tail is not None:
                pieces = tail.pieces()
                if tail.left_out:
                    self._waiting.append((pieces[0][0] if pieces else 0, left_out_line(tail.left_out)))
                self._waiting += pieces
            self._send_waiting()
            for stream, decoder in enumerate(self._decoders):
                if decoder.getstate()[0]:  # half a character, which the next call must not get
                    self._waiting.append((stream, "\ufffd".encode()))
                    decoder.reset()

    def show(self, kind: str, data: bytes) -> None:
        """Send the rich message *data*, JSON in UTF-8, at once, after the text that waits.

        *kind* is one of `RICH`. Raises `PayloadTooLarge` above `SHOW_LIMIT`.
        """
        if len(data) > SHOW_LIMIT:
            raise PayloadTooLarge(f"what the call shows ({kind})", len(data), SHOW_LIMIT)
        with self._shield:
            self._catch_up()
            self._show(kind, data)

    def _show(self, kind: str, data: bytes) -> None:
        with self._lock:
            if self.is_active:
                self._taken += 1
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
        self._note_sent()

    def _send_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is None or self._is_sending:
            return
        self._progress_at = time.monotonic()
        self._send("progress", msgspec.msgpack.encode(progress))
        self._note_sent()

    def _note_sent(self) -> None:
        if self._journal is None:
            return
        if self._tail is None:
            self._journal.forget_text(self._number)
        else:
            self._journal.note_said(self._number)

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
