"""Values kept for a set time: they go when it is over, and never before somebody who may still read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcengine.codec import pack, pack_function, unpack
from dcengine.events import Kind
from dcengine.jobs import Chunk, State, Task
from dcengine.store import Store, now
from dcengine.store.batching import AcceptChunk, AddStray
from dcengine.store.expiring import Expired, ExpireValues
from dcengine.store.reads import StoredEnd
from dcengine.store.reopening import RetryJobs
from dcengine.store.saying import AddOutput
from dcengine.store.submitting import AddBatch
from dcengine.verbs import BatchSubmission, Options
from tests.unit.pipelines import Pipeline, a_stage, change, rows

SECOND = 1_000_000
DAY = 86_400 * SECOND


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()


async def expire(store: Store, seconds: float, limit: int = 100) -> list[int]:
    """Remove what is due so many seconds from now; return the jobs whose values went."""
    at, jobs = now() + int(seconds * SECOND), list[int]()
    while True:
        expired: Expired = await store.apply(ExpireValues(at, limit))
        jobs += expired.jobs
        if expired.is_all:
            return jobs


async def value_of(data: bytes) -> bytes:
    return data


def values(store: Store) -> list[tuple[int, bytes, bytes | None]]:
    return rows(store, "SELECT task.job, input, output FROM payload JOIN task ON task.id = payload.task ORDER BY task")


async def test_all_values_of_a_job_go_when_its_time_is_over(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"), a_stage("second"))
    job = (await photos.add(b"in", keep=60)).first_id
    other = (await photos.add(b"kept")).first_id
    await photos.run("first", 2)
    await photos.run("second", 2)
    await store.apply(AddOutput([(job, 1, "stdout", "hello"), (other, 1, "stdout", "hello")]))

    assert await expire(store, 50) == []
    assert await store.reads.end(job) == StoredEnd("succeeded", b"out")
    assert await expire(store, 70) == [job]

    assert await store.reads.end(job) == StoredEnd("succeeded", None)
    assert (await store.reads.job(job)).state == "succeeded"
    assert [(row[1], row[2]) for row in values(store) if row[0] == job] == [(b"", None), (b"", None)]
    assert await store.reads.end(other) == StoredEnd("succeeded", b"out")
    assert (await store.reads.output(job), await store.reads.output(other)) == ("", "hello")
    assert rows(store, "SELECT job, units FROM event WHERE kind = ?", int(Kind.EXPIRED)) == [(job, 1)]
    assert await expire(store, 10**6) == []


async def test_an_open_job_keeps_its_values(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"), a_stage("second"))
    await photos.add(b"in", keep=60)
    await photos.run("first")

    assert await expire(store, 10**6) == []
    assert [output for _, _, output in values(store)] == [b"out", None]


async def test_a_failed_job_expires_too_unless_it_is_tried_again(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"))
    await photos.add(b"a", b"b", keep=60)
    for task in await photos.lease("first", 2):
        await photos.fail(task, "no luck")

    await store.apply(RetryJobs([1], now()))

    assert await expire(store, 70) == [2]
    assert await store.reads.end(1) is None
    assert await store.reads.end(2) == StoredEnd("failed", None)
    assert [entry.input for entry in await store.reads.history(1, value_of)] == [b"a"]


async def test_parts_wait_for_the_job_whose_parts_they_are(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("split", "expand"), a_stage("do"), a_stage("join", "gather"))
    whole = (await photos.add(b"in", keep=60)).first_id
    await photos.run("split", output=pack([b"x", b"y"]))
    await photos.run("do", 2)

    assert await expire(store, 70) == []
    (task,) = await photos.lease("join")
    assert await store.reads.part_outputs(task.id) == [b"out", b"out"]
    await photos.succeed(task, b"joined")

    assert await expire(store, 55) == []
    assert sorted(await expire(store, 200)) == [whole, 2, 3]
    assert {row[1:] for row in values(store)} == {(b"", None)}


async def test_parts_stay_until_the_job_whose_parts_they_are_expires(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("do"), a_stage("join", "gather"))
    root = (await photos.add(b"x", b"y", keep=60)).root
    await photos.run("do", 2)
    (task,) = await photos.lease("join")
    await photos.fail(task, "no luck")
    change(store, f"UPDATE job SET expires = expires - {50 * SECOND} WHERE parent IS NOT NULL")

    assert await expire(store, 30) == []
    await store.apply(RetryJobs([root or 0], now()))
    (task,) = await photos.lease("join")
    assert await store.reads.part_outputs(task.id) == [b"out", b"out"]
    await photos.succeed(task)

    assert sorted(await expire(store, 200)) == [1, 2, 3]


async def test_parts_that_nothing_waits_for_go_by_their_own_time(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("split", "expand"), a_stage("do"))
    await photos.add(b"in", keep=60)
    await photos.run("split", output=pack([b"x", b"y"]))
    await photos.run("do", 1)

    assert sorted(await expire(store, 70)) == [1, 2]
    assert await store.reads.end(3) is None


async def test_what_is_due_goes_in_slices(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"))
    await photos.add(*[b"in"] * 25, keep=60)
    await photos.run("first", 25)

    first: Expired = await store.apply(ExpireValues(now() + DAY, 10))

    assert (len(first.jobs), first.is_all) == (10, False)
    assert len(await expire(store, 86_400, 10)) == 15


# ---- batches -------------------------------------------------------------------------------


async def a_batch(store: Store) -> int:
    """Store a batch of six items and run all but the third; return the first job's id."""
    blocks = [pack([b"0", b"1", b"2", b"3"]), pack([b"4", b"5"])]
    options = Options(keep=60)
    submission = BatchSubmission(function=pack_function(len), blocks=blocks, count=6, options=options, submitter="me")
    first = int((await store.apply(AddBatch(1, 1, submission, [4, 2], now()))).number)
    for start, count in ((0, 2), (3, 3)):
        chunk = Chunk(batch=1, first=start, count=count, first_job=first + start)
        await store.apply(AcceptChunk(1, chunk, pack([b"out"] * count), "w1", "alice", now()))
    await store.apply(AddOutput([(first + n, 1, "stdout", "hello") for n in range(6)]))
    return first


async def fail_the_third(store: Store, first: int) -> None:
    task = Task(id=first + 2, job=first + 2, stage=1, batch=1, attempt=1, state=State.FAILED, input=b"2")
    await store.apply(AddStray(task, 2, Kind.FAILED, now(), "w1", output=b"failure", reason="ValueError: odd"))


@pytest.mark.parametrize("limit", [1, 100])
async def test_the_values_of_a_batch_go_with_those_of_its_items(store: Store, limit: int) -> None:
    first = await a_batch(store)
    assert await expire(store, 10**6) == []  # it is open
    await fail_the_third(store, first)

    assert await expire(store, 50, limit) == []
    assert unpack((await store.reads.reports(1, after=0))[0].data) == [b"out", b"out"]
    await expire(store, 70, limit)

    assert rows(store, "SELECT count(*) FROM block") == [(0,)]
    assert rows(store, "SELECT DISTINCT data FROM chunk") == [(b"",)]
    assert values(store) == [(first + 2, b"", None)]
    assert rows(store, "SELECT count(*) FROM output") == [(0,)]
    assert rows(store, "SELECT batch, units FROM event WHERE kind = ?", int(Kind.EXPIRED)) == [(1, 6)]
    assert (await store.reads.batch(1)).succeeded == 5
    assert [entry.input for entry in await store.reads.history(first, value_of)] == [b""]
    assert [entry.output for entry in await store.reads.history(first, value_of)] == [b""]
