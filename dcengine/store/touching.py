"""A write that changes nothing of anybody's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .names import Names

TOUCH = """
INSERT INTO meta (key, value)
VALUES ('touched', 1)
ON CONFLICT (key) DO UPDATE SET value = value + 1
"""


@dataclass(slots=True)
class Touch:
    """Write down that this was tried: that fails where another change would.

    What stands there already would not do: SQLite does not write it.
    """

    rank: ClassVar[int] = 1

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Touch]) -> list[Any]:
        connection.execute(TOUCH)
        return [None] * len(operations)


@dataclass(slots=True)
class Confirm:
    """Change nothing: as before any change, it is looked whether the file is still this engine's."""

    rank: ClassVar[int] = 0
    is_quick: ClassVar[bool] = True

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Confirm]) -> list[Any]:
        return [None] * len(operations)
