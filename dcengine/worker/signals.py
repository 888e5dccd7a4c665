"""What a worker does when its process is asked to end: it hands back what it holds, then the process ends.

Only where nobody else has a say in it: a program with a handler of its own for SIGTERM decides itself, and may call
`stop` or leave the loop. Signals belong to the process, so what is done with them does too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import FrameType, TracebackType
from typing import Any

END_SECONDS = 0.9  #: for all workers of the process to hand back what they hold

#: Of the loops that run: what begins the hand-back of each, and in which process.
_ends: dict[object, tuple[Callable[[], Future[Any]], int]] = {}
_last_words: list[asyncio.Task[None]] = []  #: the end of the process, under way


class Ending:
    """While this is entered, SIGTERM calls *begin* before it ends the process, and waits for what that returns."""

    def __init__(self, begin: Callable[[], Future[Any]]) -> None:
        self._begin = begin

    def __enter__(self) -> Ending:
        _ends[self] = self._begin, os.getpid()
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ends.pop(self, None)
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and not _ends and signal.getsignal(signal.SIGTERM) is _hear:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _hear(number: int, frame: FrameType | None) -> None:
    """Have all workers hand back what they hold, then let the signal do what it would have done."""
    futures = [begin() for begin, process in list(_ends.values()) if process == os.getpid()]
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        wait(futures, END_SECONDS)
        _end_by(number)
    else:  # this very thread has to go on for them to do so
        loop.call_soon_threadsafe(_end_later, number, futures)


def _end_later(number: int, futures: list[Future[Any]]) -> None:
    async def end() -> None:
        if futures:
            await asyncio.wait([asyncio.wrap_future(future) for future in futures], timeout=END_SECONDS)
        _end_by(number)

    _last_words.append(asyncio.ensure_future(end()))


def _end_by(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _forget() -> None:
    """In a forked child: what its parent holds is not its own."""
    _ends.clear()
    if signal.getsignal(signal.SIGTERM) is _hear:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
