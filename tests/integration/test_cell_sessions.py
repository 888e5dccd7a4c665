"""Sessions: one living process for many calls, and what is told when it is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import dcengine
from dcengine import InvalidOption, SessionLost, TaskCrashed
from dcengine.store.sessions import LoseSession
from tests.engines import embedded, eventually


def bump(step: int = 1) -> tuple[int, int]:
    """Count in a module of this process; return its id and the count."""
    count = getattr(sys, "dcengine_test_count", 0) + step
    sys.dcengine_test_count = count  # type: ignore[attr-defined]
    return os.getpid(), count


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    db = tmp_path_factory.mktemp("sessions") / "jobs.db"
    with embedded(db, workers=2, worker_tags="plain;special,gpu.count=2,gpu") as running:
        eventually(lambda: sum(worker.state == "ready" for worker in dcengine.workers()) == 2)
        yield running


def in_session(name: str, function: Any = bump, *args: Any, **options: Any) -> Any:
    return dcengine.submit(function, *args, session=name, **options).result(timeout=30)


def test_calls_of_a_session_share_one_process_in_order_and_others_do_not_see_it(engine: dcengine.Engine) -> None:
    handles = [dcengine.submit(bump, session="a") for _ in range(5)]

    results = [handle.result(timeout=30) for handle in handles]

    assert [count for _, count in results] == [1, 2, 3, 4, 5]
    assert len({pid for pid, _ in results}) == 1
    others = [dcengine.submit(bump) for _ in range(4)]
    assert results[0][0] not in {other.result(timeout=30)[0] for other in others}
    assert in_session("b")[1] == 1
    assert in_session("a") == (results[0][0], 6)


def test_the_first_call_chooses_the_worker_by_tags_and_later_ones_follow(engine: dcengine.Engine) -> None:
    first = dcengine.submit(bump, session="tagged", tags="special")
    assert first.result(timeout=30)[1] == 1

    assert [in_session("tagged")[1] for _ in range(2)] == [2, 3]
    (status,) = [one for one in dcengine.sessions() if one.name == "tagged"]
    assert status.state == "idle"
    assert status.worker == next(worker.name for worker in dcengine.workers() if "special" in worker.tags)
    with pytest.raises(InvalidOption, match="where session 'tagged' is"):
        dcengine.submit(bump, session="tagged", tags="plain")


def test_folder_and_environment_stay_within_a_session(engine: dcengine.Engine, tmp_path: Path) -> None:
    def move() -> None:
        os.chdir(tmp_path)
        os.environ["DCENGINE_TEST_STAYS"] = "yes"

    def look() -> tuple[str, str | None]:
        return os.getcwd(), os.environ.get("DCENGINE_TEST_STAYS")

    in_session("place", move)

    assert in_session("place", look) == (str(tmp_path), "yes")
    assert in_session("elsewhere", look) != (str(tmp_path), "yes")


def test_an_interrupted_or_failing_call_leaves_the_session_alive(engine: dcengine.Engine) -> None:
    assert in_session("tough")[1] == 1
    with pytest.raises(ZeroDivisionError):
        in_session("tough", lambda: 1 / 0)
    handle = dcengine.submit(time.sleep, 60, session="tough")
    eventually(lambda: handle.status().task_state == "leased")
    eventually(lambda: "running" in handle.why())
    handle.interrupt()
    with pytest.raises((KeyboardInterrupt, dcengine.TaskError)):
        handle.result(timeout=30)

    assert in_session("tough")[1] == 2


def test_a_session_whose_process_dies_is_told_once_and_begins_anew(engine: dcengine.Engine) -> None:
    pid, _ = in_session("mortal")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid))

    with pytest.raises(SessionLost) as lost:
        in_session("mortal")
    assert lost.value.name == "mortal"
    assert "SIGKILL" in lost.value.what
    assert abs(lost.value.at - time.time()) < 60
    assert "begins it anew" in str(lost.value)
    assert in_session("mortal")[1] == 1


def test_a_call_is_told_of_a_loss_that_is_still_being_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, gate, stored = threading.Event(), threading.Event(), threading.Event()
    with embedded(tmp_path / "jobs.db", workers=2) as running:
        core = running._engine
        write = core._write

        async def held(operation: Any, *patience: float) -> Any:
            if not isinstance(operation, LoseSession) or operation.is_told:
                return await write(operation, *patience)
            reached.set()
            await asyncio.to_thread(gate.wait)
            record = await write(operation, *patience)
            stored.set()
            return record

        monkeypatch.setattr(core, "_write", held)
        in_session("x")
        (there,) = dcengine.sessions()
        os.kill(core._cluster.pids[there.worker], signal.SIGKILL)
        assert reached.wait(30)
        try:
            with pytest.raises(SessionLost, match="ended with the worker"):
                in_session("x")
        finally:
            gate.set()
        assert stored.wait(30)
        assert in_session("x")[1] == 1


def test_a_crash_fails_its_call_and_all_that_were_waiting_for_the_state(engine: dcengine.Engine) -> None:
    assert in_session("crash")[1] == 1
    gate = dcengine.submit(time.sleep, 0.3, session="crash")
    crash = dcengine.submit(os._exit, 3, session="crash", retries=2)
    waiting = [dcengine.submit(bump, session="crash") for _ in range(2)]

    gate.result(timeout=30)
    with pytest.raises(TaskCrashed, match="exit code 3"):
        crash.result(timeout=30)
    for handle in waiting:
        with pytest.raises(SessionLost, match="exit code 3"):
            handle.result(timeout=30)
    assert in_session("crash")[1] == 1


def test_a_killed_call_loses_its_session(engine: dcengine.Engine) -> None:
    assert in_session("killed")[1] == 1
    handle = dcengine.submit(time.sleep, 60, session="killed")
    eventually(lambda: "is running" in handle.why())
    handle.kill()

    with pytest.raises(SessionLost, match="was killed"):
        in_session("killed")
    assert in_session("killed")[1] == 1


def test_an_ended_session_begins_anew_without_an_error(engine: dcengine.Engine) -> None:
    pid, _ = in_session("ended")

    assert dcengine.end_session("ended") is True
    assert not psutil.pid_exists(pid)
    assert dcengine.end_session("ended") is False
    assert in_session("ended")[1] == 1


def test_ending_a_session_cancels_what_runs_and_fails_what_waits(engine: dcengine.Engine) -> None:
    in_session("busy")
    running = dcengine.submit(time.sleep, 60, session="busy")
    waiting = dcengine.submit(bump, session="busy")
    eventually(lambda: "is running" in running.why())
    assert "session 'busy'" in waiting.why()

    assert dcengine.end_session("busy") is True
    with pytest.raises(dcengine.JobCancelled):
        running.result(timeout=30)
    with pytest.raises(SessionLost, match="somebody asked for it"):
        waiting.result(timeout=30)
    assert in_session("busy")[1] == 1


def test_a_session_keeps_its_devices_until_it_ends(engine: dcengine.Engine) -> None:
    def shown() -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    mine = in_session("gpu", shown, devices={"gpu": 1})
    other = dcengine.submit(shown, devices={"gpu": 1}).result(timeout=30)
    both = dcengine.submit(shown, devices={"gpu": 2})

    assert {mine, other} == {"0", "1"}
    assert in_session("gpu", shown) == mine
    assert not both.status().is_final
    dcengine.end_session("gpu")
    assert both.result(timeout=30) == "0,1"


def left_behind() -> tuple[str, int, str | None]:
    """Leave something in this process, which so becomes a session."""
    from dcengine.runner import staying

    bump()
    return staying.stay(), os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_process_in_which_something_stays_becomes_a_session_with_its_devices(engine: dcengine.Engine) -> None:
    name, pid, device = dcengine.submit(left_behind, devices={"gpu": 1}, tags="special").result(timeout=30)
    others = [dcengine.submit(os.getpid, devices={"gpu": 1}).result(timeout=30) for _ in range(2)]

    assert in_session(name) == (pid, 2)
    assert pid not in others
    both = dcengine.submit(os.getpid, devices={"gpu": 2})
    assert in_session(name, lambda: os.environ.get("CUDA_VISIBLE_DEVICES")) == device
    assert not both.done()
    assert dcengine.end_session(name)
    both.result(timeout=30)


def test_what_stays_by_itself_makes_room_by_ending_the_oldest_of_its_kind(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in dcengine.sessions():
        dcengine.end_session(one.name)
    monkeypatch.setattr("dcengine.engine.sessions.SESSIONS_LIMIT", 2)
    in_session("named", tags="special")

    first, second = (dcengine.submit(left_behind, tags="special").result(timeout=30)[0] for _ in range(2))
    assert {one.name for one in dcengine.sessions() if one.state == "idle"} == {"named", second}
    with pytest.raises(SessionLost, match="to make room"):
        in_session(first)


def test_what_makes_no_sense_with_a_session_is_refused(engine: dcengine.Engine) -> None:
    for bad in ("", "a b", "x" * 65, "-x", "naïve", 7):
        with pytest.raises(InvalidOption, match="session"):
            dcengine.submit(bump, session=bad)
    for more in ({"isolate": False}, {"speculative": True}):
        with pytest.raises(InvalidOption, match="one process"):
            dcengine.submit(bump, session="x", **more)
    with pytest.raises(InvalidOption, match="session='NAME'"):
        dcengine.submit(bump, tags="session(x)")
    with pytest.raises(TypeError, match="session"):
        dcengine.map(bump, [1], session="x")


def test_more_sessions_than_a_worker_keeps_are_refused(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in dcengine.sessions():
        dcengine.end_session(one.name)
    monkeypatch.setattr("dcengine.engine.sessions.SESSIONS_LIMIT", 1)
    in_session("one", tags="special")

    with pytest.raises(dcengine.TooManySessions, match="end_session"):
        in_session("two", tags="special")


def test_threads_have_no_sessions(tmp_path: Path) -> None:
    with embedded(tmp_path / "jobs.db", processes=False), pytest.raises(InvalidOption, match="processes=False"):
        dcengine.submit(bump, session="x")


def test_a_session_that_nobody_uses_ends_and_that_is_told(tmp_path: Path) -> None:
    with embedded(tmp_path / "jobs.db", workers=1, session_idle=0.3):
        pid, _ = in_session("idle")
        eventually(lambda: not psutil.pid_exists(pid))

        with pytest.raises(SessionLost, match="session_idle"):
            in_session("idle")
        assert in_session("idle")[1] == 1


def test_a_session_is_lost_with_its_worker_also_under_a_call(tmp_path: Path) -> None:
    with embedded(tmp_path / "jobs.db", workers=1) as engine:
        in_session("idle")
        in_session("busy")
        running = dcengine.submit(time.sleep, 60, session="busy")
        first = dcengine.submit(time.sleep, 0.5, session="new")  # begins again: nothing of it was lost
        eventually(lambda: "is running" in running.why())
        os.kill(engine._engine._cluster.pids["w1"], signal.SIGKILL)  # type: ignore[union-attr]

        with pytest.raises(SessionLost, match="ended with the worker"):
            running.result(timeout=30)
        with pytest.raises(SessionLost, match="ended with the worker"):
            in_session("idle")
        assert [in_session(name)[1] for name in ("idle", "busy")] == [1, 1]
        assert first.result(timeout=30) is None
