"""What the process of a kernel prints beside its messages: the end of it says why it did not start."""

from __future__ import annotations

import asyncio
import os

from dcengine.plain import clean

KEPT_BYTES = 8192
SHOWN_CHARACTERS = 2000
PIECE = 1 << 16


class LastWords:
    """A pipe for a kernel's stdout and stderr, of which the end is kept."""

    def __init__(self) -> None:
        self._reader = self._writer = -1
        self._said = b""

    def opened(self) -> int:
        """Return the descriptor to write to; it serves the processes of all restarts."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._take)
        return self._writer

    def text(self) -> str:
        """Return the end of what was printed, safe to show."""
        if self._reader >= 0:
            self._take()
        return clean(self._said.decode(errors="replace").strip()[-SHOWN_CHARACTERS:], SHOWN_CHARACTERS)

    def forget(self) -> None:
        """Forget what was printed so far: a new process begins."""
        self.text()
        self._said = b""

    def close(self) -> None:
        """Listen no longer."""
        if self._reader >= 0:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            os.close(self._writer)
            self._reader = self._writer = -1

    def _take(self) -> None:
        try:
            self._said = (self._said + os.read(self._reader, PIECE))[-KEPT_BYTES:]
        except BlockingIOError:
            pass
