"""`dcengine stop`: real engines in the background, under a terminal and in a program, and what cannot be stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

import dcengine
from dcengine.owner import Lock, Owner, find_owner, lock_path
from tests.engines import embedded, environment, eventually, family, forget_engines, gone, serving


def stop(db: Path | None, *more: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`dcengine stop`, for *db* or for the file of *folder*."""
    command = [sys.executable, "-m", "dcengine", "stop", *more, *([] if db is None else ["--db", str(db)])]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, cwd=folder, env=environment(**variables)
    )


def test_an_engine_in_the_background_ends_and_its_jobs_are_kept(tmp_path: Path) -> None:
    dcengine.use_db(tmp_path / "dcengine.db")
    try:
        job = dcengine.submit(abs, -3, tags="moon")
        owner = find_owner(tmp_path / "dcengine.db")
        assert owner is not None
        below = [psutil.Process(owner.pid), *family(owner.pid)]

        told = stop(None, folder=tmp_path)

        assert told.returncode == 0, told.stderr
        assert (
            told.stdout
            == f"stopped the engine of {tmp_path / 'dcengine.db'} (process {owner.pid}); its jobs are kept\n"
        )
        assert find_owner(tmp_path / "dcengine.db") is None
        eventually(lambda: gone(below))
        assert job.status().state == "open"  # an engine is started for that
    finally:
        forget_engines()
        assert stop(tmp_path / "dcengine.db", folder=tmp_path).returncode == 0


def test_an_engine_under_a_terminal_ends_too(tmp_path: Path) -> None:
    with serving(tmp_path / "work.db", workers=1) as (process, _):
        told = stop(tmp_path / "work.db", "--json", folder=tmp_path)

        assert json.loads(told.stdout) == {"db": str(tmp_path / "work.db"), "stopped": process.pid}
        assert process.wait(20) == 0


def test_where_no_engine_runs_there_is_nothing_to_do(tmp_path: Path) -> None:
    told = stop(tmp_path / "work.db", folder=tmp_path)

    assert (told.returncode, told.stdout) == (0, f"no engine runs for {tmp_path / 'work.db'}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_in_a_program_is_left_to_the_program(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=0, processes=False):
        told = stop(tmp_path / "work.db", folder=tmp_path)

        assert told.returncode == 1
        assert f"is process {os.getpid()}, a notebook or another program" in " ".join(told.stderr.split())
        assert find_owner(tmp_path / "work.db") is not None


def test_an_engine_elsewhere_is_not_asked_for(tmp_path: Path) -> None:
    told = stop(None, folder=tmp_path, DCENGINE_URL="http://lab:8787/?token=secret")

    assert told.returncode == 1
    assert "http://lab:8787/" in told.stderr
    assert "secret" not in told.stderr


@pytest.mark.parametrize("number", [0, -1, os.getppid(), 2**22 + 1])
def test_no_process_is_ended_that_does_not_hold_the_file(tmp_path: Path, number: int) -> None:
    db = tmp_path / "work.db"
    lock = Lock(db, is_program=True)
    lock_path(db).write_bytes(msgspec.json.encode(Owner(number, "http://h/", "t", is_program=True)))

    told = stop(db, folder=tmp_path)

    lock.release()
    assert told.returncode == 1
    assert f"process {number} of another system" in " ".join(told.stderr.split())
