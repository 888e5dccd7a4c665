"""Outside workers as such: identities that outlive the engine, and what is heard of everybody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dcengine.cluster import ClusterSettings
from dcengine.codec import pack, pack_json
from dcengine.engine import Engine, outsiders
from dcengine.errors import InvalidOption, NotFound
from dcengine.verbs import (
    Completion,
    Heartbeat,
    ItemsSubmission,
    LeaseRequest,
    ProjectSpec,
    Registered,
    Registration,
    StageSpec,
)

DONE = msgspec.Raw(b'"done"')


@asynccontextmanager
async def opened(db: Path) -> AsyncIterator[Engine]:
    engine = Engine(db, ClusterSettings(workers=0, processes=False))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with opened(tmp_path / "x.db") as engine:
        await fill(engine)
        yield engine


async def fill(engine: Engine, project: str = "laion", *, seconds: float = 600.0, n: int = 3) -> None:
    stages = [StageSpec(name=name, kind="lease", lease_seconds=seconds) for name in "ab"]
    await engine.declare_project(ProjectSpec(name=project, stages=stages))
    block = pack([pack_json(f"item {number}", what="an item") for number in range(n)])
    await engine.add_jobs(ItemsSubmission(project=project, blocks=[block], count=n))
    await engine.run_project(project)


async def register(engine: Engine, project: str = "laion", **fields: str) -> Registered:
    return await engine.register_worker(Registration(**{"project": project, "stage": "a", "nickname": "al", **fields}))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async def look() -> None:
        while not await condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), 20)


def content_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("x.db*"))


async def test_a_worker_without_a_name_is_given_one_that_no_other_has(engine: Engine) -> None:
    names = [(await register(engine)).name for _ in range(50)]

    assert len(set(names)) == 50
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name) for name in names)
    with pytest.raises(InvalidOption, match="one that no other worker"):
        await register(engine, name=names[0])


async def test_nobody_leases_under_the_name_of_a_registered_worker(engine: Engine) -> None:
    worker = await register(engine)

    with pytest.raises(InvalidOption, match="given to a worker that has registered"):
        await engine.lease(LeaseRequest(project="laion", stage="a", worker=worker.name, nickname="al"))
    assert (await engine.lease_as(worker.secret))[0].number == 1


async def test_a_secret_is_in_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "x.db") as engine:
        await fill(engine)
        worker = await register(engine)
        await engine.lease_as(worker.secret)

    stored = content_of(tmp_path)
    assert worker.name.encode() in stored
    assert worker.secret.encode() not in stored


async def test_a_registered_worker_goes_on_in_the_next_engine_with_what_it_holds(tmp_path: Path) -> None:
    async with opened(tmp_path / "x.db") as engine:
        await fill(engine)
        worker = await register(engine)
        (task,) = await engine.lease_as(worker.secret)
        await engine.say_progress(worker.secret, "half \ud800")
    async with opened(tmp_path / "x.db") as engine:
        known = await engine.registered_worker(worker.secret)
        (again,) = await engine.held_tasks(worker.secret)
        (answer,) = await engine.complete([Completion(token=known.tokens[0], output=DONE)])

    assert (known.name, known.holding, known.progress, known.nickname) == (worker.name, [1], "half \\ud800", "al")
    assert (again.token, bytes(again.input)) == (task.token, bytes(task.input))
    assert answer.is_accepted


async def test_the_last_word_of_a_worker_is_known_in_the_next_engine(tmp_path: Path) -> None:
    async with opened(tmp_path / "x.db") as engine:
        await fill(engine)
        worker = await register(engine)
        for _ in range(2):
            (task,) = await engine.lease_as(worker.secret)
            await engine.complete([Completion(token=task.token, output=DONE)])
    async with opened(tmp_path / "x.db") as engine:
        known = await engine.registered_worker(worker.secret)
        (answer,) = await engine.complete([Completion(token=known.last_said, output=DONE)])
        board = await engine.leaderboard("laion")

    assert (known.last_said, known.tokens, known.completed) == (task.token, [], 2)
    assert answer.is_accepted
    assert [row.tasks for row in board] == [2]


async def test_what_is_heard_is_written_within_moments(engine: Engine) -> None:
    worker = await register(engine)
    (task,) = await engine.lease_as(worker.secret)
    await engine.complete([Completion(token=task.token, output=DONE)])
    await engine.say_progress(worker.secret, "resting")

    async def is_stored() -> bool:
        (stored,) = await engine._store.reads.registered_workers()
        return (stored.completed, stored.progress) == (1, "resting")

    await until(is_stored)


async def test_a_sign_of_life_while_a_result_is_being_stored_costs_no_credit(engine: Engine) -> None:
    worker = await register(engine)
    [task] = await engine.lease_as(worker.secret)
    apply, is_asked, gate = engine._store.apply, asyncio.Event(), asyncio.Event()

    async def held_up(operation: Any) -> Any:
        is_asked.set()
        await gate.wait()
        return await apply(operation)

    engine._store.apply = lambda operation: asyncio.ensure_future(held_up(operation))  # type: ignore[method-assign]
    storing = asyncio.ensure_future(engine.complete([Completion(token=task.token, output=DONE)]))
    await is_asked.wait()
    await engine.registered_worker(worker.secret)
    gate.set()

    assert [answer.is_accepted for answer in await storing] == [True]
    status = await engine.registered_worker(worker.secret)
    assert (status.completed, status.last_said, status.tokens) == (1, task.token, [])


async def test_workers_without_an_identity_are_known_by_their_leases_and_heartbeats(engine: Engine) -> None:
    wish = LeaseRequest(project="laion", stage="a", worker="pc7", nickname="bob", n=2)
    first, second = await engine.lease(wish)
    await engine.heartbeat([Heartbeat(token=first.token, text="page 3")])
    await engine.complete([Completion(token=second.token, output=DONE)])

    (seen,) = await engine.outside_workers("laion")

    assert (seen.name, seen.stage, seen.nickname, seen.progress) == ("pc7", "a", "bob", "page 3")
    assert (seen.holding, seen.completed, seen.tokens) == ([1], 1, [])
    with pytest.raises(NotFound):
        await engine.outside_workers("nobody")


async def test_the_silent_are_forgotten_and_those_that_speak_are_not(engine: Engine) -> None:
    await fill(engine, "quick", seconds=1.0)
    silent, talking = await register(engine, "quick"), await register(engine, "quick")
    await engine.lease(LeaseRequest(project="quick", stage="a", worker="pc7"))

    async def one_is_left() -> bool:
        await engine.registered_worker(talking.secret)
        return len(await engine.outside_workers("quick")) == 1

    await until(one_is_left)

    with pytest.raises(NotFound, match="register again"):
        await engine.registered_worker(silent.secret)
    assert [each.name for each in await engine.outside_workers("quick")] == [talking.name]


async def test_with_too_many_registered_those_silent_for_longest_have_to_go(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outsiders, "REGISTERED_LIMIT", 5)
    monkeypatch.setattr(outsiders, "MAKE_ROOM", 1)
    holding = await register(engine)
    await engine.lease_as(holding.secret)
    others = [await register(engine) for _ in range(10)]

    names = {each.name for each in await engine.outside_workers("laion")}

    assert len(names) == 5
    assert names == {holding.name, *(other.name for other in others[-4:])}


async def test_who_leaves_gives_back_what_it_holds(engine: Engine) -> None:
    worker = await register(engine)
    await engine.lease_as(worker.secret)

    assert await engine.leave_worker(worker.secret)
    assert not await engine.leave_worker(worker.secret)
    assert not await engine.say_progress(worker.secret, "still here")
    (task,) = await engine.lease_as((await register(engine)).secret)
    assert task.number == 1


async def test_the_workers_of_a_deleted_project_are_forgotten(engine: Engine) -> None:
    await fill(engine, "gone")
    worker = await register(engine, "gone")
    await engine.lease_as(worker.secret)

    await engine.delete_project("gone")

    with pytest.raises(NotFound):
        await engine.registered_worker(worker.secret)
    assert await engine._store.reads.registered_workers() == []
    await fill(engine, "gone")
    assert (await register(engine, "gone", name=worker.name)).name == worker.name
