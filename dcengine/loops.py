"""An asyncio loop on a thread of its own, for code that blocks at the edge and is async inside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
CANCEL_SECONDS = 5.0  #: after which a task that was cancelled is cancelled again


def quick_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, which takes a fifth less of the processor; of asyncio where there is none (Windows).

    For processes of our own: one that user code forks from a process with such a loop crashes at its end.
    """
    try:
        import uvloop  # late: most processes do without
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class LoopThread:
    """Runs coroutines for callers of other threads."""

    def __init__(self, name: str, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(_cancel_the_rest())
        self.loop.close()  # at once: what is asked for from now on is refused, and does not wait for ever

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin *coroutine* on the loop; return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run *coroutine* on the loop and wait for its end; an interrupt of the caller cancels it."""
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this very thread, where waiting would never end."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has just been closed
                self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout=5)


class RunningLoop:
    """The loop of whoever makes it, for callers of other threads."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin *coroutine* on the loop; return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    @property
    def is_current(self) -> bool:
        """Whether the caller is on its thread, where waiting would never end."""
        return threading.current_thread() is self._thread


class Across(AsyncIterator[T]):
    """The items of an async iterator of this loop, for a coroutine on another."""

    def __init__(self, items: AsyncIterator[T]) -> None:
        self._items = items
        self._loop = asyncio.get_running_loop()

    async def __anext__(self) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._next(), self._loop))

    async def _next(self) -> T:
        return await anext(self._items)


async def _cancel_the_rest() -> None:
    """Cancel what still runs: those who wait for it in other threads would wait forever."""
    await asyncio.sleep(0)  # what was asked for just now begins first
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=1.0)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* and wait for their end; asked again, since `asyncio.wait_for` may lose a cancellation (< 3.12)."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
