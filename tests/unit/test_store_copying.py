"""Copies of the file while somebody writes it, and space given back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcengine.codec import pack_function
from dcengine.errors import BackupFailed, EngineClosed, StoreError
from dcengine.store import Store, copying, now
from dcengine.store.copying import Copy, ForgetBlobs, vacuum
from dcengine.store.saying import NoteBlob
from dcengine.store.submitting import AddJob
from dcengine.verbs import Options, Submission
from tests.unit.pipelines import Pipeline, a_stage, change, rows


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()


def a_job(input: bytes = b"input") -> AddJob:
    submission = Submission(function=pack_function(len), input=input, options=Options(), submitter="me")
    return AddJob(1, 1, submission, now())


def a_reference(letter: bytes) -> bytes:
    return b"B" + letter * 32 + (5_000_000).to_bytes(8, "big")


def copy_of(store: Store, target: Path) -> set[bytes]:
    copy = Copy(str(target))
    digests = copy.fill(store.db, lambda: True)
    assert copy.publish() == target.stat().st_size
    return digests


# ---- copies --------------------------------------------------------------------------------


async def test_a_copy_is_a_file_that_an_engine_can_go_on_with(store: Store, tmp_path: Path) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"))
    await photos.add(b"a", b"b")
    await photos.run("first")
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()

    copy_of(store, target)
    await photos.run("first")  # the copy knows nothing of it

    assert [file.name for file in target.parent.iterdir()] == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    again = Store(target)
    await again.start()
    status = await again.reads.project("photos")
    check = rows(again, "PRAGMA integrity_check")
    await again.close()
    assert (status.open, status.succeeded) == (1, 1)
    assert check == [("ok",)]


async def test_a_copy_made_while_others_write_shows_one_moment(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "STEP_PAGES", 1)
    for _ in range(20):
        await store.apply(a_job(b"x" * 4000))
    first_step, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def is_wanted() -> bool:
        loop.call_soon_threadsafe(first_step.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)
        return True

    copy = Copy(str(tmp_path / "copy.db"))
    copying_it = asyncio.create_task(asyncio.to_thread(copy.fill, store.db, is_wanted))
    await first_step.wait()
    for _ in range(50):
        await store.apply(a_job(b"y" * 4000))
    go_on.set()
    await copying_it
    copy.publish()

    connection = sqlite3.connect(tmp_path / "copy.db")
    assert connection.execute("SELECT count(*) FROM job").fetchone() == (20,)
    assert connection.execute("SELECT units FROM event").fetchall() == [(1,)] * 20
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    assert len(rows(store, "SELECT 1 FROM job")) == 70


@pytest.mark.parametrize("companion", ["", "-wal", "-journal"])
async def test_what_is_there_is_never_replaced(store: Store, tmp_path: Path, companion: str) -> None:
    there = tmp_path / f"copy.db{companion}"
    there.write_bytes(b"precious")

    with pytest.raises(BackupFailed, match=f"copy.db{companion} is there already"):
        Copy(str(tmp_path / "copy.db"))

    assert there.read_bytes() == b"precious"


async def test_what_appears_meanwhile_is_not_replaced_either(store: Store, tmp_path: Path) -> None:
    copy = Copy(str(tmp_path / "copy.db"))
    copy.fill(store.db, lambda: True)
    (tmp_path / "copy.db").write_bytes(b"precious")

    with pytest.raises(BackupFailed):
        copy.publish()

    assert (tmp_path / "copy.db").read_bytes() == b"precious"


async def test_what_somebody_who_was_killed_left_is_no_hindrance(store: Store, tmp_path: Path) -> None:
    (tmp_path / "copy.db.unfinished").write_bytes(b"half a copy")

    copy_of(store, tmp_path / "copy.db")

    assert not [name for name in os.listdir(tmp_path) if "unfinished" in name]


@pytest.mark.parametrize("path", ["nowhere/copy.db", "work.db/copy.db", "copy\0.db", ""])
async def test_a_place_that_cannot_be_is_named(
    store: Store, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BackupFailed, match=r"no copy was made at .*; choose a new file"):
        Copy(path)


async def test_a_copy_that_nobody_wants_any_more_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "STEP_PAGES", 1)
    (tmp_path / "copies").mkdir()
    copy = Copy(str(tmp_path / "copies" / "copy.db"))

    with pytest.raises(EngineClosed):
        copy.fill(store.db, lambda: False)
    copy.abandon()

    assert list((tmp_path / "copies").iterdir()) == []
    await store.apply(a_job())  # nothing holds the writer up


async def test_a_copy_tells_which_values_lie_outside(store: Store, tmp_path: Path) -> None:
    await store.apply(a_job(a_reference(b"i")))
    await store.apply(a_job(b"B" * 40))
    await store.apply(a_job(b"C" * 41))
    change(store, "UPDATE payload SET output = ? WHERE task = 2", a_reference(b"o"))

    assert copy_of(store, tmp_path / "copy.db") == {b"i" * 32, b"o" * 32}


# ---- space ---------------------------------------------------------------------------------


async def test_vacuum_gives_back_what_was_deleted(store: Store) -> None:
    for _ in range(20):
        await store.apply(a_job(b"x" * 100_000))
    change(store, "UPDATE payload SET input = x''")

    before, after = await store.maintain(vacuum)

    assert before > 2_000_000 > 500_000 > after
    assert store.db.stat().st_size == after
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]
    assert (await store.apply(a_job())).id == 21
    assert (await store.reads.job(3)).state == "open"


async def test_vacuum_goes_on_while_somebody_reads(store: Store) -> None:
    await store.apply(a_job(b"x" * 100_000))
    reader = sqlite3.connect(store.db, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM job").fetchone() == (1,)

    await store.maintain(vacuum)

    assert reader.execute("SELECT count(*) FROM job").fetchone() == (1,)
    reader.close()


async def test_functions_that_nothing_calls_go_with_it_and_come_back_when_called(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"))
    change(store, "INSERT INTO function (digest, name, code) VALUES (x'00', 'nobody', x'00')")
    await store.apply(a_job())
    assert [name for (name,) in rows(store, "SELECT name FROM function")] == ["abs", "nobody", "len"]

    await store.maintain(vacuum)
    assert [name for (name,) in rows(store, "SELECT name FROM function")] == ["abs", "len"]
    change(store, "DELETE FROM payload")
    change(store, "DELETE FROM task")
    change(store, "DELETE FROM job")
    await store.maintain(vacuum)
    assert [name for (name,) in rows(store, "SELECT name FROM function")] == ["abs"]

    await store.apply(a_job())
    assert [name for (name,) in rows(store, "SELECT name FROM function")] == ["abs", "len"]


async def test_values_outside_the_file_are_idle_once_nothing_refers_to_them(store: Store) -> None:
    await store.apply(a_job(a_reference(b"i")))
    for letter, at in ((b"i", 0), (b"old", 0), (b"new", now())):
        await store.apply(NoteBlob(letter[:1] * 32, 7, at))

    idle = await store.reads.idle_blobs(now() - 1_000_000)
    assert idle == [(b"o" * 32, 7)]
    await store.apply(NoteBlob(b"o" * 32, 7, now()))  # put again meanwhile
    await store.apply(ForgetBlobs([digest for digest, _ in idle], now() - 1_000_000))
    assert len(rows(store, "SELECT 1 FROM blob")) == 3
    await store.apply(ForgetBlobs([digest for digest, _ in idle], now()))
    assert len(rows(store, "SELECT 1 FROM blob")) == 2


# ---- maintenance ---------------------------------------------------------------------------


async def test_maintenance_is_done_alone_and_in_its_turn(store: Store) -> None:
    def jobs(connection: sqlite3.Connection) -> int:
        assert not connection.in_transaction
        return int(connection.execute("SELECT count(*) FROM job").fetchone()[0])

    results = await asyncio.gather(
        store.apply(a_job()), store.apply(a_job()), store.maintain(jobs), store.apply(a_job()), store.maintain(jobs)
    )

    assert (results[2], results[4]) == (2, 3)


async def test_maintenance_that_fails_leaves_no_transaction_open(store: Store) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM meta")
        connection.execute("nonsense")

    with pytest.raises(StoreError, match="nonsense"):
        await store.maintain(fail)

    assert (await store.apply(a_job())).id == 1


async def test_closing_breaks_maintenance_off(store: Store) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def count_for_ever(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        ).fetchone()

    endless, waiting = store.maintain(count_for_ever), store.maintain(lambda connection: None)
    last = store.apply(a_job())
    await begun.wait()
    await store.close()

    with pytest.raises(EngineClosed):
        await endless
    with pytest.raises(EngineClosed):
        await waiting
    assert (await last).id == 1  # what was handed in is still stored
    assert len(rows(store, "SELECT 1 FROM job")) == 1
