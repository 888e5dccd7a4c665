"""A unit that is to end with the call that runs, in a child process, in a thread, and where it waits for its slot."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from dcengine.cluster.host import HostedSlot
from dcengine.runner.journal import Journal, shared_memory
from dcengine.runner.units import Ending
from tests.integration.slots import AnySlot, child_slot, endings, mark, marked, results, thread_slot, unit

SUBJECTS: dict[str, Callable[..., AbstractAsyncContextManager[AnySlot]]] = {"child": child_slot, "thread": thread_slot}


@pytest.fixture(params=SUBJECTS)
async def slot(request: pytest.FixtureRequest) -> AsyncIterator[AnySlot]:
    async with SUBJECTS[request.param]() as subject:
        yield subject


def step(folder: str, number: int) -> int:
    """Tell that this call has begun; wait until it may end."""
    mark(f"{folder}/{number}")
    deadline = time.monotonic() + 30
    while not os.path.exists(f"{folder}/go") and time.monotonic() < deadline:
        time.sleep(0.002)
    return number


def quick(folder: str, number: int) -> int:
    return number if number < 500 else step(folder, number)


async def test_the_call_that_runs_ends_and_no_further_one_begins(slot: AnySlot, tmp_path: Path) -> None:
    several = unit(step, *((str(tmp_path), number) for number in range(5)))
    running = asyncio.create_task(slot.run(several))
    await marked(tmp_path / "0")

    assert await slot.cut(several.id) == 1
    mark(tmp_path / "go")
    report = await asyncio.wait_for(running, 20)

    assert endings(report) == [Ending.SUCCEEDED] + [Ending.NOT_RUN] * 4
    assert not (tmp_path / "1").exists()
    assert results(await slot.run(unit(step, (str(tmp_path), 7), (str(tmp_path), 8)))) == [7, 8]


async def test_all_calls_that_have_begun_are_counted(slot: AnySlot, tmp_path: Path) -> None:
    several = unit(quick, *((str(tmp_path), number) for number in range(900)))
    running = asyncio.create_task(slot.run(several))
    await marked(tmp_path / "500")

    assert await slot.cut(several.id) == 501
    mark(tmp_path / "go")
    report = await asyncio.wait_for(running, 20)

    assert endings(report) == [Ending.SUCCEEDED] * 501 + [Ending.NOT_RUN] * 399


async def test_however_quick_the_calls_are_none_runs_beyond_what_was_said(slot: AnySlot) -> None:
    for _ in range(20):
        several = unit(abs, *((number,) for number in range(60_000)))
        running = asyncio.create_task(slot.run(several))
        await asyncio.sleep(0.005)
        kept = await slot.cut(several.id)
        report = await asyncio.wait_for(running, 20)

        begun = len(report.endings.rstrip(bytes([Ending.NOT_RUN])))
        assert kept is None or begun <= kept <= begun + 1


async def test_what_does_not_run_cannot_be_cut(slot: AnySlot) -> None:
    assert await slot.cut(4711) is None
    ended = unit(abs, (-1,), (-2,))
    await slot.run(ended)

    assert await slot.cut(ended.id) is None
    assert results(await slot.run(unit(abs, (-3,), (-4,)))) == [3, 4]


async def test_a_unit_that_waits_for_its_slot_is_dropped(slot: AnySlot, tmp_path: Path) -> None:
    hosted = HostedSlot(slot)
    first, second = unit(step, (str(tmp_path), 0)), unit(abs, (-1,), (-2,))
    running, waiting = asyncio.create_task(hosted.run(first)), asyncio.create_task(hosted.run(second))
    await marked(tmp_path / "0")

    assert await hosted.cut(second.id) == 0
    assert endings(await waiting) == [Ending.NOT_RUN] * 2
    assert await hosted.cut(first.id) == 1
    mark(tmp_path / "go")
    assert results(await asyncio.wait_for(running, 20)) == [0]


def test_to_look_for_a_cut_costs_a_call_next_to_nothing() -> None:
    memory = shared_memory()
    journal = Journal(memory)
    os.close(memory)
    journal.begin_unit(1, 0.0)
    may_begin, numbers = journal.may_begin, range(100_000)

    def look() -> float:
        began = time.perf_counter()
        for number in numbers:
            may_begin(number)
        return time.perf_counter() - began

    each = min(look() for _ in range(5)) / len(numbers)
    journal.close()
    assert each < 1e-6, f"{each * 1e9:.0f} ns"
