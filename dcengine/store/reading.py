"""One read-only connection to the file, with a thread of its own.

One only: a second busy reader takes more of the interpreter from the writer than it gives.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite

from .opening import translated

PAGE_ROWS, PAGE_BYTES = 256, 16 << 20  #: in one answer


class Reading:
    """Asks the file."""

    def __init__(self, db: Path) -> None:
        self._db = db

    async def start(self) -> None:
        # as_uri() escapes what a path may hold and a URI may not.
        uri = f"{self._db.resolve().as_uri()}?mode=ro"
        self._connection = await aiosqlite.connect(uri, uri=True, isolation_level=None)
        await self._connection.execute("PRAGMA query_only = ON")
        await self._connection.execute("PRAGMA busy_timeout = 5000")

    async def close(self) -> None:
        await self._connection.close()

    async def _all(self, sql: str, *parameters: object) -> list[Any]:
        try:
            return list(await self._connection.execute_fetchall(sql, parameters))
        except sqlite3.OperationalError as error:  # of the disk, or of who has locked the file
            raise translated(error, self._db) from error

    async def _one(self, sql: str, *parameters: object) -> Any:
        rows = await self._all(sql, *parameters)
        return rows[0] if rows else None


def page_end(sizes: list[Any], after: int) -> int:
    """Return the cursor of the last of the (cursor, size) rows *sizes* that one page after *after* should hold."""
    until, total = after, 0
    for cursor, size in sizes:
        if total and total + size > PAGE_BYTES:
            break
        until, total = cursor, total + size
    return until
