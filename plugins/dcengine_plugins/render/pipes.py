"""What a process says on two pipes at once: answers that are waited for, and lines that nobody asked for beside."""

from __future__ import annotations

import os
import selectors
from collections import deque
from collections.abc import Callable

CHUNK = 1 << 16
LOOK_SECONDS = 0.1  #: between two looks at what is said beside: to wake for each line would cost more than tiny frames


class Lines:
    """The lines that come out of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.has_ended = False
        self.ready: deque[str] = deque()
        self._rest = b""
        os.set_blocking(descriptor, False)

    def read(self) -> None:
        """Take in all that is there now; a last line without its end counts once the pipe is closed."""
        while not self.has_ended:
            try:
                chunk = os.read(self.descriptor, CHUNK)
            except BlockingIOError:
                return
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            if not chunk:
                self.has_ended = True
                whole, self._rest = [self._rest] if self._rest else [], b""
            self.ready.extend(line.decode(errors="replace").rstrip() for line in whole)


class Conversation:
    """Waits for lines of *wanted*, and tells meanwhile what comes *beside*."""

    def __init__(self, wanted: int, beside: int) -> None:
        self._wanted, self._beside = Lines(wanted), Lines(beside)
        self._selector = selectors.DefaultSelector()
        self._selector.register(wanted, selectors.EVENT_READ)

    def next_line(self, say: Callable[[str], None]) -> str | None:
        """Return the next line that is wanted, None at the end; lines that came before it have gone to *say*."""
        while not (self._wanted.ready or self._wanted.has_ended):
            if self._selector.select(LOOK_SECONDS):
                self._wanted.read()
            self._beside.read()
            while self._beside.ready:
                say(self._beside.ready.popleft())
        return self._wanted.ready.popleft() if self._wanted.ready else None

    def close(self) -> None:
        """Let go of what is wanted; what comes beside is its owner's."""
        self._selector.close()
        os.close(self._wanted.descriptor)
