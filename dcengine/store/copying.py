"""Copies of the file while work goes on, and its space given back: what nothing refers to any more goes first."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import BackupFailed, DiskFull, EngineClosed
from .names import Names
from .opening import COMPANIONS, UNFINISHED, is_broken, sync, translated

STEP_PAGES = 256  #: copied at once; between two steps somebody may have changed his mind
SYNC_STEPS = 16  #: after so many the copy is synced: else the disk has so much to write that commits wait for it

# The conditions stand here as in the indexes of what lies outside, or SQLite would not find those.
SELECT_REFERENCED = "SELECT digest FROM value UNION " + " UNION ".join(
    f"SELECT substr({value}, 2, 32) FROM {table} WHERE length({value}) = 41 AND substr({value}, 1, 1) = x'42'"
    for table, value in (("payload", "input"), ("payload", "output"), ("block", "data"), ("chunk", "data"))
)
SELECT_IDLE_BLOBS = f"""
SELECT digest, size
FROM blob
WHERE created <= ? AND digest NOT IN ({SELECT_REFERENCED})
"""
DELETE_UNUSED_FUNCTIONS = """
DELETE FROM function
WHERE id NOT IN (
    SELECT function FROM stage WHERE function IS NOT NULL
    UNION SELECT function FROM batch
    UNION SELECT function FROM job WHERE function IS NOT NULL
    UNION SELECT function FROM task WHERE function IS NOT NULL
)
"""


# ---- copies --------------------------------------------------------------------------------


class Copy:
    """A copy of a file at *path*, made under another name until it is complete.

    Raises `BackupFailed` if there is something at *path*, or nothing can be put there.
    """

    def __init__(self, path: str) -> None:
        self.target = target = Path(os.path.abspath(path))
        self._unfinished = Path(f"{target}{UNFINISHED}")
        with self._explained():
            for companion in COMPANIONS:
                if os.path.lexists(f"{target}{companion}"):
                    raise BackupFailed(str(target), f"{target.name}{companion} is there already")
            self._unfinished.unlink(missing_ok=True)  # from somebody who was killed
            os.close(os.open(self._unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def fill(self, db: Path, is_wanted: Callable[[], bool]) -> set[bytes]:
        """Copy *db* as it stands now; return the digests of the values outside the file that the copy refers to.

        One transaction sees one state of the file, however much is written meanwhile. Raises `EngineClosed` once it
        *is_wanted* no longer.
        """
        steps = 0

        def step(status: int, remaining: int, total: int) -> None:
            nonlocal steps
            steps += 1
            if not is_wanted():
                raise EngineClosed(str(db))
            if steps % SYNC_STEPS == 0:
                sync(self._unfinished)

        with (
            self._explained(),
            closing(_opened(db)) as source,
            closing(sqlite3.connect(self._unfinished, isolation_level=None)) as target,
        ):
            target.execute("PRAGMA synchronous = OFF")  # we sync it ourselves
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on it sees one state
            source.backup(target, pages=STEP_PAGES, progress=step)
            # The copy is one file: a log of its own would not be moved with it.
            target.execute("PRAGMA journal_mode = DELETE")
            return {digest for (digest,) in target.execute(SELECT_REFERENCED)}

    def publish(self) -> int:
        """Give the copy its name, durably; return its size."""
        with self._explained():
            sync(self._unfinished)
            try:
                os.link(self._unfinished, self.target)  # unlike a move, it replaces nothing
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                self._unfinished.rename(self.target)
            self.abandon()
            sync(self.target.parent)
            return self.target.stat().st_size

    def abandon(self) -> None:
        """Leave nothing unfinished behind."""
        for companion in COMPANIONS:
            Path(f"{self._unfinished}{companion}").unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the disk or SQLite says into an error of ours."""
        try:
            yield
        except sqlite3.Error as error:
            if is_broken(error):
                raise BackupFailed(str(self.target), str(error)) from error
            raise translated(error, self.target) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(str(self.target)) from error
            raise BackupFailed(str(self.target), error.strerror or type(error).__name__) from error
        except ValueError as error:  # a path that no file can have
            raise BackupFailed(ascii(str(self.target)), str(error)) from error


def _opened(db: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{db.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)


# ---- space ---------------------------------------------------------------------------------


def vacuum(connection: sqlite3.Connection) -> tuple[int, int]:
    """Write the file anew without its free space and without functions that nothing calls; return its sizes.

    It must not be within a transaction. What is written anew passes through a temporary file, not through memory.
    """
    before = _size(connection)
    connection.execute("PRAGMA foreign_keys = OFF")  # else each function costs a look at all tasks
    try:
        connection.execute(DELETE_UNUSED_FUNCTIONS)
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        (file,) = [row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"]
        if isinstance(translated(error, file), DiskFull) and shutil.disk_usage(Path(file).parent).free > before:
            raise DiskFull(_temporary_folder()) from error  # there is room for it, but not there
        raise
    finally:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, _size(connection)


def _temporary_folder() -> str:
    """Return where SQLite puts temporary files."""
    places = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
    return next((place for place in places if place and os.access(place, os.W_OK | os.X_OK)), ".")


def _size(connection: sqlite3.Connection) -> int:
    (pages,), (page,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return int(pages) * int(page)


@dataclass(slots=True)
class ForgetBlobs:
    """Forget blobs that were removed, but for those put again after *until*."""

    rank: ClassVar[int] = 5
    digests: list[bytes]
    until: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[ForgetBlobs]) -> list[Any]:
        connection.executemany(
            "DELETE FROM blob WHERE digest = ? AND created <= ?",
            [(digest, operation.until) for operation in operations for digest in operation.digests],
        )
        return [True] * len(operations)
