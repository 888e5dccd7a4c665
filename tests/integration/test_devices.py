"""Devices lent to tasks: by an engine whose workers the test plays, and by a real one to real processes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.cluster import ClusterSettings
from dcengine.codec import Failure, dumps, pack, pack_call, pack_failure, pack_function
from dcengine.jobs import Worker
from dcengine.options import options_of
from dcengine.runner.units import Ending
from dcengine.verbs import BatchSubmission, Submission
from tests.driven import Driven
from tests.engines import eventually, joined, served

FUNCTION = pack_function(len)
CALL = pack_call(("abc",), {})
FAILURE = pack_failure(Failure("ValueError", "no luck"))
WELL = [(Ending.SUCCEEDED, dumps(3, what="a result"))]


# ---- an engine whose workers the test plays ------------------------------------------------


@contextmanager
def lending(slots: int = 3, workers: int = 1, **devices: int) -> Iterator[Driven]:
    """An engine with *workers* that have so many *slots* and *devices* each; nothing may be lent at the end."""
    driven = Driven(["ada"] * slots * workers)
    tags = {f"{kind}.count": str(count) for kind, count in devices.items()}
    table = [
        Worker(name=f"w{n + 1}", address="", contributor="ada", tags=dict(tags), slots=slots) for n in range(workers)
    ]
    driven.workers.workers = {worker.name: worker for worker in table}
    for n, slot in enumerate(driven.workers.slots):
        slot.worker, slot.number = table[n // slots], n % slots
    driven.engine._settings = ClusterSettings()  # with processes
    driven.look_around()
    try:
        yield driven
        assert all(not driven.engine._devices.lent_by(worker) for worker in table)
    finally:
        driven.close()
        driven.remove()


def submit(driven: Driven, devices: Mapping[str, int] | None = None, **options: Any) -> int:
    """Submit a call; return its job."""
    asked = options_of({"devices": devices or {}, **options})
    return driven.call(driven.engine.submit(Submission(function=FUNCTION, input=CALL, options=asked))).id


def shown(driven: Driven) -> dict[int, dict[str, list[int]]]:
    """Return the jobs that run, and the devices that they were lent."""
    units = {id: unit for id, (unit, _, _) in driven.workers.sent.items()}
    return {driven.engine._running[id].job_of(0): unit.devices for id, unit in units.items()}


def finish(driven: Driven, job: int, seconds: float = 10.0) -> None:
    (unit,) = (id for id in driven.workers.sent if driven.engine._running[id].job_of(0) == job)
    driven.end(unit, WELL, seconds)


def test_tasks_get_devices_of_their_own_and_other_work_uses_the_free_slots() -> None:
    with lending(gpu=2) as driven:
        one, two, three = (submit(driven, {"gpu": 1}) for _ in range(3))
        other = submit(driven)

        assert shown(driven) == {one: {"gpu": [0]}, two: {"gpu": [1]}, other: {}}
        assert driven.call(driven.engine.why(three)) == f"job {three} waits for 1 gpu of w1; 0 of 2 are free"
        (worker,) = driven.call(driven.engine.workers())
        assert worker.devices == {"gpu": 2}
        finish(driven, two)
        assert shown(driven) == {one: {"gpu": [0]}, other: {}, three: {"gpu": [1]}}
        for job in (one, three, other):
            finish(driven, job)


def test_one_device_is_lent_to_one_task_after_the_other() -> None:
    with lending(gpu=1) as driven:
        jobs = [submit(driven, {"gpu": 1}) for _ in range(3)]
        for job in jobs:
            assert shown(driven) == {job: {"gpu": [0]}}
            finish(driven, job)


def test_a_slot_that_lent_its_device_to_another_is_told_first() -> None:
    with lending(gpu=1) as driven:
        finish(driven, submit(driven, {"gpu": 1}))
        assert driven.workers.vacated == []
        busy = submit(driven)  # takes the first slot
        job = submit(driven, {"gpu": 1})

        assert driven.workers.vacated == [driven.workers.slots[0]]
        finish(driven, busy)
        finish(driven, job)


@pytest.mark.parametrize(
    "ending", [Ending.SUCCEEDED, Ending.RAISED, Ending.TIMED_OUT, Ending.CRASHED, Ending.INTERRUPTED, Ending.NOT_RUN]
)
def test_devices_are_free_again_however_a_task_ends(ending: Ending) -> None:
    value = WELL[0][1] if ending is Ending.SUCCEEDED else FAILURE
    with lending(gpu=1) as driven:
        first, second = submit(driven, {"gpu": 1}, crash_retries=0), submit(driven, {"gpu": 1})
        (unit,) = driven.workers.sent
        driven.end(unit, [(ending, value)], 10.0)

        (job,) = shown(driven)
        assert shown(driven) == {job: {"gpu": [0]}}
        for job in {first, second} & shown(driven).keys():
            finish(driven, job)
        for job in shown(driven):
            finish(driven, job)


def test_devices_of_a_task_whose_worker_vanishes_are_free_again() -> None:
    with lending(gpu=1) as driven:
        job = submit(driven, {"gpu": 1})
        (unit,) = driven.workers.sent
        driven.vanish(unit)

        assert driven.engine._devices.lent_by(driven.workers.slots[0].worker) == {"gpu": 1}  # lent anew: it runs again
        finish(driven, job)


def test_devices_of_an_engine_that_closes_are_free_again() -> None:
    with lending(gpu=1) as driven:
        submit(driven, {"gpu": 1})
        devices, worker = driven.engine._devices, driven.workers.slots[0].worker
        driven.reopen()

        assert devices.lent_by(worker) == {}


def test_a_task_that_needs_more_than_is_free_is_not_starved_by_those_that_need_less() -> None:
    with lending(gpu=2) as driven:
        first, second = submit(driven, {"gpu": 1}), submit(driven, {"gpu": 1})
        large = submit(driven, {"gpu": 2})
        small = [submit(driven, {"gpu": 1}) for _ in range(4)]
        finish(driven, first)

        assert shown(driven) == {second: {"gpu": [1]}}
        assert "waits for 2 gpu of w1; 1 of 2 is free" in driven.call(driven.engine.why(large))
        assert "kept for what needs 'devices(gpu=2)'" in driven.call(driven.engine.why(small[0]))
        finish(driven, second)
        assert shown(driven) == {large: {"gpu": [0, 1]}}
        finish(driven, large)
        for _ in range(2):
            for job in shown(driven):
                finish(driven, job)


def test_what_a_cancelled_task_had_waited_for_goes_to_the_next() -> None:
    with lending(gpu=2) as driven:
        first, second = submit(driven, {"gpu": 1}), submit(driven, {"gpu": 1})
        large, small = submit(driven, {"gpu": 2}), submit(driven, {"gpu": 1})
        finish(driven, first)
        driven.call(driven.engine.cancel(large))
        driven.pass_by(1.0)

        assert shown(driven) == {second: {"gpu": [1]}, small: {"gpu": [0]}}
        finish(driven, second)
        finish(driven, small)


def test_a_slot_that_is_never_idle_still_comes_to_the_tasks_with_devices() -> None:
    with lending(slots=1, gpu=1) as driven:
        for _ in range(5):
            finish(driven, submit(driven), 0.001)  # short: the slot may hold more than one
        plain = [submit(driven) for _ in range(9)]
        job = submit(driven, {"gpu": 1})
        for _ in plain:
            if job in shown(driven):
                break
            finish(driven, min(shown(driven)), 0.001)

        assert shown(driven) == {job: {"gpu": [0]}}  # and the slot holds nothing else
        finish(driven, job)
        while shown(driven):
            finish(driven, min(shown(driven)), 0.001)


def test_a_map_has_its_devices_chunk_by_chunk() -> None:
    with lending(gpu=2) as driven:
        asked = options_of({"devices": {"gpu": 1}})
        submission = BatchSubmission(function=FUNCTION, blocks=[pack([CALL] * 50)], count=50, options=asked)
        batch = driven.call(driven.engine.submit_batch(submission)).id
        chunks = 0
        while units := list(driven.workers.sent):
            assert sorted(unit.devices["gpu"] for unit, _, _ in driven.workers.sent.values()) in (
                [[0]],
                [[1]],
                [[0], [1]],
            )
            count = driven.workers.sent[units[0]][0].count
            driven.end(units[0], WELL * count, count * 0.01)
            chunks += 1

        assert driven.call(driven.engine.batch(batch)).succeeded == 50
        assert chunks < 50


def test_no_device_is_ever_lent_twice_at_once_whatever_happens() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with lending(slots=2, workers=3, gpu=2, license=1) as driven:
        needs = [{"gpu": 1}, {"gpu": 2}, {"license": 1}, {"gpu": 1, "license": 1}, {}]
        jobs = [submit(driven, chance.choice(needs), retries=1) for _ in range(100)]
        while driven.workers.sent:
            held: dict[tuple[str, str], list[int]] = {}
            for unit, slot, _ in driven.workers.sent.values():
                for kind, places in unit.devices.items():
                    held.setdefault((slot.worker.name, kind), []).extend(places)
            assert all(len(places) == len(set(places)) for places in held.values()), held
            unit_id = chance.choice(list(driven.workers.sent))
            count = driven.workers.sent[unit_id][0].count
            if chance.random() < 0.1:
                driven.vanish(unit_id)
            elif chance.random() < 0.1:
                driven.call(driven.engine.cancel(chance.choice(jobs)))
            else:
                ending = chance.choice([*WELL, (Ending.RAISED, FAILURE), (Ending.CRASHED, FAILURE)])
                driven.end(unit_id, [ending] * count, chance.choice([0.001, 10.0]))
            driven.pass_by(1.0)  # and what waits for another try gets it
        driven.pass_by(1000.0)
        while driven.workers.sent:
            unit_id, (unit, _, _) = next(iter(driven.workers.sent.items()))
            driven.end(unit_id, WELL * unit.count, 1.0)
            driven.pass_by(1000.0)

        assert all(driven.call(driven.engine.job(job)).is_final for job in jobs)


# ---- a real engine and real processes ------------------------------------------------------

Stay = tuple[str, str, float, float]  #: the GPUs that a call saw, those that a program of its saw, its begin and end


def stay(seconds: float, way: str = "well") -> Stay:
    """Use the GPUs for a while, and end in some *way*."""
    begin = time.monotonic()  # one clock for all processes of a machine
    show = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    told = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    time.sleep(seconds)
    if way == "raise":
        raise ValueError(way)
    if way == "die":
        os.kill(os.getpid(), 9)
    return os.environ.get("CUDA_VISIBLE_DEVICES", ""), told.stdout.strip(), begin, time.monotonic()


def where() -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine whose only worker has three slots, two GPUs and a license."""
    hidden = {"CUDA_VISIBLE_DEVICES": "4,GPU-5f2c"}
    arguments = ("--name", "box", "--slots", "3", "--tags", "gpu.count=2,license")
    db = tmp_path_factory.mktemp("devices") / "work.db"
    with served(db, workers=0) as told, joined(told["url"], *arguments, more=hidden):
        eventually(lambda: [worker.state for worker in dcengine.workers()] == ["ready"])
        yield


def overlapping(stays: list[Stay]) -> list[tuple[Stay, Stay]]:
    """Return those of *stays* that used one GPU at once."""
    return [
        (before, after)
        for gpu in ("4", "GPU-5f2c")
        for before, after in pairwise(
            sorted((one for one in stays if gpu in one[0].split(",")), key=lambda one: one[2])
        )
        if after[2] < before[3]
    ]


@pytest.mark.usefixtures("box")
def test_concurrent_calls_see_different_gpus_and_others_see_all_of_them() -> None:
    one, two = (dcengine.submit(stay, 1.0, devices={"gpu": 1}) for _ in range(2))
    eventually(lambda: dcengine.workers()[0].devices == {"gpu": 2})
    assert "gpu 2/2" in repr(dcengine.workers())
    free = dcengine.submit(stay, 0.0).result(20)
    stays = [one.result(20), two.result(20)]

    assert sorted(each[0] for each in stays) == ["4", "GPU-5f2c"]
    assert all(seen == told for seen, told, *_ in stays)
    assert free[:2] == ("4,GPU-5f2c", "4,GPU-5f2c")
    assert free[3] < min(one[3] for one in stays)  # it did not wait for them
    both = dcengine.submit(stay, 0.0, devices={"gpu": 2}).result(20)
    assert both[:2] == ("4,GPU-5f2c", "4,GPU-5f2c")


@pytest.mark.usefixtures("box")
def test_no_gpu_is_used_by_two_of_many_short_calls_that_end_in_all_ways() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    handles = []
    for _ in range(100):
        way = chance.choice(["well"] * 8 + ["raise", "die"])
        count = {"gpu": chance.choice([1, 1, 1, 2])}
        handles.append(dcengine.submit(stay, chance.random() / 50, way, devices=count, crash_retries=0))
    for handle in handles[::17]:
        handle.cancel()
    eventually(lambda: all(handle.status().is_final for handle in handles))
    ended = [handle for handle in handles if handle.status().state == "succeeded"]
    stays = [handle.result() for handle in ended]

    assert len(stays) > 40
    assert overlapping(stays) == []
    assert all(len(one[0].split(",")) in (1, 2) and one[0] == one[1] for one in stays)
    assert dcengine.workers()[0].devices == {}


@pytest.mark.usefixtures("box")
def test_a_map_with_devices_gives_each_chunk_one_of_them() -> None:
    stays = dcengine.map(stay, [0.02] * 20, devices={"gpu": 1}).results(30)

    assert {one[0] for one in stays} == {"4", "GPU-5f2c"}
    assert overlapping(stays) == []


@pytest.mark.usefixtures("box")
def test_shared_calls_meet_in_the_process_of_their_worker() -> None:
    processes = {dcengine.submit(where, isolate=False).result(20) for _ in range(6)}

    assert len(processes) == 1
    assert dcengine.submit(where).result(20) not in processes


@pytest.mark.usefixtures("box")
def test_a_part_of_the_gpus_is_refused_to_shared_calls_and_all_of_a_kind_is_not() -> None:
    with pytest.raises(dcengine.DevicesShared, match="1 gpu of the 2 of worker box"):
        dcengine.submit(where, devices={"gpu": 1}, isolate=False).result(20)
    assert dcengine.submit(where, devices={"gpu": 2, "license": 1}, isolate=False).result(20)


def test_a_shared_call_that_ends_its_worker_is_told_apart_from_a_crash_of_its_own(tmp_path: Path) -> None:
    def end_once(mark: str) -> str:
        import os

        if os.path.exists(mark):
            return "the second run"
        open(mark, "w").close()
        os._exit(3)

    with dcengine.Engine(tmp_path / "work.db", workers=1):
        handle = dcengine.submit(end_once, str(tmp_path / "mark"), isolate=False)

        assert handle.result(30) == "the second run"
