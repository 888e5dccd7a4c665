"""Two engines on one file: one of them writes it, whatever is done to the lock, to the file and to its names."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import dcengine
from dcengine.calls import submission_of
from dcengine.client import Client
from dcengine.owner import lock_path
from tests.engines import embedded, serving
from tests.faults.aftermath import check_survivor
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.forked import Forked, Nursery
from tests.faults.promises import Promises
from tests.faults.report import recorded

AT_ONCE = 8
ROUNDS = in_form(short=5, long=100)
STEALS = in_form(short=3, long=50)


def test_of_eight_engines_that_start_at_once_one_owns_the_file(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    dice, db = random.Random(seed), tmp_path / "work.db"
    with recorded("two engines on one file", seed=seed, is_long=IS_LONG) as record:
        before: list[Forked] = []
        for record.runs in range(1, ROUNDS + 1):
            engines = [nursery.serve(db) for _ in range(AT_ONCE)]
            for owner in before:  # who owned it is killed while they start
                owner.kill()
            told = [engine.hear() for engine in engines]
            before = [engine for engine, word in zip(engines, told, strict=True) if "url" in word]
            record.double += len(before) > 1
            for engine, word in zip(engines, told, strict=True):
                assert engine in before or word["error"] == "DatabaseOwned", word
            if before and dice.random() < 0.5:
                assert submit(told[engines.index(before[0])]["url"]) == record.acknowledged + 1
                record.acknowledged += 1
        for owner in before:
            owner.kill()
        check_survivor(db)


def submit(url: str) -> int:
    """Have the engine at *url* store a call; return the job's id."""

    async def ask() -> int:
        client = Client(url)
        try:
            return (await client.submit(submission_of(abs, (-1,), {}, {}))).id
        finally:
            await client.close()

    return asyncio.run(ask())


# ---- the lock ------------------------------------------------------------------------------


def remove(lock: Path) -> None:
    lock.unlink()


def replace(lock: Path) -> None:
    other = lock.with_suffix(".other")
    other.write_bytes(lock.read_bytes())
    other.rename(lock)


@pytest.mark.parametrize("steal", [remove, replace])
def test_an_engine_whose_lock_was_stolen_acknowledges_nothing_more(
    nursery: Nursery, tmp_path: Path, seed: int, steal: Callable[[Path], None]
) -> None:
    db = tmp_path / "work.db"
    promises = Promises(db)
    with recorded(f"a stolen lock: {steal.__name__}d", seed=seed, is_long=IS_LONG) as record:
        first = nursery.serve(db)
        for record.runs in range(1, STEALS + 1):
            url = first.hear()["url"]
            second = asyncio.run(steal_under_load(nursery, db, url, steal, promises))
            assert "another engine took over" in first.hear()["ended"]
            first.wait()
            promises.look()
            first = second
        assert "url" in first.hear()
        first.kill()
        promises.look_for_all()
        promises.report(record)
        check_survivor(db)


async def steal_under_load(
    nursery: Nursery, db: Path, url: str, steal: Callable[[Path], None], promises: Promises
) -> Forked:
    """Start another engine on *db* while clients ask the one at *url*, until that refuses all of them."""
    second: list[Forked] = []
    clients = [asyncio.ensure_future(submit_until_refused(url, n, promises)) for n in range(8)]
    await asyncio.sleep(0.1)  # so that it is under way
    steal(lock_path(db))
    second.append(await asyncio.to_thread(nursery.serve, db))
    refusals = await asyncio.wait_for(asyncio.gather(*clients), 60)
    assert any("took over" in refusal for refusal in refusals), refusals
    return second[0]


async def submit_until_refused(url: str, number: int, promises: Promises) -> str:
    """Submit calls, some in quick succession and some alone, until the engine is not what it was; return why."""
    client = Client(url)
    try:
        while True:
            promises.note("job", (await client.submit(submission_of(abs, (-number,), {}, {}))).id)
            await asyncio.sleep(0.002 * number)
    except dcengine.DcengineError as error:
        return str(error)
    finally:
        await client.close()


SOMEBODY = json.dumps({"pid": os.getpid(), "url": "", "token": ""}).encode()


@pytest.mark.parametrize("said", [b"", b"\0\xff not JSON", SOMEBODY], ids=["nothing", "garbage", "a living process"])
def test_what_a_lock_file_says_decides_nothing(nursery: Nursery, tmp_path: Path, said: bytes) -> None:
    """Neither a text that is no one's, nor the process of somebody else, whose number an owner had before it died."""
    db = tmp_path / "work.db"
    lock_path(db).write_bytes(said)

    first = nursery.serve(db)
    url = first.hear()["url"]
    lock_path(db).write_bytes(said)  # under the engine: the lock is on the file, not in it
    second = nursery.serve(db)
    refusal = second.hear()

    assert refusal["error"] == "DatabaseOwned"
    assert submit(url) == 1
    first.kill()
    third = nursery.serve(db)
    assert "url" in third.hear()
    third.kill()


def test_a_copy_of_a_file_and_its_lock_has_an_engine_of_its_own(nursery: Nursery, tmp_path: Path) -> None:
    db, copy = tmp_path / "work.db", tmp_path / "copy.db"
    first = nursery.serve(db)
    url = first.hear()["url"]
    for end in ("", "-wal", ".lock"):
        shutil.copy(f"{db}{end}", f"{copy}{end}")

    second = nursery.serve(copy)
    other = second.hear()["url"]
    assert submit(url) == submit(other) == 1
    for engine in (first, second):
        engine.kill()
    check_survivor(copy, examples=0)


# ---- names of the file ---------------------------------------------------------------------


def test_a_link_to_a_file_leads_to_its_owner_and_a_second_name_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    (tmp_path / "link.db").symlink_to(db)
    first = nursery.serve(db)
    url = first.hear()["url"]
    os.link(db, tmp_path / "name.db")

    through_link, by_name = (nursery.serve(tmp_path / name) for name in ("link.db", "name.db"))
    refusals = [through_link.hear(), by_name.hear()]

    assert [refusal["error"] for refusal in refusals] == ["DatabaseOwned", "DatabaseLinked"]
    assert url.partition("/?")[0] in refusals[0]["message"]
    assert "work on a copy" in refusals[1]["message"]
    assert submit(url) == 1
    first.kill()


def move(db: Path) -> Path:
    moved = db.with_name("moved.db")
    db.rename(moved)
    return moved


def delete(db: Path) -> None:
    db.unlink()


def restore(db: Path) -> Path:
    """What was there is kept under another name, and a backup put in its place."""
    moved = move(db)
    shutil.copy(db.with_name("backup.db"), db)
    return moved


@pytest.mark.parametrize("change", [move, delete, restore])
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked", "idle"])
def test_an_engine_whose_file_is_gone_says_so_and_ends(
    nursery: Nursery, tmp_path: Path, change: Callable[[Path], Path | None], is_asked: bool
) -> None:
    db = tmp_path / "work.db"
    with embedded(tmp_path / "backup.db", workers=0, processes=False):
        pass
    engine = nursery.serve(db)
    url = engine.hear()["url"]
    assert [submit(url) for _ in range(3)] == [1, 2, 3]

    kept = change(db)

    if is_asked:
        with pytest.raises(dcengine.DatabaseMoved, match="moved, deleted or replaced while its engine ran"):
            submit(url)
    assert "moved, deleted or replaced" in engine.hear()["ended"]
    engine.wait()
    if kept is not None:  # all that was acknowledged is there, though the log was elsewhere
        assert not Path(f"{kept}-wal").exists()
        assert ids(kept) == [1, 2, 3]
    again = nursery.serve(db)
    assert submit(again.hear()["url"]) == 1
    again.kill()


def ids(db: Path) -> list[int]:
    connection = sqlite3.connect(db)
    try:
        return [id for (id,) in connection.execute("SELECT id FROM job ORDER BY id")]
    finally:
        connection.close()


def test_a_log_that_came_with_a_restored_file_stays_with_it(nursery: Nursery, tmp_path: Path) -> None:
    db, copy = tmp_path / "work.db", tmp_path / "copy.db"
    engine = nursery.serve(db)
    url = engine.hear()["url"]
    submit(url)
    for end in ("", "-wal"):
        shutil.copy(f"{db}{end}", f"{copy}{end}")
    submit(url)

    for end in ("", "-wal"):
        Path(f"{copy}{end}").rename(f"{db}{end}")
    assert "moved, deleted or replaced" in engine.hear()["ended"]
    engine.wait()

    assert ids(db) == [1]


def test_serve_ends_with_a_sentence_when_its_file_is_deleted(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with serving(db, workers=0) as (process, _):
        db.unlink()
        assert process.wait(30) != 0
