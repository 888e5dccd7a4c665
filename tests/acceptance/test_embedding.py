"""The engine as a guest: in scripts, in asyncio programs, below a parent application, over forks and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import dcengine
from tests.engines import embedded, end, environment, eventually, family, gone


def run_script(folder: Path, code: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def start_script(folder: Path, code: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(script)], cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def triple(n: int) -> int:
    return 3 * n


# ---- asyncio -------------------------------------------------------------------------------


async def test_an_asyncio_program_embeds_it_and_may_block_or_await(tmp_path: Path) -> None:
    async with dcengine.Engine(db=tmp_path / "work.db", workers=1, processes=False):
        blocking = dcengine.submit(triple, 5)
        assert await blocking == 15
        assert await dcengine.map(triple, range(4)) == [0, 3, 6, 9]
        assert blocking.result(5) == 15


async def test_its_application_mounts_below_a_parent(tmp_path: Path) -> None:
    async with dcengine.Engine(db=tmp_path / "work.db", workers=1, processes=False) as engine:
        job = dcengine.submit(triple, 5)
        await job
        parent = web.Application()
        parent.add_subapp("/compute/", engine.app)
        runner = web.AppRunner(parent)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/compute"
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {engine.token}"}) as session:
            async with session.get(f"{base}/v1/jobs/{job.id}") as answer:
                assert (await answer.json())["state"] == "succeeded"
            async with session.get(f"{base}/v1/jobs/{job.id}", headers={"Authorization": "Bearer x"}) as answer:
                assert answer.status == 401
        client = await asyncio.to_thread(_through, f"{base}/?token={engine.token}")
        await runner.cleanup()

    assert client == 21


def _through(url: str) -> int:
    """Submit to the engine at *url* from a process of its own."""
    call = "dcengine.submit(lambda value: value, dcengine.put(21)).result(30)"
    code = f"import dcengine; dcengine.connect({url!r}); print({call})"
    return int(subprocess.check_output([sys.executable, "-c", code], env=environment(), text=True, timeout=60))


def test_the_workers_are_complete_right_after_the_start(tmp_path: Path) -> None:
    with dcengine.Engine(tmp_path / "work.db", workers=2, worker_tags=["cpu", "gpu"]):
        assert {worker.name for worker in dcengine.workers()} == {"w1", "w2"}
        assert dcengine.explain("gpu") == "1 of 2 workers matches"


def test_closing_ends_the_wait_for_the_first_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine.engine.workers.SETTLE_SECONDS", 600.0)
    monkeypatch.setattr("dcengine.cluster.cluster.SETTLE_SECONDS", 600.0)
    engine = dcengine.Engine(tmp_path / "work.db", workers=0).start()
    answers = [engine._link.start("workers"), engine._link.start("explain", "gpu")]

    engine.close()

    assert answers[0].result(30) == []
    assert answers[1].result(30).sentence == "no workers are connected"


async def test_its_application_may_be_mounted_before_it_is_started(tmp_path: Path) -> None:
    engine = dcengine.Engine(db=tmp_path / "work.db", workers=1, processes=False)
    parent = web.Application()
    parent.add_subapp("/compute/", engine.app)

    async def life_of_engine(app: web.Application) -> AsyncIterator[None]:
        async with engine:
            yield

    parent.cleanup_ctx.append(life_of_engine)
    async with TestClient(TestServer(parent)) as client:
        answer = await client.get("/compute/v1/status", headers={"Authorization": f"Bearer {engine.token}"})
        assert (await answer.json())["db"] == str(tmp_path / "work.db")


async def test_a_busy_host_loop_does_not_stall_the_engine(tmp_path: Path) -> None:
    async with dcengine.Engine(db=tmp_path / "work.db", workers=1, processes=False):
        batch = dcengine.map(triple, range(100))
        deadline = time.monotonic() + 30
        while not batch.done():  # never yields to the host's loop
            assert time.monotonic() < deadline


# ---- scripts and their ends ----------------------------------------------------------------


def test_a_script_may_end_before_its_job_and_the_next_engine_goes_on(tmp_path: Path) -> None:
    first = run_script(
        tmp_path,
        """
        import dcengine, time
        def slow(n):
            time.sleep(0.5)
            return n
        with dcengine.Engine("work.db", workers=1):
            print(dcengine.map(slow, range(4)).id, dcengine.submit(slow, 9).id)
        """,
    )
    assert first.returncode == 0, first.stderr
    assert "5 unfinished jobs" in first.stderr
    batch, job = map(int, first.stdout.split())

    with embedded(tmp_path / "work.db", workers=1):
        assert dcengine.batch(batch).results(60) == [0, 1, 2, 3]
        assert dcengine.job(job).result(60) == 9
        assert dcengine.job(job).status().errors == 0


def test_an_engine_left_open_ends_with_its_interpreter_and_leaves_no_process(tmp_path: Path) -> None:
    script = start_script(
        tmp_path,
        """
        import dcengine, pathlib, time
        engine = dcengine.Engine("work.db", workers=2).start()
        print(dcengine.submit(len, [1, 2]).result(30), flush=True)
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        """,
    )
    try:
        assert script.stdout is not None
        assert script.stdout.readline() == "2\n"
        children = family(script.pid)
        assert len(children) >= 4
        (tmp_path / "go").touch()

        assert script.wait(30) == 0
        eventually(lambda: gone(children), 5)
    finally:
        end(script)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_engine(tmp_path: Path, number: signal.Signals) -> None:
    script = start_script(
        tmp_path,
        """
        import dcengine, time
        with dcengine.Engine("work.db", workers=2):
            handle = dcengine.submit(time.sleep, 600)
            while handle.status().task_state != "leased":
                time.sleep(0.01)
            print("running", flush=True)
            handle.result()
        """,
    )
    try:
        assert script.stdout is not None
        assert script.stdout.readline() == "running\n"
        children = family(script.pid)
        assert len(children) >= 4  # launcher, scheduler, two workers, and what runs the calls

        script.send_signal(number)
        script.wait(15)

        eventually(lambda: gone(children), 5)
    finally:
        end(script)


def test_the_job_of_a_killed_engine_runs_in_the_next(tmp_path: Path) -> None:
    script = start_script(
        tmp_path,
        """
        import dcengine, time, pathlib
        def work(path):
            with open(path, "a") as file:
                file.write("x")
            while pathlib.Path(path).stat().st_size < 2:
                time.sleep(0.01)
            return "done"
        with dcengine.Engine("work.db", workers=1):
            handle = dcengine.submit(work, "runs")
            while not pathlib.Path("runs").exists():
                time.sleep(0.01)
            print(handle.id, flush=True)
            time.sleep(600)
        """,
    )
    try:
        assert script.stdout is not None
        id = int(script.stdout.readline())
        script.kill()
        script.wait(10)
    finally:
        end(script)

    previous = os.getcwd()
    os.chdir(tmp_path)
    try:
        with embedded(tmp_path / "work.db", workers=1):
            assert dcengine.job(id).result(60) == "done"
            assert dcengine.job(id).status().attempt == 2
    finally:
        os.chdir(previous)


def test_closing_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with embedded(tmp_path / "work.db", workers=1, processes=True):
        assert dcengine.submit(triple, 1).result(30) == 3

    # distributed keeps a few idle helper threads for the process; none of them is an engine's.
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("dcengine")]
    assert not [thread for thread in left if thread.name != "dcengine-client"]


def test_one_file_can_be_opened_and_closed_many_times(tmp_path: Path) -> None:
    for n in range(3):
        with embedded(tmp_path / "work.db", workers=1, processes=False):
            assert dcengine.submit(triple, n).id == n + 1
            assert dcengine.job(1).result(30) == 0


def test_what_waits_for_a_package_finds_it_in_the_next_engine(tmp_path: Path) -> None:
    needs = "pkg.msgspec & exe.sh & site==moon"
    with embedded(tmp_path / "work.db", workers=1, processes=False), pytest.warns(dcengine.NoMatchWarning):
        job, batch = dcengine.submit(triple, 5, tags=needs), dcengine.map(triple, [1], tags=f"{needs} & !pkg.no-such")

    with embedded(tmp_path / "work.db", workers=1, processes=False, worker_tags=["site=moon"]):
        assert dcengine.job(job.id).result(30) == 15
        assert dcengine.batch(batch.id).results(30) == [3]


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1, processes=False):
        handle = dcengine.submit(triple, 1)
        handle.result(30)
        other = dcengine.job(handle.id)

    with pytest.raises(dcengine.EngineClosed):
        other.result(1)


# ---- forks ---------------------------------------------------------------------------------


def test_a_forked_child_attaches_as_a_client(tmp_path: Path) -> None:
    result = run_script(
        tmp_path,
        """
        import dcengine, os, time
        def triple(n):
            return 3 * n
        with dcengine.Engine("work.db", workers=1):
            assert dcengine.submit(triple, 1).result(30) == 3
            pid = os.fork()
            if pid == 0:
                try:
                    value = dcengine.submit(triple, 14).result(30)
                    os._exit(0 if value == 42 else 1)
                except BaseException as error:
                    print("child:", repr(error), flush=True)
                    os._exit(2)
            _, status = os.waitpid(pid, 0)
            print("child", os.waitstatus_to_exitcode(status))
            print("parent", dcengine.submit(triple, 2).result(30))
        """,
    )

    assert result.stdout.split("\n")[:2] == ["child 0", "parent 6"], result.stdout + result.stderr


def test_a_forked_child_that_lives_on_does_not_keep_the_file(tmp_path: Path) -> None:
    script = start_script(
        tmp_path,
        """
        import dcengine, os, time
        with dcengine.Engine("work.db", workers=1, processes=False):
            pid = os.fork()
            if pid == 0:
                time.sleep(600)
                os._exit(0)
            print(pid, flush=True)
            time.sleep(600)
        """,
    )
    try:
        assert script.stdout is not None
        child = int(script.stdout.readline())
        script.kill()
        script.wait(10)
        with embedded(tmp_path / "work.db", workers=1, processes=False):
            assert dcengine.submit(triple, 1).result(30) == 3
        assert psutil.pid_exists(child)
        os.kill(child, signal.SIGKILL)
    finally:
        end(script)


@pytest.mark.parametrize("option", ["port", "workers", "worker_lease", "output_limit"])
def test_an_option_that_cannot_be_is_refused_before_anything_starts(tmp_path: Path, option: str) -> None:
    given: dict[str, Any] = {option: -1}

    with pytest.raises(dcengine.InvalidOption, match=option):
        dcengine.Engine(tmp_path / "work.db", **given)
    assert not list(tmp_path.iterdir())
