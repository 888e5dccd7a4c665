"""Opening the file: is it ours, is it whole, is it on a disk SQLite can trust; pragmas and migrations."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from ..errors import (
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseLinked,
    DatabaseLocked,
    DatabaseTooNew,
    DiskFull,
    NetworkFileSystem,
    StoreError,
)
from .log import LOCK_MILLISECONDS, USUAL_BYTES, make_log_durable

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x64636E67  #: "dcng", in the header of every file of ours
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  #: SQLite, "The Rollback Journal"
NO_ROOM_FOR_INDEX = "SQLITE_IOERR_SHMSIZE"  #: of the log, which is made anew where it is lost
QUICK_CHECK_LIMIT = 64 << 20  #: larger files are checked by `dcengine doctor`, not at each start
COMPANIONS = ("", "-wal", "-shm", "-journal")  #: files that SQLite would take for parts of the one called so
UNFINISHED = ".unfinished"  #: how the name of a copy ends until it is whole
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

# Exactly one connection writes and checkpoints: where `log` says so.
PRAGMAS = f"""
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = {USUAL_BYTES};
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
    _refuse_other_names(db)
    connection = sqlite3.connect(db, isolation_level=None, check_same_thread=False, cached_statements=512)
    try:
        _refuse_foreign_database(db, connection)
        connection.executescript(PRAGMAS)
        make_log_durable(db, connection)
        _check(db, connection)
        _migrate(db, connection)
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, db) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(db: Path) -> sqlite3.Connection:
    """Return a connection to *db* that cannot write, whether or not an engine runs; no file appears beside it.

    Raises `DatabaseForeign`, `DatabaseTooNew`, or `StoreError` for one that is missing, unreadable or of an old schema.
    """
    if not db.is_file():
        raise StoreError(f"there is no file {db}; name the one that is meant with --db")
    # Not by opening it as a file: closing that would end the locks of an engine in this process (fcntl(2)).
    # Without a log nobody has it open.
    how = "mode=ro" if Path(f"{db}-wal").exists() else "immutable=1"
    connection = sqlite3.connect(f"{db.resolve().as_uri()}?{how}", uri=True, isolation_level=None, timeout=5.0)
    try:
        _refuse_foreign_database(db, connection)
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if "file is not a database" in str(error):
            raise DatabaseForeign(str(db), "not an SQLite file") from error
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
    # Where the power went while the file was made, its journal holds what it was before: SQLite puts that back.
    if _begins_with(db, b"SQLite format 3\0") or _begins_with(Path(f"{db}-journal"), JOURNAL_MAGIC):
        return
    raise DatabaseForeign(str(db), "not an SQLite file")


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except FileNotFoundError:
        return False


def _refuse_other_names(db: Path) -> None:
    """Lock and log are found by the file's name: with two names there would be two of each."""
    names = db.stat().st_nlink
    if names > 1:
        raise DatabaseLinked(str(db), names)


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
    if not steps:
        return
    if found:
        _back_up(db, connection, found)
    newest, scripts = steps[-1][0], "\n".join(script for _, script in steps)
    # One transaction for all steps: a kill leaves the schema that was there, whose dcengine can open it, or the newest.
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{scripts}\n"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest}; COMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    logger.info("schema of %s is now %d", db, newest)


def _back_up(db: Path, connection: sqlite3.Connection, version: int) -> None:
    """Copy *db* as it stands; the copy gets its name once it is whole and on the disk."""
    backup = db.with_name(f"{db.name}.schema{version}.backup")
    unfinished = Path(f"{backup}{UNFINISHED}")
    _remove_database(unfinished)  # from somebody who was killed
    _create_private(unfinished)  # SQLite would make it readable for everybody
    try:
        with closing(sqlite3.connect(unfinished)) as target:
            connection.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # a log of its own would not be renamed with it
        sync(unfinished)
        unfinished.rename(backup)
        sync(backup.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(str(backup)) from error
        raise StoreError(
            f"{db} has an old schema, and before it is changed no copy could be made at {backup}: {error.strerror}; "
            "it was left as it is"
        ) from error
    finally:
        _remove_database(unfinished)  # half of it is of use to nobody, and takes room


def _remove_database(path: Path) -> None:
    for companion in COMPANIONS:
        Path(f"{path}{companion}").unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold *path*, a file or a folder, as it is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_broken(error: sqlite3.Error) -> bool:
    """Tell whether *error* says that the disk has failed, so that nobody knows what is on it."""
    return "disk I/O error" in str(error) and getattr(error, "sqlite_errorname", "") != NO_ROOM_FOR_INDEX


def translated(error: sqlite3.Error, db: Path | str) -> StoreError:
    """Return the error of our tree that *error* means."""
    name = getattr(error, "sqlite_errorname", "") or ""  # Python 3.11 and later
    text = str(error)
    if name in ("SQLITE_FULL", NO_ROOM_FOR_INDEX) or "database or disk is full" in text:
        return DiskFull(str(db))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in text or "not a database" in text:
        return DatabaseCorrupt(str(db), text)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "is locked" in text:
        return DatabaseLocked(str(db))
    if is_broken(error):
        return StoreError(f"{db} cannot be read or written ({text}): check its disk, the system's log says more")
    return StoreError(f"{db}: {text}")
