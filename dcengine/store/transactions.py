"""One transaction for many operations: applied together, and apart where one of them fails."""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from ..errors import DatabaseMoved, DcengineError, OwnershipLost, StoreBroken, StoreError
from ..verbs.figures import OPERATIONS, Distribution
from .log import LOCK_MILLISECONDS, Log
from .names import Names
from .opening import is_broken, translated

logger = logging.getLogger(__name__)


SAY_AGAIN_SECONDS = 60.0  #: between two lines of the log about the same trouble

E = TypeVar("E", bound=BaseException)


def anew(error: E) -> E:
    """Return an error like *error* of ours: one that is raised again and again gets a longer traceback each time."""
    return type(error)(*error.args) if isinstance(error, DcengineError) else error


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at *path* from every other one; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
        self._said: type[StoreError] | None = None  #: what went wrong, to the log
        self._said_at = 0.0
        self._log: Log | None = None

    @property
    def held_log(self) -> int:
        """The bytes of a log that somebody who reads keeps from beginning anew; else 0."""
        return self._log.held if self._log is not None else 0

    @property
    def broken(self) -> StoreError | None:
        """Why nothing can be written any more."""
        return self._broken

    def _begin_life(self) -> None:
        """Open the file and take the epoch."""
        self._connection = self._open()
        self._names = Names()
        self._identity = identity_of(self._db)
        self._epoch = self._take_epoch()
        self._log = Log(self._db)

    def _commit(self, operations: list[Operation], tell_early: Callable[[list[Any]], None]) -> list[Any]:
        """Apply *operations* in one transaction; return a result or an exception for each.

        *tell_early* is called with them before they are durable.
        """
        if self._broken is not None:
            return [anew(self._broken) for _ in operations]
        began, changes = time.perf_counter(), self._connection.total_changes
        try:
            outcomes = self._applied(operations)
            tell_early(outcomes)
            self._connection.execute("COMMIT")
        except Exception as error:
            self.trouble = self._failed(error)
            return [anew(self.trouble) for _ in operations]
        if self.trouble is not None and self._connection.total_changes > changes:  # else nothing was written
            logger.info("%s can be written again", self._db)
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
        self._assert_ownership()

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
            if isinstance(error, DatabaseMoved):
                self._fold_all()  # what is in the log goes where the file is now, which has lost sight of its log
            return error
        if isinstance(error, StoreError):
            return error
        if not isinstance(error, sqlite3.Error):
            logger.exception("a store operation failed", exc_info=error)
            return error
        failure = translated(error, self._db)
        if is_broken(error):
            # After a failed write or fsync nobody knows what is on the disk: never acknowledge again.
            failure = self._broken = StoreBroken(str(self._db), str(error))
        self._say(failure)
        return failure

    def _say(self, failure: StoreError) -> None:
        """Log *failure*; what comes again and again, as on a full disk, not each time."""
        is_new = type(failure) is not self._said
        if is_new or time.monotonic() >= self._said_at + SAY_AGAIN_SECONDS:
            logger.error("%s", failure)
            self._said, self._said_at = type(failure), time.monotonic()

    def _take_epoch(self) -> int:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
        (epoch,) = self._connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        self._connection.execute("COMMIT")
        return int(epoch)

    def _assert_ownership(self) -> None:
        """Raise `OwnershipLost` if another engine has taken the file since, or it is not where it was."""
        if self._identity != identity_of(self._db):
            raise DatabaseMoved(str(self._db))
        (epoch,) = self._connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        if epoch != self._epoch:
            raise OwnershipLost(str(self._db))

    def _fold_all(self) -> None:
        """Bring all of the log into the file."""
        try:
            self._wait_for_locks(0)  # whoever still reads leaves the log to the next engine
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.warning("last checkpoint of %s: %s", self._db, error)

    def _close_connection(self) -> None:
        if self._broken is None:
            self._fold_all()
        if isinstance(self._broken, DatabaseMoved) and self._log is not None and not self._log.is_in_place:
            # SQLite would remove what is called like its log now, and is another file's.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        else:
            self._connection.close()
        if self._log is not None:
            self._log.close()
