"""One statement for many rows does what as many statements do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from dcengine.store.handing import END_JOB, SAVE_OUTPUT
from dcengine.store.leasing import LEASE
from dcengine.store.moving import MOVE
from dcengine.store.rows import SIZES, execute_rows, for_one

INSERT = "INSERT INTO thing (id, name) VALUES (?, ?)"
RENAME = """
WITH renamed (thing, name) AS (VALUES (?, ?))
UPDATE thing
SET name = renamed.name || thing.id
FROM renamed
WHERE thing.id = renamed.thing
"""
COUNTS = [0, 1, 3, 4, 5, 255, 256, 257, 1000]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    yield connection
    connection.close()


def things(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    return connection.execute("SELECT id, name FROM thing ORDER BY id").fetchall()


@pytest.mark.parametrize("count", COUNTS)
def test_every_row_is_inserted_once_and_in_order(connection: sqlite3.Connection, count: int) -> None:
    rows = [(number, f"thing {number}") for number in range(count)]

    execute_rows(connection, INSERT, rows)

    assert things(connection) == rows


@pytest.mark.parametrize("count", COUNTS)
def test_every_row_is_changed_and_no_other(connection: sqlite3.Connection, count: int) -> None:
    connection.executemany(INSERT, [(number, "old") for number in range(count + 1)])

    execute_rows(connection, RENAME, [(number, "new ") for number in range(count)])

    assert things(connection) == [*((number, f"new {number}") for number in range(count)), (count, "old")]


def test_what_the_statements_return_comes_together(connection: sqlite3.Connection) -> None:
    rows = [(number, "x") for number in range(sum(SIZES) + 1)]

    found = execute_rows(connection, f"{INSERT} RETURNING id", rows)

    assert found == [(number,) for number, _ in rows]


def test_few_texts_are_enough_for_any_number_of_rows(connection: sqlite3.Connection) -> None:
    seen = set[str]()
    connection.set_trace_callback(lambda sql: seen.add(sql.translate(str.maketrans("", "", "0123456789"))))

    for count in range(100):
        connection.execute("DELETE FROM thing")
        execute_rows(connection, INSERT, [(number, "x") for number in range(count)])

    assert len(seen) < 10


@pytest.mark.parametrize("statement", [LEASE, MOVE, SAVE_OUTPUT, END_JOB])
def test_for_a_single_row_nothing_is_made_a_table_of(statement: str) -> None:
    alone = for_one(statement)

    assert alone.split()[0] == "UPDATE"
    assert "FROM" not in alone
    assert alone.count("?") >= statement.count("?")


def test_a_statement_that_is_no_such_update_stays_as_it_is() -> None:
    assert for_one(INSERT) == INSERT


def test_a_statement_without_a_place_for_rows_is_refused_whatever_their_number(connection: sqlite3.Connection) -> None:
    with pytest.raises(AssertionError, match="VALUES"):
        execute_rows(connection, "UPDATE thing SET name = ? WHERE id = ?", [("new", 1)])
