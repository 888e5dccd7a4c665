"""Clusters that somebody else started: a plain Dask scheduler and plain Dask workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from dcengine import __version__
from dcengine.cluster import Slot, WorkerGone
from dcengine.errors import SchedulerUnreachable
from tests.integration.clusters import Watched, cluster, endings, is_running, results, unit, until, written
from tests.integration.foreign import WITH_OLD_DCENGINE, WITHOUT_DCENGINE, foreign_dask


def add_one(number: int) -> int:
    return number + 1


def wait_for(path: str, seconds: float) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)


async def workers(watched: Watched, count: int) -> None:
    await until(lambda: len(watched.cluster.workers) == count)


async def test_pilots_take_half_the_slots_when_they_are_wanted(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("alpha", "--nthreads", "4", DCENGINE_TAGS="gpu,site=lab", DCENGINE_NICKNAME="alice")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 1)
            worker = watched.cluster.workers["alpha"]
            assert (worker.tags["site"], worker.contributor, worker.slots) == ("lab", "alice", 4)
            assert watched.cluster.settled
            assert watched.cluster.slots == []

            watched.cluster.want(lambda worker: "tpu" in worker.tags)
            watched.cluster.want(lambda worker: "gpu" in worker.tags)
            watched.cluster.want(lambda worker: "gpu" in worker.tags)
            slots = await watched.slots(2)

            assert await watched.run(add_one, 1, on=slots[0]) == 2
            assert watched.cluster._members[worker.address].pilots.keys() == {0, 1}


async def test_names_of_dask_resources_are_tags(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("alpha", "--nthreads", "1", "--resources", "vaapi=1")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 1)

            assert watched.cluster.workers["alpha"].tags["vaapi"] is None


async def test_a_shared_unit_runs_in_the_process_of_somebody_elses_worker_and_others_do_not(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        process = await dask.start_worker("alpha", "--nthreads", "1")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 1)
            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)

            assert results(await watched.cluster.run(unit(os.getpid, (), is_shared=True), slot)) == [process.pid]
            assert await watched.run(os.getpid, on=slot) != process.pid


async def test_a_nannied_worker_runs_units_and_a_pilot_without_work_yields(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("alpha", "--nthreads", "1", nanny=True)
        async with cluster(scheduler=dask.address, pilot_idle=0.5) as watched:
            await workers(watched, 1)
            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)
            assert await watched.run(add_one, 1, on=slot) == 2

            await watched.slots(0)
            with pytest.raises(WorkerGone):
                await watched.run(add_one, 1, on=slot)

            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)
            assert await watched.run(add_one, 2, on=slot) == 3


async def test_a_unit_for_a_slot_that_has_just_been_given_back_comes_back_as_not_run(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("alpha", "--nthreads", "1")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 1)
            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)
            home = watched.cluster._homes[slot]

            report = await home.run(unit(add_one, (1,)), Slot(slot.worker, slot.number + 1))

            assert endings(report) == ["NOT_RUN"]


async def test_workers_that_cannot_run_our_tasks_are_reported_with_the_way_out(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("none", preamble=WITHOUT_DCENGINE)
        await dask.start_worker("old", preamble=WITH_OLD_DCENGINE)
        await dask.start_worker("mistaken", DCENGINE_TAGS="gpu,,=")
        await dask.start_worker("good")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 4)
            unfit = {name: worker.unfit or "" for name, worker in watched.cluster.workers.items()}

            assert "cannot import dcengine" in unfit["none"]
            assert f"pip install dcengine=={__version__}" in unfit["none"]
            assert f"has dcengine 0.0.1, the engine has {__version__}" in unfit["old"]
            assert f"pip install dcengine=={__version__}" in unfit["old"]
            assert "its tags do not parse" in unfit["mistaken"]
            assert unfit["good"] == ""
            watched.cluster.want(lambda worker: True)
            await until(lambda: watched.cluster.slots)
            assert {slot.worker.name for slot in watched.cluster.slots} == {"good"}


async def test_a_worker_that_leaves_takes_its_slots_along(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        alpha = await dask.start_worker("alpha", "--nthreads", "1")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 1)
            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)
            running = asyncio.create_task(watched.cluster.run(unit(wait_for, (str(tmp_path / "pid"), 60)), slot))
            child = int(await written(tmp_path / "pid"))

            alpha.send_signal(signal.SIGTERM)
            await asyncio.wait([running], timeout=10)

            assert running.done()
            await workers(watched, 0)
            assert watched.cluster.slots == []
            await until(lambda: not psutil.pid_exists(child), seconds=5)


async def test_closing_gives_the_workers_back_as_they_were(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        alpha = await dask.start_worker("alpha", "--nthreads", "2")
        async with cluster(scheduler=dask.address, share=1.0) as watched:
            await workers(watched, 1)
            watched.cluster.want(lambda worker: True)
            slots = await watched.slots(2)
            running = asyncio.create_task(watched.cluster.run(unit(wait_for, (str(tmp_path / "pid"), 60)), slots[0]))
            child = int(await written(tmp_path / "pid"))
            assert psutil.Process(alpha.pid).children(recursive=True)
        await asyncio.wait([running], timeout=1)

        assert alpha.returncode is None
        await until(lambda: not psutil.pid_exists(child))
        await until(lambda: not psutil.Process(alpha.pid).children(recursive=True))
        async with cluster(scheduler=dask.address) as again:
            await workers(again, 1)
            again.cluster.want(lambda worker: True)
            (slot,) = await again.slots(1)
            assert await again.run(add_one, 1, on=slot) == 2


async def test_two_engines_share_a_worker(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("alpha", "--nthreads", "2")
        async with cluster(scheduler=dask.address) as one, cluster(scheduler=dask.address) as other:
            for watched in (one, other):
                await workers(watched, 1)
                watched.cluster.want(lambda worker: True)
            (first,), (second,) = await one.slots(1), await other.slots(1)

            results = await asyncio.gather(one.run(add_one, 1, on=first), other.run(add_one, 2, on=second))
            assert list(results) == [2, 3]
            await one.cluster.close()
            assert await other.run(add_one, 3, on=second) == 4


ENGINE = """
import asyncio, sys
from tests.integration.clusters import cluster, unit, until
from tests.integration.test_cluster_foreign import wait_for

async def main(address, path):
    async with cluster(scheduler=address) as watched:
        await until(lambda: watched.cluster.workers)
        watched.cluster.want(lambda worker: True)
        await watched.slots(1)
        await watched.cluster.run(unit(wait_for, (path, 60)), watched.cluster.slots[0])

asyncio.run(main(*sys.argv[1:]))
"""


async def test_when_the_engine_is_killed_its_pilots_end(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        alpha = await dask.start_worker("alpha", "--nthreads", "1")
        path = tmp_path / "pid"
        root = Path(__file__).parents[2]
        engine = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ENGINE, dask.address, str(path)), cwd=root
        )
        try:
            child = psutil.Process(int(await written(path)))
        finally:
            engine.kill()
            await engine.wait()

        await until(lambda: not is_running(child))
        await until(lambda: not psutil.Process(alpha.pid).children(recursive=True))


async def test_a_scheduler_that_goes_away_and_comes_back_is_joined_again(tmp_path: Path) -> None:
    async with foreign_dask(tmp_path) as dask:
        await dask.start_worker("alpha", "--nthreads", "1")
        async with cluster(scheduler=dask.address) as watched:
            await workers(watched, 1)
            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)
            running = asyncio.create_task(watched.cluster.run(unit(wait_for, (str(tmp_path / "pid"), 60)), slot))
            await written(tmp_path / "pid")

            dask.scheduler.kill()
            await dask.scheduler.wait()
            await asyncio.wait([running], timeout=10)
            assert running.done()
            assert isinstance(running.exception(), WorkerGone)
            await workers(watched, 0)

            await dask.start_scheduler(port=int(dask.address.rpartition(":")[2]))
            await dask.start_worker("beta", "--nthreads", "1")
            await until(lambda: "beta" in watched.cluster.workers)
            watched.cluster.want(lambda worker: True)
            (slot,) = await watched.slots(1)
            assert await watched.run(add_one, 1, on=slot) == 2


async def test_no_scheduler_at_the_address_is_a_clear_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    with pytest.raises(SchedulerUnreachable, match=address):
        async with cluster(scheduler=address):
            pass


async def test_an_address_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(SchedulerUnreachable, match="nonsense"):
        async with cluster(scheduler="nonsense"):
            pass
