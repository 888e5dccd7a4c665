"""What only a child process can do: be interrupted anywhere, be killed, crash, without anybody else noticing."""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from dcengine.codec import dumps, loads, unpack
from dcengine.errors import ClusterFailed, InvalidInput, TaskCrashed, TaskTimeout
from dcengine.runner.journal import shared_memory
from dcengine.runner.nursery import Nursery, _start_server
from dcengine.runner.slot import ChildSlot
from dcengine.runner.units import Ending, Live
from dcengine.runner.wire import NOTE, Note
from tests.integration.slots import (
    Ear,
    child_of,
    child_slot,
    descendants,
    endings,
    error,
    failure,
    is_alive,
    marked,
    results,
    stage_unit,
    unit,
    until,
)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def slot(ear: Ear) -> AsyncIterator[ChildSlot]:
    async with child_slot(ear) as subject:
        yield subject


def process_id() -> int:
    return os.getpid()


def nap(path: str, seconds: float) -> None:
    """Tell that it runs, then sleep."""
    os.close(os.open(path, os.O_CREAT))
    time.sleep(seconds)


def sleep_in_c(path: str, seconds: int) -> None:
    """Sleep where no signal and no bytecode gets in."""
    import ctypes

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.close(os.open(path, os.O_CREAT))
    ctypes.PyDLL(None).sleep(seconds)


def match_for_ever(path: str) -> None:
    """Match a pattern that takes longer than the universe has."""
    import re

    os.close(os.open(path, os.O_CREAT))
    re.match(r"(a+)+$", "a" * 60 + "b")


def spin(path: str) -> None:
    os.close(os.open(path, os.O_CREAT))
    while True:
        pass


# ---- crashes -------------------------------------------------------------------------------


def crash(how: str) -> str:
    import ctypes

    if how == "exit":
        print("last words", flush=True)
        os._exit(3)
    if how == "segfault":
        print("last words", flush=True)
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    return how


@pytest.mark.parametrize(
    ("how", "cause"),
    [("exit", "ended with exit code 3"), ("segfault", "signal 11 (SIGSEGV)"), ("abort", "signal 6 (SIGABRT)")],
)
async def test_a_crash_hurts_only_its_own_call_and_is_named(slot: ChildSlot, how: str, cause: str) -> None:
    before = child_of(slot)
    report = await slot.run(unit(crash, ("fine",), ("good",), (how,), ("never",)))

    assert endings(report) == [Ending.SUCCEEDED, Ending.SUCCEEDED, Ending.CRASHED, Ending.NOT_RUN]
    assert isinstance(error(report, 2), TaskCrashed)
    assert cause in str(error(report, 2))
    assert results(await slot.run(unit(process_id)))[0] not in (before, os.getpid())


async def test_the_end_of_the_fork_server_is_not_the_fault_of_the_call_that_runs(
    slot: ChildSlot, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    running = asyncio.ensure_future(
        slot.run(unit(nap, (str(tmp_path / "first"), 0), (str(begun), 60), (str(begun), 0)))
    )
    await until(begun.exists)

    psutil.Process(child_of(slot)).parent().kill()  # type: ignore[union-attr]

    assert endings(await running) == [Ending.SUCCEEDED, Ending.VANISHED, Ending.NOT_RUN]
    assert endings(await slot.run(unit(process_id))) == [Ending.SUCCEEDED]


@pytest.mark.parametrize("victim", ["child", "fork server"])
async def test_an_idle_slot_gets_another_child_when_its_own_is_killed(
    slot: ChildSlot, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine.runner.slot.HEALTHY_SECONDS", 0.0)
    before = psutil.Process(child_of(slot))

    (before if victim == "child" else before.parent()).kill()  # type: ignore[union-attr]

    await until(lambda: slot._child is not None and child_of(slot) not in (0, before.pid))


async def test_a_crash_shows_where_and_loses_no_output(slot: ChildSlot, ear: Ear) -> None:
    report = await slot.run(unit(crash, ("fine",), ("segfault",)))

    assert ear.text() == "last words\n"
    assert report.lines == len(ear.messages) == 1
    assert "in crash" in failure(report, 1).traceback


async def test_a_kill_from_outside_leaves_earlier_results_and_later_calls(slot: ChildSlot, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    calls = [(str(tmp_path / "first"), 0)] * 100 + [(str(begun), 60), (str(begun), 60)]
    running = asyncio.ensure_future(slot.run(unit(nap, *calls)))
    await marked(begun)
    os.kill(child_of(slot), signal.SIGKILL)
    report = await running

    assert endings(report) == [Ending.SUCCEEDED] * 100 + [Ending.CRASHED, Ending.NOT_RUN]
    assert "signal 9 (SIGKILL), often the system's out-of-memory killer" in str(error(report, 100))


async def test_results_too_big_for_the_journal_survive_a_crash(slot: ChildSlot) -> None:
    def grow(size: int) -> bytes:
        if size < 0:
            os._exit(1)
        return b"x" * size

    sizes = [10, 200_000, 20, *[30_000] * 5, 40]
    report = await slot.run(unit(grow, *[(size,) for size in sizes], (-1,), (1,)))

    assert endings(report) == [Ending.SUCCEEDED] * len(sizes) + [Ending.CRASHED, Ending.NOT_RUN]


async def test_a_child_that_dies_idle_is_replaced(slot: ChildSlot) -> None:
    before = child_of(slot)
    os.kill(before, signal.SIGKILL)
    await until(lambda: slot._child is None)

    assert results(await slot.run(unit(process_id)))[0] != before


async def test_a_fork_server_that_dies_is_replaced(slot: ChildSlot) -> None:
    server = os.getppid
    ours = results(await slot.run(unit(server)))[0]
    child = child_of(slot)
    os.kill(ours, signal.SIGKILL)
    await until(lambda: slot._child is None)

    assert results(await slot.run(unit(server)))[0] not in (ours, os.getpid())
    await until(lambda: not is_alive(child))


# ---- interrupt -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", [spin, nap])
async def test_an_interrupt_reaches_python_and_sleep_and_keeps_the_child(
    slot: ChildSlot, tmp_path: Path, function: object
) -> None:
    begun, child = tmp_path / "begun", child_of(slot)
    arguments = (str(begun),) if function is spin else (str(begun), 60)
    long = unit(function, arguments, arguments, grace=30.0)  # type: ignore[arg-type]
    running = asyncio.ensure_future(slot.run(long))
    await marked(begun)
    slot.cancel(long.id)

    assert endings(await running) == [Ending.INTERRUPTED, Ending.NOT_RUN]
    assert results(await slot.run(unit(process_id))) == [child]


async def test_an_interrupt_in_a_coroutine_cancels_it_cleanly(slot: ChildSlot, ear: Ear, tmp_path: Path) -> None:
    begun, child = tmp_path / "begun", child_of(slot)

    async def wait_and_clean_up() -> None:
        try:
            begun.touch()
            await asyncio.sleep(60)
        finally:
            print("cleaned up")

    long = unit(wait_and_clean_up, grace=30.0)
    running = asyncio.ensure_future(slot.run(long))
    await marked(begun)
    slot.cancel(long.id)

    assert endings(await running) == [Ending.INTERRUPTED]
    assert ear.text() == "cleaned up\n"
    assert results(await slot.run(unit(process_id))) == [child]


@pytest.mark.parametrize("function", [sleep_in_c, match_for_ever])
async def test_what_no_interrupt_reaches_is_killed_after_its_grace(
    slot: ChildSlot, tmp_path: Path, function: object
) -> None:
    begun, child = tmp_path / "begun", child_of(slot)
    arguments = (str(begun), 60) if function is sleep_in_c else (str(begun),)
    deaf = unit(function, arguments, arguments, grace=0.1)  # type: ignore[arg-type]
    running = asyncio.ensure_future(slot.run(deaf))
    await marked(begun)
    slot.cancel(deaf.id)
    report = await running

    assert report.endings[1] == Ending.NOT_RUN
    assert report.endings[0] == Ending.INTERRUPTED
    if function is sleep_in_c:
        assert results(await slot.run(unit(process_id))) != [child]


async def test_code_that_swallows_the_interrupt_is_killed_after_its_grace(slot: ChildSlot, tmp_path: Path) -> None:
    begun, child = tmp_path / "begun", child_of(slot)

    def go_on() -> None:
        while True:
            try:
                begun.touch()
                time.sleep(60)
            except KeyboardInterrupt:
                pass

    stubborn = unit(go_on, grace=0.1)
    running = asyncio.ensure_future(slot.run(stubborn))
    await marked(begun)
    slot.cancel(stubborn.id)

    assert endings(await running) == [Ending.INTERRUPTED]
    assert results(await slot.run(unit(process_id))) != [child]


async def test_an_interrupt_before_the_child_has_begun_counts(slot: ChildSlot) -> None:
    for _ in range(20):
        waiting = unit(time.sleep, (60,), (60,), grace=30.0)
        running = asyncio.ensure_future(slot.run(waiting))
        await asyncio.sleep(0)
        slot.cancel(waiting.id)

        assert set(endings(await running)) <= {Ending.INTERRUPTED, Ending.NOT_RUN}


async def test_a_late_interrupt_never_hits_the_next_unit(slot: ChildSlot) -> None:
    def work(rounds: int) -> int:
        return sum(range(rounds))

    child = child_of(slot)
    for rounds in range(100):
        first, second = unit(work, (rounds * 20,), grace=30.0), unit(work, (5000,), (5000,))
        running = asyncio.ensure_future(slot.run(first))
        await asyncio.sleep(rounds % 7 * 2e-5)
        slot.cancel(first.id)
        await running

        assert results(await slot.run(second)) == [sum(range(5000))] * 2
    assert child_of(slot) == child


async def test_an_interrupt_that_is_held_up_until_the_next_unit_runs_is_ignored(tmp_path: Path) -> None:
    async def everything_sent(nursery: Nursery) -> None:
        """Wait until the fork server has sent all signals: it forks only after that."""
        other = ChildSlot(nursery, Ear())
        await other.start()
        await other.close()

    def wait_for(path: str, answer: str) -> None:
        os.close(os.open(path, os.O_CREAT))
        while not os.path.exists(answer):
            time.sleep(0.002)

    nursery = Nursery("w1")
    slot = ChildSlot(nursery, Ear())
    server = results(await slot.run(unit(os.getppid)))[0]
    begun, answer = [tmp_path / "begun1", tmp_path / "begun2"], [tmp_path / "answer1", tmp_path / "answer2"]
    first, second = (unit(wait_for, (str(begun[n]), str(answer[n])), grace=30.0) for n in (0, 1))

    running = asyncio.ensure_future(slot.run(first))
    await marked(begun[0])
    os.kill(server, signal.SIGSTOP)
    slot.cancel(first.id)
    answer[0].touch()
    first_report = await running
    running = asyncio.ensure_future(slot.run(second))
    await marked(begun[1])
    os.kill(server, signal.SIGCONT)
    await everything_sent(nursery)
    answer[1].touch()
    second_report = await running
    await slot.close()
    await nursery.close()

    assert endings(first_report) == [Ending.SUCCEEDED]
    assert endings(second_report) == [Ending.SUCCEEDED]


async def test_an_interrupt_while_it_prints_cuts_no_message(tmp_path: Path) -> None:
    ear = Ear()

    def hear_slowly(message: Live) -> None:
        time.sleep(0.003)  # so that the child is nearly always in the middle of a message
        ear(message)

    def chatter(begun: str) -> None:
        os.close(os.open(begun, os.O_CREAT))
        while True:
            sys.stdout.write("x" * 30_000 + "\n")

    async with child_slot(hear_slowly) as slot:
        child = child_of(slot)
        for round in range(15):
            begun = tmp_path / str(round)
            talking = unit(chatter, (str(begun),), grace=30.0)
            running = asyncio.ensure_future(slot.run(talking))
            await marked(begun)
            await until(lambda: len(ear.messages) > 5)
            slot.cancel(talking.id)

            assert endings(await running) == [Ending.INTERRUPTED]
            assert set(ear.text()) == {"x", "\n"}
            ear.messages.clear()
        assert results(await slot.run(unit(process_id))) == [child]


async def test_a_kill_that_comes_too_late_never_hits_the_next_unit() -> None:
    def kill(message: Live) -> None:
        assert slot._turn is not None
        slot._kill(slot._turn, "cancel")  # the report is on its way, often in the same packet

    async with child_slot(kill) as slot:
        for _ in range(20):
            spoken = endings(await slot.run(unit(print, ("all done",))))

            assert spoken in ([Ending.SUCCEEDED], [Ending.INTERRUPTED])
            assert len(results(await slot.run(unit(process_id)))) == 1


async def test_a_sigint_that_user_code_sends_itself_is_its_own_affair(slot: ChildSlot) -> None:
    def interrupt_myself() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    report = await slot.run(unit(interrupt_myself, (), ()))

    assert endings(report) == [Ending.RAISED, Ending.RAISED]
    assert type(error(report)) is KeyboardInterrupt


async def test_a_cancelled_run_leaves_a_usable_slot(slot: ChildSlot, tmp_path: Path) -> None:
    begun, child = tmp_path / "begun", child_of(slot)
    running = asyncio.ensure_future(slot.run(unit(nap, (str(begun), 60))))
    await marked(begun)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert results(await slot.run(unit(process_id))) != [child]
    await until(lambda: not is_alive(child))


# ---- time-out ------------------------------------------------------------------------------


async def test_a_timeout_interrupts_sleep_and_keeps_the_child(slot: ChildSlot, tmp_path: Path) -> None:
    child = child_of(slot)
    calls = [(str(tmp_path / "a"), 0), (str(tmp_path / "a"), 60), (str(tmp_path / "a"), 0)]
    report = await slot.run(unit(nap, *calls, timeout=0.2, grace=30.0))
    raised = error(report, 1)

    assert endings(report) == [Ending.SUCCEEDED, Ending.TIMED_OUT, Ending.SUCCEEDED]
    assert isinstance(raised, TaskTimeout)
    assert "was interrupted" in str(raised)
    assert "time.sleep(seconds)" in str(raised.__cause__)
    assert results(await slot.run(unit(process_id))) == [child]


async def test_a_timeout_kills_what_it_cannot_interrupt(slot: ChildSlot, tmp_path: Path) -> None:
    calls = [(str(tmp_path / "a"), 0), (str(tmp_path / "a"), 60), (str(tmp_path / "a"), 0)]
    report = await slot.run(unit(sleep_in_c, *calls, timeout=0.2, grace=0.1))

    assert endings(report) == [Ending.SUCCEEDED, Ending.TIMED_OUT, Ending.NOT_RUN]
    assert "was killed" in str(error(report, 1))


async def test_a_timeout_counts_although_the_code_swallows_it(slot: ChildSlot) -> None:
    def swallow() -> str:
        try:
            time.sleep(60)
        except BaseException:
            pass
        return "as if nothing had happened"

    assert endings(await slot.run(unit(swallow, timeout=0.1, grace=30.0))) == [Ending.TIMED_OUT]


async def test_calls_within_their_timeout_never_meet_it(slot: ChildSlot) -> None:
    report = await slot.run(unit(time.sleep, *[(0.02,)] * 20, timeout=0.3))

    assert endings(report) == [Ending.SUCCEEDED] * 20


async def test_an_endless_expand_is_interrupted_wherever_it_is(slot: ChildSlot, tmp_path: Path) -> None:
    child, begun = child_of(slot), tmp_path / "begun"

    def endless(path: str) -> Iterator[list[int]]:
        os.close(os.open(path, os.O_CREAT))
        for number in itertools.count():
            yield [number] * 10_000  # so that it is mostly packing

    expanding = stage_unit(endless, dumps(str(begun)), gives="parts", grace=30.0)
    running = asyncio.ensure_future(slot.run(expanding))
    await marked(begun)
    slot.cancel(expanding.id)

    assert endings(await running) == [Ending.INTERRUPTED]
    assert endings(await slot.run(stage_unit(endless, dumps(str(begun)), gives="parts", timeout=0.2, grace=30.0))) == [
        Ending.TIMED_OUT
    ]
    assert results(await slot.run(unit(process_id))) == [child]


async def test_an_asynchronous_expand_cleans_up_when_it_is_interrupted(slot: ChildSlot, tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    async def endless(paths: tuple[str, str]) -> AsyncIterator[int]:
        try:
            yield 1
            os.close(os.open(paths[0], os.O_CREAT))
            await asyncio.sleep(60)
        finally:
            os.close(os.open(paths[1], os.O_CREAT))

    expanding = stage_unit(endless, dumps((str(begun), str(ended))), gives="parts", grace=30.0)
    running = asyncio.ensure_future(slot.run(expanding))
    await marked(begun)
    slot.cancel(expanding.id)

    assert endings(await running) == [Ending.INTERRUPTED]
    assert ended.exists()


async def test_what_an_expand_cleans_up_is_time_limited_too(slot: ChildSlot) -> None:
    child = child_of(slot)

    def refused(value: object) -> Iterator[object]:
        try:
            yield threading.Lock()
        finally:
            time.sleep(60)

    report = await slot.run(stage_unit(refused, dumps(1), gives="parts", timeout=0.3, grace=30.0))

    assert endings(report) == [Ending.TIMED_OUT]
    assert results(await slot.run(unit(process_id))) == [child]


async def test_a_crash_keeps_the_parts_that_were_given_before(slot: ChildSlot) -> None:
    def expand_or_die(number: int) -> list[int]:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1:
            raise InvalidInput("odd")
        return [number] * 3

    report = await slot.run(stage_unit(expand_or_die, *map(dumps, range(4)), gives="parts"))

    assert endings(report) == [Ending.SUCCEEDED, Ending.FLAGGED, Ending.CRASHED, Ending.NOT_RUN]
    assert [loads(part) for part in unpack(unpack(report.values)[0])] == [0, 0, 0]
    assert failure(report, 1).message == "odd"


# ---- what user code starts -----------------------------------------------------------------


async def test_a_process_that_user_code_forks_does_not_speak_for_the_child(slot: ChildSlot, ear: Ear) -> None:
    def fork_and_return() -> str:
        process = os.fork()
        if process == 0:
            return "the copy comes back too"
        return f"the original, the copy ended with {os.waitpid(process, 0)[1]}"

    def fork_and_raise() -> str:
        process = os.fork()
        if process == 0:
            raise ValueError("in the copy")
        os.waitpid(process, 0)
        return "the original"

    def with_a_pool() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert results(await slot.run(unit(fork_and_return, (), ()))) == ["the original, the copy ended with 0"] * 2
    assert results(await slot.run(unit(fork_and_raise, (), ()))) == ["the original"] * 2
    assert results(await slot.run(unit(with_a_pool))) == [[1, 2, 3]]


async def test_what_user_code_started_ends_with_a_killed_child(slot: ChildSlot, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def start_and_wait() -> None:
        import subprocess

        process = subprocess.Popen(["sleep", "600"])
        started.write_text(str(process.pid))
        (started.parent / "ready").touch()
        time.sleep(600)

    running = asyncio.ensure_future(slot.run(unit(start_and_wait)))
    await marked(tmp_path / "ready")
    os.kill(child_of(slot), signal.SIGKILL)
    await running

    await until(lambda: not is_alive(int(started.read_text())))


async def test_streams_and_signals_that_a_call_breaks_are_whole_in_the_next_unit(slot: ChildSlot, ear: Ear) -> None:
    def break_things() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.close()
        sys.stdout = None

    await slot.run(unit(break_things))
    sleeping = unit(lambda: (print("whole"), time.sleep(60)), grace=30.0)
    running = asyncio.ensure_future(slot.run(sleeping))
    await until(lambda: ear.text() == "whole\n")
    slot.cancel(sleeping.id)

    assert endings(await running) == [Ending.INTERRUPTED]


async def test_children_draw_different_random_numbers() -> None:
    def draw() -> tuple[float, float]:
        import random

        import numpy.random

        return random.random(), float(numpy.random.random())

    nursery = Nursery("w1")
    slots = [ChildSlot(nursery, Ear()) for _ in range(2)]
    await asyncio.gather(*[slot.start() for slot in slots])
    drawn = [results(await slot.run(unit(draw)))[0] for slot in slots]
    await asyncio.gather(*[slot.close() for slot in slots])
    await nursery.close()

    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


async def test_a_closed_nursery_starts_nothing() -> None:
    before = descendants()
    nursery = Nursery("w1")
    slot = ChildSlot(nursery, Ear())
    await slot.start()
    await nursery.close()

    assert descendants() == before
    with pytest.raises(ClusterFailed):
        await slot.run(unit(process_id))
    await slot.close()
    assert descendants() == before


# ---- the end -------------------------------------------------------------------------------

OWNER = """
import asyncio, sys, time
from dcengine.runner.nursery import Nursery
from dcengine.runner.slot import ChildSlot
from tests.integration.slots import unit, child_of, results
import os

def busy():
    import subprocess, time
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("busy")
    time.sleep(600)

async def main():
    nursery = Nursery("w1")
    slot = ChildSlot(nursery, lambda message: print(child_of(slot), flush=True))
    await slot.start()
    await slot.run(unit(busy))

asyncio.run(main())
"""


async def test_a_killed_worker_leaves_no_process_behind() -> None:
    before = descendants()
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert owner.stdout is not None
    child = int(await asyncio.wait_for(owner.stdout.readline(), 20))
    below = descendants() - before - {owner.pid}
    assert child in below
    assert len(below) == 4  # the fork server, the child, and the two programs that user code started

    owner.kill()
    await owner.wait()

    if sys.platform != "linux":  # only Linux lets a process adopt what its children leave behind
        below = {process for process in below if os.getsid(process) != process}
    await until(lambda: not any(map(is_alive, below)))


async def test_a_fork_server_whose_worker_dies_before_it_has_heard_all_ends_in_order() -> None:
    ours, theirs = socket.socketpair()
    connection, child_end = socket.socketpair()
    memory = shared_memory()
    server = _start_server(theirs, "w1")
    theirs.close()
    socket.send_fds(ours, [NOTE.pack(Note.FORK, 1, 0)], [child_end.fileno(), memory])
    await until(lambda: len(below := psutil.Process(server.pid).children()) == 1 and os.getsid(below[0].pid) > 0)
    (child,) = psutil.Process(server.pid).children()

    select.select([ours], [], [])  # what it says lies there, and nobody will read it
    ours.close()

    assert await asyncio.to_thread(server.wait, 20) == 0
    assert not is_alive(child.pid)
    child_end.close(), connection.close(), os.close(memory)


async def test_closing_leaves_no_process_behind(tmp_path: Path) -> None:
    before = descendants()
    nursery = Nursery("w1")
    slots = [ChildSlot(nursery, Ear()) for _ in range(3)]
    await asyncio.gather(*[slot.start() for slot in slots])
    running = [
        asyncio.ensure_future(slot.run(unit(sleep_in_c, (str(tmp_path / str(n)), 600)))) for n, slot in enumerate(slots)
    ]
    await marked(*[tmp_path / str(n) for n in range(3)])
    await asyncio.gather(*[slot.close() for slot in slots])
    await nursery.close()

    assert [endings(await run) for run in running] == [[Ending.INTERRUPTED]] * 3
    assert descendants() == before
