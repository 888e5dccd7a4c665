"""Standard output and error of user code, taken where a call runs and left alone elsewhere."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO

from . import bars, displays, live

#: Who writes something that is more than text, by the name of its module, and what takes it for the channel.
SPECIAL_WRITERS = {
    bars.WRITER: bars.take,
    displays.WRITER: displays.take,
    displays.PUBLISHER: displays.take_published,
}


class CapturedStream(io.TextIOBase):
    """A `sys.stdout` or `sys.stderr` that gives a call's text to its live channel, other text to the original."""

    def __init__(self, stream: int, original: TextIO) -> None:
        self._stream, self.original = stream, original
        self._binary = CapturedBytes(stream, original)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        channel = live.current()
        if channel is None:
            return self.original.write(text)
        writer = sys._getframe(1)
        take = SPECIAL_WRITERS.get(writer.f_globals.get("__name__", ""))
        if take is None or not take(writer, text, channel):
            channel.write(self._stream, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        self.write("".join(lines))

    def flush(self) -> None:
        # Text of a call is not sent here: programs flush after each line, and that would undo the coalescing.
        if live.current() is None:
            self.original.flush()

    def close(self) -> None:
        """Stay open: whoever closes standard output would silence the calls after it."""

    def fileno(self) -> int:
        return self.original.fileno()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return live.current() is None and self.original.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.original.encoding if live.current() is None else "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.original.errors if live.current() is None else "backslashreplace"

    @property
    def buffer(self) -> CapturedBytes:
        return self._binary

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)  # a notebook's own stream has more to offer than files do


class CapturedBytes(io.RawIOBase):
    """The ``buffer`` of a `CapturedStream`."""

    def __init__(self, stream: int, original: TextIO) -> None:
        self._stream, self._original = stream, original

    def write(self, data: Any) -> int:
        content = bytes(data)
        channel = live.current()
        if channel is None:
            self._original.buffer.write(content)
        else:
            channel.write(self._stream, content)
        return len(content)

    def close(self) -> None:
        """Stay open, as the text stream does."""

    def fileno(self) -> int:
        return self._original.fileno()

    def writable(self) -> bool:
        return True


_replacing = threading.Lock()


def capture() -> None:
    """Put captured streams in the place of standard output and error, unless they are there."""
    with _replacing:
        for stream, name in enumerate(live.STREAMS):
            present = getattr(sys, name)
            if present is not None and not isinstance(present, CapturedStream):
                setattr(sys, name, CapturedStream(stream, present))


def release() -> None:
    """Put the original streams back, where the captured ones are still in their place."""
    with _replacing:
        for name in live.STREAMS:
            present = getattr(sys, name)
            if isinstance(present, CapturedStream):
                setattr(sys, name, present.original)


def speak_by_lines() -> None:
    """Let the original streams pass on each line at once, so that none comes in a later call's time.

    Copies of this process that user code makes speak through them, and somebody waits for their lines.
    """
    for name in live.STREAMS:
        present = getattr(sys, name)
        if isinstance(present, CapturedStream) and isinstance(present.original, io.TextIOWrapper):
            present.original.reconfigure(line_buffering=True)
