"""One transaction for many operations: applied together, and apart where one of them fails."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ..errors import OwnershipLost, StoreBroken, StoreError
from ..verbs.figures import OPERATIONS, Distribution
from .names import Names
from .opening import LOCK_MILLISECONDS, translated

logger = logging.getLogger(__name__)


class Operation(Protocol):
    """One durable change. Operations of one kind that wait together are applied together.

    One with an attribute ``on_lost`` that is not None is told before it is durable. Should it not become so, that is
    called on the loop with what was told. One whose class says ``is_quick`` reads and writes a few rows only.
    """

    rank: ClassVar[int]  #: lower ranks are applied first: what a completion opens can be leased in the same batch

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Any]) -> list[Any]:
        """Apply all *operations* of this kind; return one result, or one exception, for each."""
        ...


class Transactions:
    """The writing connection, and all that is done on it; by one thread at a time."""

    _connection: sqlite3.Connection

    def __init__(self, db: Path, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._db = db
        self._open = open_connection
        self._broken: StoreError | None = None
        self.trouble: Exception | None = None  #: why the last transaction failed; None if it did not
        self.commits = Distribution()  #: seconds of a transaction, its commit included
        self.operations = Distribution(OPERATIONS)  #: in one transaction
        self._patience = LOCK_MILLISECONDS

    @property
    def broken(self) -> StoreError | None:
        """Why nothing can be written any more."""
        return self._broken

    def _begin_life(self) -> None:
        """Open the file and take the epoch."""
        self._connection = self._open()
        self._names = Names()
        self._epoch = self._take_epoch()

    def _commit(self, operations: list[Operation], tell_early: Callable[[list[Any]], None]) -> list[Any]:
        """Apply *operations* in one transaction; return a result or an exception for each.

        *tell_early* is called with them before they are durable.
        """
        if self._broken is not None:
            return [self._broken] * len(operations)
        began = time.perf_counter()
        try:
            outcomes = self._applied(operations)
            tell_early(outcomes)
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
        if not self._connection.in_transaction:  # else that was tried before, and went well
            self._connection.execute("BEGIN IMMEDIATE")
        self._assert_epoch()

    def _begins_at_once(self) -> bool:
        """Begin a transaction, unless another program is writing the file just now; tell whether it has begun."""
        self._wait_for_locks(0)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # perhaps for another reason: who waits for the lock, meets that too
            return False
        return True

    def _wait_for_locks(self, milliseconds: int) -> None:
        """Have SQLite wait so long for another program that has locked the file."""
        if self._patience != milliseconds:
            self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._patience = milliseconds

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
