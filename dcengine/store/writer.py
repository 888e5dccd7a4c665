"""The group commit: one connection, one transaction for all that is waiting.

A thread of its own commits. While one commit runs, the next batch gathers, so no timer is needed: a lone caller pays
for one commit, a thousand callers share one. An operation is acknowledged after its COMMIT returned; only what the
engine asks for itself may be told before, so that work begins while the disk is written.

A few quick operations that come while nothing else waits are written on the loop's own thread, as long as the disk is
quick too: two hand-overs between threads take as long as such a commit, and longer where the processors are busy.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from ..errors import EngineBusy, EngineClosed, StoreBroken
from .log import LOCK_MILLISECONDS, lengthen_log
from .opening import translated
from .transactions import Operation, Transactions, anew

logger = logging.getLogger(__name__)

BATCH_LIMIT = 1000  #: operations in one transaction
INBOX_LIMIT = 10_000  #: operations that may wait before new work is refused
QUIET_SECONDS = 0.2  #: without an operation
HERE_LIMIT = 3  #: operations that are written on the loop's thread together
HERE_BYTES = 16 << 10  #: of the payload of one
HERE_IN_A_ROW = 200  #: transactions there, before the log they have filled is folded into the file: by the thread
HERE_SECONDS = 0.005  #: that one may take; else the thread writes again, for
AWAY_TIMES = 20  #: times as long
INBOX_BYTES = 64 << 20  #: bytes of payload that may wait before new work is refused

T = TypeVar("T")


@dataclass(slots=True)
class Maintenance:
    """What is done alone, between two transactions."""

    do: Callable[[sqlite3.Connection], Any]


Waiting = tuple["Operation | Maintenance", "asyncio.Future[Any]", int]


class Writer(Transactions):
    """Takes operations in, and has them written: by its thread, or at once."""

    def __init__(self, db: Path, open_connection: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(db, open_connection)
        self._inbox: SimpleQueue[Waiting | None] = SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._closed = False
        self._next: Waiting | None = None  #: taken from the inbox, but to be done alone
        self._soon: list[Waiting] = []  #: to be written on the loop's thread, before the loop looks for anything else
        self._written_here = 0  #: transactions, since the log was folded into the file
        self._not_here_before = 0.0
        self._is_log_long = False
        self._is_folding = False
        self._is_maintaining = False
        self._interrupting = threading.Lock()  #: held while that changes, so that nothing else is interrupted
        self._thread = threading.Thread(target=self._run, name="dcengine-store", daemon=True)

    async def start(self) -> None:
        """Open the file and take the epoch; raises what `open_for_writing` raises."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._ready = ready
        self._thread.start()
        await ready

    def put(self, operation: Operation, *, size: int = 0, new_work: bool = False) -> asyncio.Future[Any]:
        """Hand in *operation*; the future ends with its result once it is durable.

        *size* counts its payload bytes. *new_work* is refused with `EngineBusy` while the inbox is full;
        what the engine itself must write is always taken.
        """
        self._check_open()
        if new_work and (self._waiting >= INBOX_LIMIT or self._waiting_bytes >= INBOX_BYTES):
            raise EngineBusy(self._waiting)
        if new_work and self._log is not None:
            self._log.check_room()
        self._waiting += 1
        self._waiting_bytes += size
        if self._may_be_written_here(operation, size):
            return self._hand_over_here(operation, size)
        return self._hand_in(operation, size)

    def _check_open(self) -> None:
        if self._broken is not None:
            raise anew(self._broken)
        if self._closed:
            raise EngineClosed(str(self._db))

    def maintain(self, do: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have *do* called with the connection, outside of a transaction, after all that was handed in before.

        Nothing else is written meanwhile. The future ends with what it returns.
        """
        self._check_open()
        self._waiting += 1
        return self._hand_in(Maintenance(do), 0)

    def _hand_in(self, operation: Operation | Maintenance, size: int) -> asyncio.Future[Any]:
        self._send_away()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.put((operation, future, size))
        return future

    @property
    def inbox(self) -> tuple[int, int]:
        """How many operations wait or are being written, and the bytes of their payload."""
        return self._waiting, self._waiting_bytes

    async def close(self) -> None:
        """Write what waits, fold the log into the file, and end the thread. Maintenance is broken off."""
        if not self._closed:
            self._closed = True
            self._send_away()
            self._inbox.put(None)
        while self._thread.is_alive():
            with self._interrupting:
                if self._is_maintaining:
                    self._connection.interrupt()
            await asyncio.sleep(0.002)

    # ---- on the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._begin_life()
        except BaseException as error:
            failure = translated(error, self._db) if isinstance(error, sqlite3.Error) else error
            self._loop.call_soon_threadsafe(self._ready.set_exception, failure)
            return
        self._loop.call_soon_threadsafe(self._ready.set_result, None)
        while batch := self._gather():
            self._wait_for_locks(LOCK_MILLISECONDS)
            outcomes = self._outcomes(batch)
            try:
                self._loop.call_soon_threadsafe(self._settle, batch, outcomes)
            except RuntimeError:  # the loop is gone: nobody waits any more
                break
        self._close_connection()

    def _gather(self) -> list[Waiting]:
        """Wait for one operation and take all that came with it; an empty list means the end.

        What is done alone comes alone.
        """
        first, self._next = self._next or self._first(), None
        if first is None:
            return []
        batch = [first]
        if isinstance(first[0], Maintenance):
            return batch
        try:
            while len(batch) < BATCH_LIMIT:
                another = self._inbox.get_nowait()
                if another is None:
                    self._inbox.put(None)  # end after this batch
                    break
                if isinstance(another[0], Maintenance):
                    self._next = another
                    break
                batch.append(another)
        except Empty:
            pass
        return batch

    def _first(self) -> Waiting | None:
        """Wait for an operation, or the end; the first quiet moment is used to make commits quicker."""
        if not self._is_log_long:
            with suppress(Empty):
                return self._inbox.get(timeout=QUIET_SECONDS)
            self._lengthen_log()
        return self._inbox.get()

    def _lengthen_log(self) -> None:
        try:
            lengthen_log(self._db)
        except StoreBroken as error:
            self._broken = error
            logger.error("%s", error)
        self._is_log_long = True

    def _outcomes(self, batch: Sequence[Waiting]) -> list[Any]:
        """Return a result or an exception for each operation of *batch*, which is durable then."""
        operations = [operation for operation, _, _ in batch]
        if isinstance(operations[0], Maintenance):
            return [self._maintain(operations[0])]
        return self._commit(cast("list[Operation]", operations), lambda outcomes: self._tell_early(batch, outcomes))

    def _maintain(self, maintenance: Maintenance) -> Any:
        try:
            if self._broken is not None or self._closed:
                return self._broken or EngineClosed(str(self._db))
            self._assert_ownership()
            self._set_maintaining(True)
            return maintenance.do(self._connection)
        except Exception as error:
            is_broken_off = self._closed and not self._connection.in_transaction
            return EngineClosed(str(self._db)) if is_broken_off else self._failed(error)
        finally:
            self._set_maintaining(False)
            self._names.forget()  # it may have removed rows that are remembered

    def _set_maintaining(self, is_maintaining: bool) -> None:
        with self._interrupting:
            self._is_maintaining = is_maintaining

    def _tell_early(self, batch: Sequence[Waiting], outcomes: list[Any]) -> None:
        """Tell what may be told before it is durable."""
        told = [
            (future, outcome)
            for (operation, future, _), outcome in zip(batch, outcomes, strict=True)
            if getattr(operation, "on_lost", None) is not None and not isinstance(outcome, BaseException)
        ]
        if told:
            with suppress(RuntimeError):  # the loop is gone: nobody waits any more
                self._loop.call_soon_threadsafe(self._tell, told)

    # ---- on the loop's own thread ------------------------------------------------------------

    def _may_be_written_here(self, operation: Operation, size: int) -> bool:
        return (
            self._waiting == len(self._soon) + 1  # else the thread has the connection
            and len(self._soon) < HERE_LIMIT
            and size <= HERE_BYTES
            and getattr(operation, "is_quick", False)
            and getattr(operation, "on_lost", None) is None
            and self._is_log_long
            and time.monotonic() >= self._not_here_before
        )

    def _hand_over_here(self, operation: Operation, size: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._soon:
            self._loop.call_soon(self._write_here)
        self._soon.append((operation, future, size))
        return future

    def _send_away(self) -> None:
        """Let the thread write what was to be written here: after it comes what only the thread may do."""
        soon, self._soon = self._soon, []
        for waiting in soon:
            self._inbox.put(waiting)

    def _write_here(self) -> None:
        batch, self._soon = self._soon, []
        if not batch:
            return  # it was sent away
        began = time.monotonic()
        if not self._begins_at_once():
            self._not_here_before = began + AWAY_TIMES * HERE_SECONDS
            self._soon = batch
            self._send_away()
            return
        outcomes = self._outcomes(batch)
        took = time.monotonic() - began
        if took > HERE_SECONDS:
            self._not_here_before = began + AWAY_TIMES * took
        self._written_here += 1
        self._settle(batch, outcomes)

    # ---- back on the loop ------------------------------------------------------------------

    def _tell(self, told: list[tuple[asyncio.Future[Any], Any]]) -> None:
        for future, outcome in told:
            if not future.done():
                future.set_result(outcome)

    def _settle(self, batch: list[Waiting], outcomes: list[Any]) -> None:
        self._waiting -= len(batch)
        for (operation, future, size), outcome in zip(batch, outcomes, strict=True):
            self._waiting_bytes -= size
            is_lost = isinstance(outcome, BaseException)
            if future.done():
                on_lost = getattr(operation, "on_lost", None)
                if is_lost and on_lost is not None and not future.cancelled():
                    on_lost(future.result())
            elif is_lost:
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._look_after_log()

    def _look_after_log(self) -> None:
        """Have the log folded into the file if it is time: after the answers, since nobody waits for that."""
        if self._log is None or self._closed or self._broken is not None or self._is_folding:
            return
        if self._written_here >= HERE_IN_A_ROW or self._log.is_due():
            self._written_here = 0
            self._is_folding = True
            self.maintain(self._log.fold).add_done_callback(self._folded)

    def _folded(self, folding: asyncio.Future[None]) -> None:
        self._is_folding = False
        if not folding.cancelled():
            folding.exception()  # which was said already; it is tried again


def now() -> int:
    """Return the time as the store writes it: microseconds since 1970."""
    return time.time_ns() // 1000
