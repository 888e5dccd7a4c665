"""What a running call is told: from whoever asks for it to the process that runs it, and nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.errors import NotFound, PayloadTooLarge
from dcengine.runner import told
from dcengine.runner.live import SHOW_LIMIT
from dcengine.runner.slot import UNREAD_LIMIT, ChildSlot
from tests.engines import embedded, eventually, served
from tests.integration.slots import Ear, child_slot, endings, mark, results, thread_slot, unit, until


def collect(wanted: int, ready: str) -> list[bytes]:
    """Listen until so many messages were heard."""
    heard: list[bytes] = []
    listening = told.listen(heard.append)
    if ready:
        mark(ready)
    deadline = time.monotonic() + 30
    while len(heard) < wanted and time.monotonic() < deadline:
        time.sleep(0.005)
    if listening is not None:
        listening.close()
    return heard


def hang(ready: str) -> None:
    """Keep the first message for ever."""
    begun = []

    def hear(_: bytes) -> None:
        begun.append(1)
        time.sleep(1000)

    told.listen(hear)
    mark(ready)
    while not begun:
        time.sleep(0.005)


def fail_at(ready: str) -> list[bytes]:
    """Raise at the first message, and hear the second."""
    heard: list[bytes] = []

    def hear(message: bytes) -> None:
        heard.append(message)
        if len(heard) == 1:
            raise SystemExit("no")

    told.listen(hear)
    mark(ready)
    while len(heard) < 2:
        time.sleep(0.005)
    return heard


def nap(ready: str, seconds: float) -> str:
    mark(ready)
    time.sleep(seconds)
    return "woke up"


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def slot(ear: Ear) -> AsyncIterator[ChildSlot]:
    async with child_slot(ear) as subject:
        yield subject


# ---- in one slot ---------------------------------------------------------------------------


async def test_a_call_that_listens_hears_all_in_order(slot: ChildSlot, tmp_path: Path) -> None:
    order = unit(collect, (50, str(tmp_path / "ready")))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)
    messages = [b"%d" % number * 1000 for number in range(50)]

    assert all(slot.tell(order.id, 0, message) for message in messages)
    assert results(await running) == [messages]


async def test_messages_for_other_calls_are_not_heard(slot: ChildSlot, tmp_path: Path) -> None:
    order = unit(collect, (1, str(tmp_path / "ready")))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)

    assert not slot.tell(order.id + 1, 0, b"another unit")
    assert slot.tell(order.id, 1, b"the next call")
    assert slot.tell(order.id, 0, b"this one")
    assert results(await running) == [[b"this one"]]


async def test_what_nobody_listens_for_harms_nobody(slot: ChildSlot, tmp_path: Path) -> None:
    order = unit(nap, (str(tmp_path / "ready"), 0.2))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)
    assert slot.tell(order.id, 0, b"to nobody")
    await running

    assert results(await slot.run(unit(abs, (-1,)))) == [1]


async def test_a_child_that_has_listened_goes_on_to_run_units_and_can_be_interrupted(
    slot: ChildSlot, tmp_path: Path
) -> None:
    await slot.run(unit(collect, (0, "")))
    assert results(await slot.run(unit(abs, (-1,), (-2,)))) == [1, 2]

    order = unit(nap, (str(tmp_path / "ready"), 30.0))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)
    slot.cancel(order.id)
    await asyncio.wait_for(running, 10)

    assert results(await slot.run(unit(abs, (-3,)))) == [3]


async def test_a_listener_that_never_returns_holds_up_nobody(slot: ChildSlot, tmp_path: Path) -> None:
    order = unit(hang, (str(tmp_path / "ready"),))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)
    slot.tell(order.id, 0, b"stay")
    await running

    assert results(await slot.run(unit(abs, (-1,)))) == [1]


async def test_a_listener_that_raises_hears_the_next_message_too(slot: ChildSlot, ear: Ear, tmp_path: Path) -> None:
    order = unit(fail_at, (str(tmp_path / "ready"),))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)
    slot.tell(order.id, 0, b"one")
    slot.tell(order.id, 0, b"two")

    assert results(await running) == [[b"one", b"two"]]
    assert "SystemExit: no" in ear.text("stderr")


async def test_a_child_that_reads_nothing_is_not_told_without_end(slot: ChildSlot, tmp_path: Path) -> None:
    order = unit(nap, (str(tmp_path / "ready"), 1.0))
    running = asyncio.create_task(slot.run(order))
    await until((tmp_path / "ready").exists)
    told_bytes, piece = 0, bytes(16 << 20)
    while slot.tell(order.id, 0, piece):
        told_bytes += len(piece)
        assert told_bytes <= UNREAD_LIMIT + 2 * len(piece)

    assert results(await running) == ["woke up"]
    assert endings(await slot.run(unit(abs, (-1,))))


async def test_a_thread_is_told_nothing() -> None:
    async with thread_slot() as slot:
        order = unit(collect, (0, ""))
        assert results(await slot.run(order)) == [[]]
        assert not slot.tell(order.id, 0, b"x")


# ---- from a handle -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["here", "over HTTP"])
def _engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    db = tmp_path_factory.mktemp("told") / "jobs.db"
    with embedded(db, workers=1) if request.param == "here" else served(db, workers=1):
        yield


@pytest.mark.usefixtures("_engine")
def test_a_handle_tells_its_running_job(tmp_path: Path) -> None:
    job = dcengine.submit(collect, 2, str(tmp_path / "ready"))
    eventually((tmp_path / "ready").exists)

    assert job.tell(b"\x00one")
    assert job.tell(b"two")
    assert job.result(30) == [b"\x00one", b"two"]
    assert not job.tell(b"late")


@pytest.mark.usefixtures("_engine")
def test_an_item_of_a_batch_is_told_alone(tmp_path: Path) -> None:
    batch = dcengine.map(collect, [1, 1], [str(tmp_path / "a"), str(tmp_path / "b")])
    for item, name in enumerate("ab"):
        eventually((tmp_path / name).exists)
        batch[item].tell(name.encode())

    assert batch.results(30) == [[b"a"], [b"b"]]


@pytest.mark.usefixtures("_engine")
def test_who_is_not_there_is_not_told() -> None:
    with pytest.raises(NotFound):
        dcengine.job(10**9).tell(b"x")


@pytest.mark.usefixtures("_engine")
def test_a_message_has_a_limit() -> None:
    job = dcengine.submit(abs, -1)
    with pytest.raises(PayloadTooLarge):
        job.tell(bytes(SHOW_LIMIT + 1))
