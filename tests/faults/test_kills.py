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
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import dcengine
from benchmarks import faults
from dcengine.owner import find_owner
from tests.engines import eventually
from tests.faults.conftest import IS_LONG, ROUNDS

ITEMS = 2000


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an engine of this process, in whose cluster things happen."""
    folder = tmp_path_factory.mktemp("inside")
    with faults.embedded(folder):
        yield folder
    check_file(folder / "work.db")


@pytest.mark.skipif(not IS_LONG, reason="the quick form of benchmarks.faults does the same")
@pytest.mark.parametrize("fault", [*faults.KILLED, "worker that stands still"])
def test_a_map_survives_whatever_happens_to_its_cluster(inside: Path, dice: random.Random, fault: str) -> None:
    for _ in range(ROUNDS):
        hit_and_check(fault, inside, dice)


def hit_and_check(fault: str, folder: Path, dice: random.Random) -> None:
    """Have *fault* hit a map of 2,000 items once or twice: each item is accepted exactly once, and nothing is stuck."""
    at = sorted(dice.sample(range(50, ITEMS * 2 // 3), 1 if fault == "worker that stands still" else 2))
    survival = faults.survive(fault, at, items=ITEMS, folder=folder, dice=dice)

    survival.check(ITEMS)
    print(f"{fault} at {at}: {survival.again} runs beyond one for each item, {survival.seconds:.2f} s")


def leave_programs(sign: str) -> None:
    """Start programs, one of which has cut the ties to its parents, and go on for ever."""
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(sign).touch()
    time.sleep(600)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt what its children leave behind")
def test_a_killed_worker_leaves_no_process_and_no_zombie(inside: Path, tmp_path: Path) -> None:
    handle = dcengine.submit(leave_programs, str(tmp_path / "sign"))
    eventually((tmp_path / "sign").exists)
    below = {worker: worker.children(recursive=True) for worker in faults.processes("worker")}
    (killed,) = [worker for worker, left in below.items() if len(left) == 4]  # fork server, child, two programs

    handle.cancel()  # or it would begin again elsewhere
    killed.kill()

    eventually(lambda: not any(psutil.pid_exists(one.pid) for one in (killed, *below[killed])))
    with pytest.raises(dcengine.JobCancelled):
        handle.result(30)
    eventually(faults.is_well)


def credit() -> int:
    return sum(row.tasks for row in dcengine.leaderboard())


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
