"""Workers brought from elsewhere by ``dcengine join``, against a real ``dcengine serve``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import dcengine
from tests.engines import eventually, family, gone, joined, served, serving


def ready() -> list[str]:
    return sorted(worker.name for worker in dcengine.workers() if worker.state == "ready")


def test_a_machine_that_joins_gets_the_work_for_its_tags_and_the_credit(tmp_path: Path) -> None:
    with served(tmp_path / "work.db", workers=1) as told:
        with pytest.warns(UserWarning, match="gpu"):
            waiting = dcengine.submit(sum, [1, 2], tags="gpu>=2 & site==lab")
        with joined(told["url"], "--tags", "gpu=2,site=lab", "--nickname", "alice", "--name", "box"):
            assert waiting.result(30) == 3  # it had waited for just this worker
            assert waiting.status().worker == "box"
            assert {row.nickname: row.tasks for row in dcengine.leaderboard()} == {"alice": 1}


def test_work_of_a_joined_machine_that_vanishes_is_done_elsewhere(tmp_path: Path) -> None:
    def slow(n: int) -> int:
        import time

        time.sleep(0.02)
        return n

    with served(tmp_path / "work.db", workers=1) as told:
        with joined(told["url"], "--name", "box") as box:
            eventually(lambda: "box" in ready())
            batch = dcengine.map(slow, range(300))
            eventually(lambda: "box" in batch.status().workers)
            children = family(box.pid)
            box.send_signal(signal.SIGKILL)

            assert batch.results(60) == list(range(300))
        assert eventually(lambda: gone(children))
        assert ready() == ["w1"]


def test_a_joined_machine_comes_back_when_the_engine_does(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with serving(db, workers=0) as (engine, told):
        port = str(told["url"]).split(":")[2].split("/")[0]
        with joined(told["url"], "--name", "box"):
            dcengine.connect(str(told["url"]))
            eventually(lambda: ready() == ["box"])
            engine.kill()
            engine.wait(10)
            with serving(db, "--port", port, workers=0) as (_, again):
                assert again["token"] == told["token"]
                assert dcengine.submit(len, "abc").result(60) == 3
            dcengine.connect(None)


def test_tags_given_to_a_joined_machine_outlast_the_engine(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with serving(db, workers=0) as (engine, told):
        port = str(told["url"]).split(":")[2].split("/")[0]
        with joined(told["url"], "--name", "box", "--tags", "cpu"):
            dcengine.connect(str(told["url"]))
            eventually(lambda: ready() == ["box"])
            dcengine.tag_worker("box", "site=moon")
            engine.kill()
            engine.wait(10)
            with serving(db, "--port", port, workers=0):
                assert dcengine.submit(len, "abc", tags="site==moon & !cpu").result(60) == 3
            dcengine.connect(None)


def test_joining_with_a_wrong_token_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with serving(tmp_path / "work.db", workers=0) as (_, told):
        address = str(told["url"]).partition("?")[0]
        with joined(f"{address}?token=wrong") as refused:
            out, _ = refused.communicate(timeout=60)

    assert refused.returncode == 1
    assert "token" in out
    assert "Traceback" not in out
