"""A disk that fails: after a write or a sync that went wrong nothing is acknowledged, and the next engine has it all.

A shim fails the calls; each test prints its seed, ``DCENGINE_SEED`` repeats it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dcengine.errors import DcengineError, EngineUnreachable
from dcengine.owner import find_owner
from dcengine.store.log import log_of
from tests.engines import environment, eventually
from tests.faults.aftermath import check_survivor, check_whole
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.disks import BROKEN, Calls, Failing, serve_command
from tests.faults.report import Record, recorded
from tests.faults.shims import needs_shims

pytestmark = needs_shims

LOG, FILE = "work.db-wal", "work.db$"
CASES = [
    (Calls.WRITE, LOG, "commit"),
    (Calls.SYNC, LOG, "commit"),
    (Calls.WRITE, FILE, "checkpoint"),
    (Calls.SYNC, FILE, "checkpoint"),
    (Calls.LENGTH, FILE, "checkpoint"),
]
CHILD = """
import asyncio, json, sqlite3, sys
from pathlib import Path
from dcengine.codec import pack_call, pack_function
from dcengine.errors import DcengineError
from dcengine.store import Store, log, now
from dcengine.store.submitting import AddJob
from dcengine.verbs import Submission

submission = Submission(function=pack_function(abs), input=pack_call((1,), {}), submitter="u")

async def add(store, taken):
    try:
        added = await store.apply(AddJob(1, 1, submission, now()))
        taken.append(added.id)
        return ""
    except DcengineError as error:
        return type(error).__name__

async def main():
    log.FOLD_PAGES, how = int(sys.argv[2]), sys.argv[3]
    store = Store(Path(sys.argv[1]))
    await store.start()
    store.writer._is_log_long = how != "lengthen"
    AddJob.is_quick = how == "here"
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        taken, refused = [], []
        for _ in range(int(line)):
            n = 1 if how == "here" else 8
            refused += await asyncio.gather(*(add(store, taken) for _ in range(n)))
        await asyncio.sleep(0.3 if how == "lengthen" else 0.05)
        reads = "read"
        try:
            await store.reads.counts()
        except DcengineError as error:
            reads = type(error).__name__
        print(json.dumps([taken, sorted(set(refused)), reads, str(store.broken or "")]), flush=True)
    await store.close()
    print("closed", flush=True)

asyncio.run(main())
"""

Asked = tuple[list[int], list[str], str, str]


@contextmanager
def store_in(db: Path, failing: Failing, *, how: str = "thread", pages: int = 4096) -> Iterator[Callable[[int], Asked]]:
    """A store in a process of its own; yields what has it add jobs, so many times, and tells what came of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(db), str(pages), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=environment(**failing.environment),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def add(rounds: int) -> Asked:
        assert process.stdin is not None
        assert process.stdout is not None
        print(rounds, file=process.stdin, flush=True)
        answer = process.stdout.readline()
        assert answer, f"it ended with {process.wait()}"
        taken, refused, reads, broken = json.loads(answer)
        return taken, refused, reads, broken

    try:
        yield add
    finally:
        process.kill()  # as an engine would be, or as it ends by itself: the file has to stand it
        process.wait()
        process.stdin.close()
        process.stdout.close()


def ids_in(db: Path) -> set[int]:
    connection = sqlite3.connect(db)
    try:
        return {id for (id,) in connection.execute("SELECT id FROM job")}
    finally:
        connection.close()


@pytest.fixture
def failing(tmp_path: Path) -> Failing:
    return Failing(tmp_path)


SHORT_CASES = [(*CASES[0], "here"), (*CASES[1], "thread"), (*CASES[3], "here")]


@pytest.mark.parametrize(
    ("calls", "path", "when", "how"),
    in_form(short=SHORT_CASES, long=[(*case, how) for case in CASES for how in ("thread", "here")]),
)
def test_after_a_failed_write_or_sync_nothing_is_acknowledged_again(
    tmp_path: Path, failing: Failing, dice: random.Random, calls: Calls, path: str, when: str, how: str
) -> None:
    db = tmp_path / "work.db"
    with store_in(db, failing, how=how, pages=16 if when == "checkpoint" else 4096) as add:
        taken, refused, _, _ = add(20)
        assert refused == [""]
        failing.fail(calls, path, BROKEN, times=1, after=dice.randrange(3) if when == "commit" else 0)

        late, refused, _, broken = add(60)
        assert failing.hits() == 1
        assert "StoreBroken" in refused
        assert "disk I/O error" in broken
        assert "Check the disk, then restart the engine" in broken
        assert add(5)[:2] == ([], ["StoreBroken"])  # though the disk is well again

    with store_in(db, failing) as add:
        assert add(1)[1] == [""]
    assert {*taken, *late} <= ids_in(db)
    check_whole(db)


def test_a_log_whose_lengthening_cannot_be_synced_is_not_written_any_more(tmp_path: Path, failing: Failing) -> None:
    failing.fail(Calls.FSYNC, LOG, BROKEN, times=1)
    with store_in(tmp_path / "work.db", failing, how="lengthen") as add:
        add(0)
        eventually(lambda: failing.hits() == 1)
        assert add(1)[:2] == ([], ["StoreBroken"])


def test_what_cannot_be_read_is_an_error_of_ours_and_passes(tmp_path: Path, failing: Failing) -> None:
    db = tmp_path / "work.db"
    with store_in(db, failing) as add:
        add(1)
        failing.fail(Calls.READ, "work.db", BROKEN)
        _, _, reads, _ = add(0)
        assert reads in ("StoreError", "read")  # of what is in memory, nothing has to be read
        failing.heal()
        assert add(0)[2] == "read"
    check_whole(db)


def test_a_new_engine_writes_the_log_again_before_it_builds_on_it(tmp_path: Path, failing: Failing) -> None:
    """What a failed sync has left can be read, and is not on the disk: behind it, nothing would be safe."""
    db = tmp_path / "work.db"
    with store_in(db, failing) as add:
        assert add(3)[1] == [""]
    assert log_of(db).stat().st_size > 0
    failing.fail(Calls.SYNC, LOG, BROKEN, times=1)

    said = subprocess.run(
        serve_command(db, workers=0), capture_output=True, text=True, check=False, timeout=60,
        env=environment(**failing.environment),
    )  # fmt: skip

    assert failing.hits() == 1
    assert said.returncode == 1
    assert "its log: Input/output error" in said.stderr
    check_whole(db)


# ---- an engine with clients ----------------------------------------------------------------


class Clients:
    """Callers on threads who submit until they are told to stop, and note what they were told and when they asked."""

    def __init__(self, url: str, n: int) -> None:
        self._url, self.acknowledged, self.errors = url, list[tuple[float, int]](), set[str]()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._submit, daemon=True) for _ in range(n)]
        for thread in self._threads:
            thread.start()

    def _submit(self) -> None:
        from dcengine.client import Client
        from dcengine.codec import pack_call, pack_function
        from dcengine.verbs import Submission

        submission = Submission(function=pack_function(abs), input=pack_call((1,), {}), submitter="u")

        async def submit() -> None:
            client = Client(*self._url.split("/?token="))
            while not self._over.is_set():
                asked = time.monotonic()
                try:
                    status = await client.submit(submission)
                    self.acknowledged.append((asked, status.id))
                except DcengineError as error:
                    self.errors.add(type(error).__name__)
                    if isinstance(error, EngineUnreachable):
                        break
                    await asyncio.sleep(0.02)
            await client.close()

        asyncio.run(submit())

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


def answer_of(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def refusal_of(url: str) -> tuple[int, bytes] | None:
    found = answer_of(url)
    return found if found[0] != 200 else None


def test_an_engine_whose_disk_failed_says_so_ends_and_the_next_one_has_it_all(
    tmp_path: Path, failing: Failing, seed: int, dice: random.Random
) -> None:
    db = tmp_path / "work.db"
    with recorded("write and sync errors", seed=seed, is_long=IS_LONG) as record:
        for _ in range(in_form(short=1, long=20)):
            acknowledged = break_one(db, failing, dice, record)
            record.acknowledged += len(acknowledged)
            check_whole(db)
            record.lost += len(acknowledged - ids_in(db))
            record.runs += 1
    check_survivor(db)


def break_one(db: Path, failing: Failing, dice: random.Random, record: Record) -> set[int]:
    """Have the disk of an engine fail under its clients; return what it has acknowledged."""
    log = db.with_name("stderr")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            serve_command(db), stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(**failing.environment)
        )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        clients = Clients(url, 8)
        eventually(lambda: len(clients.acknowledged) > 50)
        calls, path, _ = dice.choice(CASES[:2])
        failing.fail(calls, path, BROKEN, times=1, after=dice.randrange(20))
        eventually(failing.hits)
        broken_at = time.monotonic()
        refusals = list[object]()
        with suppress(OSError):  # it ends meanwhile
            refusals.append(eventually(lambda: refusal_of(url.partition("?")[0] + "readyz")))
            assert answer_of(url.partition("?")[0] + "healthz")[0] == 200
        assert process.wait(30) == 1
        record.figures["seconds_to_its_end"] = round(time.monotonic() - broken_at, 2)
        clients.stop()
        said = log.read_text()
        assert "failed (disk I/O error); nothing more is accepted. Check the disk, then restart the engine" in said
        assert refusals in ([], [(503, b"not ready: StoreBroken\n")])
        assert [asked for asked, _ in clients.acknowledged if asked > broken_at] == []
        assert find_owner(db) is None
        assert clients.errors <= {"StoreBroken", "EngineUnreachable", "EngineClosed"}
        return {id for _, id in clients.acknowledged}
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
