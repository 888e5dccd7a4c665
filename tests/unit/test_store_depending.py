"""The store's side of results as arguments: what waits goes on in the transaction that ends what it waits for."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dcengine.codec import Failure, pack, pack_failure, pack_function, unpack_failure
from dcengine.errors import NotFound, ResultExpired
from dcengine.events import Kind
from dcengine.jobs import Chunk, State, Task
from dcengine.store import Store, now
from dcengine.store.batching import AcceptChunk, AddStray, CancelItems, ReopenBatch
from dcengine.store.checking import check_history
from dcengine.store.depending import SettleBlocked
from dcengine.store.expiring import ExpireValues
from dcengine.store.handing import Consequences
from dcengine.store.leasing import Holder, Lease
from dcengine.store.moving import Move, WakeDue
from dcengine.store.reopening import Reopened, RetryJobs
from dcengine.store.submitting import AddBatch, Added, AddJob
from dcengine.verbs import BatchSubmission, Options, Submission

FUNCTION = pack_function(len)
FAILURE = pack_failure(Failure("ValueError", "no luck"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()
    assert check_history(tmp_path / "work.db") == []


async def add(store: Store, *takes: int, **options: Any) -> int:
    key = options.pop("key", None)
    submission = Submission(function=FUNCTION, input=b"input", options=Options(**options), key=key)
    added: Added = await store.apply(AddJob(1, 1, submission, now(), takes))
    return added.id


async def add_batch(store: Store, count: int, **options: Any) -> Added:
    blocks = [pack([b"input"] * count)]
    submission = BatchSubmission(function=FUNCTION, blocks=blocks, count=count, options=Options(**options))
    added: Added = await store.apply(AddBatch(1, 1, submission, [count], now()))
    return added


async def lease(store: Store) -> dict[int, Task]:
    tasks: list[Task] = await store.apply(Lease(1, 1, 1, 10_000, Holder("w1"), now()))
    return {task.job: task for task in tasks}


async def succeed(store: Store, task: Task) -> Consequences:
    done: Consequences = await store.apply(
        Move(task, task.to(State.SUCCEEDED), Kind.SUCCEEDED, now(), "w1", "alice", b"output")
    )
    return done


async def fail(store: Store, task: Task) -> Consequences:
    done: Consequences = await store.apply(
        Move(task, task.to(State.FAILED, errors=1), Kind.FAILED, now(), "w1", output=FAILURE, reason="ValueError")
    )
    return done


async def accept(store: Store, batch: Added, first: int, count: int) -> Consequences:
    chunk = Chunk(batch=batch.id, first=first, count=count, first_job=batch.number + first)
    done: Consequences = await store.apply(AcceptChunk(1, chunk, pack([b"r"] * count), "w1", "alice", now()))
    return done


async def fail_item(store: Store, batch: Added, index: int) -> Consequences:
    job = batch.number + index
    task = Task(id=job, job=job, stage=1, batch=batch.id, state=State.FAILED, attempt=1, errors=1, input=b"input")
    done: Consequences = await store.apply(AddStray(task, index, Kind.FAILED, now(), "w1", output=FAILURE))
    return done


async def state_of(store: Store, job: int) -> str:
    return (await store.reads.job(job)).task_state


async def why(store: Store, job: int) -> str:
    end = await store.reads.end(job)
    assert end is not None
    assert end.data is not None
    return unpack_failure(end.data).sentence


async def retry(store: Store, *jobs: int) -> list[int]:
    again: Reopened = await store.apply(RetryJobs(list(jobs), now()))
    return again.jobs


# ---- success -------------------------------------------------------------------------------


async def test_a_call_is_queued_with_the_end_of_the_last_job_it_takes(store: Store) -> None:
    first, second = await add(store), await add(store)
    call = await add(store, first, second)
    tasks = await lease(store)
    assert call not in tasks
    assert await state_of(store, call) == "blocked"

    assert (await succeed(store, tasks[first])).ready == []
    (ready,) = (await succeed(store, tasks[second])).ready

    assert (ready.need, ready.submitter, ready.due) == (1, 1, None)
    assert list(await lease(store)) == [call]


async def test_a_call_that_takes_only_what_is_in_never_waits(store: Store) -> None:
    first = await add(store)
    await succeed(store, (await lease(store))[first])

    call = await add(store, first)

    assert list(await lease(store)) == [call]


async def test_a_diamond_waits_for_both_sides(store: Store) -> None:
    top = await add(store)
    left, right = await add(store, top), await add(store, top)
    bottom = await add(store, left, right)

    await succeed(store, (await lease(store))[top])
    sides = await lease(store)
    assert sorted(sides) == [left, right]
    await succeed(store, sides[left])
    assert await lease(store) == {}
    await succeed(store, sides[right])

    assert list(await lease(store)) == [bottom]


async def test_items_of_a_batch_are_waited_for_without_rows_of_their_own(store: Store) -> None:
    batch = await add_batch(store, 10)
    early, late = await add(store, batch.number + 1), await add(store, *range(batch.number, batch.number + 10))

    assert len((await accept(store, batch, 0, 5)).ready) == 1
    assert len((await accept(store, batch, 5, 5)).ready) == 1

    assert list(await lease(store)) == [early, late]


async def test_a_call_is_not_run_before_its_time_though_it_has_its_arguments(store: Store) -> None:
    first = await add(store)
    call = await add(store, first, not_before=time.time() + 3600)

    (ready,) = (await succeed(store, (await lease(store))[first])).ready

    assert ready.due is not None
    assert await state_of(store, call) == "waiting"
    assert await lease(store) == {}
    await store.apply(WakeDue(ready.due))
    assert list(await lease(store)) == [call]


async def test_the_time_of_a_call_may_come_while_it_waits_for_arguments(store: Store) -> None:
    first = await add(store)
    call = await add(store, first, not_before=time.time() + 60)
    task = (await lease(store))[first]
    later = now() + 120_000_000
    await store.apply(WakeDue(later))
    assert await state_of(store, call) == "blocked"

    await store.apply(Move(task, task.to(State.SUCCEEDED), Kind.SUCCEEDED, later, "w1", "alice", b"output"))

    assert list(await lease(store)) == [call]


# ---- submission ----------------------------------------------------------------------------


async def test_nothing_is_stored_for_a_call_that_takes_an_unknown_job(store: Store) -> None:
    batch = await add_batch(store, 3)
    for unknown in (batch.number - 1, batch.number + 3, 10**9):
        with pytest.raises(NotFound):
            await add(store, unknown)

    assert await store.reads.open_jobs() == []
    assert (await store.reads.counts())["queued"] == 3


async def test_a_call_that_takes_what_has_expired_is_refused(store: Store) -> None:
    job = await add(store, keep=0.0)
    await succeed(store, (await lease(store))[job])
    await store.apply(ExpireValues(now(), 10))

    with pytest.raises(ResultExpired):
        await add(store, job)


async def test_the_same_key_gives_the_same_job_whatever_it_takes(store: Store) -> None:
    first = await add(store)
    call = await add(store, first, key="one")

    assert await add(store, 10**9, key="one") == call


# ---- failure -------------------------------------------------------------------------------


async def test_a_failure_goes_down_the_chain_and_names_where_it_began(store: Store) -> None:
    first = await add(store)
    second = await add(store, first)
    third = await add(store, second)

    done = await fail(store, (await lease(store))[first])

    assert sorted(ended.job for ended in done.ended) == [second, third]
    assert await why(store, second) == (
        f"DependencyFailed: argument of job {second}: job {first} (len) failed: ValueError: no luck; "
        f"retry job {second} to run what is missing again"
    )
    assert f"argument of job {third}: job {second} was not run either: job {first} (len) failed" in await why(
        store, third
    )


async def test_a_call_that_takes_what_has_failed_fails_at_once(store: Store) -> None:
    first = await add(store)
    second = await add(store, first)
    await fail(store, (await lease(store))[first])

    third = await add(store, second)

    assert f"job {second} was not run either: job {first} (len) failed: ValueError" in await why(store, third)


async def test_calls_fail_with_what_is_cancelled(store: Store) -> None:
    first, batch = await add(store), await add_batch(store, 4)
    call, other = await add(store, first), await add(store, batch.number + 2)
    (task,) = [task for task in await store.reads.tasks(State.QUEUED) if task.job == first]

    await store.apply(Move(task, task.to(State.CANCELLED), Kind.CANCELLED, now(), output=FAILURE))
    await store.apply(CancelItems(1, batch.id, [(1, 3)], now()))

    assert "was cancelled" in await why(store, call)
    assert "was cancelled" in await why(store, other)


async def test_a_call_that_was_cancelled_while_it_waited_stays_so(store: Store) -> None:
    first = await add(store)
    call = await add(store, first)
    (task,) = await store.reads.tasks(State.BLOCKED)

    await store.apply(Move(task, task.to(State.CANCELLED), Kind.CANCELLED, now(), output=FAILURE))
    await succeed(store, (await lease(store))[first])

    assert await state_of(store, call) == "cancelled"
    assert await retry(store, call) == [call]
    assert list(await lease(store)) == [call]


# ---- another try ---------------------------------------------------------------------------


async def test_another_try_of_what_failed_takes_those_along_that_failed_for_it(store: Store) -> None:
    first, other = await add(store), await add(store)
    second = await add(store, first, other)
    third = await add(store, second)
    tasks = await lease(store)
    await fail(store, tasks[first])
    await succeed(store, tasks[other])

    assert await retry(store, first) == [first, second, third]
    assert [await state_of(store, job) for job in (first, second, third)] == ["queued", "blocked", "blocked"]

    await succeed(store, (await lease(store))[first])
    await succeed(store, (await lease(store))[second])
    assert list(await lease(store)) == [third]


async def test_another_try_of_a_call_takes_what_it_lacks_along(store: Store) -> None:
    first = await add(store)
    second = await add(store, first)
    third = await add(store, second)
    await fail(store, (await lease(store))[first])

    assert await retry(store, third) == [first, second, third]
    assert list(await lease(store)) == [first]


async def test_a_call_that_failed_for_two_waits_for_both_again(store: Store) -> None:
    first, second = await add(store), await add(store)
    call = await add(store, first, second)
    tasks = await lease(store)
    await fail(store, tasks[first])
    await fail(store, tasks[second])

    assert await retry(store, first) == [first]  # it would fail for the second again
    assert await retry(store, second) == [second, call]
    assert await state_of(store, call) == "blocked"


async def test_a_call_that_failed_by_itself_is_not_taken_along(store: Store) -> None:
    first = await add(store)
    await succeed(store, (await lease(store))[first])
    call = await add(store, first)
    await fail(store, (await lease(store))[call])

    assert await retry(store, call) == [call]
    assert list(await lease(store)) == [call]


async def test_a_call_that_was_given_up_for_another_reason_is_not_taken_along(store: Store) -> None:
    first = await add(store)
    call = await add(store, first)
    (task,) = await store.reads.tasks(State.BLOCKED)
    await store.apply(
        Move(task, task.to(State.FAILED), Kind.FAILED, now(), output=FAILURE, reason="nobody has its tags")
    )
    await fail(store, (await lease(store))[first])

    assert await retry(store, first) == [first]
    assert await retry(store, call) == [call]


async def test_calls_wait_again_with_a_batch_that_is_tried_again(store: Store) -> None:
    batch = await add_batch(store, 4)
    call = await add(store, batch.number + 1, batch.number + 3)
    await accept(store, batch, 2, 2)
    await fail_item(store, batch, 1)
    await accept(store, batch, 0, 1)
    assert f"job {batch.number + 1} (len) failed: ValueError: no luck; retry_failed() of batch" in await why(
        store, call
    )
    assert await retry(store, call) == []  # an item is tried again with its batch

    again = await store.apply(ReopenBatch(batch.id, now()))

    assert again.calls == [call]
    assert await state_of(store, call) == "blocked"
    tasks = await lease(store)
    await succeed(store, tasks[batch.number + 1])
    assert list(await lease(store)) == [call]


# ---- what else may happen ------------------------------------------------------------------


async def test_values_are_kept_while_an_open_call_takes_them(store: Store) -> None:
    job, batch = await add(store, keep=0.0), await add_batch(store, 2, keep=0.0)
    other = await add(store)
    call = await add(store, job, batch.number, other)
    tasks = await lease(store)
    await succeed(store, tasks[job])
    await accept(store, batch, 0, 2)

    kept = await store.apply(ExpireValues(now(), 10))
    while not kept.is_all:
        assert (kept.jobs, kept.batches) == ([], [])
        kept = await store.apply(ExpireValues(now(), 10))

    await succeed(store, tasks[other])
    await succeed(store, (await lease(store))[call])
    later, gone = now() + 3_600_000_000, ([], [])
    while True:
        expired = await store.apply(ExpireValues(later, 10))
        gone = ([*gone[0], *expired.jobs], [*gone[1], *expired.batches])
        if expired.is_all:
            break
    assert gone == ([job], [batch.id])


async def test_an_engine_that_starts_looks_again_at_all_that_is_waited_for(store: Store) -> None:
    first, second = await add(store), await add(store)
    call, other = await add(store, first), await add(store, second)
    tasks = await lease(store)
    await succeed(store, tasks[first])

    assert await store.apply(SettleBlocked(now())) == Consequences()  # nothing goes unnoticed

    with closing(sqlite3.connect(store.db)) as connection, connection:
        connection.execute("UPDATE dependency SET is_open = 1 WHERE task = ?", (call,))
        connection.execute("UPDATE task SET state = ? WHERE id = ?", (State.BLOCKED, call))
        connection.execute("UPDATE counter SET n = n - 1 WHERE state = ?", (State.QUEUED,))
        connection.execute("UPDATE counter SET n = n + 1 WHERE state = ?", (State.BLOCKED,))
        connection.execute("DELETE FROM event WHERE kind = ?", (Kind.GATHERED,))
    found: Consequences = await store.apply(SettleBlocked(now()))

    assert len(found.ready) == 1
    assert [await state_of(store, job) for job in (call, other)] == ["queued", "blocked"]
    await fail(store, tasks[second])


async def test_a_chain_of_a_thousand_fails_in_one_go(store: Store) -> None:
    jobs = [await add(store)]
    for _ in range(1000):
        jobs.append(await add(store, jobs[-1]))
    task = (await lease(store))[jobs[0]]

    done = await fail(store, task)

    assert len(done.ended) == 1000
    assert len(msgspec.msgpack.encode([ended.output for ended in done.ended])) < 1_000_000
    assert await retry(store, jobs[-1]) == jobs


# ---- whatever happens ----------------------------------------------------------------------


class Model:
    """What the rules say of calls, items of batches among them: a state for each, and what it takes."""

    def __init__(self) -> None:
        self.states: dict[int, str] = {}
        self.takes: dict[int, list[int]] = {}
        self.batches: dict[int, Added] = {}  #: by their items
        self.starved: set[int] = set()  #: calls that failed for what they take

    def lost(self, call: int) -> list[int]:
        return [job for job in self.takes[call] if self.states[job] in ("failed", "cancelled")]

    def place(self, call: int) -> None:
        """Let an open *call* wait, or not, or fail."""
        lacks = [job for job in self.takes[call] if self.states[job] != "succeeded"]
        self.states[call] = "failed" if self.lost(call) else "blocked" if lacks else "queued"
        self.starved.discard(call)
        if self.lost(call):
            self.starved.add(call)

    def settle(self) -> None:
        """Let what waits go on, oldest first: a call is always newer than what it takes."""
        for call in sorted(self.takes):
            if self.states[call] == "blocked":
                self.place(call)

    def retry(self, calls: list[int], *, and_before: bool) -> list[int]:
        """Try *calls* again; return all that go on."""
        found, pending = set(calls), list(calls)
        while and_before and pending:
            before = [job for job in self.lost(pending.pop()) if job not in self.batches]
            pending += [job for job in before if job not in found]
            found.update(before)
        for call in sorted(self.takes):
            if call in self.starved and found & {job for job in self.takes[call] if self.states[job] != "succeeded"}:
                found.add(call)
        again = []
        for call in sorted(found - set(self.batches)):
            if self.states[call] in ("failed", "cancelled") and not self.lost(call):
                self.place(call)
                again.append(call)
        return again


async def test_calls_wait_for_exactly_what_they_take_whatever_happens(store: Store) -> None:
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    dice, model, leased = random.Random(seed), Model(), dict[int, Task]()
    for _ in range(250):
        await do_something(store, model, leased, dice)
        model.settle()
        for job, state in model.states.items():
            assert (job, await state_of(store, job)) == (job, state)
    assert check_history(store.db) == []


async def do_something(store: Store, model: Model, leased: dict[int, Task], dice: random.Random) -> None:
    states = model.states
    singles = [job for job in states if job not in model.batches]
    open_items = [job for job in model.batches if states[job] == "queued"]
    what = dice.choice(["add", "add", "batch", "lease", "lease", "succeed", "succeed", "fail", "cancel", "item", "item",
                        "retry", "retry batch"])  # fmt: skip
    if what == "add":
        takes = dice.sample(sorted(states), min(len(states), dice.choice([0, 1, 2, 5])))
        call = await add(store, *takes)
        model.takes[call] = takes
        model.place(call)
    elif what == "batch" and len(model.batches) < 30:
        batch = await add_batch(store, 5)
        for job in range(batch.number, batch.number + 5):
            states[job], model.takes[job], model.batches[job] = "queued", [], batch
    elif what == "lease":
        for task in await store.apply(Lease(1, 1, 1, 3, Holder("w1"), now())):
            leased[task.job], states[task.job] = task, "leased"
    elif what in ("succeed", "fail") and leased:
        job = dice.choice(sorted(leased))
        await (succeed if what == "succeed" else fail)(store, leased.pop(job))
        states[job] = "succeeded" if what == "succeed" else "failed"
    elif what == "cancel" and (waiting := [job for job in singles if states[job] in ("queued", "blocked")]):
        job = dice.choice(waiting)
        task = await store.reads.task(job)
        assert task is not None
        await store.apply(Move(task, task.to(State.CANCELLED), Kind.CANCELLED, now(), output=FAILURE))
        states[job] = "cancelled"
    elif what == "item" and open_items:
        job = dice.choice(open_items)
        batch = model.batches[job]
        states[job] = dice.choice(["succeeded", "failed", "cancelled"])
        if await store.reads.task(job) is not None:
            states[job] = "queued"  # it has a row since it failed once, and is leased like others
        elif states[job] == "succeeded":
            await accept(store, batch, job - batch.number, 1)
        elif states[job] == "failed":
            await fail_item(store, batch, job - batch.number)
        else:
            await store.apply(CancelItems(1, batch.id, [(job - batch.number, 1)], now()))
    elif what == "retry" and (bad := [job for job in singles if states[job] in ("failed", "cancelled")]):
        job = dice.choice(bad)
        assert await retry(store, job) == model.retry([job], and_before=True)
    elif what == "retry batch" and model.batches:
        batch = dice.choice([*model.batches.values()])
        again = await store.apply(ReopenBatch(batch.id, now()))
        items = [job for job in range(batch.number, batch.number + 5) if states[job] in ("failed", "cancelled")]
        for job in items:
            states[job] = "queued"
        if again is not None:
            assert sorted(again.calls) == model.retry(items, and_before=False)
