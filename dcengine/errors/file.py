"""The file, and the values that lie outside it."""

from __future__ import annotations

import os

from .base import DcengineError


class StoreError(DcengineError):
    """The database file cannot be used."""


class DatabaseOwned(StoreError):
    """Another living engine writes this file."""

    def __init__(self, db: str, pid: int, url: str) -> None:
        super().__init__(db, pid, url)
        self.db, self.pid, self.url = db, pid, url

    def __str__(self) -> str:
        if self.pid == os.getpid():
            return (
                f"{self.db} is in use by an engine that this process ({self.pid}) has started; "
                "go on with that one, or close() it first"
            )
        return (
            f"{self.db} is in use by the engine of process {self.pid} at {self.url or 'an address not yet known'}; "
            "use dcengine.submit() and `dcengine` without --db to work through it, stop that process, "
            "or choose another file"
        )


class DatabaseCorrupt(StoreError):
    """SQLite cannot read the file."""

    def __init__(self, db: str, reason: str) -> None:
        super().__init__(db, reason)
        self.db, self.reason = db, reason

    def __str__(self) -> str:
        return (
            f"{self.db} is damaged ({self.reason}); it was left as it is. "
            f"Restore a backup, or save what can be read: sqlite3 {self.db} .recover"
        )


class DatabaseForeign(StoreError):
    """The file belongs to another program."""

    def __init__(self, db: str, what: str) -> None:
        super().__init__(db, what)
        self.db, self.what = db, what

    def __str__(self) -> str:
        return f"{self.db} is {self.what}, not a dcengine database; it was left as it is. Choose another file"


class DatabaseTooNew(StoreError):
    """The file was written by a later version of dcengine."""

    def __init__(self, db: str, found: int, known: int) -> None:
        super().__init__(db, found, known)
        self.db, self.found, self.known = db, found, known

    def __str__(self) -> str:
        return (
            f"{self.db} has schema {self.found}, this dcengine knows up to {self.known}; it was left as it is. "
            "Upgrade dcengine: pip install --upgrade dcengine"
        )


class NetworkFileSystem(StoreError):
    """The file lies where SQLite's locks cannot be trusted."""

    def __init__(self, db: str, kind: str) -> None:
        super().__init__(db, kind)
        self.db, self.kind = db, kind

    def __str__(self) -> str:
        return (
            f"{self.db} lies on a network file system ({self.kind}), where two engines could damage it; "
            "put the file on a local disk and reach it from elsewhere through `dcengine serve`"
        )


class DiskFull(StoreError):
    """There is no room on the disk."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return f"the disk of {self.db} is full: nothing was stored; free some space and try again, no restart is needed"


class DatabaseLocked(StoreError):
    """Another program holds the file's lock for too long."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return (
            f"another program keeps {self.db} locked, an SQLite shell perhaps: nothing was stored; end its transaction"
        )


class FileHeld(StoreError):
    """Somebody reads an old state of the file for so long that its log cannot be emptied."""

    def __init__(self, db: str, size: int) -> None:
        super().__init__(db, size)
        self.db, self.size = db, size

    def __str__(self) -> str:
        return (
            f"the log of {self.db} has grown to {self.size / 2**20:,.0f} MiB, since a program reads an old state of "
            "the file; end it or its transaction (`dcengine doctor` says who has the file open). From 4,096 MiB on no "
            "new work is taken"
        )


class StaleLease(StoreError):
    """The task has a new holder, or has ended: this report comes too late."""

    def __init__(self, task: int, attempt: int) -> None:
        super().__init__(task, attempt)
        self.task, self.attempt = task, attempt

    def __str__(self) -> str:
        return f"attempt {self.attempt} of task {self.task} is no longer current; its report was refused"


class OwnershipLost(StoreError):
    """Another engine took the file over."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return (
            f"another engine took over {self.db}; this one has stopped writing. Attach to the new one or close it first"
        )


class DatabaseMoved(OwnershipLost):
    """The file of a running engine is no longer where it was."""

    def __str__(self) -> str:
        return (
            f"{self.db} was moved, deleted or replaced while its engine ran, which has stopped: what it had "
            "acknowledged is in the file that it had opened. To move or restore a file, end its engine first; "
            "`dcengine backup` copies one that is in use"
        )


class DatabaseLinked(StoreError):
    """The file has several names, each with a lock and a log of its own."""

    def __init__(self, db: str, names: int) -> None:
        super().__init__(db, names)
        self.db, self.names = db, names

    def __str__(self) -> str:
        return (
            f"{self.db} has {self.names} names (hard links), so that two engines could write it unseen and damage it; "
            f"remove the others, or work on a copy: cp {self.db} NEW"
        )


class BackupFailed(StoreError):
    """No copy of the file could be made at a place."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"no copy was made at {self.path}: {self.problem}; choose a new file in a folder that can be written"


class StoreBroken(StoreError):
    """A write failed in a way that forbids going on."""

    def __init__(self, db: str, reason: str) -> None:
        super().__init__(db, reason)
        self.db, self.reason = db, reason

    def __str__(self) -> str:
        return (
            f"writing to {self.db} failed ({self.reason}); nothing more is accepted. "
            "Check the disk, then restart the engine"
        )


class BlobError(DcengineError):
    """A value that is kept outside the file cannot be had or kept."""


class BlobMissing(BlobError, LookupError):
    """A value is not where it was put."""

    def __init__(self, place: str, digest: str) -> None:
        super().__init__(place, digest)
        self.place, self.digest = place, digest

    def __str__(self) -> str:
        return (
            f"the value {self.digest} is not in {self.place}; put back what was moved or deleted there, from a "
            "backup perhaps, or correct the setting blobs, or retry the job that made it"
        )


class ValueGone(BlobError, LookupError):
    """A value that was put for calls to refer to is there no more."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return (
            f"the value {self.digest[:12]} that the call refers to is gone: it was deleted, or kept for a set time, "
            "which is over; put it again with dcengine.put(value) and submit the call anew"
        )


class BlobCorrupt(BlobError):
    """A value is not what was put there."""

    def __init__(self, place: str, digest: str, problem: str) -> None:
        super().__init__(place, digest, problem)
        self.place, self.digest, self.problem = place, digest, problem

    def __str__(self) -> str:
        return (
            f"the value {self.digest} in {self.place} is damaged: {self.problem}; it was left as it is. Restore "
            "the file of this name from a backup, or retry the job that made it, and check that disk"
        )


class BlobPlaceFailed(BlobError):
    """The place of such values does not do what is asked of it."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place, self.reason = place, reason

    def __str__(self) -> str:
        return (
            f"values above 1 MiB are kept in {self.place}, which failed: {self.reason}. See that it exists and that "
            "this user may read, write and delete there, or name another place with the setting blobs"
        )
