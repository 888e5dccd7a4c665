"""What C code and programs that a cell starts write to file descriptors 1 and 2, taken for the cell."""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dcengine.runner import live

PIPE_SIZE = 1 << 20  #: bytes; a burst of C code that keeps the interpreter's lock has to fit
READ_SIZE = 64 * 1024

_descriptors: list[Descriptors] = []  #: at most one


class Descriptors:
    """Two pipes that stand in for a process's standard output and error while a cell runs.

    They are read for as long as the process lives, for what a cell starts may write longer than the cell runs;
    that goes where it would have gone without us.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held from reading text to passing it on
        self._process = os.getpid()
        self._originals = [os.dup(1), os.dup(2)]
        self._pipes = [_pipe(), _pipe()]
        threading.Thread(target=self._read, name="dcengine-descriptors", daemon=True).start()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Let what is written go to the channel of the call that runs; all of it is there at the end."""
        for number, (_, end) in enumerate(self._pipes, 1):
            os.dup2(end, number)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)  # C holds text back where it sees no terminal
            for number, original in enumerate(self._originals, 1):
                os.dup2(original, number)
            if os.getpid() == self._process:  # a copy that the cell forked must not take its parent's text
                self._pass_on()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for end, _ in self._pipes:
                selector.register(end, selectors.EVENT_READ)
            while True:
                selector.select()
                self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            for stream, (end, _) in enumerate(self._pipes):
                with suppress(BlockingIOError):
                    while text := os.read(end, READ_SIZE):
                        self._say(stream, text)

    def _say(self, stream: int, text: bytes) -> None:
        channel = live.current()
        if channel is not None:
            channel.write(stream, text)
        else:
            os.write(self._originals[stream], text)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return read, write


@contextmanager
def descriptors_taken() -> Iterator[None]:
    """Take for the running cell what this process and its children write to file descriptors 1 and 2."""
    if not _descriptors:
        _descriptors.append(Descriptors())
    with _descriptors[0].taken():
        yield
