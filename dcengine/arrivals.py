"""The ends of the jobs behind many handles, gathered from all engines that they are with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from .batches import BatchHandle, Reports
from .ends import ends_of
from .errors import ResultNotReady
from .handles import JobHandle, Link
from .verbs import JobResult
from .watching import Told, settle, watch_of


class Arrivals:
    """Handles as their jobs end; whoever hears of an end, in whatever thread, puts it here."""

    def __init__(self, handles: Iterable[JobHandle | BatchHandle], timeout: float | None) -> None:
        self._jobs: dict[tuple[Link, int], JobHandle] = {}
        self._batches: dict[BatchHandle, dict[int, JobResult]] = {}
        for handle in handles:
            if isinstance(handle, BatchHandle):
                self._batches[handle] = {}
            else:
                self._jobs.setdefault((handle._link, handle.id), handle)
        self.missing = len(self._jobs) + sum(map(len, self._batches))  #: jobs whose end was not taken yet
        self._timeout = timeout
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._queue: SimpleQueue[tuple[JobHandle, BatchHandle | None, Told]] = SimpleQueue()
        self._wake: Callable[[], object] = _nobody
        self._stops: list[Callable[[], None]] = []

    # ---- what came -------------------------------------------------------------------------

    def is_done(self, handle: JobHandle | BatchHandle) -> bool:
        """Tell whether all jobs of *handle* have been taken."""
        if isinstance(handle, BatchHandle):
            return len(self._batches[handle]) == len(handle)
        return self._jobs[handle._link, handle.id]._result is not None

    def end_of(self, handle: JobHandle) -> JobResult:
        """Return the end of a job that has been taken."""
        end = self._jobs.get((handle._link, handle.id), handle)._result
        assert end is not None
        return end

    def ends_of(self, batch: BatchHandle) -> dict[int, JobResult]:
        """Return the ends of the items of *batch* that have been taken."""
        return self._batches[batch]

    def next(self) -> JobHandle:
        """Take the next job that has ended; raises `ResultNotReady`, or why nobody can tell of it."""
        try:
            left = self._deadline - time.monotonic()
            # Without a limit an interrupt would not be noticed on Windows.
            return self._taken(*self._queue.get(timeout=max(0.0, min(left, 3600.0))))
        except Empty:
            if time.monotonic() < self._deadline:
                return self.next()
            raise self._too_late() from None

    async def next_awaited(self) -> JobHandle:
        """Do the same without blocking the loop."""
        loop = asyncio.get_running_loop()
        while True:
            news: asyncio.Future[None] = loop.create_future()
            self._wake = partial(settle, loop, news, None)
            with suppress(Empty):
                return self._taken(*self._queue.get_nowait())
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise self._too_late()
            await asyncio.wait([news], timeout=None if left == math.inf else left)

    def take_all(self) -> None:
        """Take all jobs that have ended by now."""
        with suppress(Empty):
            while True:
                self._taken(*self._queue.get_nowait())

    def _taken(self, handle: JobHandle, batch: BatchHandle | None, end: Told) -> JobHandle:
        if isinstance(end, BaseException):
            raise end
        self.missing -= 1
        handle._result = end
        if batch is not None and handle.index is not None:
            self._batches[batch][handle.index] = end
        return handle

    def _too_late(self) -> ResultNotReady:
        return ResultNotReady(f"{self.missing} of the jobs", self._timeout or 0.0)

    # ---- who tells of it -------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to listen."""
        listened: dict[Link, dict[int, JobHandle]] = {}
        for (link, job), handle in self._jobs.items():
            if handle._result is not None:
                self._put(handle, None, handle._result)
            else:
                listened.setdefault(link, {})[job] = handle
        for link, handles in listened.items():
            self._listen(link, handles)
        for batch in self._batches:
            following = _Following(batch, self._put)
            self._stops.append(following.stop)
            following.ask()

    def _listen(self, link: Link, handles: dict[int, JobHandle]) -> None:
        def told(job: int, end: Told) -> None:
            self._put(handles[job], None, end)

        watch = watch_of(link)
        self._stops.append(lambda: watch.remove(handles, told))
        watch.add(handles, told)

    def end(self) -> None:
        """Listen no more."""
        stops, self._stops = self._stops, []
        for stop in stops:
            stop()

    def _put(self, handle: JobHandle, batch: BatchHandle | None, end: Told) -> None:
        self._queue.put((handle, batch, end))
        self._wake()


class _Following:
    """Passes on what a batch reports."""

    def __init__(self, batch: BatchHandle, put: Callable[[JobHandle, BatchHandle, Told], None]) -> None:
        self._batch = batch
        self._put = put
        self._reports = Reports(batch, None)
        self._asked: Future[Any] | None = None
        self._is_over = False

    def ask(self) -> None:
        if self._is_over or self._reports.is_at_end:
            return
        try:
            self._asked = self._reports.ask()
        except Exception as error:
            self._put(self._batch[0], self._batch, error)
        else:
            self._asked.add_done_callback(self._answered)

    def stop(self) -> None:
        self._is_over = True
        if self._asked is not None:
            self._asked.cancel()

    def _answered(self, asked: Future[Any]) -> None:
        try:
            self._reports.take(asked.result())
        except CancelledError:  # by us, or with its loop: the next question says so
            pass
        except Exception as error:
            self._put(self._batch[0], self._batch, error)
            return
        for report in self._reports.taken():
            for index, end in ends_of(report):
                self._put(self._batch._item(index), self._batch, end)
        self.ask()


def _nobody() -> None:
    """Wake nobody: nobody waits in a coroutine."""
