"""Clusters inside this process: ``processes=False``."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from dcengine.cluster import WorkerGone
from tests.integration.clusters import cluster, descendants, endings, unit, until


def process_id() -> int:
    return os.getpid()


def wait_at_the_gate() -> None:
    """Tell that it runs, then wait; the function travels by value, so both sides meet in a module."""
    gate: Any = sys.modules["gate_of_the_test"]
    gate.reached.set()
    gate.opened.wait(20)


async def test_everything_runs_in_this_process_and_nothing_is_started() -> None:
    before = descendants()
    async with cluster(workers=2, worker_tags=["cpu", "gpu"], processes=False) as watched:
        await watched.slots(2)

        assert await watched.run(process_id, on=watched.slot("w2")) == os.getpid()
        assert "gpu" in watched.cluster.workers["w2"].tags
        assert descendants() == before


async def test_a_second_cluster_in_one_process_starts_in_under_a_second() -> None:
    async with cluster(workers=1, processes=False) as first:
        await first.slots(1)
        async with cluster(workers=2, processes=False) as second:
            await second.slots(2, seconds=1)

            assert await second.run(process_id, on=second.slot("w1")) == os.getpid()


async def test_a_waiting_unit_can_be_recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    gate: Any = SimpleNamespace(reached=threading.Event(), opened=threading.Event())
    monkeypatch.setitem(sys.modules, "gate_of_the_test", gate)
    async with cluster(workers=1, processes=False) as watched:
        (slot,) = await watched.slots(1)
        running = asyncio.create_task(watched.cluster.run(unit(wait_at_the_gate, ()), slot))
        await until(gate.reached.is_set)
        order = unit(process_id, ())
        waiting = asyncio.create_task(watched.cluster.run(order, slot))

        assert await watched.cluster.recall(order.id, slot)
        assert endings(await waiting) == ["NOT_RUN"]
        gate.opened.set()
        assert endings(await running) == ["SUCCEEDED"]


async def test_after_closing_there_is_nothing_to_run_on() -> None:
    async with cluster(workers=1, processes=False) as watched:
        (slot,) = await watched.slots(1)

    assert watched.cluster.slots == []
    with pytest.raises(WorkerGone, match="w1"):
        await watched.cluster.run(unit(process_id, ()), slot)


def test_a_cluster_lives_in_a_loop_that_is_not_of_the_main_thread() -> None:
    answers: list[int] = []

    async def use() -> None:
        async with cluster(workers=1) as watched:
            (slot,) = await watched.slots(1)
            answers.append(await watched.run(process_id, on=slot))

    thread = threading.Thread(target=asyncio.run, args=(use(),))
    thread.start()
    thread.join(30)

    assert len(answers) == 1
    assert answers[0] != os.getpid()
