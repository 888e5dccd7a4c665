"""Sessions under an engine that is killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import dcengine
from dcengine import SessionLost
from tests.engines import eventually, forget_engines, serving
from tests.integration.test_cell_sessions import bump, in_session


def test_sessions_are_lost_with_their_engine_and_that_is_told_after_it_came_back(tmp_path: Path) -> None:
    db = tmp_path / "jobs.db"
    try:
        with serving(db, workers=1) as (process, told):
            dcengine.connect(str(told["url"]))
            in_session("x")
            in_session("y")
            running = dcengine.submit(time.sleep, 60, session="x")
            waiting = [running.id, dcengine.submit(bump, session="x").id]
            eventually(lambda: "is running" in running.why())
            process.kill()
            process.wait()
        forget_engines()
        with serving(db, workers=1) as (_, told):
            dcengine.connect(str(told["url"]))
            for job in waiting:
                with pytest.raises(SessionLost, match="ended with the engine"):
                    dcengine.job(job).result(timeout=30)
            assert in_session("x")[1] == 1
            assert {one.name: one.state for one in dcengine.sessions()} == {"x": "idle", "y": "lost"}
            with pytest.raises(SessionLost, match="ended with the engine"):
                in_session("y")
    finally:
        forget_engines()
