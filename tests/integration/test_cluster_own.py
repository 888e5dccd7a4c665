"""Clusters that we start ourselves: scheduler and workers as child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from distributed import Client
from tornado.iostream import IOStream

from dcengine.cluster import Cluster, ClusterGone, ClusterSettings, WorkerGone
from dcengine.cluster.link import Link
from dcengine.errors import ClusterFailed, InvalidTags
from tests.integration.clusters import cluster, descendants, endings, is_running, results, unit, until, written


def add_one(number: int) -> int:
    return number + 1


def process_id() -> int:
    return os.getpid()


def parent_id() -> int:
    return os.getppid()


def say_and_wait(path: str, seconds: float) -> str:
    """Write this process's id to *path*, sleep, return "slept"."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def count_aloud(count: int) -> None:
    for number in range(count):
        print(number, flush=True)


async def test_closing_leaves_no_process() -> None:
    before = descendants()
    async with cluster(workers=2) as watched:
        await watched.slots(2)
        started = descendants() - before
        begun = time.monotonic()
    took = time.monotonic() - begun

    assert len(started) >= 4  # the launcher, the scheduler, two workers
    assert not [process for process in started if is_running(process)]
    assert took < 3


async def test_closing_ends_a_unit_that_runs_and_says_that_its_worker_is_gone(tmp_path: Path) -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        running = asyncio.create_task(watched.cluster.run(unit(say_and_wait, (str(tmp_path / "pid"), 60)), slot))
        child = int(await written(tmp_path / "pid"))

    await asyncio.wait([running], timeout=1)
    assert running.done()
    assert not psutil.pid_exists(child)
    if error := running.exception():
        assert isinstance(error, WorkerGone)
    else:
        assert "SUCCEEDED" not in endings(running.result())


async def test_workers_have_the_tags_they_were_given_and_those_of_the_machine() -> None:
    async with cluster(workers=2, worker_tags=["cpu", "gpu,site=lab,nickname=alice"]) as watched:
        await watched.slots(2)
        first, second = (watched.cluster.workers[name] for name in ("w1", "w2"))

        assert "cpu" in first.tags
        assert "gpu" not in first.tags
        assert (second.tags["gpu"], second.tags["site"], second.contributor) == (None, "lab", "alice")
        assert "nickname" not in second.tags
        assert "@" in first.contributor
        assert first.tags["os"] == sys.platform
        assert watched.cluster.settled


async def test_tags_are_cycled_when_there_are_fewer_than_workers() -> None:
    async with cluster(workers=3, worker_tags=["a", "b"]) as watched:
        await watched.slots(3)

        assert [sorted({"a", "b"} & watched.cluster.workers[name].tags.keys()) for name in ("w1", "w2", "w3")] == [
            ["a"], ["b"], ["a"],
        ]  # fmt: skip


def test_tags_that_do_not_parse_are_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidTags):
        Cluster(
            ClusterSettings(workers=1, worker_tags=["gpu,,="]),
            engine_id="e",
            on_change=lambda: None,
            on_live=lambda live: None,
        )


async def test_a_unit_runs_on_the_slot_it_was_sent_to() -> None:
    async with cluster(workers=2) as watched:
        await watched.slots(2)
        first, second = watched.slot("w1"), watched.slot("w2")

        ids = [await watched.run(process_id, on=slot) for slot in (first, second, first, second)]

        assert ids[0] == ids[2] != ids[1] == ids[3]
        assert (await watched.cluster.run(unit(add_one, (1,), (2,)), first)).endings == bytes(2)
        assert (first.in_flight, second.in_flight) == (0, 0)


async def test_the_code_of_a_function_travels_once_and_again_when_the_worker_has_forgotten_it() -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        first = unit(add_one, (1,))
        assert results(await watched.cluster.run(first, slot)) == [2]

        # the digest of another function is what the worker does not know
        unknown = unit(process_id, ())
        watched.cluster._homes[slot]._codes.add(unknown.function)
        assert isinstance(results(await watched.cluster.run(unknown, slot))[0], int)


async def test_units_of_one_slot_run_one_after_the_other(tmp_path: Path) -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        log = tmp_path / "log"

        def note(number: int) -> None:
            with log.open("a") as file:
                file.write(f"begin {number}\n")
                time.sleep(0.02)
                file.write(f"end {number}\n")

        await asyncio.gather(*(watched.cluster.run(unit(note, (number,)), slot) for number in range(4)))

        lines = log.read_text().splitlines()
        numbers = [line.split()[1] for line in lines[::2]]
        assert sorted(numbers) == ["0", "1", "2", "3"]
        assert lines == [f"{what} {number}" for number in numbers for what in ("begin", "end")]


async def test_live_messages_arrive_in_order() -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        report = await watched.cluster.run(unit(count_aloud, (2000,)), slot)
        await until(lambda: len(watched.live) >= report.lines)

        assert [live.number for live in watched.live] == list(range(1, report.lines + 1))
        assert b"".join(live.data for live in watched.live).split() == [str(n).encode() for n in range(2000)]


async def test_a_waiting_unit_can_be_recalled_and_a_running_one_cannot(tmp_path: Path) -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        first, second = unit(say_and_wait, (str(tmp_path / "pid"), 60)), unit(add_one, (1,), (2,))
        running = asyncio.create_task(watched.cluster.run(first, slot))
        await written(tmp_path / "pid")
        waiting = asyncio.create_task(watched.cluster.run(second, slot))

        assert not await watched.cluster.recall(first.id, slot)
        assert await watched.cluster.recall(second.id, slot)
        assert endings(await waiting) == ["NOT_RUN", "NOT_RUN"]
        assert not running.done()

        await watched.cluster.cancel(first.id, slot)
        assert endings(await running) == ["INTERRUPTED"]
        assert await watched.run(add_one, 1, on=slot) == 2


async def test_a_recall_that_overtakes_its_unit_still_counts() -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        order = unit(add_one, (1,))

        assert await watched.cluster.recall(order.id, slot)
        assert endings(await watched.cluster.run(order, slot)) == ["NOT_RUN"]


async def test_a_finished_unit_cannot_be_recalled() -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        order = unit(add_one, (1,))
        await watched.cluster.run(order, slot)

        assert not await watched.cluster.recall(order.id, slot)


async def test_a_killed_worker_loses_its_units_at_once_and_comes_back(tmp_path: Path) -> None:
    async with cluster(workers=2) as watched:
        await watched.slots(2)
        slot, other = watched.slot("w1"), watched.slot("w2")
        running = asyncio.create_task(watched.cluster.run(unit(say_and_wait, (str(tmp_path / "pid"), 60)), slot))
        child = int(await written(tmp_path / "pid"))
        killed = watched.cluster.pids["w1"]

        os.kill(killed, signal.SIGKILL)
        with pytest.raises(WorkerGone, match="w1") as gone:
            await asyncio.wait_for(running, 2)
        assert gone.type is WorkerGone  # alone, not with its cluster
        assert slot not in watched.cluster.slots
        with pytest.raises(WorkerGone):
            await watched.cluster.run(unit(add_one, (1,)), slot)
        assert await watched.run(add_one, 1, on=other) == 2

        await watched.slots(2)
        assert await watched.run(add_one, 2, on=watched.slot("w1")) == 3
        assert watched.cluster.pids["w1"] != killed
        await until(lambda: not psutil.pid_exists(child), seconds=3)


async def test_a_worker_that_is_started_again_keeps_the_tags_it_was_given() -> None:
    async with cluster(workers=1, worker_tags=["cpu"]) as watched:
        await watched.slots(1)
        await watched.cluster.tag("w1", "site=moon")
        killed = watched.cluster.pids["w1"]

        os.kill(killed, signal.SIGKILL)
        await until(lambda: watched.cluster.pids["w1"] != killed and watched.cluster.slots)

        offered = watched.cluster.slots[0].worker.tags
        assert offered["site"] == "moon"
        assert "cpu" not in offered


@pytest.mark.parametrize("victim", ["launcher", "scheduler"])
async def test_a_killed_launcher_or_scheduler_is_replaced(victim: str, tmp_path: Path) -> None:
    before = descendants()
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        started = descendants() - before
        running = asyncio.create_task(watched.cluster.run(unit(say_and_wait, (str(tmp_path / "pid"), 60)), slot))
        await written(tmp_path / "pid")
        scheduler = psutil.Process(watched.cluster.pids["scheduler"])
        folder = watched.cluster._crew._launched.directory  # type: ignore[union-attr]

        (scheduler if victim == "scheduler" else scheduler.parent()).kill()  # type: ignore[union-attr]
        with pytest.raises(ClusterGone, match="the cluster of worker w1 was lost"):
            await asyncio.wait_for(running, 5)

        await until(lambda: watched.cluster.slots and watched.cluster.slots[0] is not slot)
        assert await watched.run(add_one, 1, on=watched.cluster.slots[0]) == 2
        await until(lambda: not [process for process in started if is_running(process)], seconds=3)
        assert folder
        await until(lambda: not Path(folder).exists(), seconds=3)


async def test_a_lost_cluster_is_replaced_though_dasks_client_fails_on_its_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = asyncio.Event()

    async def fails(client: Client) -> None:  # as it did where a connection was cut in the middle of its handshake
        failed.set()
        raise ValueError("IOStream is not idle; cannot convert to SSL")

    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        monkeypatch.setattr(Client, "_reconnect", fails)
        psutil.Process(watched.cluster.pids["scheduler"]).parent().kill()  # type: ignore[union-attr]

        await asyncio.wait_for(failed.wait(), 10)
        await until(lambda: watched.cluster.slots and watched.cluster.slots[0] is not slot)
        assert await watched.run(add_one, 1, on=watched.cluster.slots[0]) == 2


async def test_who_hangs_up_before_the_handshake_is_gone_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_closed(stream: IOStream, *args: object, **options: object) -> None:
        raise ValueError("IOStream is not idle; cannot convert to SSL")

    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server, cluster(workers=0) as watched:
        monkeypatch.setattr(IOStream, "start_tls", is_closed)
        link = watched.cluster._link
        assert link is not None
        with pytest.raises(ConnectionAbortedError, match="before the handshake"):
            await link.call("tls://{}:{}".format(*server.sockets[0].getsockname()), "ping")


@pytest.mark.parametrize("victim", ["launcher", "scheduler"])
async def test_a_cluster_that_is_killed_while_it_starts_is_started_again(
    victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, killed = Link.connect, list[int]()

    async def kill_first(address: str, **options: object) -> Link:
        if not killed:
            (launcher,) = [one for one in psutil.Process().children() if "cluster.launcher" in " ".join(one.cmdline())]
            target = launcher if victim == "launcher" else launcher.children()[0]
            killed.append(target.pid)
            target.kill()
        return await connect(address, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Link, "connect", kill_first)
    before = descendants()
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        assert await watched.run(add_one, 1, on=slot) == 2

    assert killed
    assert not [process for process in descendants() - before if is_running(process)]


async def test_a_worker_that_stands_still_for_a_while_loses_nothing(tmp_path: Path) -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        running = asyncio.create_task(watched.cluster.run(unit(say_and_wait, (str(tmp_path / "pid"), 0.2)), slot))
        await written(tmp_path / "pid")

        os.kill(watched.cluster.pids["w1"], signal.SIGSTOP)
        done, _ = await asyncio.wait([running], timeout=1)
        assert not done
        os.kill(watched.cluster.pids["w1"], signal.SIGCONT)

        assert results(await running) == ["slept"]


async def test_a_worker_that_stands_still_past_its_lease_is_given_up_and_joins_again(tmp_path: Path) -> None:
    async with cluster(workers=2, lease=1.5) as watched:
        await watched.slots(2)
        slot, other = watched.slot("w1"), watched.slot("w2")
        running = asyncio.create_task(watched.cluster.run(unit(say_and_wait, (str(tmp_path / "pid"), 60)), slot))
        child = int(await written(tmp_path / "pid"))
        stopped = watched.cluster.pids["w1"]

        os.kill(stopped, signal.SIGSTOP)
        try:
            with pytest.raises(WorkerGone, match="w1"):
                await asyncio.wait_for(running, 20)
            assert watched.cluster.slots == [other]
            assert await watched.run(add_one, 1, on=other) == 2
        finally:
            os.kill(stopped, signal.SIGCONT)

        await watched.slots(2)
        assert watched.cluster.pids["w1"] == stopped
        await until(lambda: not psutil.pid_exists(child))
        assert await watched.run(add_one, 2, on=watched.slot("w1")) == 3


def stand_still() -> None:
    time.sleep(1.5)


async def test_an_engine_that_stands_still_itself_gives_no_worker_up() -> None:
    async with cluster(workers=2, lease=0.8) as watched:
        slots = list(await watched.slots(2))
        for _ in range(2):
            stand_still()
            assert await watched.run(add_one, 1, on=slots[0]) == 2

        assert watched.cluster.slots == slots


def add_up(numbers: int) -> int:
    """Keep the interpreter busy, without a look at anything else."""
    return sum(range(numbers))


async def test_workers_that_are_busy_or_have_nothing_to_say_are_not_given_up() -> None:
    async with cluster(workers=2, lease=0.8) as watched:
        slots = list(await watched.slots(2))
        busy = asyncio.create_task(watched.run(add_up, 10**9, on=slots[0]))
        done, _ = await asyncio.wait([member.gone for member in watched.cluster._members.values()], timeout=2.5)
        assert not busy.done()
        busy.cancel()

        assert not done
        assert watched.cluster.slots == slots


async def test_closing_takes_bounded_time_though_a_worker_stands_still() -> None:
    before = descendants()
    async with cluster(workers=2) as watched:
        await watched.slots(2)
        started = descendants() - before
        os.kill(watched.cluster.pids["w1"], signal.SIGSTOP)
        begun = time.monotonic()
    took = time.monotonic() - begun

    assert took < 3
    assert not [process for process in started if is_running(process)]


def leave_a_daemon() -> int:
    """Start a process that has cut all ties to this one."""
    daemon = "(os.setsid(), os.close(1), time.sleep(60))"
    program = f"import os, time; pid = os.fork(); print(pid, flush=True) if pid else {daemon}"
    started = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return int(started.stdout.split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt what its children leave behind")
async def test_what_a_call_leaves_running_ends_with_the_cluster() -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        daemon = psutil.Process(await watched.run(leave_a_daemon, on=slot))
        assert is_running(daemon)

    assert not is_running(daemon)


async def test_large_values_travel_both_ways() -> None:
    async with cluster(workers=1) as watched:
        (slot,) = await watched.slots(1)
        data = os.urandom(1 << 20) * 40

        assert await watched.run(bytes, data, on=slot) == data


ENGINE = """
import asyncio, sys
from tests.integration.clusters import cluster, unit
from tests.integration.test_cluster_own import say_and_wait

async def main(path):
    async with cluster(workers=2) as watched:
        await watched.slots(2)
        await watched.cluster.run(unit(say_and_wait, (path, 60)), watched.cluster.slots[0])

asyncio.run(main(sys.argv[1]))
"""


async def test_when_the_engine_is_killed_its_cluster_ends(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    path = tmp_path / "pid"
    engine = await asyncio.create_subprocess_exec(sys.executable, "-c", ENGINE, str(path), cwd=root)
    try:
        await written(path)
        started = psutil.Process(engine.pid).children(recursive=True)
    finally:
        engine.kill()
        await engine.wait()

    assert len(started) >= 4
    await until(lambda: not [process for process in started if is_running(process)], seconds=3)


async def test_a_host_that_is_not_ours_is_a_clear_error_and_leaves_nothing() -> None:
    before = descendants()

    with pytest.raises(ClusterFailed, match="scheduler"):
        async with cluster(workers=1, host="203.0.113.1"):
            pass
    assert not [process for process in descendants() - before if is_running(process)]


async def test_without_workers_there_is_a_scheduler_that_others_can_join() -> None:
    async with cluster(workers=0) as watched:
        ticket = watched.cluster.ticket()

        assert ticket.scheduler.startswith("tls://127.0.0.1:")
        assert ticket.key
        assert not watched.cluster.settled
