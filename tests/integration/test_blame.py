"""Who is to blame when something ends under a call: what the call cannot have done does not count against it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

import dcengine
from benchmarks import faults
from tests.engines import embedded, eventually, serving


def run_again(path: str, runs: int) -> int:
    """Wait for ever unless this is the last of so many runs."""
    with open(path, "a") as file:
        file.write("x")
    if Path(path).stat().st_size < runs:
        time.sleep(600)
    return runs


def kill_beneath(kinds: list[str], path: Path, handle: dcengine.JobHandle) -> None:
    """Kill one process after the other under the call of *handle*, each in another run of it."""
    for n, kind in enumerate(kinds, 1):
        eventually(lambda n=n: path.stat().st_size == n)  # type: ignore[misc]
        for victim in faults.processes(kind):
            victim.kill()
    assert handle.result(60) == len(kinds) + 1


def counts(db: Path) -> list[tuple[int, int]]:
    """Return of each task how often something vanished under it, and how often it crashed."""
    with sqlite3.connect(db) as connection:
        return connection.execute("SELECT vanished, crashes FROM task ORDER BY id").fetchall()


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    (tmp_path / "mark").touch()
    return tmp_path / "mark"


def test_workers_and_fork_servers_that_end_count_and_clusters_do_not(tmp_path: Path, mark: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1):
        handle = dcengine.submit(run_again, str(mark), 5, crash_retries=0)
        kill_beneath(["scheduler", "launcher", "fork server", "worker"], mark, handle)
        assert counts(tmp_path / "work.db") == [(2, 0)]

        mark.write_text("")
        item = dcengine.map(run_again, [str(mark)], [4])[0]
        kill_beneath(["scheduler", "fork server", "worker"], mark, item)
        assert counts(tmp_path / "work.db") == [(2, 0), (2, 0)]


def test_the_end_of_an_engine_counts_against_none_of_its_calls(tmp_path: Path, mark: Path) -> None:
    db = tmp_path / "work.db"
    try:
        with serving(db, workers=1) as (engine, told):
            dcengine.connect(str(told["url"]))
            job = dcengine.submit(run_again, str(mark), 2).id
            eventually(lambda: mark.stat().st_size == 1)
            engine.kill()
            engine.wait()
        dcengine.connect(None)
        with embedded(db, workers=1):
            assert dcengine.job(job).result(60) == 2
            assert counts(db) == [(0, 0)]
    finally:
        dcengine.connect(None)
