"""Plain data as tables: lists of rows, with the names of their columns where they have some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

LARGEST = 4 << 20  #: bytes of JSON, beyond which nobody looks for rows
MOST_ROWS, MOST_COLUMNS = 100, 30
CELL_LIMIT = 200  #: characters


class Grid(msgspec.Struct, frozen=True):
    """The first rows of a table."""

    columns: list[str]  #: empty where they have no names
    rows: list[list[str]]
    count: int  #: of all rows


def _of_dict(value: Any) -> list[tuple[Any, Any]] | None:
    return list(value.items()) if isinstance(value, dict) else None


def grid_of(
    value: Any, shown: Callable[[Any], str], pairs_of: Callable[[Any], list[tuple[Any, Any]] | None] = _of_dict
) -> Grid | None:
    """Return *value* as a table if it is a list of records, or of rows of one length; None for anything else.

    *pairs_of* gives what a record is made of, None for what is none; *shown* makes a text of a cell.
    """
    if type(value) not in (list, tuple) or not value:
        return None

    def cell(each: Any) -> str:
        return (each if isinstance(each, str) else shown(each))[:CELL_LIMIT]

    records = [pairs_of(each) for each in value[:MOST_ROWS]]
    if all(record is not None for record in records):
        named = [{cell(name): each for name, each in record or ()} for record in records]
        return _of_records(named, len(value), cell)
    rows = value[:MOST_ROWS]
    if not all(type(row) in (list, tuple) and len(row) == len(rows[0]) for row in rows):
        return None
    if len(rows) < 2 or not 2 <= len(rows[0]) <= MOST_COLUMNS:
        return None
    return Grid([], [[cell(each) for each in row] for row in rows], len(value))


def _of_records(records: list[dict[str, Any]], count: int, cell: Callable[[Any], str]) -> Grid | None:
    columns = list(dict.fromkeys(name for record in records for name in record))
    if not 0 < len(columns) <= MOST_COLUMNS:
        return None
    rows = [[cell(record[name]) if name in record else "" for name in columns] for record in records]
    return Grid(columns, rows, count)
