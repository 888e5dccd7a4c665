"""Workers in processes of their own: what keeps their leases, and what becomes of these when a worker ends."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

import dcengine
from tests.engines import embedded, end, eventually, family, gone
from tests.outside import counts, heard, project, start_worker

HOLD = """
    for task in worker({options}):
        say("begun")
        time.sleep(120)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("outside") / "x.db", workers=0, processes=False) as opened:
        yield opened


def test_code_that_holds_pythons_lock_for_longer_than_the_lease_keeps_its_task(engine: dcengine.Engine) -> None:
    made = project(range(2), lease_seconds=3)
    script = """
        import ctypes
        for task in worker(batch=2, limit=2):
            began = time.monotonic()
            ctypes.PyDLL(None).sleep(4)  # nothing of Python runs meanwhile
            task.complete([task.attempt, time.monotonic() - began])
    """
    process = start_worker(script, engine.url, made)
    try:
        assert process.wait(60) == 0
    finally:
        end(process)

    results = made.results()
    assert [attempt for attempt, _ in results] == [1, 1]
    assert min(seconds for _, seconds in results) > 3


def test_sigterm_hands_back_at_once(engine: dcengine.Engine) -> None:
    made = project(range(6), lease_seconds=600)
    process = start_worker(HOLD.format(options="batch=4"), engine.url, made)
    try:
        assert heard(process) == "begun"
        eventually(lambda: counts(made).get("leased") == 4)
        began, others = time.monotonic(), family(process.pid)
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
        assert time.monotonic() - began < 1.5
        eventually(lambda: counts(made) == {"queued": 6})
        eventually(lambda: gone(others))
    finally:
        end(process)


def test_a_program_may_handle_sigterm_itself(engine: dcengine.Engine) -> None:
    made = project(range(6), lease_seconds=600)
    script = """
        import signal
        with worker(batch=4) as mine:
            signal.signal(signal.SIGTERM, lambda *_: mine.stop())
            for task in mine:
                say("begun")
                sys.stdin.readline()
                while not mine.is_stopping:
                    time.sleep(0.01)
                task.complete("ended in peace")
    """
    process = start_worker(script, engine.url, made)
    try:
        assert heard(process) == "begun"
        process.terminate()
        assert process.wait(10) == 0
    finally:
        end(process)

    assert counts(made) == {"queued": 5, "succeeded": 1}


def test_ctrl_c_hands_back_at_once(engine: dcengine.Engine) -> None:
    made = project(range(6), lease_seconds=600)
    process = start_worker(HOLD.format(options="batch=4, prefetch=2"), engine.url, made)
    try:
        assert heard(process) == "begun"
        process.send_signal(signal.SIGINT)
        process.wait(10)
        assert counts(made) == {"queued": 6}
    finally:
        end(process)


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "del mine"], ids=["end", "exit", "forgotten"])
def test_a_program_that_ends_hands_back_what_it_holds(engine: dcengine.Engine, ending: str) -> None:
    made = project(range(6), lease_seconds=600)
    script = f"""
        mine = worker(batch=4)
        task = mine.next()
        {ending}
    """
    process = start_worker(script, engine.url, made)
    try:
        process.wait(20)
        assert counts(made) == {"queued": 6}
    finally:
        end(process)


def test_what_a_killed_worker_had_not_begun_is_put_back_at_once(engine: dcengine.Engine) -> None:
    made = project(range(6), lease_seconds=600)
    process = start_worker(HOLD.format(options="batch=4"), engine.url, made)
    try:
        assert heard(process) == "begun"
        eventually(lambda: family(process.pid))
        others = family(process.pid)
        time.sleep(0.3)  # for its heart to be told
        process.kill()

        eventually(lambda: counts(made) == {"leased": 1, "queued": 5})
        eventually(lambda: gone(others))
    finally:
        end(process)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing shows that a process is held up")
def test_a_worker_that_is_held_up_loses_its_tasks_when_their_time_is_over(engine: dcengine.Engine) -> None:
    made = project(range(1), lease_seconds=1)
    script = """
        for task in worker(limit=1):
            say("begun")
            while not task.is_lost:
                time.sleep(0.01)
            task.complete()
            say(task.accepted())
    """
    process = start_worker(script, engine.url, made)
    try:
        assert heard(process) == "begun"
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: counts(made) == {"queued": 1})
        process.send_signal(signal.SIGCONT)
        assert heard(process) == "False"
        assert process.wait(10) == 0
    finally:
        process.send_signal(signal.SIGCONT)
        end(process)


def test_a_heart_that_is_killed_is_replaced(engine: dcengine.Engine) -> None:
    made = project(range(1), lease_seconds=2)
    script = """
        for task in worker(limit=1):
            say("begun")
            time.sleep(2.5)
            task.complete(task.attempt)
    """
    process = start_worker(script, engine.url, made)
    try:
        assert heard(process) == "begun"
        (heart,) = eventually(lambda: family(process.pid))  # type: ignore[misc]
        heart.kill()
        assert process.wait(20) == 0
    finally:
        end(process)

    assert made.results() == [1]


def test_a_forked_copy_takes_nothing_from_its_worker(engine: dcengine.Engine) -> None:
    made = project(range(2), lease_seconds=600)
    script = """
        import multiprocessing, os, signal
        fork = multiprocessing.get_context("fork")
        there = fork.Event()
        def stay():
            there.set()
            time.sleep(60)
        for task in worker(batch=2, limit=1):
            ended = fork.Process(target=task.complete, args=("by the child",))
            ended.start()
            ended.join()
            terminated = fork.Process(target=stay)
            terminated.start()
            there.wait()
            terminated.terminate()
            terminated.join()
            assert (ended.exitcode, terminated.exitcode) == (0, -signal.SIGTERM)
            task.complete("by the parent")
    """
    process = start_worker(script, engine.url, made)
    try:
        assert process.wait(20) == 0
    finally:
        end(process)

    assert made.job(1).result() == "by the parent"
    assert counts(made) == {"queued": 1, "succeeded": 1}


def test_a_worker_loads_nothing_heavy_and_shows_no_token(engine: dcengine.Engine) -> None:
    made = project(range(1))
    script = """
        for task in worker(limit=1):
            heavy = {"distributed", "dask", "aiosqlite", "numpy", "dcengine.engine", "dcengine.store"}
            task.complete(sorted(heavy & set(sys.modules)))
            say("begun")
            sys.stdin.readline()
            time.sleep(2)
    """
    process = start_worker(script, engine.url, made)
    try:
        assert heard(process) == "begun"
        shown = eventually(lambda: [part for child in family(process.pid) for part in _command_of(child)])
        assert not any(engine.token in part for part in shown)
        assert made.results(30) == [[]]  # it is handed in beside what the loop does
    finally:
        process.kill()
        end(process)


def _command_of(process: psutil.Process) -> list[str]:
    """Return the command line of *process*; none for one that has just begun, or ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_coroutine_hands_back_on_sigterm_too(engine: dcengine.Engine) -> None:
    made = project(range(6), lease_seconds=600)
    script = f"""
        import asyncio
        async def main():
            async for task in dcengine.AsyncWorker({engine.url!r}, project={made.name!r}, stage="a", batch=4):
                say("begun")
                await asyncio.sleep(120)
        asyncio.run(main())
    """
    process = start_worker(script, engine.url, made)
    try:
        assert heard(process) == "begun"
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
        assert counts(made) == {"queued": 6}
    finally:
        end(process)
