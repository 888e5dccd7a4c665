"""A line to another process, on which what is said is there before the sayer goes on, unless it is not listened to."""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import IO

AT_ONCE: int = getattr(select, "PIPE_BUF", 512)  #: bytes that a pipe takes without waiting, once it takes any


class Line:
    """Writes to *pipe*, the input of another process, and waits for nobody.

    What the pipe has room for is in it when `say` returns: code that holds Python's lock next cannot keep it back.
    The rest is written by a thread, in order.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept: SimpleQueue[bytes | None] = SimpleQueue()  #: for the thread; None hangs up
        self._unwritten = 0  #: what was kept and is not written yet
        self._lock = threading.Lock()
        threading.Thread(target=self._write_kept, name="dcengine-line", daemon=True).start()

    def say(self, said: bytes) -> None:
        """Write *said*, now if that can be."""
        with self._lock:
            if not self._unwritten:
                said = self._write_what_fits(said)
            if said:
                self._unwritten += 1
                self._kept.put(said)

    def hang_up(self) -> None:
        """Close the pipe, once all that was said is written."""
        self._kept.put(None)

    def _write_what_fits(self, said: bytes) -> bytes:
        """Write as much of *said* as the pipe takes at once; return the rest."""
        with suppress(OSError, ValueError):  # whoever listened has ended; or pipes cannot be asked, on Windows
            while said and select.select([], [self._pipe], [], 0)[1]:
                said = said[os.write(self._pipe.fileno(), said[:AT_ONCE]) :]
        return said

    def _write_kept(self) -> None:
        with suppress(OSError), self._pipe:  # it may have ended
            while (said := self._kept.get()) is not None:
                while said:
                    said = said[os.write(self._pipe.fileno(), said) :]
                with self._lock:
                    self._unwritten -= 1
