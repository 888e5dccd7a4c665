"""A worker that stands still for longer than its lease, and then says that it has done the task: it is refused.

Whatever has held it up: a signal, a debugger, a frozen container; and whether its heart stood still too or not.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import dcengine
from dcengine.worker import Task
from tests.engines import embedded, end, eventually, family
from tests.faults.aftermath import check_survivor
from tests.faults.conftest import IS_LONG, ROUNDS
from tests.faults.report import Record, recorded
from tests.outside import counts, heard, project, start_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing shows that a process is held up")

SCRIPT = """
    import logging, os
    logging.basicConfig(stream=sys.stdout, level="WARNING", format="warning: %(message)s")
    mine = worker(nickname="first")
    for task in mine:
        say("begun")
        while not os.path.exists({sign!r}):
            time.sleep(0.01)
        task.complete("first")
        say(task.accepted())
        if task.accepted():
            mine.stop()
"""
FREEZERS = (  # of both versions of control groups: where, what freezes and what thaws
    (Path("/sys/fs/cgroup/freezer"), "freezer.state", "FROZEN", "THAWED"),
    (Path("/sys/fs/cgroup"), "cgroup.freeze", "1", "0"),
    (Path("/sys/fs/cgroup/unified"), "cgroup.freeze", "1", "0"),
)
TRACER = """
import ctypes, os, sys
pid, trace = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True).ptrace
trace.argtypes = [ctypes.c_long] * 4
is_attached = trace(16, pid, 0, 0) == 0
if is_attached:
    os.waitpid(pid, 0)
print(is_attached, flush=True)
sys.stdin.readline()
trace(17, pid, 0, 0)
"""

Way = Callable[[ExitStack, int, int], bool]  #: holds a worker up, and its heart perhaps, until the stack ends


def stopped(stack: ExitStack, *processes: int) -> bool:
    for process in processes:
        os.kill(process, signal.SIGSTOP)
        stack.callback(os.kill, process, signal.SIGCONT)
    return True


def frozen(stack: ExitStack, *processes: int) -> bool:
    """Freeze *processes* in a control group, as a container that is paused; False where this is forbidden."""
    for root, name, freeze, thaw in FREEZERS:
        group = root / f"dcengine-{processes[0]}"
        with suppress(OSError):
            if not (root / "cgroup.procs").exists():
                continue
            group.mkdir()
            stack.callback(group.rmdir)
            for process in processes:
                (group / "cgroup.procs").write_text(str(process))
                stack.callback((root / "cgroup.procs").write_text, str(process))
            (group / name).write_text(freeze)
            stack.callback((group / name).write_text, thaw)
            return True
    return False


def traced(stack: ExitStack, worker: int, heart: int) -> bool:
    """Have a debugger hold the worker up; False where this is forbidden."""
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.callback(end, tracer)
    stack.callback(tracer.communicate, "go on\n")
    assert tracer.stdout is not None
    return tracer.stdout.readline() == "True\n"


WAYS: dict[str, Way] = {
    "the worker is stopped": lambda stack, worker, heart: stopped(stack, worker),
    "worker and heart are stopped": stopped,
    "the heart is stopped": lambda stack, worker, heart: stopped(stack, heart),
    "its container is frozen": frozen,
    "a debugger holds it": traced,
}


def test_whoever_was_paused_past_its_lease_is_refused_and_goes_on(tmp_path: Path, seed: int) -> None:
    db = tmp_path / "work.db"
    with recorded("paused worker", seed=seed, is_long=IS_LONG) as record:
        with embedded(db, workers=0, processes=False) as engine:
            for n in range(ROUNDS):
                pause_all(engine, tmp_path / f"sign-{n}", record, seed + n)
        check_survivor(db)


def pause_all(engine: dcengine.Engine, sign: Path, record: Record, chance: int) -> None:
    """Pause a worker in each way, have another one take its task, and do it perhaps, and let the first one go on."""
    with ExitStack() as workers:
        made = {way: project(range(2), lease_seconds=1) for way in WAYS}
        processes = {way: start_worker(SCRIPT.format(sign=str(sign)), engine.url, each) for way, each in made.items()}
        for process in processes.values():
            workers.callback(end, process)
        with ExitStack() as pauses:
            for way, process in processes.items():
                assert heard(process) == "begun"
                (heart,) = eventually(lambda pid=process.pid: family(pid))  # type: ignore[misc]
                if not WAYS[way](pauses, process.pid, heart.pid):
                    del made[way]  # it may not be done here
            for each in made.values():
                eventually(lambda each=each: counts(each).get("queued") == 2)
            others = [
                take_over(engine, each, is_done=(number + chance) % 2 == 0) for number, each in enumerate(made.values())
            ]
        sign.touch()
        for way in made:
            record.runs += 1
            answers = rest_of(processes[way])
            assert [line for line in answers if line in ("True", "False")] == ["False", "True"], (way, answers)
            assert any(line.startswith("warning: task ") for line in answers), (way, answers)  # it says so in words
        for worker, task in others:
            if not task.is_ended:
                task.complete("second")
                assert task.accepted()
            worker.close()
        for way, each in made.items():
            standing = {row.nickname: row.tasks for row in each.leaderboard()}
            record.double += sum(standing.values()) > 2
            record.stuck += counts(each) != {"succeeded": 2}
            record.lost += sorted(each.results()) != ["first", "second"]
            record.acknowledged += 2
            assert standing == {"first": 1, "second": 1}, way


def take_over(engine: dcengine.Engine, made: dcengine.Project, *, is_done: bool) -> tuple[dcengine.Worker, Task]:
    """Have another worker lease what the first one lost, and do it perhaps."""
    worker = dcengine.Worker(engine.url, project=made.name, stage="a", nickname="second")
    task = worker.next()
    assert task is not None
    if is_done:
        task.complete("second")
        assert task.accepted()
    return worker, task


def rest_of(process: subprocess.Popen[str]) -> list[str]:
    """Return all that a worker still prints, until it ends."""
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    assert process.wait(10) == 0, lines
    return lines
