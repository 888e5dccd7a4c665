"""Leases are told before they are durable, so that work begins while the disk is written; nothing else is."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dcengine.codec import pack_function
from dcengine.errors import DiskFull
from dcengine.jobs import State, Task
from dcengine.store import Store, log, now
from dcengine.store.leasing import Holder, Lease
from dcengine.store.log import LOG_BYTES, lengthen_log
from dcengine.store.opening import open_for_writing
from dcengine.store.submitting import AddJob
from dcengine.verbs import Submission

SUBMISSION = Submission(function=pack_function(len), input=b"input")


class Disk:
    """A connection whose commits wait, or fail, as a test says."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.is_full = False
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT":
            assert self.may_commit.wait(10)
            if self.is_full:
                raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *values)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    store._writer._open = lambda: Disk(open_for_writing(tmp_path / "work.db"))  # type: ignore[assignment, return-value]
    await store.start()
    yield store
    disk_of(store).may_commit.set()
    await store.close()


def disk_of(store: Store) -> Disk:
    disk: Any = store._writer._connection
    assert isinstance(disk, Disk)
    return disk


def a_lease(lost: list[Task] | None) -> Lease:
    on_lost = lost.extend if lost is not None else None
    return Lease(1, 1, 1, 1, Holder("w1"), now(), on_lost=on_lost)


async def test_a_lease_is_told_while_its_commit_is_under_way_and_a_job_is_not(store: Store) -> None:
    await store.apply(AddJob(1, 1, SUBMISSION, now()))
    disk_of(store).may_commit.clear()

    added, leased = store.apply(AddJob(1, 1, SUBMISSION, now())), store.apply(a_lease([]))
    (task,) = await asyncio.wait_for(leased, 10)

    assert task.state is State.LEASED
    assert not added.done()
    disk_of(store).may_commit.set()
    assert (await added).is_new


async def test_a_lease_that_nobody_would_take_back_is_told_when_it_is_durable(store: Store) -> None:
    await store.apply(AddJob(1, 1, SUBMISSION, now()))
    disk_of(store).may_commit.clear()

    leased = store.apply(a_lease(None))
    said_later = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(leased), 0.2))

    with pytest.raises(asyncio.TimeoutError):
        await said_later
    disk_of(store).may_commit.set()
    assert len(await leased) == 1


async def test_a_lease_that_was_told_and_did_not_become_durable_is_taken_back_once(store: Store) -> None:
    await store.apply(AddJob(1, 1, SUBMISSION, now()))
    disk_of(store).is_full, lost = True, list[Task]()

    (task,) = await store.apply(a_lease(lost))
    with pytest.raises(DiskFull):
        await store.apply(AddJob(1, 1, SUBMISSION, now()))

    assert lost == [task]
    disk_of(store).is_full = False
    (again,) = await store.apply(a_lease(lost))
    assert (again.id, again.attempt) == (task.id, task.attempt)  # of the first, the file knows nothing
    assert lost == [task]


async def test_an_id_is_given_once_also_if_what_it_was_given_to_was_not_stored(store: Store) -> None:
    disk_of(store).is_full = True
    lost = list[Task]()
    with pytest.raises(DiskFull):
        await asyncio.gather(store.apply(AddJob(1, 1, SUBMISSION, now())), store.apply(a_lease(lost)))
    disk_of(store).is_full = False

    added = await store.apply(AddJob(1, 1, SUBMISSION, now()))

    assert [task.id for task in lost] != [added.id]


# ---- the log -------------------------------------------------------------------------------


def test_a_log_that_was_made_longer_is_a_good_log_also_after_a_kill(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    connection = open_for_writing(db)
    connection.execute("INSERT INTO meta (key, value) VALUES ('before', 1)")
    lengthen_log(db)
    connection.execute("INSERT INTO meta (key, value) VALUES ('after', 1)")
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal"):  # what a killed process leaves
        Path(f"{copy}{suffix}").write_bytes(Path(f"{db}{suffix}").read_bytes())

    assert Path(f"{copy}-wal").stat().st_size == LOG_BYTES
    found = open_for_writing(copy)
    assert found.execute("SELECT count(*) FROM meta WHERE key IN ('before', 'after')").fetchone() == (2,)
    assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found.close()
    connection.close()
    assert not Path(f"{db}-wal").exists()


def test_a_log_keeps_its_length_where_there_is_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "ROOM_FOR_LOG", 1 << 60)
    connection = open_for_writing(tmp_path / "work.db")
    before = (tmp_path / "work.db-wal").stat().st_size

    lengthen_log(tmp_path / "work.db")

    assert (tmp_path / "work.db-wal").stat().st_size == before
    connection.close()


async def test_the_log_is_made_longer_in_the_first_quiet_moment(store: Store) -> None:
    def size_of_log() -> int:
        return Path(f"{store.db}-wal").stat().st_size

    while size_of_log() < LOG_BYTES:  # the time limit of all tests ends it
        await asyncio.sleep(0.01)

    await store.apply(AddJob(1, 1, SUBMISSION, now()))
    assert (await store.reads.counts())["queued"] == 1
