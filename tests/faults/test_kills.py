"""Whatever is killed, every item is accepted exactly once, credit is exact, and nothing is stuck.

Each test prints its seed; ``DCENGINE_SEED`` repeats it, ``DCENGINE_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import psutil
import pytest

import dcengine
from dcengine.owner import find_owner
from dcengine.verbs import BatchStatus
from tests.engines import embedded, environment, eventually, family

ROUNDS = int(os.environ.get("DCENGINE_ROUNDS", "1"))


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    return random.Random(seed)


def count(n: int, path: str) -> int:
    """Note that item *n* ran, in a file that several processes append to."""
    with open(path, "a") as file:
        file.write(f"{n}\n")
    time.sleep(0.002)
    return n


def runs_of(path: Path) -> Counter[int]:
    return Counter(map(int, path.read_text().split()))


def victims(kind: str) -> list[psutil.Process]:
    """The processes of this process's engine that *kind* names."""
    found = family(os.getpid())
    servers = [one for one in found if _runs(one, "forkserver")]
    if kind == "child":  # of a fork server: user code runs there
        return [one for one in servers if _runs(one.parent(), "forkserver")]
    if kind == "fork server":
        return [one for one in servers if not _runs(one.parent(), "forkserver")]
    launchers = [one for one in found if _runs(one, "dcengine.cluster.launcher")]
    if kind == "launcher":
        return [one for one in launchers if one.ppid() == os.getpid()]
    return [one for one in launchers if one.ppid() != os.getpid()]  # scheduler and workers


def _runs(process: psutil.Process | None, program: str) -> bool:
    """Tell whether *process* is one of *program*; what has just ended is not."""
    try:
        return process is not None and program in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.parametrize("kind", ["child", "fork server", "scheduler or worker", "launcher"])
def test_a_map_survives_whoever_is_killed(tmp_path: Path, dice: random.Random, kind: str) -> None:
    items, notes = 600, tmp_path / "notes"
    with embedded(tmp_path / "work.db"):
        dcengine.submit(len, "").result(60)
        for _ in range(ROUNDS):
            notes.write_text("")
            before = credit()
            batch = dcengine.map(count, range(items), [str(notes)] * items)
            for _ in range(3):
                reached = batch.status().done + dice.randrange(1, items // 5)
                eventually(partial(has_reached, batch, reached))
                for victim in dice.sample(found := victims(kind), min(1, len(found))):
                    victim.kill()

            assert batch.results(100) == list(range(items))

            status = batch.status()
            assert (status.succeeded, status.failed, status.cancelled) == (items, 0, 0)
            assert credit() == before + items
            runs = runs_of(notes)
            assert set(runs) == set(range(items))
            print(f"{kind}: {sum(runs.values()) - items} items ran more than once")
    check_file(tmp_path / "work.db")


def has_reached(batch: dcengine.BatchHandle, done: int) -> BatchStatus | None:
    status = batch.status()
    return status if status.done >= done or status.is_final else None


def credit() -> int:
    return sum(row.tasks for row in dcengine.leaderboard())


CLIENT = """
import dcengine.api, random, sys, time
dcengine.api.use_db(sys.argv[1])
dice, acknowledged = random.Random(int(sys.argv[2])), open(sys.argv[3], "a", buffering=1)
end = time.monotonic() + float(sys.argv[4])
def add(n):
    return n + 1
while time.monotonic() < end:
    try:
        if dice.random() < 0.2:
            batch = dcengine.map(add, range(dice.randrange(1, 50)))
            acknowledged.write(f"batch {batch.id} {len(batch)}\\n")
        else:
            n = dice.randrange(10**6)
            acknowledged.write(f"job {dcengine.submit(add, n).id} {n}\\n")
    except dcengine.EngineBusy:
        time.sleep(0.05)
"""


def test_no_acknowledged_job_is_lost_when_the_engine_is_killed_again_and_again(
    tmp_path: Path, dice: random.Random
) -> None:
    db, seconds, kills = tmp_path / "work.db", 15.0 * ROUNDS, 0
    logs = [tmp_path / f"acknowledged-{n}" for n in range(4)]
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(db), str(dice.randrange(10**6)), str(log), str(seconds)],
            env=environment(DCENGINE_WORKERS="1"),
        )
        for log in logs
    ]
    try:
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            if dice.random() < 0.8:  # most are killed while they serve, the others while they start
                eventually(lambda: (owner := find_owner(db)) and owner.url)
            time.sleep(dice.uniform(0, 0.5))  # the instant of the kill is what is random here
            owner = find_owner(db)  # whichever client has started it
            if owner is not None and owner.pid:
                os.kill(owner.pid, signal.SIGKILL)
                kills += 1
        for client in clients:
            assert client.wait(60) == 0
    finally:
        for client in clients:
            client.kill()
            client.wait()
        end_owner(db)

    promises = [line.split() for log in logs for line in log.read_text().splitlines()]
    with embedded(db, workers=2):
        for kind, id, what in promises:
            if kind == "job":
                assert dcengine.job(int(id)).result(60) == int(what) + 1
            else:
                assert dcengine.batch(int(id)).results(60) == list(range(1, int(what) + 1))
        total = sum(1 if kind == "job" else int(what) for kind, _, what in promises)
        # A client that was refused its answer may have stored more than it was told.
        assert credit() >= total
    print(f"{kills} kills, {len(promises)} acknowledged submissions of {total} items, 0 lost")
    assert len(promises) > kills > 0
    check_file(db)


def end_owner(db: Path) -> None:
    owner = find_owner(db)
    if owner is not None and owner.pid:
        os.kill(owner.pid, signal.SIGTERM)
        eventually(lambda: find_owner(db) is None)


def check_file(db: Path) -> None:
    """Check that the file is whole and that its counters, credit and states agree with its rows."""
    connection = sqlite3.connect(db)
    try:
        ask = lambda sql: connection.execute(sql).fetchone()[0]  # noqa: E731
        assert ask("PRAGMA integrity_check") == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        items = ask("SELECT coalesce(sum(count), 0) FROM batch")
        singles = ask("SELECT count(*) FROM task WHERE batch IS NULL")
        assert ask("SELECT sum(n) FROM counter") == items + singles
        succeeded = ask("SELECT sum(n) FROM counter WHERE state = 4")
        assert ask("SELECT coalesce(sum(units), 0) FROM credit WHERE void = 0") == succeeded
        assert ask("SELECT coalesce(sum(units), 0) FROM standing") == succeeded
        single_successes = ask("SELECT count(*) FROM task WHERE batch IS NULL AND state = 4")
        assert ask("SELECT coalesce(sum(count), 0) FROM chunk WHERE state = 4") + single_successes == succeeded
        overlaps = (
            "SELECT count(*) FROM chunk AS a JOIN chunk AS b ON a.batch = b.batch"
            " AND a.id < b.id AND a.first < b.first + b.count AND b.first < a.first + a.count"
        )
        assert ask(overlaps) == 0
    finally:
        connection.close()
