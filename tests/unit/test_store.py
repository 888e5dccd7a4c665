"""The store: group commit, guarded moves, credit once, and one bad operation that hurts nobody else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dcengine.codec import pack, pack_function
from dcengine.errors import DiskFull, EngineBusy, InvalidTransition, OwnershipLost, StaleLease, StoreError
from dcengine.events import Kind
from dcengine.jobs import Chunk, State, Task
from dcengine.store import Store, now
from dcengine.store import writer as writing
from dcengine.store.batching import AcceptChunk, AddStray, CancelItems, ReopenBatch
from dcengine.store.handing import Consequences
from dcengine.store.leasing import SELECT_QUEUED, Holder, Lease
from dcengine.store.moving import Move, WakeDue
from dcengine.store.names import Names
from dcengine.store.opening import open_for_writing
from dcengine.store.reads import StoredEnd
from dcengine.store.saying import AddOutput
from dcengine.store.submitting import AddBatch, Added, AddJob
from dcengine.verbs import BatchSubmission, Options, Submission

FUNCTION = pack_function(len)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()


def a_job(**options: Any) -> AddJob:
    key, request = options.pop("key", None), options.pop("request", None)
    submission = Submission(function=FUNCTION, input=b"input", options=Options(**options), key=key, request=request)
    return AddJob(1, 1, submission, now())


def a_batch(count: int, per_block: int = 4) -> AddBatch:
    counts = [min(per_block, count - first) for first in range(0, count, per_block)]
    blocks = [pack([b"input"] * n) for n in counts]
    return AddBatch(1, 1, BatchSubmission(function=FUNCTION, blocks=blocks, count=count), counts, now())


async def lease(store: Store, n: int = 1, need: int = 1) -> list[Task]:
    tasks: list[Task] = await store.apply(Lease(1, need, 1, n, Holder("w1"), now()))
    return tasks


def success(task: Task) -> Move:
    return Move(task, task.to(State.SUCCEEDED), Kind.SUCCEEDED, now(), "w1", "alice", b"output")


def rows(store: Store, sql: str) -> list[Any]:
    connection = sqlite3.connect(store.db)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# ---- one task ------------------------------------------------------------------------------


async def test_a_job_goes_from_queued_over_leased_to_succeeded(store: Store) -> None:
    added: Added = await store.apply(a_job(tags="gpu", retries=2, timeout=1.5, priority=3))
    (task,) = await lease(store)

    assert (task.job, task.attempt, task.state) == (added.id, 1, State.LEASED)
    assert (task.tags, task.retries, task.timeout, task.priority) == ("gpu", 2, 1.5, 3)
    assert (task.function, task.input) == (FUNCTION.digest, b"input")
    await store.apply(success(task))

    assert await store.reads.end(added.id) == StoredEnd("succeeded", b"output")
    assert (await store.reads.counts())["succeeded"] == 1
    assert [row.tasks for row in await store.reads.leaderboard("functions")] == [1]


async def test_a_task_is_leased_once(store: Store) -> None:
    await asyncio.gather(*(store.apply(a_job()) for _ in range(20)))

    leased = await asyncio.gather(*(lease(store, 3) for _ in range(10)))

    ids = [task.id for tasks in leased for task in tasks]
    assert sorted(ids) == list(range(1, 21))


async def test_a_stale_report_is_refused_and_earns_nothing(store: Store) -> None:
    await store.apply(a_job())
    (first,) = await lease(store)
    await store.apply(Move(first, first.to(State.QUEUED), Kind.RELEASED, now()))
    (second,) = await lease(store)

    with pytest.raises(StaleLease):
        await store.apply(success(first))
    await store.apply(success(second))
    with pytest.raises(StaleLease):
        await store.apply(success(second))

    assert second.attempt == 2
    assert [row.tasks for row in await store.reads.leaderboard("functions")] == [1]


async def test_two_reports_in_one_commit_are_accepted_once(store: Store) -> None:
    await store.apply(a_job())
    (task,) = await lease(store)

    outcomes = await asyncio.gather(*(store.apply(success(task)) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(outcome, Consequences) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StaleLease) for outcome in outcomes) == 4
    assert rows(store, "SELECT count(*) FROM credit") == [(1,)]


def test_a_move_that_the_table_does_not_allow_is_refused() -> None:
    task = Task(id=1, job=1, stage=1, state=State.SUCCEEDED)

    with pytest.raises(InvalidTransition, match="SUCCEEDED"):
        task.to(State.QUEUED)


async def test_a_waiting_task_is_queued_when_it_is_due(store: Store) -> None:
    await store.apply(a_job(retries=1))
    (task,) = await lease(store)
    due = now() + 3_600_000_000
    await store.apply(Move(task, task.to(State.WAITING, errors=1), Kind.RETRIED, now(), not_before=due))

    assert await store.apply(WakeDue(now())) == []
    assert await lease(store) == []
    assert await store.apply(WakeDue(due)) == [(1, 1, 1, 0, 0)]
    (again,) = await lease(store)
    assert (again.attempt, again.errors) == (2, 1)


async def test_higher_priorities_are_leased_first_then_the_oldest(store: Store) -> None:
    for priority in (0, 5, -1, 5):
        await store.apply(a_job(priority=priority))

    assert [task.id for task in await lease(store, 10)] == [2, 4, 1, 3]


async def test_work_is_leased_by_its_need(store: Store) -> None:
    plain: Added = await store.apply(a_job())
    gpu: Added = await store.apply(a_job(tags="gpu"))

    assert plain.need != gpu.need
    assert [task.id for task in await lease(store, 10, gpu.need)] == [gpu.id]


async def test_a_lease_uses_the_partial_index_and_sorts_nothing(store: Store) -> None:
    plan = rows(store, "EXPLAIN QUERY PLAN " + SELECT_QUEUED.replace("?", "1"))

    assert any("task USING INDEX task_queued" in step[3] for step in plan), plan
    assert not any("TEMP B-TREE" in step[3] for step in plan), plan


# ---- keys and requests ---------------------------------------------------------------------


async def test_the_same_key_gives_the_same_job_also_within_one_commit(store: Store) -> None:
    added = await asyncio.gather(*(store.apply(a_job(key="k")) for _ in range(5)))
    later: Added = await store.apply(a_job(key="k"))

    assert {one.id for one in added} == {later.id}
    assert [one.is_new for one in added].count(True) == 1


async def test_a_repeated_request_gives_the_first_answer(store: Store) -> None:
    first: Added = await store.apply(a_job(request="r"))
    second: Added = await store.apply(a_job(request="r"))

    assert (second.id, second.is_new) == (first.id, False)
    assert rows(store, "SELECT count(*) FROM job") == [(1,)]


async def test_ids_are_unique_over_jobs_and_batches_also_after_a_restart(tmp_path: Path) -> None:
    ids: list[int] = []
    for _ in range(3):
        store = Store(tmp_path / "work.db")
        await store.start()
        ids.append((await store.apply(a_job())).id)
        batch = await store.reads.batch((await store.apply(a_batch(10))).id)
        ids.extend(range(batch.first_job, batch.first_job + 10))
        await store.close()

    assert ids == list(range(1, 34))


# ---- batches -------------------------------------------------------------------------------


async def test_a_batch_ends_when_all_its_items_have(store: Store) -> None:
    added: Added = await store.apply(a_batch(10))
    first = (await store.reads.batch(added.id)).first_job

    await store.apply(
        AcceptChunk(1, Chunk(batch=added.id, first=0, count=6, first_job=first), pack([b"r"] * 6), "w1", "bob", now())
    )
    assert (await store.reads.batch(added.id)).state == "open"
    task = Task(
        id=first + 6, job=first + 6, stage=1, batch=added.id, state=State.FAILED, attempt=1, errors=1, input=b"i"
    )
    await store.apply(AddStray(task, 6, Kind.FAILED, now(), "w1", output=b"why", reason="broken"))
    await store.apply(CancelItems(1, added.id, [(7, 3)], now()))

    batch = await store.reads.batch(added.id)
    assert (batch.state, batch.succeeded, batch.failed, batch.cancelled) == ("failed", 6, 1, 3)
    assert [(report.first, report.count, report.state) for report in await store.reads.reports(added.id, after=0)] == [
        (0, 6, "succeeded"), (6, 1, "failed"), (7, 3, "cancelled"),
    ]  # fmt: skip
    counts = await store.reads.counts()
    assert (counts["queued"], counts["succeeded"], counts["failed"], counts["cancelled"]) == (0, 6, 1, 3)


async def test_items_cannot_be_accepted_twice(store: Store) -> None:
    added: Added = await store.apply(a_batch(4))
    chunk = Chunk(batch=added.id, first=0, count=4, first_job=1)
    report = AcceptChunk(1, chunk, pack([b"r"] * 4), "w1", "bob", now())
    await store.apply(report)

    with pytest.raises(StoreError):
        await store.apply(report)

    assert (await store.reads.batch(added.id)).succeeded == 4
    assert [row.tasks for row in await store.reads.leaderboard("functions")] == [4]


@pytest.mark.parametrize(("first", "count"), [(0, 3), (2, 1), (3, 2), (4, 4), (5, 1), (0, 10)])
async def test_items_of_overlapping_chunks_cannot_be_accepted_twice(store: Store, first: int, count: int) -> None:
    added: Added = await store.apply(a_batch(10))

    def report(first: int, count: int) -> AcceptChunk:
        chunk = Chunk(batch=added.id, first=first, count=count, first_job=1 + first)
        return AcceptChunk(1, chunk, pack([b"r"] * count), "w1", "bob", now())

    for accepted in ((8, 2), (2, 4)):
        await store.apply(report(*accepted))
    with pytest.raises(StoreError, match="ended already"):
        await store.apply(report(first, count))

    await store.apply(report(0, 2))
    await store.apply(report(6, 2))
    assert (await store.reads.batch(added.id)).succeeded == 10


async def test_a_reopened_batch_lists_what_is_to_be_done_again(store: Store) -> None:
    added: Added = await store.apply(a_batch(10))
    task = Task(id=3, job=3, stage=1, batch=added.id, state=State.FAILED, attempt=1, errors=1, input=b"i")
    await store.apply(AddStray(task, 2, Kind.FAILED, now(), "w1", output=b"why"))
    await store.apply(CancelItems(1, added.id, [(5, 5)], now()))

    again = await store.apply(ReopenBatch(added.id, now()))

    assert (again.jobs, again.runs) == ([3], [(5, 5)])
    batch = await store.reads.batch(added.id)
    assert (batch.state, batch.failed, batch.cancelled) == ("open", 0, 0)
    assert await store.apply(ReopenBatch(added.id, now())) is None


async def test_every_item_of_a_batch_is_found_as_a_job(store: Store) -> None:
    added: Added = await store.apply(a_batch(10))
    await store.apply(
        AcceptChunk(1, Chunk(batch=added.id, first=4, count=2, first_job=5), pack([b"x", b"y"]), "w1", "bob", now())
    )

    assert (await store.reads.job(6)).state == "succeeded"
    assert await store.reads.end(6) == StoredEnd("succeeded", pack([b"x", b"y"]), place=1, of=2)
    assert (await store.reads.job(7)).state == "open"
    assert await store.reads.end(7) is None


# ---- the writer ----------------------------------------------------------------------------


@dataclass(slots=True)
class Breaks:
    """An operation that violates a constraint, after it has written something."""

    rank: ClassVar[int] = 1

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Breaks]) -> list[Any]:
        connection.execute("INSERT INTO meta (key, value) VALUES ('half', 1)")
        connection.execute("INSERT INTO meta (key, value) VALUES ('epoch', 1)")
        return [True] * len(operations)


@dataclass(slots=True)
class Notes:
    """An operation that writes one row, and refuses number 3 by a constraint."""

    rank: ClassVar[int] = 1
    number: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Notes]) -> list[Any]:
        for note in operations:
            key = "epoch" if note.number == 3 else f"note {note.number}"
            connection.execute("INSERT INTO meta (key, value) VALUES (?, 0)", (key,))
        return [note.number for note in operations]


async def test_one_bad_operation_does_not_fail_its_neighbours(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.apply(Notes(n)) for n in range(6)), store.apply(Breaks()), store.apply(a_job()), return_exceptions=True
    )

    assert [outcome for outcome in outcomes[:6] if isinstance(outcome, int)] == [0, 1, 2, 4, 5]
    assert isinstance(outcomes[3], StoreError)
    assert isinstance(outcomes[6], StoreError)
    assert isinstance(outcomes[7], Added)
    assert rows(store, "SELECT key FROM meta WHERE key = 'half'") == []
    assert rows(store, "SELECT count(*) FROM meta WHERE key LIKE 'note %'") == [(5,)]


async def test_many_waiting_operations_share_few_commits(store: Store) -> None:
    commits = 0
    original = store._writer._commit

    def counting(*batch: Any) -> list[Any]:
        nonlocal commits
        commits += 1
        return original(*batch)

    store._writer._commit = counting  # type: ignore[method-assign]
    await asyncio.gather(*(store.apply(a_job()) for _ in range(500)))

    assert commits <= 20


async def test_what_was_acknowledged_is_in_the_file(store: Store) -> None:
    await store.apply(a_job())

    assert rows(store, "SELECT count(*) FROM job") == [(1,)]


async def test_new_work_is_refused_while_too_much_waits_and_what_the_engine_says_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "INBOX_LIMIT", 5)
    waiting = [store.apply(a_job()) for _ in range(5)]

    with pytest.raises(EngineBusy):
        store.submit(a_job(), 1)
    more = store.apply(Notes(1))

    await asyncio.gather(*waiting, more)
    await store.submit(a_job(), 1)


async def test_new_work_larger_than_the_inbox_is_taken_beside_something_small(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "INBOX_BYTES", 1000)

    small, large = store.apply(a_job()), store.submit(a_job(), 5000)
    with pytest.raises(EngineBusy):
        store.submit(a_job(), 1)

    await asyncio.gather(small, large)


async def test_a_writer_whose_epoch_is_over_is_stopped(store: Store, tmp_path: Path) -> None:
    await store.apply(a_job())
    usurper = Store(tmp_path / "work.db")
    await usurper.start()

    with pytest.raises(OwnershipLost):
        await store.apply(a_job())
    with pytest.raises(OwnershipLost):
        await asyncio.sleep(0, store.apply(a_job()))
    assert isinstance(store.broken, OwnershipLost)
    assert (await usurper.apply(a_job())).id == 2
    await usurper.close()


async def test_a_full_disk_refuses_cleanly_and_serves_again_when_there_is_room(tmp_path: Path) -> None:
    def small() -> sqlite3.Connection:
        connection = open_for_writing(tmp_path / "work.db")
        connection.execute("PRAGMA max_page_count = 180")
        return connection

    store = Store(tmp_path / "work.db")
    store._writer._open = small
    await store.start()
    big = Submission(function=FUNCTION, input=b"x" * 100_000)

    async def fill() -> int:
        for accepted in range(10):
            try:
                await store.apply(AddJob(1, 1, big, now()))
            except DiskFull:
                return accepted
        raise AssertionError("there was room for all")

    accepted = await fill()
    assert 0 < accepted < 10
    assert rows(store, "SELECT count(*) FROM job") == rows(store, "SELECT count(*) FROM payload") == [(accepted,)]
    assert (await store.reads.counts())["queued"] == accepted

    store._writer._connection.execute("PRAGMA max_page_count = 100000")
    await store.apply(AddJob(1, 1, big, now()))
    assert (await store.reads.counts())["queued"] == accepted + 1
    await store.close()


async def test_the_log_is_moved_into_the_file_in_bulk_not_after_every_commit(store: Store) -> None:
    for number in range(40):  # more than the 16 MiB after which it is moved
        await store.apply(AddOutput([(1, number, "stdout", "x" * (1 << 19))]))
    written = set()
    for number in range(40, 240):
        await store.apply(AddOutput([(1, number, "stdout", "x")]))
        written.add(store.db.stat().st_mtime_ns)

    assert len(written) <= 2
