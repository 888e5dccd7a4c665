"""Values between the engine, its place for them and workers: near ones, far ones, and such as end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

import dcengine
from dcengine import codec
from dcengine.cluster import Cluster, ClusterSettings
from dcengine.cluster.carrier import Located
from dcengine.errors import ValueGone
from dcengine.references import key_of_input, key_of_value
from dcengine.runner.units import Unit
from tests.engines import children_with, embedded, eventually, served
from tests.integration.clusters import Watched, results, unit, until

LARGE = 300_000  #: numbers: 2.4 MB


def numbers(start: float = 0.0) -> Any:
    return np.arange(start, start + LARGE)


def echo(value: Any) -> Any:
    return value


def total(values: Any) -> float:
    return float(np.sum(values))


def wait_and_total(values: Any, path: str) -> float:
    while not Path(path).exists():
        time.sleep(0.01)
    return total(values)


# ---- between engine and worker -------------------------------------------------------------


class Shelved:
    """Values in memory, for workers that do not see the engine's disk."""

    home, folder = "test", None

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.values: dict[bytes, bytes] = {}
        self.located: Counter[bytes] = Counter()

    def add(self, value: Any, number: int = 0) -> bytes:
        key = key_of_value(bytes([number]) * 32)
        self.values[key] = codec.dumps(value)
        return key

    async def locate(self, key: bytes) -> Located:
        self.located[key] += 1
        if key not in self.values:
            raise ValueGone(key.hex())
        data = self.values[key]

        async def read(at: int, size: int) -> bytes:
            return data[at : at + size]

        return Located(len(data), read)


class Far(Watched):
    """A cluster whose workers get values over the network."""

    def __init__(self, source: Shelved) -> None:
        super().__init__(ClusterSettings(workers=1))
        self.cluster = Cluster(
            ClusterSettings(workers=1), engine_id="far", on_change=self._count_change, on_live=self.live.append,
            values=source,
        )  # fmt: skip


def referring(*keys: bytes) -> Unit:
    """Return a unit with a call of `total` for each of the values of *keys*."""
    items = codec.pack([codec.standing_for(key, []) for key in keys])
    return msgspec.structs.replace(
        unit(total, *[()] * len(keys)), items=items, takes="value", values=list(dict.fromkeys(keys))
    )


async def test_a_value_travels_to_a_worker_once_and_again_when_it_was_dropped_there() -> None:
    source = Shelved(limit=15 << 20)
    large, others = source.add(np.arange(1_500_000.0)), [source.add(numbers(float(n)), n) for n in range(1, 4)]
    far = Far(source)
    await far.cluster.start()
    try:
        (slot,) = await far.slots(1)
        expected = total(np.arange(1_500_000.0))
        for _ in range(3):
            assert results(await far.cluster.run(referring(large, large), slot)) == [expected] * 2
        assert source.located == {large: 1}

        assert results(await far.cluster.run(referring(*others), slot)) == [total(numbers(float(n))) for n in (1, 2, 3)]
        assert results(await far.cluster.run(referring(large), slot)) == [expected]
        assert source.located[large] == 2
    finally:
        await far.cluster.close()


async def test_a_value_that_cannot_be_had_fails_the_calls_that_refer_to_it_and_no_others() -> None:
    source = Shelved()
    there, lost = source.add([1, 2]), key_of_input(b"l" * 32)
    far = Far(source)
    await far.cluster.start()
    try:
        (slot,) = await far.slots(1)
        report = await far.cluster.run(referring(there, lost, there), slot)

        values = codec.unpack(report.values)
        assert [codec.loads(values[0]), codec.loads(values[2])] == [3.0, 3.0]
        assert codec.unpack_failure(values[1]).kind == "ValueGone"
        assert codec.unpack_failure(values[1]).traceback == ""  # the message says it all
    finally:
        await far.cluster.close()


# ---- with an engine ------------------------------------------------------------------------


def test_a_worker_on_the_same_disk_is_sent_no_large_value(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1) as engine:
        reference = engine.put(numbers())
        handle = engine.submit(total, reference)
        assert handle.result(30) == total(numbers())

        carrier = engine._engine._cluster.carrier(engine.workers()[0].name)
        assert carrier is not None
        assert carrier._is_near


def test_where_values_lie_elsewhere_than_in_a_folder_all_of_it_works_too(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1, blobs="memory://values") as engine:
        array = numbers()
        reference = engine.put(array)

        assert engine.submit(total, reference).result(30) == total(array)
        assert engine.submit(total, array).result(30) == total(array)
        assert (engine.submit(numbers, 1.0).result(30) == numbers(1.0)).all()
        assert (reference.result() == array).all()
        assert (engine.submit(numbers, 2.0, keep="remote").result(30) == numbers(2.0)).all()


def test_a_result_whose_worker_was_killed_is_lost_and_says_so(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1) as engine:
        handle = engine.submit(numbers, keep="remote")
        batch = engine.map(numbers, [1.0, 2.0], keep="remote")
        batch.wait(30)
        kept = engine.submit(numbers, 3.0)
        assert handle.result(30)[0] == 0.0
        assert kept.result(30)[0] == 3.0
        (worker,) = [pid for name, pid in engine._engine._cluster.pids.items() if name != "scheduler"]
        psutil.Process(worker).kill()

        with pytest.raises(dcengine.ResultLost, match='keep="remote"'):
            eventually(lambda: engine.job(handle.id).result() is None)
        assert engine.job(kept.id).result()[0] == 3.0
        with pytest.raises(dcengine.ResultLost):
            engine.submit(total, engine.job(handle.id)).result(60)
        with pytest.raises(dcengine.ResultLost):
            engine.batch(batch.id).results(30)


def test_values_that_were_put_are_there_for_the_next_engine_on_the_file(tmp_path: Path) -> None:
    db, go = tmp_path / "work.db", tmp_path / "go"
    with embedded(db, workers=1, processes=False) as engine:
        reference = engine.put(numbers())
        handle = engine.submit(wait_and_total, reference, str(go))
        go.touch()
        handle.result(30)
        waiting = engine.submit(total, reference, not_before="+1h")
    with embedded(db, workers=1, processes=False) as engine:
        again = engine.reference(reference.digest)

        assert (again.result() == numbers()).all()
        assert engine.submit(total, again).result(30) == total(numbers())
        assert engine.job(waiting.id).cancel()


def test_vacuum_keeps_what_was_put_and_removes_what_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine.engine.upkeep.IDLE_SECONDS", 0.0)
    with embedded(tmp_path / "work.db", workers=1, processes=False) as engine:
        kept, deleted = engine.put(numbers()), engine.put(numbers(1.0))
        deleted.delete()
        done = engine._link.call("vacuum")

        assert done.blobs == 1
        assert done.blob_bytes == deleted.size
        assert engine.submit(total, kept).result(30) == total(numbers())


def test_a_large_result_leaves_nothing_behind_but_itself(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1) as engine:
        engine.submit(numbers).result(30)
        engine.submit(total, numbers(1.0)).result(30)
        files = [path for path in (tmp_path / "work.db.blobs").rglob("*") if path.is_file()]

        assert len(files) == 2
        assert not [path for path in files if path.parent.name == "unfinished"]


async def test_two_units_that_need_a_value_at_once_bring_it_once() -> None:
    source = Shelved()
    key = source.add(numbers())
    far = Far(source)
    await far.cluster.start()
    try:
        (slot,) = await far.slots(1)
        runs = [far.cluster.run(referring(key), slot) for _ in range(3)]
        reports = await asyncio.gather(*runs)

        assert [results(report) for report in reports] == [[total(numbers())]] * 3
        assert source.located == {key: 1}
        await until(lambda: slot.in_flight == 0)
    finally:
        await far.cluster.close()


def test_an_engine_asked_over_http_keeps_nothing_of_large_values_in_memory(tmp_path: Path) -> None:
    array = np.arange(10_000_000.0)  # 80 MB
    with served(tmp_path / "work.db", workers=1):
        assert dcengine.submit(total, 1).result(30) == 1.0
        (engine,) = children_with("serve")
        before = engine.memory_full_info().uss
        for number in range(2):
            array[0] = number
            assert dcengine.submit(echo, array).result(60)[0] == number

        assert engine.memory_full_info().uss - before < array.nbytes // 2
