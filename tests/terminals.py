"""A terminal for tests: a program in it, what somebody would see, and the keys they press."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pexpect
import pyte

from tests.engines import PATIENCE, environment


class Terminal:
    """``dcengine`` with these arguments, or another *program*, in a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 120, lines: int = 40, program: Sequence[str] = ()) -> None:
        command, *more = program or [sys.executable, "-m", "dcengine", *arguments]
        self.child = pexpect.spawn(
            command, more, dimensions=(lines, columns),
            env=environment(TERM="xterm-256color", COLUMNS="", LINES=""), timeout=PATIENCE,
        )  # fmt: skip
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    def press(self, keys: str) -> None:
        self.child.send(keys)

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self._screen.reset()
        self.child.setwinsize(lines, columns)

    @property
    def lines(self) -> list[str]:
        """What somebody sees now."""
        self._read()
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def shows(self, *texts: str, patience: float = PATIENCE) -> str:
        """Wait until all *texts* are to be seen; return all that is."""
        deadline = time.monotonic() + patience
        while not all(text in self.text for text in texts):
            assert time.monotonic() < deadline, f"not {texts} in:\n{self.text}"
            time.sleep(0.02)
        return self.text

    def ended(self) -> int | None:
        """Wait for its end; return its exit status, None if a signal has ended it."""
        self.child.expect(pexpect.EOF)
        self._take(self.child.before)
        self.child.close()
        return self.child.exitstatus

    def close(self) -> None:
        self.child.close(force=True)

    def _read(self) -> None:
        try:
            while True:
                self._take(self.child.read_nonblocking(65536, timeout=0))
        except (pexpect.TIMEOUT, pexpect.EOF):
            return

    def _take(self, data: bytes) -> None:
        self.raw += data
        self._stream.feed(data)


@contextmanager
def terminal(*arguments: str, columns: int = 120, lines: int = 40) -> Iterator[Terminal]:
    """A terminal that is closed afterwards, whatever runs in it."""
    opened = Terminal(*arguments, columns=columns, lines=lines)
    try:
        yield opened
    finally:
        opened.close()
