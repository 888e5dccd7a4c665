"""Operations that keep what running jobs say: output and progress."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..verbs import Progress
from .names import Names

INSERT_OUTPUT = "INSERT OR IGNORE INTO output (job, number, kind, text) VALUES (?, ?, ?, ?)"
SAVE_PROGRESS = """
INSERT INTO progress (job, done, total, text)
VALUES (?, ?, ?, ?)
ON CONFLICT (job) DO UPDATE SET done = excluded.done, total = excluded.total, text = excluded.text
"""


@dataclass(slots=True)
class AddOutput:
    """Append lines to what jobs printed: rows of (job, number, kind, text)."""

    rank: ClassVar[int] = 0
    rows: list[tuple[int, int, str, str]]

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddOutput]) -> list[Any]:
        connection.executemany(INSERT_OUTPUT, [row for operation in operations for row in operation.rows])
        return [True] * len(operations)


@dataclass(slots=True)
class SaveProgress:
    """Keep the newest word of each job about its progress."""

    rank: ClassVar[int] = 4
    progress: dict[int, Progress]

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[SaveProgress]) -> list[Any]:
        newest: dict[int, Progress] = {}
        for operation in operations:
            newest.update(operation.progress)
        connection.executemany(SAVE_PROGRESS, [(job, p.done, p.total, p.text) for job, p in newest.items()])
        return [True] * len(operations)


@dataclass(slots=True)
class NoteBlob:
    """Write down that a value lies outside the file, so that it can be removed once nothing refers to it."""

    rank: ClassVar[int] = 1
    digest: bytes
    size: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[NoteBlob]) -> list[Any]:
        connection.executemany(
            "INSERT INTO blob (digest, size, created) VALUES (?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET created = excluded.created",
            [(each.digest, each.size, each.at) for each in operations],
        )
        return [True] * len(operations)
