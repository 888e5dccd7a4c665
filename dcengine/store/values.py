"""Values that were put for calls to refer to: which there are, and until when they are kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..verbs import StoredValue
from .end_reads import EndReads
from .names import Names

# Put twice, it is kept as long as either wants.
PUT_VALUE = """
INSERT INTO value (digest, size, created, expires)
VALUES (?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET
    expires = CASE WHEN expires IS NULL OR excluded.expires IS NULL THEN NULL ELSE max(expires, excluded.expires) END
"""
DELETE_EXPIRED = "DELETE FROM value WHERE expires <= ? RETURNING digest"
SELECT_VALUE = "SELECT size, created, expires FROM value WHERE digest = ?"


@dataclass(slots=True)
class PutValue:
    """Keep a value, whose blob is there; *expires* in microseconds, None for ever."""

    rank: ClassVar[int] = 0
    digest: bytes
    size: int
    at: int
    expires: int | None

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[PutValue]) -> list[Any]:
        rows = [(each.digest, each.size, each.at, each.expires) for each in operations]
        connection.executemany(PUT_VALUE, rows)
        return [True] * len(operations)


@dataclass(slots=True)
class DeleteValue:
    """Forget a value; the result is whether there was one."""

    rank: ClassVar[int] = 1
    digest: bytes

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[DeleteValue]) -> list[Any]:
        return [
            connection.execute("DELETE FROM value WHERE digest = ?", (each.digest,)).rowcount > 0 for each in operations
        ]


@dataclass(slots=True)
class ExpirePut:
    """Forget the values whose time is over; the result is their digests."""

    rank: ClassVar[int] = 1
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[ExpirePut]) -> list[Any]:
        return [
            [digest for (digest,) in connection.execute(DELETE_EXPIRED, (each.at,)).fetchall()] for each in operations
        ]


class ValueReads(EndReads):
    """Answers questions about such values too."""

    async def value(self, digest: bytes) -> StoredValue | None:
        """Return what is known of a value, None for one that is not kept."""
        row = await self._one(SELECT_VALUE, digest)
        if row is None:
            return None
        size, created, expires = row
        return StoredValue(digest.hex(), size, created / 1e6, None if expires is None else expires / 1e6)
