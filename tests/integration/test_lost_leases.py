"""A call may begin before its lease is durable. Should the disk be full then, nothing of that run is believed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from dcengine.codec import pack_call, pack_function
from dcengine.errors import DiskFull
from dcengine.runner.units import Ending
from dcengine.verbs import Submission
from tests.driven import Driven


class FullDisk:
    """A connection that cannot commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self.connection.execute(sql, *values)


@pytest.fixture
def driven() -> Iterator[Driven]:
    driven = Driven(["alice", "bob"])
    yield driven
    driven.close()


def submission(number: int) -> Submission:
    return Submission(function=pack_function(abs), input=pack_call((number,), {}), submitter="u")


def fill(driven: Driven) -> None:
    writer = driven.engine._store._writer
    writer._connection = FullDisk(writer._connection)  # type: ignore[assignment]


def make_room(driven: Driven) -> None:
    writer = driven.engine._store._writer
    writer._connection = writer._connection.connection  # type: ignore[attr-defined]


def sent(driven: Driven) -> list[int]:
    return [*driven.workers.sent]


def test_what_began_of_a_refused_submission_is_nobodys_result(driven: Driven) -> None:
    first = driven.call(driven.engine.submit(submission(1)))  # from here on the engine offers its calls at once
    driven.end(sent(driven)[0], [(Ending.SUCCEEDED, b"first")], 0.01)
    fill(driven)
    driven.stumbles.setLevel(logging.CRITICAL)  # the engine says in its log that the disk is full
    with pytest.raises(DiskFull):
        driven.call(driven.engine.submit(submission(2)))
    (refused,) = sent(driven)
    make_room(driven)
    driven.pass_by(1)  # what was waiting for the disk is asked again
    later = driven.call(driven.engine.submit(submission(3)))
    (running,) = [unit for unit in sent(driven) if unit != refused]

    driven.end(refused, [(Ending.SUCCEEDED, b"refused")], 0.01)

    assert driven.call(driven.engine.result(later.id)) is None
    driven.end(running, [(Ending.SUCCEEDED, b"later")], 0.01)
    found = driven.call(driven.engine.result(later.id))
    assert found is not None
    assert found.data == b"later"
    assert first.id < later.id
    assert [row.tasks for row in driven.call(driven.engine.leaderboard("functions"))] == [1, 1]
