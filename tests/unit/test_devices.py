"""Devices: who is lent which, who waits for whom."""

from __future__ import annotations

import pytest

from dcengine.cluster import Slot
from dcengine.engine.devices import Devices, Look
from dcengine.errors import DevicesShared
from dcengine.jobs import Worker
from dcengine.runner.units import Unit

ONE, TWO = "devices(gpu=1)", "devices(gpu=2)"


def a_worker(name: str = "w1", **tags: str) -> Worker:
    named = {tag.replace("_", "."): value for tag, value in (tags or {"gpu_count": "2"}).items()}
    return Worker(name=name, address="", contributor="ann", tags=dict(named), slots=4)


def slots_of(worker: Worker, count: int = 3) -> list[Slot]:
    return [Slot(worker, number) for number in range(count)]


def look(devices: Devices, slot: Slot, *, is_empty: bool = True) -> Look:
    return Look(devices, slot, is_empty=is_empty)


def test_each_slot_is_lent_devices_of_its_own_until_it_gives_them_back() -> None:
    devices, (one, two, three) = Devices(), slots_of(a_worker())
    devices.take(one, ONE)
    devices.take(two, ONE)

    assert (devices.held_by(one), devices.held_by(two)) == ({"gpu": [0]}, {"gpu": [1]})
    assert not devices.has_free(ONE, three.worker)
    assert devices.lent_by(three.worker) == {"gpu": 2}
    devices.give_back(one)
    devices.take(three, ONE)
    assert devices.held_by(three) == {"gpu": [0]}
    assert devices.held_by(one) == {}


def test_kinds_are_counted_apart() -> None:
    devices, (slot, other, _) = Devices(), slots_of(a_worker(gpu_count="1", license_count="3"))
    devices.take(slot, "devices(gpu=1) & devices(license=2)")

    assert devices.held_by(slot) == {"gpu": [0], "license": [0, 1]}
    assert devices.has_free("devices(license=1)", other.worker)
    assert not devices.has_free("devices(gpu=1) & devices(license=1)", other.worker)


def test_a_slot_is_lent_what_it_had_last_and_others_are_told_when_they_lose_it() -> None:
    devices, (one, two, _) = Devices(), slots_of(a_worker())
    devices.take(one, ONE)
    devices.take(two, ONE)
    devices.give_back(one)
    devices.give_back(two)
    devices.take(two, ONE)

    assert devices.held_by(two) == {"gpu": [1]}
    assert devices.left_to(two) == []
    devices.give_back(two)
    devices.take(two, TWO)
    assert devices.left_to(two) == [one]


def test_two_workers_on_one_machine_are_not_lent_the_same_device() -> None:
    devices = Devices()
    here, there = (Slot(a_worker(name, gpu_count="2", gpu_uuid="GPU-a,GPU-b"), 0) for name in ("w1", "w2"))
    elsewhere = Slot(a_worker("w3"), 0)
    devices.take(here, ONE)
    devices.take(there, ONE)

    assert (devices.held_by(here), devices.held_by(there)) == ({"gpu": [0]}, {"gpu": [1]})
    assert not devices.has_free(ONE, here.worker)
    assert devices.has_free(TWO, elsewhere.worker)


def test_who_asks_for_more_than_is_free_is_not_overtaken_by_who_asks_for_less() -> None:
    devices, (one, two, three) = Devices(), slots_of(a_worker(gpu_count="2", license_count="1"))
    devices.take(one, ONE)
    seen = look(devices, two)

    assert not seen.admits(TWO)
    assert not seen.admits(ONE)
    assert seen.admits("devices(license=1)")
    assert look(devices, three).admits(ONE)  # while it is its turn


def test_who_asks_for_more_than_is_free_holds_up_one_worker_only() -> None:
    devices, workers = Devices(), [a_worker("w1"), a_worker("w2")]
    slots = [slots_of(worker) for worker in workers]
    for each in slots:
        devices.take(each[0], ONE)
    first, second = look(devices, slots[0][1]), look(devices, slots[1][1])

    assert not first.admits(TWO)
    assert not first.admits(ONE)
    assert not second.admits(TWO)
    assert second.admits(ONE)


def test_what_waits_no_longer_holds_up_nobody() -> None:
    devices, (one, two, _) = Devices(), slots_of(a_worker())
    devices.take(one, ONE)
    look(devices, two).admits(TWO)

    assert devices.claimed(ONE, [two.worker]) == TWO
    devices.keep_claims({ONE})
    assert devices.claimed(ONE, [two.worker]) is None


def test_a_slot_that_has_something_to_do_becomes_empty_for_what_asks_for_devices() -> None:
    devices, (slot, *_) = Devices(), slots_of(a_worker())
    seen = look(devices, slot, is_empty=False)

    assert seen.admits("")
    assert not seen.admits(ONE)
    assert not seen.admits("")
    assert look(devices, slot).admits(ONE)


def test_the_shortage_is_told_where_it_is_least() -> None:
    devices, (one, *_) = Devices(), slots_of(a_worker())
    far = a_worker("w2", gpu_count="2")
    devices.take(one, ONE)
    devices.take(Slot(far, 0), TWO)

    assert devices.shortage(ONE, [far, one.worker]) is None
    assert devices.shortage(TWO, [one.worker]) == "2 gpu of w1; 1 of 2 is free"
    told = devices.shortage(TWO, [far, one.worker])
    assert told == "2 gpu of w1; 1 of 2 is free; no other of the 2 workers that match has more"


def test_a_part_of_the_devices_is_refused_to_what_has_no_process_of_its_own() -> None:
    devices, (one, two, _) = Devices(), slots_of(a_worker())
    unit = Unit(id=1, function=b"", name="train", code=None, items=b"", count=1, is_shared=True)
    devices.take(one, ONE)

    with pytest.raises(DevicesShared, match="train asks for 1 gpu of the 2 of worker w1"):
        devices.for_unit(unit, one, has_processes=True)
    devices.give_back(one)
    devices.take(two, TWO)
    assert devices.for_unit(unit, two, has_processes=True).devices == {"gpu": [0, 1]}
