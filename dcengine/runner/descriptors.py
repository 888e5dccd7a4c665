"""What C code and programs write to file descriptors 1 and 2 of a child, taken for the call that runs."""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress

from .journal import Journal
from .live import STREAMS, LiveChannel
from .pipes import READ_SIZE

LINE_BUFFERED = 1  #: _IOLBF of <stdio.h>
C_BUFFER_SIZE = 4096
C_STDOUT = "__stdoutp" if sys.platform == "darwin" else "stdout"
PATIENCE = 0.05  #: seconds that a print waits for text which the reading thread has in its hands


class Waiting(threading.local):
    """Knows whether there is something to read; one for each thread, since two may not ask the same at once."""

    def __init__(self, ends: Sequence[int]) -> None:
        asked = select.poll()
        for end in ends:
            asked.register(end, select.POLLIN)
        self.poll = asked.poll


class Descriptors:
    """Two pipes in the place of this process's standard output and error, for as long as it lives.

    *ends* are those that read and those that write, as `Pipes.ends` gives them. What is read goes to
    *channel* while a call runs, and otherwise where it would have gone without us.
    """

    def __init__(self, ends: Sequence[int], channel: LiveChannel, journal: Journal) -> None:
        self._channel, self._journal = channel, journal
        self._reading = list(ends[: len(STREAMS)])
        for end in self._reading:
            os.set_inheritable(end, False)
        self._originals = [os.dup(1), os.dup(2)]
        for number, end in enumerate(ends[len(STREAMS) :], 1):
            os.dup2(end, number)
            os.close(end)
        # Reentrant: a signal handler of the user's may print in the middle of it.
        self._lock = threading.RLock()
        self._is_passing_on = False
        self._waiting = Waiting(self._reading)
        self._c = ctypes.CDLL(None)
        self._c_stdout = ctypes.c_void_p.in_dll(self._c, C_STDOUT)
        self._flush = self._c.fflush
        # C holds text back where it sees no terminal; people who watch want lines.
        self._c_buffer = ctypes.create_string_buffer(C_BUFFER_SIZE)  # of our own: glibc's would be of one byte
        self._c.setvbuf(self._c_stdout, self._c_buffer, LINE_BUFFERED, ctypes.c_size_t(C_BUFFER_SIZE))
        os.register_at_fork(before=self._flush_all)
        threading.Thread(target=self._read, name="dcengine-descriptors", daemon=True).start()
        # Because of that thread, newer Pythons would warn users of each fork.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)

    def catch_up(self) -> None:
        """Say what was written before this moment; called before Python's own text."""
        # Not for ever: the thread may wait for a lock that a signal handler's caller holds.
        if (self._waiting.poll(0) or self._is_passing_on) and self._lock.acquire(timeout=PATIENCE):
            try:
                self._pass_on()
            finally:
                self._lock.release()

    def finish(self) -> None:
        """Say all that was written before this moment, also what C holds back; called at the end of each call."""
        self._flush(self._c_stdout)
        # The flag is set before the thread reads: what it took out of the pipes is not missed here.
        if self._waiting.poll(0) or self._is_passing_on:
            with self._lock:
                self._pass_on()

    def leave(self) -> None:
        """Leave the pipes to the process that this one was forked from, but for writing."""
        for end in self._reading:
            os.close(end)

    def _read(self) -> None:
        while True:
            self._waiting.poll(None)
            with self._lock:
                self._pass_on()

    def _pass_on(self) -> None:
        """Pass on what lies in the pipes now; not more, for a program may write without end."""
        self._is_passing_on = True
        for stream, end in enumerate(self._reading):
            with suppress(BlockingIOError):
                self._say(stream, os.read(end, READ_SIZE))
        self._journal.note_reading()
        self._is_passing_on = False

    def _say(self, stream: int, text: bytes) -> None:
        if self._channel.is_active:
            self._channel.take(stream, text)
            return
        with suppress(OSError):  # the worker's log is full or gone
            os.write(self._originals[stream], text)

    def _flush_all(self) -> None:
        """Leave nothing in buffers that a copy of this process would write again."""
        self._flush(self._c_stdout)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
