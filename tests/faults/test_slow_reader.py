"""Somebody reads an old state of the file for long: commits stay quick, and the log gets its length back afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import pytest

from dcengine.cli.checkup import database
from dcengine.codec import pack_call, pack_function
from dcengine.errors import FileHeld
from dcengine.store import Store, log, now
from dcengine.store.log import FOLD_AGAIN_SECONDS, LOG_BYTES, USUAL_BYTES, size_of_log
from dcengine.store.submitting import AddJob
from dcengine.verbs import Submission
from tests.engines import environment
from tests.faults.aftermath import check_whole
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.report import recorded

HELD_SECONDS = in_form(short=4.0, long=60.0)
CALM_SECONDS = in_form(short=1.0, long=20.0)  #: before it, and after it
CALLERS = 32
READER = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM job").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""
SUBMISSION = Submission(function=pack_function(abs), input=pack_call((1,), {}), submitter="u")


@asynccontextmanager
async def reader_of(db: Path) -> AsyncIterator[None]:
    """Another process, in whose eyes the file stays as it is now."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READER, str(db), stdin=PIPE, stdout=PIPE, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"reads\n"
        yield
    finally:
        process.stdin.close()
        await process.wait()


class Callers:
    """So many who write one job after the other, each when its last one is durable."""

    def __init__(self, store: Store) -> None:
        self._store, self.took, self.written = store, list[float](), 0
        self._over = asyncio.Event()
        self._callers = [asyncio.create_task(self._write()) for _ in range(CALLERS)]

    async def _write(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            await self._store.apply(AddJob(1, 1, SUBMISSION, now()))
            self.took.append(time.perf_counter() - began)
            self.written += 1

    async def p99_of(self, seconds: float) -> float:
        """Return the milliseconds that all but a hundredth of the writes of the next *seconds* take at most."""
        self.took.clear()
        await asyncio.sleep(seconds)
        took = sorted(self.took)
        return 1000 * took[len(took) * 99 // 100]

    async def stop(self) -> None:
        self._over.set()
        await asyncio.gather(*self._callers)


@pytest.mark.timeout(300)
async def test_commits_stay_quick_and_the_log_gets_its_length_back(tmp_path: Path, seed: int) -> None:
    store = Store(tmp_path / "work.db")
    await store.start()
    with recorded("slow reader", seed=seed, is_long=IS_LONG) as record:
        callers = Callers(store)
        await callers.p99_of(CALM_SECONDS)  # warm
        before = await callers.p99_of(CALM_SECONDS)
        with mock.patch.object(store.writer._log, "fold", wraps=store.writer._log.fold) as folds:
            async with reader_of(store.db):
                during = await callers.p99_of(HELD_SECONDS)
                longest, held = size_of_log(store.db), store.writer.held_log
            tries = folds.call_count
        await callers.p99_of(FOLD_AGAIN_SECONDS + 1.0)  # what was held is folded in here
        after = await callers.p99_of(CALM_SECONDS)
        await callers.stop()
        size = size_of_log(store.db)
        (rows,) = await store.reads._one("SELECT count(*) FROM job")
        record.runs, record.acknowledged, record.lost = 1, callers.written, callers.written - rows
        record.figures = {
            "held_s": HELD_SECONDS, "p99_before_ms": round(before, 1), "p99_during_ms": round(during, 1),
            "p99_after_ms": round(after, 1), "longest_log_mib": longest >> 20, "log_after_mib": size >> 20,
        }  # fmt: skip
    await store.close()

    assert held > LOG_BYTES
    assert tries <= HELD_SECONDS / FOLD_AGAIN_SECONDS + 2  # not with each commit, which would be in vain
    assert size <= (2 * LOG_BYTES if longest > USUAL_BYTES else USUAL_BYTES)
    if IS_LONG:
        assert during < 3 * before
        assert after < 3 * before
    check_whole(store.db)


async def test_a_log_that_is_held_for_too_long_takes_no_new_work_until_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "work.db")
    await store.start()

    async def fill(size: int) -> None:
        data = Submission(function=SUBMISSION.function, input=bytes(size), submitter="u")
        await store.apply(AddJob(1, 1, data, now()))

    with mock.patch.multiple(log, LONG_BYTES=1 << 20, LONGEST_BYTES=2 << 20, FOLD_PAGES=64, FOLD_AGAIN_SECONDS=0.05):
        async with reader_of(store.db):
            while store.writer.held_log < 2 << 20:
                await fill(100_000)
                await asyncio.sleep(0.01)
            with pytest.raises(FileHeld, match="end it or its transaction") as caught:
                await store.submit(AddJob(1, 1, SUBMISSION, now()), 100)
            await fill(100)  # what the engine itself has to say is always taken
            (finding,) = [each for each in database(store.db) if each.check.startswith("log of")]
        while store.writer.held_log:
            await fill(100)
            await asyncio.sleep(0.01)
        await store.submit(AddJob(1, 1, SUBMISSION, now()), 100)

    assert caught.value.size >= 2 << 20
    assert "reads an old state of the file" in finding.found
    assert " (python" in finding.found
    said = [record.message for record in caplog.records if "log of" in record.message]
    assert ["has grown" in message for message in said] == [True, False]
    assert "could be emptied again" in said[-1]
    await store.close()


async def test_nothing_of_ours_holds_the_log_while_an_answer_is_read(tmp_path: Path) -> None:
    """Answers are taken from the file as a whole, before the first byte of them is sent."""
    store = Store(tmp_path / "work.db")
    await store.start()
    with mock.patch.multiple(log, FOLD_PAGES=16, FOLD_AGAIN_SECONDS=0.01):
        for _ in range(50):
            await asyncio.gather(*(store.apply(AddJob(1, 1, SUBMISSION, now())) for _ in range(8)))
            await store.reads.counts()
        assert store.writer.held_log == 0
    await store.close()
    assert not log.log_of(store.db).exists()
    assert sqlite3.connect(store.db).execute("SELECT count(*) FROM job").fetchone() == (400,)
