"""Devices and sharing on a worker: what calls in children and in threads see, and which process they meet."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dcengine.errors import DevicesHidden, TaskTimeout
from dcengine.runner import slot as slots
from dcengine.runner.calls import Functions
from dcengine.runner.code_cache import CodeCache
from dcengine.runner.sessions import Sessions
from dcengine.runner.sharing import SharingSlot
from dcengine.runner.slot import ChildSlot
from dcengine.runner.threads import ThreadSlot
from dcengine.runner.units import Ending
from tests.integration.slots import (
    AnySlot,
    Ear,
    child_of,
    child_slot,
    endings,
    error,
    is_alive,
    mark,
    marked,
    results,
    unit,
    until,
)

FIRST, SECOND = {"gpu": [0]}, {"gpu": [1]}


@pytest.fixture(autouse=True)
def a_machine_whose_owner_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(variable, raising=False)


def seen() -> tuple[int, str | None, str]:
    """Return which process this is, and what it and a program that it starts see."""
    show = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('DCENGINE_DEVICES_GPU'))"
    told = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), told.stdout.strip()


@asynccontextmanager
async def sharing_slot(ear: Ear, functions: Functions | None = None) -> AsyncIterator[SharingSlot]:
    async with child_slot(ear) as child:
        thread = ThreadSlot("w1", ear, CodeCache(), functions or Functions())
        slot = SharingSlot(child, thread, Sessions(child._nursery, ear, "w1"))
        yield slot
        await slot.close()


async def ran(slot: AnySlot | SharingSlot, function: Any, *arguments: Any, **options: Any) -> Any:
    """Return what one call gives."""
    (result,) = results(await slot.run(unit(function, arguments, **options)))
    return result


# ---- devices -------------------------------------------------------------------------------


async def test_a_child_sees_the_devices_of_its_first_unit_for_all_its_life() -> None:
    async with child_slot() as slot:
        first, *shown = await ran(slot, seen, devices=FIRST)
        again = await ran(slot, seen, devices=FIRST)
        other, *shown_others = await ran(slot, seen, devices=SECOND)
        free, *shown_none = await ran(slot, seen)

    assert shown == ["0", "0 0"]
    assert again == (first, *shown)
    assert shown_others == ["1", "1 1"]
    assert shown_none == [None, "None None"]
    assert len({first, other, free}) == 3


async def test_what_a_call_does_to_the_variables_does_not_reach_the_next() -> None:
    def change() -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = "7"

    async with child_slot() as slot:
        await ran(slot, change, devices=SECOND)

        assert (await ran(slot, seen, devices=SECOND))[1:] == ("1", "1 1")


async def test_places_are_counted_among_what_the_worker_itself_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    async with child_slot() as slot:
        assert (await ran(slot, seen, devices=SECOND))[1:] == ("5", "5 1")
        assert (await ran(slot, seen))[1] == "4,5"


async def test_a_device_that_the_worker_does_not_see_is_an_error_of_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    async with child_slot() as slot:
        report = await slot.run(unit(seen, (), (), devices=SECOND))

        assert endings(report) == [Ending.RAISED, Ending.RAISED]
        assert isinstance(error(report), DevicesHidden)
        assert (await ran(slot, seen, devices=FIRST))[1] == "4"


async def test_a_slot_that_is_to_vacate_ends_a_child_with_devices_and_no_other() -> None:
    async with child_slot() as slot:
        plain = child_of(slot)
        await slot.vacate()
        assert child_of(slot) == plain
        holder, *_ = await ran(slot, seen, devices=FIRST)
        await slot.vacate()

        assert not is_alive(holder)
        assert (await ran(slot, seen))[1] is None


async def test_a_slot_that_is_to_vacate_lets_what_runs_go_on(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def work() -> str:
        mark(begun)
        time.sleep(0.1)
        return "done"

    async with child_slot() as slot:
        running = asyncio.create_task(ran(slot, work, devices=FIRST))
        await marked(begun)
        await slot.vacate()

        assert await running == "done"


async def test_a_child_with_devices_that_has_nothing_to_do_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "REST_SECONDS", 0.05)
    async with child_slot() as slot:
        holder, *_ = await ran(slot, seen, devices=FIRST)
        await until(lambda: not is_alive(holder))

        assert (await ran(slot, seen, devices=FIRST))[1] == "0"


# ---- sharing -------------------------------------------------------------------------------


async def test_shared_units_run_in_this_process_and_the_others_in_the_child() -> None:
    def where() -> tuple[int, bool]:
        return os.getpid(), threading.current_thread() is threading.main_thread()

    async with sharing_slot(Ear()) as slot:
        assert await ran(slot, where, is_shared=True) == (os.getpid(), False)
        child, _ = await ran(slot, where)
        assert child != os.getpid()
        assert await ran(slot, where, is_shared=True) == (os.getpid(), False)


async def test_slots_with_the_same_functions_share_what_these_keep() -> None:
    def counted(kept: list[int] = []) -> int:  # noqa: B006
        kept.append(1)
        return len(kept)

    functions = Functions()
    shared = unit(counted, is_shared=True)
    async with sharing_slot(Ear(), functions) as one, sharing_slot(Ear(), functions) as two:
        counts = [results(await slot.run(shared)) for slot in (one, two, one)]

    assert counts == [[1], [2], [3]]


async def test_what_a_shared_call_prints_is_its_own_and_the_rest_is_the_workers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def say() -> None:
        print("from the call")

    ear = Ear()
    async with sharing_slot(ear) as slot:
        await ran(slot, say, is_shared=True)
        print("from the worker")
        await until(lambda: ear.text("stdout"))

    assert ear.text("stdout") == "from the call\n"
    assert capsys.readouterr().out == "from the worker\n"


async def test_a_shared_call_that_is_cancelled_ends_in_its_own_time(tmp_path: Path) -> None:
    begun, finished = tmp_path / "begun", tmp_path / "finished"

    def work() -> None:
        mark(begun)
        time.sleep(0.2)
        mark(finished)

    async with sharing_slot(Ear()) as slot:
        shared = unit(work, (), (), is_shared=True)
        running = asyncio.create_task(slot.run(shared))
        await marked(begun)
        slot.kill(shared.id)
        report = await running

        assert endings(report) == [Ending.INTERRUPTED, Ending.NOT_RUN]
        assert finished.exists()


async def test_a_time_out_of_a_shared_call_says_why_it_came_late() -> None:
    async with sharing_slot(Ear()) as slot:
        report = await slot.run(unit(time.sleep, (0.1,), timeout=0.01, is_shared=True))

    assert endings(report) == [Ending.TIMED_OUT]
    assert isinstance(error(report), TaskTimeout)
    assert "isolate=False" in str(error(report))


# ---- after a crash -------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [9, 11])
async def test_a_slot_is_back_within_a_second_after_its_child_ended(signal: int) -> None:
    def end() -> None:
        os.kill(os.getpid(), signal)

    async with child_slot() as slot:
        assert isinstance(slot, ChildSlot)
        before, *_ = await ran(slot, seen, devices=FIRST)
        assert endings(await slot.run(unit(end, devices=FIRST))) == [Ending.CRASHED]
        began = time.monotonic()
        after = await ran(slot, os.getpid, devices=FIRST)

        assert time.monotonic() - began < 1
        assert after != before
        assert not is_alive(before)
