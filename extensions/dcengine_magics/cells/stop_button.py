"""The stop button of a notebook while a remote cell runs: it counts, and never cuts an output in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class StopButton:
    """Turns SIGINT into KeyboardInterrupt only inside `waiting`; elsewhere it waits for that.

    Only the main thread meets signals; in other threads, such as those of subshells, nothing is changed.
    """

    def __init__(self) -> None:
        self._is_waiting = False
        self._is_pressed = False
        self._is_ours = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> StopButton:
        if self._is_ours:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the button raise KeyboardInterrupt in here."""
        try:
            self._is_waiting = True
            if self._is_pressed:
                self._is_pressed = False
                raise KeyboardInterrupt
            yield
        finally:
            self._is_waiting = False

    def _press(self, number: int, where: FrameType | None) -> None:
        if not self._is_waiting:
            self._is_pressed = True
            return
        self._is_waiting = False
        raise KeyboardInterrupt
