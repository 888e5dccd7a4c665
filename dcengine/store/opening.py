"""Opening the file: is it ours, is it whole, is it on a disk SQLite can trust; pragmas and migrations."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from importlib.resources import files
from pathlib import Path

from ..errors import (
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseLocked,
    DatabaseTooNew,
    DiskFull,
    NetworkFileSystem,
    StoreError,
)

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x64636E67  #: "dcng", in the header of every file of ours
QUICK_CHECK_LIMIT = 64 << 20  #: larger files are checked by `dcengine doctor`, not at each start
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs3",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "fuse.sshfs",
        "sshfs",
        "afs",
        "afpfs",
        "ceph",
        "fuse.glusterfs",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "webdav",
        "fuse.davfs",
        "davfs",
    ]
)

LOG_PAGES, PAGE_SIZE, FRAME_HEADER, LOG_HEADER = 4096, 4096, 24, 32  #: SQLite, "WAL-mode File Format"
LOCK_MILLISECONDS = 5000  #: to wait for another program that has locked the file
LOG_BYTES = LOG_HEADER + LOG_PAGES * (FRAME_HEADER + PAGE_SIZE)
ROOM_FOR_LOG = 1 << 30  #: bytes that must be free on the disk

# Exactly one connection writes and checkpoints: with the commit after which 16 MiB lie in the log, and passively.
PRAGMAS = f"""
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = {LOG_PAGES};
    PRAGMA journal_size_limit = 67108864;
    PRAGMA busy_timeout = {LOCK_MILLISECONDS};
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -65536;
    PRAGMA mmap_size = 0;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
"""


def open_for_writing(db: Path) -> sqlite3.Connection:
    """Return the writing connection of *db*, created or migrated to the newest schema.

    Raises `NetworkFileSystem`, `DatabaseForeign`, `DatabaseCorrupt`, `DatabaseTooNew` or `DiskFull`;
    the file is then as it was.
    """
    refuse_network_file_system(db)
    _refuse_other_files(db)
    _create_private(db)
    connection = sqlite3.connect(db, isolation_level=None, check_same_thread=False, cached_statements=512)
    try:
        _refuse_foreign_database(db, connection)
        connection.executescript(PRAGMAS)
        _check(db, connection)
        _migrate(db, connection)
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, db) from error
    except BaseException:
        connection.close()
        raise
    return connection


def lengthen_log(db: Path) -> None:
    """Give the log of *db* at once the length it will have; only the thread that writes may call it, between commits.

    A commit into room that the file has already takes half the time: nothing about the file itself has to be synced.
    SQLite takes what comes after its last frame for the rest of an older log. Where there is little room, it is left.
    """
    log = Path(f"{db}-wal")
    try:
        missing = LOG_BYTES - log.stat().st_size
        if missing <= 0 or shutil.disk_usage(log.parent).free < ROOM_FOR_LOG:
            return
        with log.open("ab") as file:
            file.write(bytes(missing))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # commits are as they were without
        logger.info("the log of %s keeps its length: %s", db, error)


def fold_log(connection: sqlite3.Connection) -> None:
    """Bring what is in the log into the file, as far as no reader needs the log."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def open_for_reading(db: Path) -> sqlite3.Connection:
    """Return a connection to *db* that cannot write, whether or not an engine runs; no file appears beside it.

    Raises `DatabaseForeign`, `DatabaseTooNew`, or `StoreError` for one that is missing, unreadable or of an old schema.
    """
    if not db.is_file():
        raise StoreError(f"there is no file {db}; name the one that is meant with --db")
    _refuse_other_files(db)
    # Without a log nobody has it open.
    how = "mode=ro" if Path(f"{db}-wal").exists() else "immutable=1"
    connection = sqlite3.connect(f"{db.resolve().as_uri()}?{how}", uri=True, isolation_level=None, timeout=5.0)
    try:
        _refuse_foreign_database(db, connection)
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, db) from error
    except BaseException:
        connection.close()
        raise
    if found < newest_version():
        connection.close()
        raise StoreError(f"{db} has schema {found}; an engine that opens it brings it to {newest_version()}")
    return connection


def refuse_network_file_system(db: Path) -> None:
    """Raise `NetworkFileSystem` if *db* lies on one."""
    kind = file_system_of(db.parent, _mounts())
    if kind in NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(str(db), kind)


def file_system_of(folder: Path, mounts: list[tuple[str, str]]) -> str:
    """Return the type of the file system that holds *folder*, given (mount point, type) pairs."""
    folder = folder.resolve()
    holders = [(len(point), kind) for point, kind in mounts if folder == Path(point) or Path(point) in folder.parents]
    return max(holders, default=(0, "unknown"))[1]


def _mounts() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except FileNotFoundError:  # macOS
        import psutil

        return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    fields = [line.split() for line in lines]
    return [(parts[1].replace("\\040", " "), parts[2]) for parts in fields if len(parts) > 2]


def _refuse_other_files(db: Path) -> None:
    if not db.parent.is_dir():
        raise StoreError(f"the folder {db.parent} of the database does not exist; create it or choose another --db")
    if db.is_dir():
        raise DatabaseForeign(str(db), "a folder")
    if not db.exists() or db.stat().st_size == 0:
        return
    with db.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise DatabaseForeign(str(db), "not an SQLite file")


def _create_private(db: Path) -> None:
    try:
        os.close(os.open(db, os.O_CREAT | os.O_RDWR, 0o600))
    except PermissionError as error:
        raise StoreError(f"{db} cannot be written: {error.strerror}; choose another file with --db") from error
    except OSError as error:
        raise (
            DiskFull(str(db)) if error.errno == 28 else StoreError(f"{db} cannot be created: {error.strerror}")
        ) from error


def _refuse_foreign_database(db: Path, connection: sqlite3.Connection) -> None:
    """Look before the first pragma writes anything."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise DatabaseForeign(str(db), "the SQLite database of another program")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > newest_version():
        raise DatabaseTooNew(str(db), found, newest_version())


def _check(db: Path, connection: sqlite3.Connection) -> None:
    if db.stat().st_size <= QUICK_CHECK_LIMIT:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DatabaseCorrupt(str(db), verdict)


# ---- migrations ----------------------------------------------------------------------------


def migrations() -> list[tuple[int, str]]:
    """Return the numbered steps of the schema, in order."""
    folder = files(__package__) / "migrations"
    steps = [(int(step.name[:4]), step.read_text()) for step in folder.iterdir() if step.name.endswith(".sql")]
    return sorted(steps)


def newest_version() -> int:
    return migrations()[-1][0]


def _migrate(db: Path, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    steps = [(number, script) for number, script in migrations() if number > found]
    if steps and found:
        _back_up(db, connection, found)
    for number, script in steps:
        # One transaction a step: a kill leaves the old schema or the new one, never one between.
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\n"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        logger.info("schema of %s is now %d", db, number)


def _back_up(db: Path, connection: sqlite3.Connection, version: int) -> None:
    backup = db.with_name(f"{db.name}.schema{version}.backup")
    _create_private(backup)  # SQLite would make it readable for everybody
    target = sqlite3.connect(backup)
    try:
        connection.backup(target)
    finally:
        target.close()


def translated(error: sqlite3.Error, db: Path | str) -> StoreError:
    """Return the error of our tree that *error* means."""
    name = getattr(error, "sqlite_errorname", "") or ""  # Python 3.11 and later
    text = str(error)
    if name == "SQLITE_FULL" or "database or disk is full" in text:
        return DiskFull(str(db))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in text or "not a database" in text:
        return DatabaseCorrupt(str(db), text)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "is locked" in text:
        return DatabaseLocked(str(db))
    return StoreError(f"{db}: {text}")
