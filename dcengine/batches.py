"""Batches: what `map` gives back, and the two orders in which their items come."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import Future
from typing import Any

from .ends import ends_of, error_of, value_of
from .errors import ResultNotReady
from .handles import POLL_SECONDS, JobHandle, Link
from .references import is_collecting
from .verbs import BatchStatus, FailedItem, JobResult, Report


class BatchHandle:
    """The jobs of one `dcengine.map`. Found again by `dcengine.batch(id)` from any process.

    Iterating, by ``for`` or ``async for``, gives the results in the order of the inputs, each as soon as it and those
    before it are there; an item that failed raises its error when its turn comes, and the iteration may go on then.
    """

    def __init__(self, link: Link, status: BatchStatus) -> None:
        self.id = status.id
        self.first_job = status.first_job
        self._count = status.count
        self._link = link

    def __repr__(self) -> str:
        return f"<dcengine batch {self.id} of {self._count} items>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Stand for the list of results among the arguments of a call; elsewhere for a handle of the same batch."""
        return (list, ([*map(self._item, range(self._count))],)) if is_collecting() else super().__reduce_ex__(protocol)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return Results(self)

    def __aiter__(self) -> AsyncIterator[Any]:
        return Results(self)

    def __getitem__(self, index: int) -> JobHandle:
        """Return the handle of one item."""
        if not -self._count <= index < self._count:
            raise IndexError(f"batch {self.id} has {self._count} items")
        return self._item(index % self._count)

    def _item(self, index: int, end: JobResult | None = None) -> JobHandle:
        return JobHandle(self._link, self.first_job + index, index=index, result=end)

    def results(self, timeout: float | None = None) -> list[Any]:
        """Return all results in order; raises the first error met, or `ResultNotReady` after *timeout* seconds."""
        return list(Results(self, timeout))

    def as_completed(self, timeout: float | None = None) -> Ended:
        """Give a handle for each item as it ends, its result already there, to ``for`` or ``async for``."""
        return Ended(self, timeout)

    def wait(self, timeout: float | None = None) -> BatchStatus:
        """Wait until every item has ended; return how they did. Raises `ResultNotReady` after *timeout* seconds."""
        for _ in Reports(self, timeout):
            pass
        return self.status()

    def done(self) -> bool:
        """Tell whether every item has ended."""
        return self.status().is_final

    def status(self) -> BatchStatus:
        """Return the batch as it stands."""
        status: BatchStatus = self._link.call("batch", self.id)
        return status

    @property
    def progress(self) -> BatchStatus:
        """How many items are done, running, failed, and how fast it goes."""
        return self.status()

    @property
    def failures(self) -> dict[int, BaseException]:
        """The errors of the items that failed so far, by index."""
        return {
            index: error_of(self.first_job + index, end)
            for report in Reports(self, 0.0, patient=False)
            if report.state == "failed"
            for index, end in ends_of(report)
        }

    def failed_items(self, limit: int = 20) -> list[FailedItem]:
        """Return the first items that failed so far, with their reasons as text; nothing is unpickled."""
        found: list[FailedItem] = self._link.call("failures", self.id, limit=limit)
        return found

    def cancel(self) -> None:
        """Cancel what has not ended; running items are interrupted."""
        self._link.call("cancel_batch", self.id)

    def retry_failed(self) -> None:
        """Queue the failed and cancelled items again; what succeeded stays."""
        self._link.call("retry_batch", self.id)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._async_results().__await__()

    async def _async_results(self) -> list[Any]:
        return [result async for result in Results(self)]


class Reports(Iterator[Report], AsyncIterator[Report]):
    """The reports of a batch in the order of acceptance, until every item has ended.

    Unless it is *patient*, until there are no more for now.
    """

    def __init__(self, batch: BatchHandle, timeout: float | None, *, patient: bool = True) -> None:
        self._batch = batch
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._patient = patient
        self._read: deque[Report] = deque()
        self._cursor = 0
        self._ended: set[int] = set()

    def __iter__(self) -> Reports:
        return self

    def __aiter__(self) -> Reports:
        return self

    def __next__(self) -> Report:
        while not self._read:
            if self.is_at_end:
                raise StopIteration
            found = self._batch._link.call("reports", self._batch.id, after=self._cursor, wait=self._wait)
            if not self.take(found):
                raise StopIteration
        return self._read.popleft()

    async def __anext__(self) -> Report:
        while not self._read:
            if self.is_at_end:
                raise StopAsyncIteration
            if not self.take(await asyncio.wrap_future(self.ask())):
                raise StopAsyncIteration
        return self._read.popleft()

    @property
    def is_at_end(self) -> bool:
        """Whether every item has been reported."""
        return len(self._ended) >= len(self._batch)

    def ask(self) -> Future[list[Report]]:
        """Ask for more."""
        return self._batch._link.start("reports", self._batch.id, after=self._cursor, wait=self._wait)

    @property
    def _wait(self) -> float:
        """How long the next question may wait."""
        if not self._patient:
            return 0.0
        left = math.inf if self._deadline is None else self._deadline - time.monotonic()
        return min(POLL_SECONDS, max(0.0, left))

    def take(self, found: list[Report]) -> bool:
        """Take in what was *found*; tell whether to go on."""
        for report in found:
            self._cursor = report.cursor
            self._ended.update(range(report.first, report.first + report.count))
        self._read.extend(found)
        if not found and self._deadline is not None and self._patient and time.monotonic() >= self._deadline:
            raise ResultNotReady(f"batch {self._batch.id}", self._timeout or 0.0)
        return bool(found) or self._patient

    def taken(self) -> list[Report]:
        """Return the reports that were taken in and given to nobody yet."""
        found = [*self._read]
        self._read.clear()
        return found


class Results(Iterator[Any], AsyncIterator[Any]):
    """The results of a batch in the order of its inputs."""

    def __init__(self, batch: BatchHandle, timeout: float | None = None) -> None:
        self._batch = batch
        self._reports = Reports(batch, timeout)
        self._early: dict[int, JobResult] = {}  #: ends that wait for their turn
        self._next = 0

    def __iter__(self) -> Results:
        return self

    def __aiter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        if self._next >= len(self._batch):
            raise StopIteration
        while self._next not in self._early:
            self._early.update(ends_of(next(self._reports)))
        return self._value()

    async def __anext__(self) -> Any:
        if self._next >= len(self._batch):
            raise StopAsyncIteration
        while self._next not in self._early:
            self._early.update(ends_of(await anext(self._reports)))
        return self._value()

    def _value(self) -> Any:
        """Return the value of the item whose turn it is, or raise its error."""
        end = self._early.pop(self._next)
        self._next += 1
        return value_of(self._batch.first_job + self._next - 1, end)


class Ended(Iterator[JobHandle], AsyncIterator[JobHandle]):
    """Handles of the items of a batch in the order in which they end."""

    def __init__(self, batch: BatchHandle, timeout: float | None) -> None:
        self._batch = batch
        self._reports = Reports(batch, timeout)
        self._ends: Iterator[tuple[int, JobResult]] = iter(())

    def __iter__(self) -> Ended:
        return self

    def __aiter__(self) -> Ended:
        return self

    def __next__(self) -> JobHandle:
        while (end := next(self._ends, None)) is None:
            self._ends = ends_of(next(self._reports))
        return self._batch._item(*end)

    async def __anext__(self) -> JobHandle:
        while (end := next(self._ends, None)) is None:
            self._ends = ends_of(await anext(self._reports))
        return self._batch._item(*end)
