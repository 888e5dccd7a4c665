"""The group commit: one thread, one connection, one transaction for all that is waiting.

While one commit runs, the next batch gathers, so no timer is needed: a lone caller pays for one
commit, a thousand callers share one. An operation is acknowledged after its COMMIT returned; only what
the engine asks for itself may be told before, so that work begins while the disk is written.
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
from itertools import groupby
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Protocol, TypeVar, cast

from ..errors import EngineBusy, EngineClosed, OwnershipLost, StoreBroken, StoreError
from ..verbs.figures import OPERATIONS, Distribution
from .names import Names
from .opening import lengthen_log, translated

logger = logging.getLogger(__name__)

BATCH_LIMIT = 1000  #: operations in one transaction
INBOX_LIMIT = 10_000  #: operations that may wait before new work is refused
QUIET_SECONDS = 0.2  #: without an operation
INBOX_BYTES = 64 << 20  #: bytes of payload that may wait before new work is refused

T = TypeVar("T")


class Operation(Protocol):
    """One durable change. Operations of one kind that wait together are applied together.

    One with an attribute ``on_lost`` that is not None is told before it is durable. Should it not become so, that is
    called on the loop with what was told.
    """

    rank: ClassVar[int]  #: lower ranks are applied first: what a completion opens can be leased in the same batch

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Any]) -> list[Any]:
        """Apply all *operations* of this kind; return one result, or one exception, for each."""
        ...


@dataclass(slots=True)
class Maintenance:
    """What is done alone, between two transactions."""

    do: Callable[[sqlite3.Connection], Any]


Waiting = tuple["Operation | Maintenance", "asyncio.Future[Any]", int]


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(self, db: Path, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._db = db
        self._open = open_connection
        self._inbox: SimpleQueue[Waiting | None] = SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._broken: StoreError | None = None
        self.trouble: Exception | None = None  #: why the last transaction failed; None if it did not
        self.commits = Distribution()  #: seconds of a transaction, its commit included
        self.operations = Distribution(OPERATIONS)  #: in one transaction
        self._closed = False
        self._next: Waiting | None = None  #: taken from the inbox, but to be done alone
        self._is_log_long = False
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
        if self._broken is not None or self._closed:
            raise self._broken or EngineClosed(str(self._db))
        if new_work and (self._waiting >= INBOX_LIMIT or self._waiting_bytes >= INBOX_BYTES):
            raise EngineBusy(self._waiting)
        self._waiting += 1
        self._waiting_bytes += size
        return self._hand_in(operation, size)

    def maintain(self, do: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have *do* called with the connection, outside of a transaction, after all that was handed in before.

        Nothing else is written meanwhile. The future ends with what it returns.
        """
        if self._broken is not None or self._closed:
            raise self._broken or EngineClosed(str(self._db))
        self._waiting += 1
        return self._hand_in(Maintenance(do), 0)

    def _hand_in(self, operation: Operation | Maintenance, size: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.put((operation, future, size))
        return future

    @property
    def inbox(self) -> tuple[int, int]:
        """How many operations wait or are being written, and the bytes of their payload."""
        return self._waiting, self._waiting_bytes

    @property
    def broken(self) -> StoreError | None:
        """Why nothing can be written any more."""
        return self._broken

    async def close(self) -> None:
        """Write what waits, fold the log into the file, and end the thread. Maintenance is broken off."""
        if not self._closed:
            self._closed = True
            self._inbox.put(None)
        while self._thread.is_alive():
            with self._interrupting:
                if self._is_maintaining:
                    self._connection.interrupt()
            await asyncio.sleep(0.002)

    # ---- on the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._connection = self._open()
            self._names = Names()
            self._epoch = self._take_epoch()
        except BaseException as error:
            failure = translated(error, self._db) if isinstance(error, sqlite3.Error) else error
            self._loop.call_soon_threadsafe(self._ready.set_exception, failure)
            return
        self._loop.call_soon_threadsafe(self._ready.set_result, None)
        while batch := self._gather():
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
            lengthen_log(self._db)
            self._is_log_long = True
        return self._inbox.get()

    def _outcomes(self, batch: Sequence[Waiting]) -> list[Any]:
        """Return a result or an exception for each operation of *batch*, which is durable then."""
        operations = [operation for operation, _, _ in batch]
        if isinstance(operations[0], Maintenance):
            return [self._maintain(operations[0])]
        return self._commit(cast(list[Operation], operations), [future for _, future, _ in batch])

    def _maintain(self, maintenance: Maintenance) -> Any:
        try:
            if self._broken is not None or self._closed:
                return self._broken or EngineClosed(str(self._db))
            self._assert_epoch()
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

    def _commit(self, operations: list[Operation], futures: list[asyncio.Future[Any]]) -> list[Any]:
        """Apply *operations* in one transaction; return a result or an exception for each."""
        if self._broken is not None:
            return [self._broken] * len(operations)
        began = time.perf_counter()
        try:
            outcomes = self._applied(operations)
            self._tell_early(operations, futures, outcomes)
            self._connection.execute("COMMIT")
        except Exception as error:
            self.trouble = self._failed(error)
            return [self.trouble] * len(operations)
        self.trouble = None
        self.commits.note(time.perf_counter() - began)
        self.operations.note(len(operations))
        return outcomes

    def _applied(self, operations: list[Operation]) -> list[Any]:
        """Begin a transaction and apply *operations* in it; return a result or an exception for each.

        At first nothing is done to tell them apart, since hardly ever one fails.
        """
        self._begin()
        try:
            return self._by_kind(operations, self._apply_all)
        except Exception:
            if not self._connection.in_transaction:  # SQLite gave it up by itself (disk full, say)
                raise
        self._connection.execute("ROLLBACK")
        self._names.forget()
        self._begin()
        return self._by_kind(operations, self._apply_apart)

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._assert_epoch()

    def _by_kind(self, operations: list[Operation], apply: Callable[[list[Operation]], list[Any]]) -> list[Any]:
        """Return the outcomes of *operations*, those of one kind handed to *apply* together."""
        order = sorted(range(len(operations)), key=lambda n: operations[n].rank)  # stable: alike ones stay in order
        outcomes: list[Any] = [None] * len(operations)
        for _, run in groupby(order, key=lambda n: type(operations[n])):
            places = list(run)
            for place, outcome in zip(places, apply([operations[n] for n in places]), strict=True):
                outcomes[place] = outcome
        return outcomes

    def _apply_all(self, operations: list[Operation]) -> list[Any]:
        return type(operations[0]).apply(self._connection, self._names, operations)

    def _tell_early(self, operations: list[Operation], futures: list[asyncio.Future[Any]], outcomes: list[Any]) -> None:
        """Tell what may be told before it is durable."""
        told = [
            (future, outcome)
            for operation, future, outcome in zip(operations, futures, outcomes, strict=True)
            if getattr(operation, "on_lost", None) is not None and not isinstance(outcome, BaseException)
        ]
        if told:
            with suppress(RuntimeError):  # the loop is gone: nobody waits any more
                self._loop.call_soon_threadsafe(self._tell, told)

    def _apply_apart(self, operations: list[Operation]) -> list[Any]:
        """Apply operations of one kind together; if that fails, each alone, so that one cannot fail its neighbours."""
        self._connection.execute("SAVEPOINT together")
        try:
            outcomes = self._apply_all(operations)
        except Exception as error:
            if not self._connection.in_transaction:  # SQLite gave up the whole transaction (disk full, say)
                raise
            self._undo("together")
            alone = len(operations) == 1
            return [self._outcome_of(error)] if alone else [self._apply_apart([one])[0] for one in operations]
        self._connection.execute("RELEASE together")
        return outcomes

    def _outcome_of(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            failure = translated(error, self._db)
            failure.__cause__ = error
            return failure
        return error

    def _undo(self, savepoint: str) -> None:
        self._connection.execute(f"ROLLBACK TO {savepoint}")
        self._connection.execute(f"RELEASE {savepoint}")
        self._names.forget()  # some of the remembered rows may be gone with it

    def _failed(self, error: Exception) -> Exception:
        """Return what every operation of a failed transaction is answered with."""
        self._names.forget()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as stuck:
                self._broken = StoreBroken(str(self._db), str(stuck))
        if isinstance(error, OwnershipLost):
            self._broken = error
            return error
        if not isinstance(error, sqlite3.Error):
            logger.exception("a store operation failed", exc_info=error)
            return error
        failure = translated(error, self._db)
        if "disk I/O error" in str(error):
            # After a failed write or fsync nobody knows what is on the disk: never acknowledge again.
            failure = self._broken = StoreBroken(str(self._db), str(error))
        logger.error("%s", failure)
        return failure

    def _take_epoch(self) -> int:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
        (epoch,) = self._connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        self._connection.execute("COMMIT")
        return int(epoch)

    def _assert_epoch(self) -> None:
        """Raise `OwnershipLost` if another engine has taken the file since."""
        (epoch,) = self._connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        if epoch != self._epoch:
            raise OwnershipLost(str(self._db))

    def _close_connection(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.warning("last checkpoint of %s: %s", self._db, error)
        self._connection.close()

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


def now() -> int:
    """Return the time as the store writes it: microseconds since 1970."""
    return time.time_ns() // 1000
