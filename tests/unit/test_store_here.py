"""A few quick operations are written on the loop's own thread, while nothing else waits and the disk is quick."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dcengine.store import Store
from dcengine.store import writer as writing
from dcengine.store.log import LOCK_MILLISECONDS
from dcengine.store.names import Names


@dataclass
class Quick:
    """Says which thread wrote it, after how many others."""

    rank: ClassVar[int] = 0
    is_quick: ClassVar[bool] = True
    order: list[Any]
    name: Any = None
    work: Callable[[sqlite3.Connection], object] = field(default=lambda connection: None)

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Any]) -> list[Any]:
        for operation in operations:
            operation.order.append(operation.name)
            operation.work(connection)
        return [threading.current_thread()] * len(operations)


@dataclass
class Long(Quick):
    """The same, of a kind that takes its time."""

    is_quick: ClassVar[bool] = False


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    store._writer._is_log_long = True
    yield store
    await store.close()


async def test_a_lone_quick_operation_is_written_on_the_loops_thread_and_is_durable(store: Store) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta (key, value) VALUES ('here', 1)")

    assert await store.apply(Quick([], work=write)) is threading.current_thread()

    other = sqlite3.connect(store.db)
    assert other.execute("SELECT value FROM meta WHERE key = 'here'").fetchone() == (1,)
    other.close()


async def test_many_at_once_are_written_together_by_the_thread(store: Store) -> None:
    order: list[int] = []
    threads = await asyncio.gather(*(store.apply(Quick(order, n)) for n in range(20)))

    assert {thread.name for thread in threads} == {"dcengine-store"}
    assert order == list(range(20))
    assert store.writer.operations.total == 20
    assert store.writer.operations.buckets()[-1] == ("+Inf", 1.0)


async def test_what_the_thread_alone_may_do_does_not_overtake_what_was_handed_in_before(store: Store) -> None:
    order: list[str] = []
    await asyncio.gather(
        store.apply(Quick(order, "first")), store.apply(Long(order, "second")), store.apply(Quick(order, "third"))
    )
    assert order == ["first", "second", "third"]


async def test_while_the_thread_writes_nothing_is_written_beside_it(store: Store) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)

    order: list[str] = []
    long = store.apply(Long(order, "long", wait))
    await asyncio.to_thread(begun.wait, 10)
    quick = store.apply(Quick(order, "quick"))
    await asyncio.sleep(0.02)
    assert order == ["long"]
    go_on.set()
    assert (await quick).name == "dcengine-store"
    await long


async def test_a_file_that_another_program_has_locked_does_not_stop_the_loop(store: Store) -> None:
    other = sqlite3.connect(store.db, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    written, began = store.apply(Quick([])), time.monotonic()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert time.monotonic() - began < LOCK_MILLISECONDS / 2000, "the loop stood still"
    assert not written.done()
    other.execute("ROLLBACK")
    other.close()

    assert (await written).name == "dcengine-store"


async def test_a_slow_disk_is_left_to_the_thread_for_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "AWAY_TIMES", 1e6)
    slowly = Quick([], work=lambda connection: time.sleep(2 * writing.HERE_SECONDS))
    assert await store.apply(slowly) is threading.current_thread()

    assert (await store.apply(Quick([]))).name == "dcengine-store"
    store._writer._not_here_before = 0.0  # the while is over
    assert await store.apply(Quick([])) is threading.current_thread()


async def test_an_operation_that_fails_here_fails_alone(store: Store) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise ValueError("no")

    failed, well = await asyncio.gather(
        store.apply(Quick([], work=fail)), store.apply(Quick([])), return_exceptions=True
    )
    assert isinstance(failed, ValueError)
    assert well is threading.current_thread()


async def test_what_was_handed_in_just_before_the_end_is_written(store: Store) -> None:
    order: list[str] = []
    written = store.apply(Quick(order, "last"))
    await store._writer.close()

    assert (await written).name == "dcengine-store"
    assert order == ["last"]


async def test_the_log_is_folded_into_the_file_now_and_then(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "HERE_IN_A_ROW", 3)
    folded: list[str] = []

    def fold(connection: sqlite3.Connection) -> None:
        folded.append(threading.current_thread().name)

    monkeypatch.setattr(store._writer._log, "fold", fold)
    for _ in range(7):
        await store.apply(Quick([]))
        await store.maintain(lambda connection: None)
    assert folded == ["dcengine-store"] * 2
