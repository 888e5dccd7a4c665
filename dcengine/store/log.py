"""The write-ahead log beside the file: made as long as it gets, folded into the file, and what keeps it from that.

A log begins anew once all of it is in the file and nobody reads an older state of that any more. Whoever does, with a
transaction left open in an SQLite shell, say, makes it grow with all that is written meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from ..errors import DiskFull, FileHeld, StoreBroken

logger = logging.getLogger(__name__)

PAGE_SIZE, FRAME_HEADER, HEADER = 4096, 24, 32  #: SQLite, "WAL-mode File Format"
FRAME = FRAME_HEADER + PAGE_SIZE
SALT = slice(16, 24)  #: of the header; each frame that counts has the same, after its first 8 bytes
FOLD_PAGES = 4096  #: of a log that is folded into the file
FOLD_AGAIN_SECONDS = 1.0  #: after a try that somebody who reads has kept from the end
LOCK_MILLISECONDS = 5000  #: to wait for another program that has locked the file
LOG_BYTES = HEADER + FOLD_PAGES * FRAME
ROOM_FOR_LOG = 1 << 30  #: bytes that must be free on the disk
USUAL_BYTES = 64 << 20  #: a log that was longer is cut
LONG_BYTES = 256 << 20  #: of a log that somebody hears of
LONGEST_BYTES = 4 << 30  #: with which no new work is taken


def log_of(db: Path | str) -> Path:
    """Return where the log of *db* is."""
    return Path(f"{db}-wal")


def size_of_log(db: Path | str) -> int:
    """Return the bytes of the log of *db*, 0 where there is none."""
    try:
        return log_of(db).stat().st_size
    except OSError:
        return 0


class Log:
    """The log of *db*; only who writes the file may have one, after its first transaction."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self._file = os.open(log_of(db), os.O_RDONLY | os.O_CLOEXEC)
        self._salt = b""  #: another with each beginning
        self._due = FOLD_PAGES
        self._again = 0.0  #: when to try again what did not come to its end; 0 if it did
        self._held = 0  #: bytes that could not be folded because somebody reads
        self._is_told = False

    @property
    def is_in_place(self) -> bool:
        """Whether there is no other file where it was."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(log_of(self._db)))
        except FileNotFoundError:
            return True

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    @property
    def held(self) -> int:
        """How long it is, if somebody who reads keeps it from beginning anew; else 0."""
        return self._held

    def check_room(self) -> None:
        """Raise `FileHeld` if it is so long that nothing should be added that can wait."""
        if self._held >= LONGEST_BYTES:
            raise FileHeld(str(self._db), self._held)

    def is_due(self) -> bool:
        """Tell whether it should be folded into the file; takes two microseconds."""
        if self._again:
            return time.monotonic() >= self._again
        salt = os.pread(self._file, 8, SALT.start)
        if salt != self._salt:
            self._salt, self._due = salt, FOLD_PAGES
        return self._has(self._due)

    def _has(self, frames: int) -> bool:
        return bool(self._salt) and os.pread(self._file, 8, HEADER + (frames - 1) * FRAME + 8) == self._salt

    def fold(self, connection: sqlite3.Connection) -> None:
        """Bring what is in it into the file, as far as nobody reads what was there before.

        Raises `sqlite3.Error`. What is left is not tried again with each commit: that is in vain until whoever reads
        has ended.
        """
        self._again = time.monotonic() + FOLD_AGAIN_SECONDS
        _, frames, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        size = frames * FRAME
        if folded < frames:
            self._held = size
            self._tell()
            return
        self._again, self._held = 0.0, 0
        # Until it begins anew, which the next commit does unless somebody reads, there is little to fold.
        self._due = frames + FOLD_PAGES // 4
        if self._is_told:
            logger.warning("the log of %s could be emptied again", self._db)
            self._is_told = False
        if size > USUAL_BYTES:
            self._cut(connection)

    def _cut(self, connection: sqlite3.Connection) -> None:
        """Give its room back; if somebody reads just now, the next commit does so, as far as SQLite's limit says."""
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.execute(f"PRAGMA busy_timeout = {LOCK_MILLISECONDS}")
        lengthen_log(self._db)

    def _tell(self) -> None:
        if self._held >= LONG_BYTES and not self._is_told:
            self._is_told = True
            logger.warning("%s", FileHeld(str(self._db), self._held))


def lengthen_log(db: Path) -> None:
    """Give the log of *db* at once the length it will have; only the thread that writes may call it, between commits.

    A commit into room that the file has already takes half the time: nothing about the file itself has to be synced.
    SQLite takes what comes after its last frame for the rest of an older log. Where there is little room, it is left.
    """
    log = log_of(db)
    try:
        missing = LOG_BYTES - log.stat().st_size
        if missing <= 0 or shutil.disk_usage(log.parent).free < ROOM_FOR_LOG:
            return
        with log.open("ab") as file:
            file.write(bytes(missing))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno == errno.EIO:  # who cannot trust this file any more, must not write on
            raise StoreBroken(str(db), f"lengthening its log: {error.strerror}") from error
        logger.info("the log of %s keeps its length: %s", db, error)  # commits are as they were without


def make_log_durable(db: Path, connection: sqlite3.Connection) -> None:
    """Write again what the log of *db* says, before anything is built on it; nobody else may write it meanwhile.

    It can be read, and still not be on the disk: a sync may have failed in the engine before, after which the system
    takes it for written. Commits behind it would be lost with it. Raises `DiskFull` or `StoreBroken`.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        with suppress(FileNotFoundError):
            _write_again(log_of(db))
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DiskFull(str(db)) if is_full else StoreBroken(str(db), f"its log: {error.strerror}") from error
    finally:
        connection.execute("ROLLBACK")


def _write_again(log: Path) -> None:
    with log.open("r+b") as file:
        at, part = 0, file.read(HEADER)
        salt = part[SALT]
        while len(part) == FRAME or len(part) == HEADER:
            file.seek(at)
            file.write(part)
            at += len(part)
            part = os.pread(file.fileno(), FRAME, at)
            if part[8:16] != salt:
                break
        if at:
            file.flush()
            os.fsync(file.fileno())
