"""The queue of one slot on a worker."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dcengine.cluster.host import Guest, HostedSlot, SlotClosed
from dcengine.cluster.shelf import Shelf
from dcengine.codec import pack, pack_call, pack_function, unpack
from dcengine.runner.reports import report_of_nothing
from dcengine.runner.threads import ThreadSlot
from dcengine.runner.units import Ending, Live, Unit

_ids = itertools.count(1)
SHELF = Shelf(Path("unused"), 0)


def unit(function: Any, count: int = 1) -> Unit:
    packed = pack_function(function)
    items = pack([pack_call((), {})] * count)
    return Unit(id=next(_ids), function=packed.digest, name=packed.name, code=packed.code, items=items, count=count)


def nothing() -> None:
    pass


def wait_at_the_gate() -> None:
    gate: Any = sys.modules["gate_of_the_test"]
    gate.reached.set()
    gate.opened.wait(20)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = SimpleNamespace(reached=threading.Event(), opened=threading.Event())
    monkeypatch.setitem(sys.modules, "gate_of_the_test", made)
    return made


async def new_slot() -> HostedSlot:
    slot = ThreadSlot("w1", lambda live: None)
    await slot.start()
    return HostedSlot(slot)


async def begun(gate: Any) -> None:
    assert await asyncio.to_thread(gate.reached.wait, 20)


def test_the_report_of_nothing_has_an_empty_value_for_each_call() -> None:
    report = report_of_nothing(unit(nothing, 3))

    assert report.endings == bytes([Ending.NOT_RUN] * 3)
    assert unpack(report.values) == [b"", b"", b""]


async def test_who_listens_hears_the_rest_and_then_the_end_when_a_guest_leaves() -> None:
    guest = Guest(SimpleNamespace(), "engine", SHELF)  # type: ignore[arg-type]
    listening = asyncio.create_task(guest.outbox.listen(60))
    await asyncio.sleep(0)
    guest.outbox.say(Live(unit=1, number=1, item=0, kind="stdout", data=b"last words"))

    await guest.close()

    assert [live.data for live in await asyncio.wait_for(listening, 10)] == [b"last words"]
    left = Guest(SimpleNamespace(), "engine", SHELF)  # type: ignore[arg-type]
    listening = asyncio.create_task(left.outbox.listen(60))
    await asyncio.sleep(0)
    await left.close()
    assert await asyncio.wait_for(listening, 10) == []


async def test_units_that_wait_run_in_the_order_they_came(gate: Any) -> None:
    slot = await new_slot()
    ended: list[int] = []

    async def run(order: Unit) -> None:
        await slot.run(order)
        ended.append(order.id)

    orders = [unit(wait_at_the_gate), *(unit(nothing) for _ in range(5))]
    running = [asyncio.create_task(run(order)) for order in orders]
    await begun(gate)
    gate.opened.set()
    await asyncio.gather(*running)
    await slot.close()

    assert ended == [order.id for order in orders]


async def test_a_unit_interrupted_between_its_turn_and_its_start_is_not_run(gate: Any) -> None:
    slot = await new_slot()
    first, second = unit(wait_at_the_gate), unit(nothing)
    pass_on = slot._pass_on

    def pass_on_and_cancel() -> None:
        pass_on()  # from here on it is the second unit's turn, though it has not started
        slot.cancel(second.id)

    slot._pass_on = pass_on_and_cancel  # type: ignore[method-assign]
    running = [asyncio.create_task(slot.run(order)) for order in (first, second)]
    await begun(gate)
    gate.opened.set()
    reports = await asyncio.gather(*running)
    await slot.close()

    assert [list(report.endings) for report in reports] == [[Ending.SUCCEEDED], [Ending.NOT_RUN]]


async def test_interrupting_a_waiting_unit_drops_it_at_once(gate: Any) -> None:
    slot = await new_slot()
    running = asyncio.create_task(slot.run(unit(wait_at_the_gate)))
    await begun(gate)
    order = unit(nothing)
    waiting = asyncio.create_task(slot.run(order))
    await asyncio.sleep(0)

    slot.cancel(order.id)

    assert (await waiting).endings == bytes([Ending.NOT_RUN])
    assert not running.done()
    gate.opened.set()
    assert (await running).endings == bytes([Ending.SUCCEEDED])
    await slot.close()


async def test_closing_under_a_running_unit_is_not_passed_off_as_an_interrupt(gate: Any) -> None:
    slot = await new_slot()
    running = asyncio.create_task(slot.run(unit(wait_at_the_gate, 2)))
    waiting = asyncio.create_task(slot.run(unit(nothing)))
    await begun(gate)

    await slot.close()

    with pytest.raises(SlotClosed):
        await running
    assert (await waiting).endings == bytes([Ending.NOT_RUN])
    gate.opened.set()


async def test_a_recalled_unit_that_comes_later_does_not_run() -> None:
    slot = await new_slot()
    order = unit(nothing)

    assert slot.recall(order.id)
    assert (await slot.run(order)).endings == bytes([Ending.NOT_RUN])
    await slot.close()
