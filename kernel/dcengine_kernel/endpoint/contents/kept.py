"""What engines keep in folders that front ends look into: never shown, read or written through here."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .paths import is_engines_own, is_within
from .places import folder_at, is_local

ENDINGS = ("", "-wal", "-shm", "-journal", ".lock", ".log")  #: of the files around a database
SQLITE = b"SQLite format 3\0"


class Kept:
    """The files of the engine that answers here, and those of others that lie beside them."""

    def __init__(self, db: str, blobs: str | None = None) -> None:
        self._db = os.path.realpath(db)
        self._blobs = folder_at(blobs) if blobs and is_local(blobs) else None

    def holds(self, path: str, info: os.stat_result | None = None) -> bool:
        """Tell whether the real *path* is an engine's; *info* is known of it, where somebody has looked."""
        return self._is_ours(path) or self._is_linked(info) or _is_of_another(path)

    def is_in(self, folder: str) -> bool:
        """Tell whether a file of an engine lies in the real *folder*, however deep."""
        if is_within(self._db, folder) or (self._blobs is not None and is_within(self._blobs, folder)):
            return True
        for place, folders, files in os.walk(folder):
            if any(is_engines_own(name) or self.holds(os.path.join(place, name)) for name in (*folders, *files)):
                return True
        return False

    def _is_ours(self, path: str) -> bool:
        """Tell by its name whether *path* is one of the files around the database, or below one, or a large value."""
        if self._blobs is not None and is_within(path, self._blobs):
            return True
        db, path = self._db.lower(), path.lower()
        return path == db or path.startswith((f"{db}-", f"{db}."))

    def _is_linked(self, info: os.stat_result | None) -> bool:
        """Tell whether the file is one of ours by another name: a hard link."""
        return info is not None and info.st_nlink > 1 and any(os.path.samestat(info, ours) for ours in self._ours())

    def _ours(self) -> Iterator[os.stat_result]:
        for ending in ENDINGS:
            try:
                yield os.stat(self._db + ending)
            except OSError:
                pass


def _is_of_another(path: str) -> bool:
    """Tell whether *path* is a database with a lock beside it, or a file around one: its lock holds a token."""
    return any(
        os.path.lexists(f"{stem}.lock") and _is_database(stem)
        for stem in (path.removesuffix(ending) for ending in ENDINGS if path.endswith(ending))
    )


def _is_database(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False
