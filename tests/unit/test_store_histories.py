"""The past of a job: every stage in every generation, what went in and out, and what went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcengine.codec import loads, pack, pack_function, unpack_failure
from dcengine.errors import NotFound
from dcengine.events import Kind
from dcengine.jobs import Chunk, State, Task
from dcengine.store import Store, now
from dcengine.store.batching import AcceptChunk, AddStray
from dcengine.store.submitting import AddBatch
from dcengine.verbs import BatchSubmission, Flag, HistoryEntry
from tests.unit.pipelines import Pipeline, a_stage, change


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()


async def history(store: Store, job: int) -> list[HistoryEntry]:
    return await store.reads.history(job, value_of)


async def value_of(data: bytes) -> bytes:
    """Return *data*, or what lies outside the file for it."""
    return {b"B": b"a big one", b"F": pack([b"0", b"1", b"2", b"3"])}.get(data, data)


def brief(entries: list[HistoryEntry]) -> list[tuple[str, int, str, bytes | None, bytes | None]]:
    return [(entry.stage, entry.generation, entry.state, entry.input, entry.output) for entry in entries]


async def test_each_stage_has_an_entry_with_its_input_and_output(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"), a_stage("second"))
    job = (await photos.add(b"in")).first_id
    (task,) = await photos.lease("first")
    await photos.succeed(task, b"between", seconds=1.5)
    (task,) = await photos.lease("second", worker="w2")

    first, second = await history(store, job)

    assert brief([first, second]) == [
        ("first", 0, "succeeded", b"in", b"between"),
        ("second", 0, "leased", b"between", None),
    ]
    assert (first.task, first.worker, first.contributor, first.attempt) == (job, "w1", "alice", 1)
    assert first.finished == pytest.approx(now() / 1e6, abs=60)
    assert (second.task, second.worker, second.finished, second.tries) == (task.id, "w2", None, [])


async def test_what_went_wrong_is_told_run_by_run(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first", retries=1))
    job = (await photos.add(b"in")).first_id
    (task,) = await photos.lease("first")
    await photos.release(task, "w1 vanished")
    (task,) = await photos.lease("first")
    await photos.fail(task, "no luck", seconds=2.5)
    change(store, "UPDATE task SET state = 0")  # its waiting time is over
    (task,) = await photos.lease("first")
    await photos.fail(task, "no luck again")

    (entry,) = await history(store, job)

    told = [(each.attempt, each.worker, each.what, each.reason, each.seconds) for each in entry.tries]
    assert told == [
        (1, "w1", "released", "w1 vanished", None),
        (2, "w1", "retried", "ValueError: no luck", 2.5),
        (3, "w1", "failed", "ValueError: no luck again", None),
    ]
    assert entry.state == "failed"
    assert unpack_failure(entry.output or b"").message == "no luck again"
    assert [each.at for each in entry.tries] == sorted(each.at for each in entry.tries)


async def test_a_job_that_was_sent_back_has_an_entry_for_each_generation(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"), a_stage("second", votes=2))
    job = (await photos.add(b"in")).first_id
    await photos.run("first", output=b"bad")
    (task,) = await photos.lease("second")
    await photos.flag(task, "bob", "blurred")
    change(store, "UPDATE task SET flags = 0 WHERE id = ?", task.id)  # so that a plain lease finds it
    (task,) = await photos.lease("second")
    await photos.flag(task, "carol", "dark")
    await photos.run("first", output=b"good")

    entries = await history(store, job)

    assert brief(entries) == [
        ("first", 0, "returned", b"in", b"bad"),
        ("second", 0, "returned", b"bad", None),
        ("first", 1, "succeeded", b"in", b"good"),
        ("second", 1, "queued", b"good", None),
    ]
    flags = [Flag(voter=flag.voter, reason=flag.reason, worker=flag.worker, at=0) for flag in entries[1].flags]
    assert flags == [
        Flag(voter="bob", reason="blurred", worker="w1", at=0),
        Flag(voter="carol", reason="dark", worker="w1", at=0),
    ]
    assert [(each.what, each.attempt) for each in entries[1].tries] == [("flagged", 1), ("returned", 2)]
    assert [each.what for each in entries[0].tries] == ["returned"]
    assert entries[2].flags == entries[3].flags == []


async def test_expand_and_gather_name_the_parts(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(
        a_stage("split", "expand"), a_stage("do"), a_stage("join", "gather"), a_stage("again", "expand"),
        a_stage("do again"), a_stage("join again", "gather"),
    )  # fmt: skip
    whole = (await photos.add(b"in")).first_id
    await photos.run("split", output=pack([b"x", b"y", b"z"]))
    await photos.run("do", 3)
    await photos.run("join", output=b"xyz")
    await photos.run("again", output=pack([b"u"]))

    entries = await history(store, whole)
    (part,) = await history(store, await store.reads.find_job("photos", 3))

    assert [(entry.stage, entry.parts) for entry in entries] == [
        ("split", [2, 3, 4]),
        ("join", [2, 3, 4]),
        ("again", [5]),
        ("join again", [5]),
    ]
    assert [entry.input for entry in entries] == [b"in", None, b"xyz", None]
    assert loads(entries[0].output or b"") == 3
    assert brief([part]) == [("do", 0, "succeeded", b"y", b"out")]
    assert part.parts == []


async def test_parts_that_nothing_waits_for_are_named_too(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("split", "expand"), a_stage("do"))
    whole = (await photos.add(b"in")).first_id
    await photos.run("split", output=pack([b"x", b"y"]))

    (entry,) = await history(store, whole)

    assert entry.parts == [2, 3]


async def test_a_job_that_gathers_all_items_of_an_import_names_the_first_thousand(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("do"), a_stage("join", "gather"))
    added = await photos.add(*[b"x"] * 1200)
    assert added.root is not None

    (entry,) = await history(store, added.root)

    assert entry.parts == list(range(2, 1002))
    assert (entry.stage, entry.state, entry.input, entry.output) == ("join", "blocked", None, None)


async def test_values_that_have_expired_are_empty(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"), a_stage("second"))
    job = (await photos.add(b"in")).first_id
    await photos.run("first")
    await photos.run("second")
    change(store, "UPDATE payload SET input = x'', output = NULL")

    entries = await history(store, job)

    assert [(entry.input, entry.output) for entry in entries] == [(b"", b""), (b"", b"")]


# ---- items of batches ----------------------------------------------------------------------


async def a_batch(store: Store) -> int:
    """Store a batch of six items, in blocks of four; return the id of the first one's job."""
    blocks = [pack([b"0", b"1", b"2", b"3"]), pack([b"4", b"5"])]
    submission = BatchSubmission(function=pack_function(len), blocks=blocks, count=6, submitter="me")
    added = await store.apply(AddBatch(1, 1, submission, [4, 2], now()))
    return int(added.number)


async def test_an_item_of_a_batch_has_one_entry(store: Store) -> None:
    first = await a_batch(store)
    chunk = Chunk(batch=1, first=3, count=2, first_job=first + 3)
    await store.apply(AcceptChunk(1, chunk, pack([b"three", b"four"]), "w1", "alice", now()))

    (waiting,) = await history(store, first + 5)
    (done,) = await history(store, first + 4)

    assert brief([waiting, done]) == [("call", 0, "queued", b"5", None), ("call", 0, "succeeded", b"4", b"four")]
    assert (done.worker, done.contributor, done.attempt, done.task) == ("w1", "alice", 1, first + 4)
    assert done.finished is not None


async def test_an_item_that_failed_tells_why(store: Store) -> None:
    first = await a_batch(store)
    task = Task(id=first + 1, job=first + 1, stage=1, batch=1, attempt=1, state=State.WAITING, input=b"1")
    await store.apply(AddStray(task, 1, Kind.RETRIED, now(), "w1", reason="ValueError: odd"))

    (entry,) = await history(store, first + 1)

    assert brief([entry]) == [("call", 0, "waiting", b"1", None)]
    assert [(each.what, each.reason) for each in entry.tries] == [("retried", "ValueError: odd")]


async def test_a_job_that_never_was_has_no_history(store: Store) -> None:
    first = await a_batch(store)

    for id in (0, first + 6, 10**9):
        with pytest.raises(NotFound, match="no job"):
            await history(store, id)
