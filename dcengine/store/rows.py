"""One statement for many rows.

Python's lock is let go and taken anew for each row of an `executemany`: beside a thread that computes, a thousand rows
may take seconds so. And a statement for many rows takes a third less than as many statements.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)  #: rows in one statement: so few that SQLite has read all texts soon
ROW = re.compile(r"(?<=VALUES )\([?, ]+\)")
UPDATE = re.compile(r"\s*WITH (\w+) \(([\w, ]+)\) AS \(\s*VALUES \([?, ]+\)\s*\)\s*(UPDATE .*)", re.DOTALL)


def execute_rows(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> list[Any]:
    """Execute *statement*, which has ``VALUES (?, ...)`` for one row, for all *rows*; return what it returns.

    An UPDATE takes each of its rows from there once: no two of *rows* may be about the same one.
    """
    found: list[Any] = []
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            values = list(chain.from_iterable(rows[start : start + size]))
            found += connection.execute(_for_rows(statement, size), values).fetchall()
            start += size
    return found


@lru_cache(maxsize=256)
def _for_rows(statement: str, n: int) -> str:
    """Return *statement* with *n* rows where it has one."""
    many, places = ROW.subn(lambda row: ", ".join([row[0]] * n), statement)
    assert places == 1, f"not one VALUES (?, ...) in {statement}"
    return for_one(statement) if n == 1 else many


def for_one(statement: str) -> str:
    """Return *statement* for a single row: an UPDATE need not make a table of it first."""
    parts = UPDATE.fullmatch(statement)
    if parts is None:
        return statement
    table, columns, update = parts.groups()
    places = {f"{table}.{column}": f"?{n}" for n, column in enumerate(columns.split(", "), 1)}
    return re.sub(rf"\b{table}\.\w+", lambda name: places[name[0]], update.replace(f"FROM {table}\n", ""))
