"""The pipes into which a child's C code and programs write, as the child's slot holds them.

The child reads them itself (see `descriptors`). Its slot reads what the child cannot: it crashed, or
its code keeps the interpreter's lock, so that nothing else of it runs.
"""

from __future__ import annotations

import codecs
import os
import select
from contextlib import suppress

from .live import STREAMS

READ_SIZE = 1 << 20  #: bytes; no less than a pipe can hold


class Pipes:
    """Two pipes, for standard output and error; a child gets both ends of them and this process keeps one."""

    def __init__(self) -> None:
        pairs = [os.pipe() for _ in STREAMS]
        self._reading, self._writing = [read for read, _ in pairs], [write for _, write in pairs]
        for end in self._reading:
            os.set_blocking(end, False)
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in STREAMS]

    @property
    def ends(self) -> list[int]:
        """The descriptors that a child needs."""
        return [*self._reading, *self._writing]

    def hand_over(self) -> None:
        """Leave writing to the child, which has its own descriptors by now."""
        while self._writing:
            os.close(self._writing.pop())

    def has_text(self) -> bool:
        """Tell whether something lies in the pipes."""
        asked = select.poll()  # select.select knows no descriptors above 1,023, and workers may have more
        for end in self._reading:
            asked.register(end, select.POLLIN)
        return bool(asked.poll(0))

    def read(self) -> list[tuple[int, bytes]]:
        """Return what lies in the pipes, as stream and valid UTF-8."""
        found = []
        for stream, end in enumerate(self._reading):
            with suppress(BlockingIOError):
                if text := self._decoders[stream].decode(os.read(end, READ_SIZE)):
                    found.append((stream, text.encode()))
        return found

    def close(self) -> None:
        """Let go of the pipes."""
        self.hand_over()
        while self._reading:
            os.close(self._reading.pop())
