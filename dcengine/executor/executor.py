"""`Executor`: jobs behind the interface of `concurrent.futures`, for whatever program takes an executor."""

from __future__ import annotations

import concurrent.futures
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .. import api
from ..batches import BatchHandle, Results
from ..calls import batch_of, submission_of
from ..errors import DcengineError, ExecutorShut, InvalidOption
from ..options import CallOptions, check_names, options_of, takes, versions_of
from .futures import JobFuture, cancel_waiting
from .teller import Teller

if TYPE_CHECKING:
    from typing_extensions import Unpack

P = ParamSpec("P")
T = TypeVar("T")

UNDER_WAY = 256  #: calls that are being stored at once; the next `submit` waits for one of them


class Executor(concurrent.futures.Executor):
    """An executor whose calls are jobs: durable, retried, and run by workers that have the tags.

    The options are those of `dcengine.submit`, the same for all calls. It asks *engine*, or else the engine in use.
    """

    @takes(CallOptions)
    def __init__(self, engine: api.Caller | None = None, **options: Unpack[CallOptions]) -> None:
        check_names(options, CallOptions, "an executor")
        options_of(options), versions_of(options)
        self._caller = engine or api.caller
        self._options = options
        self._lock = threading.Lock()
        self._is_shut = False
        self._room = threading.BoundedSemaphore(UNDER_WAY)
        self._teller = Teller("dcengine-executor")
        self._open: set[JobFuture[Any]] = set()
        self._batches: list[BatchHandle] = []
        weakref.finalize(self, self._teller.stop)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Have a call of *fn* stored and run; all arguments are the function's. What goes wrong is in the future.

        It returns before the call is stored; ``future.job`` waits for that. Raises `ExecutorShut` after `shutdown`.
        """
        future: JobFuture[T] = JobFuture(self._teller)
        with self._lock:
            self._check_open()
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._room.acquire()
        room = self._room
        future.stored.add_done_callback(lambda _: room.release())
        try:
            future.send(self._caller._way(), submission_of(fn, args, kwargs, self._options))
        except Exception as error:
            future.refuse(error)
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Give the results of *fn* for each item of *iterables* in order, each as soon as it is there.

        All are one batch, which is stored when this returns. The first error ends the iteration; an iteration that
        ends early, or is dropped, cancels the rest. Raises `ResultNotReady`, a `TimeoutError`, *timeout* seconds after
        this call. Chunks find their size by themselves: *chunksize* changes nothing.
        """
        if chunksize < 1:
            raise InvalidOption("chunksize", str(chunksize), "1 or more")
        with self._lock:
            self._check_open()
            batch = self._caller._submit_batch(batch_of(fn, zip(*iterables, strict=False), self._options))
            self._batches.append(batch)
        return _results(batch, Results(batch, timeout))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with *wait*, return once all have ended.

        With *cancel_futures* those are cancelled that no worker has yet, and of a `map` those that run as well. Without
        *wait* they go on, also when this program ends.
        """
        with self._lock:
            self._is_shut = True
            futures, batches = list(self._open), list(self._batches)
        if cancel_futures:
            cancel_waiting(futures)
            for batch in batches:
                batch.cancel()
        if wait:
            concurrent.futures.wait(futures)
            for batch in batches:
                with suppress(DcengineError):  # the engine ended first; who iterates over the results is told
                    batch.wait()
        self._teller.stop()

    def _check_open(self) -> None:
        if self._is_shut:
            raise ExecutorShut()


def _results(batch: BatchHandle, results: Results) -> Generator[Any, None, None]:
    """Yield *results*; cancel the rest of *batch* when nobody goes on, or after the first error."""
    is_whole = False
    try:
        yield from results
        is_whole = True
    finally:
        if not is_whole:
            batch.cancel()
