"""What happens to work between the queue and the slot, at moments that are rare by themselves."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.engine.running import Running
from dcengine.runner.units import Unit, UnitReport
from tests.engines import embedded, eventually


@pytest.mark.parametrize("way", ["submit", "map"])
def test_work_cancelled_on_its_way_to_the_slot_is_not_run_to_its_end(tmp_path: Path, way: str) -> None:
    with embedded(tmp_path / "work.db", workers=1) as engine:
        core, reached, gate = engine._engine, threading.Event(), threading.Event()
        prepare = core._unit_of

        async def hesitate(work: Any) -> Unit:
            reached.set()
            await asyncio.to_thread(gate.wait)
            return await prepare(work)

        core._unit_of = hesitate  # type: ignore[method-assign]
        handle = dcengine.submit(time.sleep, 600) if way == "submit" else dcengine.map(time.sleep, [600])[0]
        assert reached.wait(30)

        handle.cancel()
        gate.set()

        with pytest.raises(dcengine.JobCancelled):
            handle.result(20)


def test_a_short_call_stuck_behind_a_long_one_is_taken_to_a_free_slot(tmp_path: Path) -> None:
    def quick_or_held(path: str) -> str:
        """Run at once for no path; else until it exists, although such calls have always been quick."""
        deadline = time.monotonic() + 60
        while path and not Path(path).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return "ended"

    gate = str(tmp_path / "go")
    with embedded(tmp_path / "work.db", workers=2):
        for _ in range(20):
            dcengine.submit(quick_or_held, "").result(30)
        held = dcengine.submit(quick_or_held, gate)
        late = [dcengine.submit(quick_or_held, "") for _ in range(8)]

        assert [handle.result(30) for handle in late] == ["ended"] * 8
        assert not held.done()
        Path(gate).touch()
        assert held.result(30) == "ended"


def test_a_worker_that_does_not_answer_does_not_hold_up_a_cancel(tmp_path: Path) -> None:
    import signal

    with embedded(tmp_path / "work.db", workers=2) as engine:
        handle = dcengine.submit(time.sleep, 600)
        worker = eventually(lambda: handle.status().worker)
        pid = engine._engine._cluster.pids[str(worker)]
        os.kill(pid, signal.SIGSTOP)
        try:
            handle.cancel()
            assert dcengine.submit(sum, [1, 2]).result(30) == 3
        finally:
            os.kill(pid, signal.SIGCONT)

        with pytest.raises(dcengine.JobCancelled):
            handle.result(30)


# ---- what takes too long -------------------------------------------------------------------


def first_of_two(path: str) -> str:
    """Hang if this is the first call that gets here; else end at once."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        print("the second")
        return "the second"
    print("the first", flush=True)
    time.sleep(600)
    return "the first"


def quick_or_hung(path: str) -> str:
    return first_of_two(path) if path else ""


def test_items_behind_one_that_hangs_run_elsewhere(tmp_path: Path) -> None:
    def quick_or_held(path: str) -> str:
        deadline = time.monotonic() + 60
        while path and not Path(path).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return "ended"

    gate = tmp_path / "go"
    with embedded(tmp_path / "work.db", workers=2) as engine:
        dcengine.map(quick_or_held, [""] * 5000).results(60)
        batch = dcengine.map(quick_or_held, ["", str(gate), *[""] * 3000])

        eventually(lambda: all(batch[n].done() for n in range(2, 3002)))
        assert not batch[1].done()
        gate.touch()
        assert batch.results(30) == ["ended"] * 3002
        assert sum(row.tasks for row in engine.leaderboard()) == 8002


@pytest.mark.parametrize("way", ["submit", "map", "project"])
def test_a_straggler_is_run_a_second_time_and_the_first_result_counts(tmp_path: Path, way: str) -> None:
    path = str(tmp_path / "begun")
    with embedded(tmp_path / "work.db", workers=2) as engine:
        dcengine.map(quick_or_hung, [""] * 20).results(30)
        if way == "submit":
            handle = dcengine.submit(quick_or_hung, path, speculative=True)
        elif way == "map":
            handle = dcengine.map(quick_or_hung, [*[""] * 300, path, *[""] * 300], speculative=True)[300]
        else:
            project = dcengine.Project("p")
            project.stage(speculative=True)(quick_or_hung)
            project.add([path])
            project.run()
            handle = project.job(1)
        status = eventually(lambda: handle.status() if handle.status().is_final else None)

        assert (status.state, status.errors) == ("succeeded", 0)
        if way != "project":
            assert handle.result() == "the second"
        said = str(handle.output)
        assert ("the first" in said, "the second" in said) == (True, True)
        free = eventually(lambda: [worker.busy for worker in engine.workers()] == [0, 0])
        assert free


def test_a_worker_on_which_everything_fails_is_set_aside_and_does_little_harm(tmp_path: Path) -> None:
    def needs_a_disk(path: str, number: int) -> int:
        """Fail on the worker that the first call ran on."""
        worker = str(os.getppid())
        with suppress(FileExistsError):
            os.symlink(worker, path)
        time.sleep(0.001)
        if os.readlink(path) == worker:
            raise OSError("no disk")
        return number

    path = str(tmp_path / "bad")
    with embedded(tmp_path / "work.db", workers=2) as engine:
        eventually(lambda: [worker.state for worker in engine.workers()] == ["ready", "ready"])
        batch = dcengine.map(needs_a_disk, [path] * 500, range(500))
        status = batch.wait(60)

        assert status.failed + status.succeeded == 500
        assert 3 <= status.failed <= 12
        ((subject, reason),) = {k: v for worker in engine.workers() for k, v in worker.set_aside.items()}.items()
        assert subject.endswith("needs_a_disk")
        assert "no disk" in reason
        assert "is set aside for" in repr(engine.workers())


def test_what_failed_on_one_worker_is_tried_on_another(tmp_path: Path) -> None:
    def fails_twice(folder: str) -> list[str]:
        """Fail until it was tried three times; return on whom."""
        tries = sorted(os.listdir(folder))
        Path(folder, f"{len(tries)}-{os.getppid()}").touch()
        if len(tries) < 2:
            raise OSError("no disk")
        return [name.partition("-")[2] for name in sorted(os.listdir(folder))]

    with embedded(tmp_path / "work.db", workers=3) as engine:
        eventually(lambda: [worker.state for worker in engine.workers()] == ["ready"] * 3)
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            tried = dcengine.submit(fails_twice, str(folder), retries=2).result(30)
            assert len(set(tried)) == 3


def test_what_fails_while_a_worker_is_set_aside_is_tried_again_at_once(tmp_path: Path) -> None:
    def runs_on_one(first: str, number: int) -> int:
        """Fail on whoever came second, and for 7."""
        here = str(os.getppid())
        with suppress(FileExistsError), open(first, "x") as file:
            file.write(here)
        eventually(lambda: Path(first).read_text())
        if Path(first).read_text() != here or number == 7:
            raise OSError(number)
        return number

    with embedded(tmp_path / "work.db", workers=2) as engine:
        eventually(lambda: [worker.state for worker in engine.workers()] == ["ready"] * 2)
        project = dcengine.Project("one-sided")
        project.stage(partial(runs_on_one, str(tmp_path / "first")), name="run", retries=9, back_off=0.01)
        project.run().add(range(10, 60))
        assert project.wait(60).succeeded == 50
        assert sum(bool(worker.set_aside) for worker in engine.workers()) == 1

        project.add([7])

        assert project.wait(25).failed == 1


# ---- calls that run together ---------------------------------------------------------------


class Bundled:
    """Counts the units of an engine and the calls in them."""

    def __init__(self, engine: dcengine.Engine) -> None:
        self.sizes: list[int] = []
        core = engine._engine
        call = core._call

        async def counted(running: Running) -> UnitReport:
            self.sizes.append(running.left)
            return await call(running)

        core._call = counted  # type: ignore[method-assign]


def test_short_calls_run_together_each_with_its_own_end(tmp_path: Path) -> None:
    def halved(number: int) -> float:
        if number % 100 == 7:
            raise ValueError(number)
        if number == 111:
            os._exit(3)
        return number / 2

    with embedded(tmp_path / "work.db", workers=2) as engine:
        bundled = Bundled(engine)
        with ThreadPoolExecutor(16) as threads:
            handles = list(threads.map(lambda n: dcengine.submit(halved, n, crash_retries=0), range(600)))
        for number, handle in enumerate(handles):
            if number % 100 == 7:
                with pytest.raises(ValueError, match=str(number)):
                    handle.result(60)
            elif number == 111:
                with pytest.raises(dcengine.TaskCrashed):
                    handle.result(60)
            else:
                assert handle.result(60) == number / 2

    assert max(bundled.sizes) > 1
    assert len(bundled.sizes) < 590


def test_a_long_call_among_short_ones_holds_up_none(tmp_path: Path) -> None:
    def short(number: int) -> int:
        return number

    def long(path: str) -> str:
        deadline = time.monotonic() + 60
        while not Path(path).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return path

    gate = tmp_path / "go"
    with embedded(tmp_path / "work.db", workers=2):
        with ThreadPoolExecutor(16) as threads:
            before = [threads.submit(dcengine.submit, short, n) for n in range(200)]
            held = dcengine.submit(long, str(gate))
            after = [threads.submit(dcengine.submit, short, n) for n in range(200)]
        for future in [*before, *after]:
            future.result().result(30)
        assert not held.done()
        gate.touch()
        assert held.result(30) == str(gate)
