"""A write that changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .names import Names


@dataclass(slots=True)
class Touch:
    """Write what stands there already: that fails where a change would."""

    rank: ClassVar[int] = 1

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Touch]) -> list[Any]:
        connection.execute("UPDATE meta SET value = value WHERE key = 'epoch'")
        return [None] * len(operations)
