"""Waiting for many handles: `gather`, `as_completed` and `wait`, whatever engines their jobs are with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any, NamedTuple, TypeAlias

from .arrivals import Arrivals
from .batches import BatchHandle
from .ends import error_of, value_of
from .errors import InvalidOption, ResultNotReady
from .handles import JobHandle
from .verbs import JobResult

Handle: TypeAlias = JobHandle | BatchHandle

EXPECTED = "a handle that submit or map gave, or several of them"
WHENS = (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)


class DoneAndNotDone(NamedTuple):
    """What `wait` returns, as that of `concurrent.futures` does."""

    done: set[Handle]
    not_done: set[Handle]


class Completions(Iterator[JobHandle], AsyncIterator[JobHandle]):
    """Handles of jobs in the order in which they end, their results already there: for ``for`` and ``async for``."""

    def __init__(self, handles: Iterable[Handle], timeout: float | None) -> None:
        arrivals = Arrivals(handles, timeout)
        # Generators let go of what they wait for as soon as nobody goes on with them.
        self._ends, self._ends_awaited = _ends(arrivals), _ends_awaited(arrivals)

    def __iter__(self) -> Completions:
        return self

    def __aiter__(self) -> Completions:
        return self

    def __next__(self) -> JobHandle:
        return next(self._ends)

    async def __anext__(self) -> JobHandle:
        return await anext(self._ends_awaited)


def _ends(arrivals: Arrivals) -> Generator[JobHandle, None, None]:
    try:
        arrivals.begin()
        while arrivals.missing:
            yield arrivals.next()
    finally:
        arrivals.end()


async def _ends_awaited(arrivals: Arrivals) -> AsyncGenerator[JobHandle, None]:
    try:
        arrivals.begin()
        while arrivals.missing:
            yield await arrivals.next_awaited()
    finally:
        arrivals.end()


def as_completed(handles: Handle | Iterable[Handle], timeout: float | None = None) -> Completions:
    """Give the handles of jobs as they end, their results already there, to ``for`` or ``async for``.

    Each job comes once; of a batch, each of its items. Raises `ResultNotReady` *timeout* seconds after this call.
    """
    return Completions(_checked(handles), timeout)


def gather(
    *handles: Handle | Iterable[Handle], timeout: float | None = None, return_exceptions: bool = False
) -> list[Any]:
    """Return the results of jobs in the order of *handles*, those of a batch as a list of its own.

    ``gather(a, b)`` and ``gather([a, b])`` are the same. The first error that comes is raised, and the other jobs go
    on; with *return_exceptions* errors stand among the results. Raises `ResultNotReady` after *timeout* seconds.
    In coroutines ``await asyncio.gather(*handles)`` does the same: handles can be awaited.
    """
    wanted = _checked(handles[0] if len(handles) == 1 and not isinstance(handles[0], JobHandle) else handles)
    arrivals = Arrivals(wanted, timeout)
    for handle in _ends(arrivals):
        end = arrivals.end_of(handle)
        if end.state != "succeeded" and not return_exceptions:
            raise error_of(handle.id, end)
    return [_results_of(handle, arrivals, return_exceptions=return_exceptions) for handle in wanted]


def _results_of(handle: Handle, arrivals: Arrivals, *, return_exceptions: bool) -> Any:
    """Return the result of *handle*, or those of its items."""
    if isinstance(handle, JobHandle):
        return _result_of(handle.id, arrivals.end_of(handle), return_exceptions=return_exceptions)
    return [
        _result_of(handle.first_job + index, end, return_exceptions=return_exceptions)
        for index, end in sorted(arrivals.ends_of(handle).items())
    ]


def _result_of(job: int, end: JobResult, *, return_exceptions: bool) -> Any:
    if return_exceptions and (end.state != "succeeded" or not end.data):
        return error_of(job, end)
    return value_of(job, end)


def wait(
    handles: Handle | Iterable[Handle], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDone:
    """Return which of *handles* are done and which are not: once all are, or *timeout* seconds are over.

    With *return_when* ``"FIRST_COMPLETED"``, once one is done; with ``"FIRST_EXCEPTION"``, once one has failed. A batch
    is done when all its items are. The same as `concurrent.futures.wait` does for its futures.
    """
    if return_when not in WHENS:
        raise InvalidOption("return_when", repr(return_when)[:100], " or ".join(WHENS))
    wanted = _checked(handles)
    arrivals = Arrivals(wanted, timeout)
    try:
        for handle in _ends(arrivals):
            has_failed = return_when == FIRST_EXCEPTION and arrivals.end_of(handle).state == "failed"
            if has_failed or (return_when == FIRST_COMPLETED and any(map(arrivals.is_done, wanted))):
                arrivals.take_all()  # those that ended meanwhile
                break
    except ResultNotReady:
        pass
    done = {handle for handle in wanted if arrivals.is_done(handle)}
    return DoneAndNotDone(done, set(wanted) - done)


def _checked(handles: Handle | Iterable[Handle] | Iterable[Handle | Iterable[Handle]]) -> list[Handle]:
    """Return *handles* as a list; raises `InvalidOption` for what is none."""
    given = [handles] if isinstance(handles, Handle) else handles
    if not isinstance(given, Iterable):
        raise InvalidOption("handles", repr(given)[:100], EXPECTED)
    found: list[Handle] = []
    for handle in given:
        if not isinstance(handle, Handle):
            raise InvalidOption("a handle", repr(handle)[:100], EXPECTED)
        found.append(handle)
    return found
