"""What a call is told while it runs: messages from outside, for whoever in it listens."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from .units import Told
from .wire import Kind, Readable, read_frame

PATIENCE = 1.0  #: seconds for a message that is being heard when the listening ends

_decoder = msgspec.msgpack.Decoder(Told)


class Inbox:
    """The frames that a slot sends its child.

    The main thread reads them itself, between calls, until a call listens for the first time. From then on a
    thread reads: the main one is busy with the call.
    """

    def __init__(self, frames: Readable, is_at: Callable[[int, int], bool]) -> None:
        self._frames, self._is_at = frames, is_at
        self._lock = threading.Lock()
        self._ahead: SimpleQueue[bytes | None] = SimpleQueue()  #: frames that the thread has read; None for the end
        self._reader: threading.Thread | None = None
        self._listening: Listening | None = None

    def next(self) -> bytes:
        """Return the body of the next frame for the main thread; raises `EOFError` when the slot is gone."""
        with self._lock:
            while self._reader is None:
                kind, body = read_frame(self._frames)
                if kind != Kind.TELL:  # else nobody listened
                    return body
        if (ahead := self._ahead.get()) is None:
            raise EOFError
        return ahead

    def listen(self, hear: Callable[[bytes], None]) -> Listening:
        """Have *hear* called with each message for the call that runs, instead of whoever listened before."""
        self._listening = Listening(hear)
        with self._lock:
            if self._reader is None:
                self._reader = threading.Thread(target=self._read, name="dcengine-inbox", daemon=True)
                self._reader.start()
        return self._listening

    def _read(self) -> None:
        while True:
            try:
                kind, body = read_frame(self._frames)
            except (EOFError, OSError):
                self._ahead.put(None)
                return
            if kind == Kind.TELL:
                self._take(_decoder.decode(body))
            else:
                self._ahead.put(body)

    def _take(self, told: Told) -> None:
        if self._listening is not None and self._is_at(told.unit, told.item):
            self._listening.take(told.data)


class Listening:
    """Hands messages to *hear*, one after the other, in a thread of its own: user code may keep that for long."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="dcengine-listener", daemon=True)
        self._thread.start()

    def take(self, message: bytes) -> None:
        """Have *message* heard after those before it."""
        self._messages.put(message)

    def close(self) -> None:
        """Hear no more; a message that is being heard gets a moment, and is left alone after it."""
        self._is_over = True
        self._messages.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        while (message := self._messages.get()) is not None and not self._is_over:
            try:
                self._hear(message)
            except BaseException:  # user code; it must not end the thread
                traceback.print_exc()


# ---- who can listen here? ------------------------------------------------------------------

_of_this_process: list[Inbox] = []  #: at most one: a child serves one slot


def listen(hear: Callable[[bytes], None]) -> Listening | None:
    """Have *hear* called, in a thread, with what the running call is told; None where it cannot be told anything."""
    return _of_this_process[0].listen(hear) if _of_this_process else None


def use_in_this_process(inbox: Inbox) -> None:
    """Let calls of this process hear what comes to *inbox*."""
    _of_this_process[:] = [inbox]


def use_nowhere() -> None:
    """Let nothing be heard in this process: it was forked by user code."""
    _of_this_process.clear()
