"""A project whose engine is killed again and again: every job ends once, at its last stage, and credit is exact."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

import dcengine
from dcengine import api
from dcengine.owner import find_owner
from tests.engines import embedded, eventually, forget_engines
from tests.faults.test_kills import check_file, end_owner

JOBS, STAGES = 200, 3


def test_a_project_goes_on_where_its_killed_engine_was(
    tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, kills = tmp_path / "work.db", 0
    monkeypatch.setenv("DCENGINE_WORKERS", "2")
    api.use_db(db)
    project = dcengine.Project("photos")

    def pause(n: int) -> None:
        time.sleep(0.003)

    for stage in range(STAGES):

        @project.stage(name=f"stage {stage}")
        def add_one(n: int) -> int:
            pause(n)
            return n + 1

    try:
        project.add(range(JOBS))
        project.run()
        for part in range(1, 5):  # each at another place on the way
            enough = JOBS * STAGES * part // 6 + dice.randrange(20)
            eventually(lambda enough=enough: succeeded(project) >= enough)  # type: ignore[misc]
            owner = find_owner(db)
            assert owner is not None
            assert owner.pid is not None
            os.kill(owner.pid, signal.SIGKILL)
            kills += 1

        assert project.results(100) == [n + STAGES for n in range(JOBS)]

        status = project.status()
        assert (status.succeeded, status.total) == (JOBS, JOBS)
        assert sum(row.tasks for row in project.leaderboard()) == JOBS * STAGES
    finally:
        end_owner(db)
        forget_engines()
        monkeypatch.setattr(api.front, "_db", None)
    check_file(db)
    check_stages(db)
    print(f"{kills} kills")


def test_a_paused_project_stays_paused_over_a_restart(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", processes=False):
        project = dcengine.Project("photos")
        project.stage(name="first")(lambda n: n + 1)
        project.stage(name="second")(lambda n: n * 10)
        project.add([1, 2])

    with embedded(tmp_path / "work.db", processes=False):
        again = dcengine.Project("photos")
        assert dcengine.submit(len, "abc").result(60) == 3
        assert again.status().is_paused
        assert again.status().stages[0].counts == {"queued": 2}
        again.run()

    with embedded(tmp_path / "work.db", processes=False):
        assert dcengine.Project("photos").wait(60).succeeded == 2
        assert dcengine.Project("photos").results(60) == [20, 30]


def succeeded(project: dcengine.Project) -> int:
    """How many tasks of *project* have succeeded, over all stages."""
    return sum(stage.counts.get("succeeded", 0) for stage in project.status().stages)


def check_stages(db: Path) -> None:
    """Check that every job has exactly one task at each stage, and one credit entry for it."""
    connection = sqlite3.connect(db)
    try:
        per_job = connection.execute(
            "SELECT count(*), count(DISTINCT stage), sum(state = 4) FROM task WHERE stage > 1 GROUP BY job"
        ).fetchall()
        assert per_job == [(STAGES, STAGES, STAGES)] * JOBS
        credits = connection.execute("SELECT count(*), count(DISTINCT task) FROM credit WHERE project > 1").fetchone()
        assert credits == (JOBS * STAGES, JOBS * STAGES)
        states = connection.execute("SELECT DISTINCT state FROM job WHERE project > 1").fetchall()
        assert states == [(1,)]
    finally:
        connection.close()
