"""Sessions: which there are, what became of their processes, and who was told."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from .names import Names

KEPT = 30 * 86400 * 1_000_000  #: microseconds that a loss is remembered

BEGIN = """
INSERT OR REPLACE INTO session (name, job, worker, began)
VALUES (?, ?, ?, ?)
"""
LOSE = "UPDATE session SET lost = ?, lost_at = ? WHERE name = ? AND lost IS NULL"
TELL = """
UPDATE session
SET told = (SELECT coalesce(max(id), 0) FROM job)
WHERE name = ? AND lost IS NOT NULL AND told IS NULL
"""
LOSE_ALL = "UPDATE session SET lost = ?, lost_at = ? WHERE lost IS NULL"
SELECT = "SELECT name, job, worker, began, lost, lost_at, told FROM session"


class SessionRecord(msgspec.Struct, frozen=True):
    """A session as it is stored; times in microseconds."""

    name: str
    job: int  #: the one that began it
    worker: str
    began: int
    lost: str | None = None  #: what became of its process; None: it lives
    lost_at: int | None = None
    told: int | None = None  #: jobs up to this one expected what was lost; None: nobody was told yet

    def is_missed_by(self, job: int) -> bool:
        """Tell whether *job* expects what was lost."""
        return self.lost is not None and job != self.job and (self.told is None or job <= self.told)


@dataclass(slots=True)
class BeginSession:
    """Note that a session begins; the result is its `SessionRecord`."""

    rank: ClassVar[int] = 4
    name: str
    job: int
    worker: str
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[BeginSession]) -> list[Any]:
        rows = [(each.name, each.job, each.worker, each.at) for each in operations]
        connection.executemany(BEGIN, rows)
        return [SessionRecord(*row) for row in rows]


@dataclass(slots=True)
class LoseSession:
    """Note what became of a session's process, and with *is_told* that somebody hears of it now.

    The result is its `SessionRecord`, None if there never was one.
    """

    rank: ClassVar[int] = 4
    name: str
    what: str
    at: int
    is_told: bool = False

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[LoseSession]) -> list[Any]:
        return [operation._lose(connection) for operation in operations]

    def _lose(self, connection: sqlite3.Connection) -> SessionRecord | None:
        connection.execute(LOSE, (self.what, self.at, self.name))
        if self.is_told:
            connection.execute(TELL, (self.name,))
        row = connection.execute(f"{SELECT} WHERE name = ?", (self.name,)).fetchone()
        return SessionRecord(*row) if row else None


@dataclass(slots=True)
class LoseSessions:
    """Note that no session lives any more, and forget losses of long ago; the result is a list of `SessionRecord`."""

    rank: ClassVar[int] = 4
    what: str
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[LoseSessions]) -> list[Any]:
        return [operation._lose(connection) for operation in operations]

    def _lose(self, connection: sqlite3.Connection) -> list[SessionRecord]:
        if connection.execute("SELECT EXISTS (SELECT 1 FROM session)").fetchone() == (0,):  # as usual
            return []
        connection.execute(LOSE_ALL, (self.what, self.at))
        connection.execute("DELETE FROM session WHERE lost_at < ?", (self.at - KEPT,))
        return [SessionRecord(*row) for row in connection.execute(SELECT)]
