"""What may come between: callers that go away, other declarations, what expires, what is cancelled in slices."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing
from typing import Any
from unittest import mock

import msgspec
import pytest

from dcengine.codec import Failure, dumps, pack, pack_failure, pack_function, pack_json
from dcengine.engine import aftermath, projects
from dcengine.errors import BlobPlaceFailed, DiskFull, StageRetired
from dcengine.jobs import State
from dcengine.runner.units import Ending
from dcengine.store.cancelling import CancelWaiting
from dcengine.store.leasing import Lease
from dcengine.store.saying import SaveProgress
from dcengine.verbs import (
    AddedJobs,
    BatchStatus,
    BatchSubmission,
    Completion,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    Options,
    Progress,
    ProjectSpec,
    StageSpec,
    Submission,
    TaskFailure,
)
from tests.driven import Driven

PROJECT = "p"
FUNCTION = pack_function(len)


@pytest.fixture
def driven() -> Iterator[Driven]:
    driven = Driven()
    yield driven
    driven.close()
    driven.remove()


@pytest.fixture
def with_slot() -> Iterator[Driven]:
    driven = Driven(("ada",))
    yield driven
    driven.close()
    driven.remove()


def leased_stage(name: str) -> StageSpec:
    return StageSpec(name=name, kind="lease")


def function_stage(name: str, **options: Any) -> StageSpec:
    return StageSpec(name=name, function=FUNCTION, **options)


def declare(driven: Driven, *stages: StageSpec) -> None:
    driven.call(driven.engine.declare_project(ProjectSpec(name=PROJECT, stages=list(stages))))
    driven.call(driven.engine.run_project(PROJECT))


def items(count: int) -> ItemsSubmission:
    values = [pack_json(n, what="an item") for n in range(count)]
    return ItemsSubmission(project=PROJECT, blocks=[pack(values)], count=count)


def add(driven: Driven, count: int) -> AddedJobs:
    return driven.call(driven.engine.add_jobs(items(count)))


def lease(driven: Driven, stage: str, n: int = 1) -> list[LeasedTask]:
    return driven.call(driven.engine.lease(LeaseRequest(project=PROJECT, stage=stage, worker="w", n=n)))


def done(tasks: Sequence[LeasedTask]) -> list[Completion]:
    return [Completion(token=task.token, output=msgspec.Raw(b"1")) for task in tasks]


def complete(driven: Driven, tasks: Sequence[LeasedTask]) -> None:
    driven.call(driven.engine.complete(done(tasks)))


def fail(driven: Driven, tasks: Sequence[LeasedTask]) -> None:
    driven.call(driven.engine.fail([TaskFailure(token=task.token, reason="no luck") for task in tasks]))


def state_of(driven: Driven, job: int | None) -> str:
    assert job is not None
    return driven.call(driven.engine.job(job)).task_state


def check_feed(driven: Driven) -> None:
    """The engine knows of each task that is queued in the file."""
    stored: Counter[tuple[int, str, int]] = Counter()
    for stage, _, tags, submitter, _, is_flagged, n in driven.call(driven.engine._store.reads.queued()):
        if not is_flagged:
            stored[stage, tags, submitter] += n
    known = Counter({key: source.size for key, source in driven.engine._feed._tasks.items()})
    assert not stored - known, "tasks that nobody would ever be handed"


async def given_up_after(steps: int, asked: Coroutine[Any, Any, Any]) -> None:
    """Ask, and go away after so many *steps* of the loop."""
    caller = asyncio.get_running_loop().create_task(asked)
    for _ in range(steps):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])


# ---- callers that go away ------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(1, 6))
def test_what_was_submitted_is_run_though_the_caller_has_gone(driven: Driven, steps: int) -> None:
    call = Submission(function=FUNCTION, input=dumps((((),), {})))
    driven.call(given_up_after(steps, driven.engine.submit(call)))

    check_feed(driven)


@pytest.mark.parametrize("steps", range(1, 6))
def test_a_completed_task_goes_on_though_its_worker_has_gone(driven: Driven, steps: int) -> None:
    declare(driven, leased_stage("a"), leased_stage("b"))
    (job,) = range((added := add(driven, 1)).first_id, added.first_id + 1)
    driven.call(given_up_after(steps, driven.engine.complete(done(lease(driven, "a")))))

    assert driven.call(driven.engine.job(job)).stage == "b"
    check_feed(driven)
    assert [task.job for task in lease(driven, "b")] == [job]


@pytest.mark.parametrize("steps", [*range(1, 6), 50, 500])
def test_a_retried_job_is_run_though_the_caller_has_gone(driven: Driven, steps: int) -> None:
    declare(driven, leased_stage("a"))
    job = add(driven, 1).first_id
    fail(driven, lease(driven, "a"))
    driven.call(given_up_after(steps, driven.engine.retry([job])))

    assert state_of(driven, job) == "queued"
    check_feed(driven)


def test_an_engine_that_closes_answers_what_was_asked_before(driven: Driven) -> None:
    async def ask_and_close() -> Any:
        call = Submission(function=FUNCTION, input=dumps((((),), {})))
        asked = asyncio.get_running_loop().create_task(driven.engine.submit(call))
        await asyncio.sleep(0)
        await driven.engine.close()
        return await asked

    status = driven._loop.run_until_complete(ask_and_close())
    driven._open()

    assert state_of(driven, status.id) == "queued"


# ---- what waits no more --------------------------------------------------------------------


def test_cancelled_tasks_are_not_looked_for_one_by_one(driven: Driven) -> None:
    declare(driven, leased_stage("a"))
    add(driven, 500)
    driven.call(driven.engine.cancel_project(PROJECT))
    store = driven.engine._store
    with mock.patch.object(store, "apply", wraps=store.apply) as applied:
        assert lease(driven, "a") == []

    assert sum(isinstance(call.args[0], Lease) for call in applied.call_args_list) <= 1


def test_a_cancelled_project_has_no_failed_jobs_however_many_slices_it_takes(driven: Driven) -> None:
    declare(driven, function_stage("a"), function_stage("all", shape="gather"))
    root = add(driven, 7).root
    with mock.patch.object(projects, "SLICE", 3), mock.patch.object(aftermath, "SLICE", 3):
        driven.call(driven.engine.cancel_project(PROJECT))
    status = driven.call(driven.engine.project(PROJECT))

    assert (status.open, status.failed, status.cancelled) == (0, 0, 8)
    assert state_of(driven, root) == "cancelled"


def test_a_job_that_goes_on_while_its_project_is_cancelled_is_cancelled_too(driven: Driven) -> None:
    declare(driven, leased_stage("a"), leased_stage("b"))
    job = add(driven, 1).first_id
    held = lease(driven, "a")
    store, apply = driven.engine._store, driven.engine._store.apply

    async def cancelled_and_completed(operation: CancelWaiting) -> Any:
        cancelled = await apply(operation)
        await driven.engine.complete(done(held))
        return cancelled

    def apply_then_complete(operation: Any) -> Any:
        is_cancelling = isinstance(operation, CancelWaiting)
        return asyncio.ensure_future(cancelled_and_completed(operation)) if is_cancelling else apply(operation)

    with mock.patch.object(store, "apply", apply_then_complete):
        driven.call(driven.engine.cancel_project(PROJECT))

    assert driven.call(driven.engine.job(job)).state == "cancelled"


def test_a_part_that_ran_when_its_gather_failed_is_not_run_again_by_the_next_engine(with_slot: Driven) -> None:
    driven = with_slot
    declare(driven, function_stage("a"), function_stage("all", shape="gather"))
    added = add(driven, 3)
    ((tasks, _),) = driven.running.values()
    (running,) = (task.job for task in tasks)
    (lost,) = {*range(added.first_id, added.first_id + 3)} - {running, added.first_id + 2}
    with mock.patch.object(aftermath, "SLICE", 1):
        driven.call(driven.engine.cancel(lost))
    driven.crash()

    assert state_of(driven, added.root) == "failed"
    assert state_of(driven, running) == "cancelled" or driven.workers.unwanted


# ---- other declarations --------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("wait", "skip"), ("skip", "wait")])
def test_parts_are_counted_as_declared_last(driven: Driven, before: Any, after: Any) -> None:
    declare(driven, leased_stage("a"), function_stage("all", shape="gather", on_failed_part=before))
    root = add(driven, 3).root
    first, second, third = lease(driven, "a", 3)
    fail(driven, [first])
    complete(driven, [second])
    declare(driven, leased_stage("a"), function_stage("all", shape="gather", on_failed_part=after))
    driven.call(driven.engine.retry([first.job]))
    complete(driven, lease(driven, "a"))

    assert state_of(driven, root) == "blocked"
    complete(driven, [third])
    assert state_of(driven, root) == "queued"


def test_a_gather_goes_on_once_failed_parts_are_declared_to_be_skipped(driven: Driven) -> None:
    declare(driven, leased_stage("a"), function_stage("all", shape="gather", on_failed_part="wait"))
    root = add(driven, 2).root
    first, second = lease(driven, "a", 2)
    fail(driven, [first])
    complete(driven, [second])
    declare(driven, leased_stage("a"), function_stage("all", shape="gather", on_failed_part="skip"))

    assert state_of(driven, root) == "queued"
    check_feed(driven)


def test_no_job_is_queued_at_a_stage_that_its_project_has_no_more(driven: Driven) -> None:
    declare(driven, leased_stage("a"), leased_stage("b"))
    job = add(driven, 1).first_id
    complete(driven, lease(driven, "a"))
    fail(driven, lease(driven, "b"))
    declare(driven, leased_stage("a"))

    with pytest.raises(StageRetired, match=r"'b'.*declare the project"):
        driven.call(driven.engine.retry([job]))
    with pytest.raises(StageRetired):
        driven.call(driven.engine.edit(job, pack_json(1, what="an item")))
    assert driven.call(driven.engine.retry_project(PROJECT)) == 0
    assert state_of(driven, job) == "failed"
    declare(driven, leased_stage("a"), leased_stage("b"))
    assert driven.call(driven.engine.retry([job])) == 1


def test_jobs_added_while_their_project_gets_other_stages_are_taken_as_those_say(driven: Driven) -> None:
    declare(driven, function_stage("a"), function_stage("all", shape="gather"))

    async def both() -> AddedJobs:
        spec = ProjectSpec(name=PROJECT, stages=[function_stage("a"), function_stage("b")])
        _, added = await asyncio.gather(driven.engine.declare_project(spec), driven.engine.add_jobs(items(2)))
        return added

    assert driven.call(asyncio.wait_for(both(), 5)).root is None


# ---- what has expired ----------------------------------------------------------------------


def test_an_expired_batch_is_not_run_again(with_slot: Driven) -> None:
    driven = with_slot
    inputs = pack([dumps(((n,), {})) for n in range(2)])
    submission = BatchSubmission(function=FUNCTION, blocks=[inputs], count=2, options=Options(keep=5.0))
    batch: BatchStatus = driven.call(driven.engine.submit_batch(submission))
    while driven.running:
        (unit,) = driven.running
        count = driven.workers.sent[unit][0].count
        driven.end(unit, [(Ending.RAISED, pack_failure(Failure("Oh", "no luck")))] * count, 10.0)
    driven.pass_by(20.0)
    driven.pass_by(20.0)

    assert driven.call(driven.engine.retry_batch(batch.id)).state == "failed"
    assert not driven.running


def test_what_is_queued_is_found_whatever_the_engine_has_known(driven: Driven) -> None:
    declare(driven, leased_stage("a"), leased_stage("b"))
    add(driven, 6)
    complete(driven, lease(driven, "a", 4))
    driven.crash()

    check_feed(driven)
    with closing(sqlite3.connect(driven.db)) as file:
        (n,) = file.execute(f"SELECT count(*) FROM task WHERE state = {State.QUEUED:d}").fetchone()
    assert n == len(lease(driven, "a", 9)) + len(lease(driven, "b", 9))


# ---- no room, and no way to where values lie -----------------------------------------------


def run_of(driven: Driven, value: bytes) -> None:
    """Have what runs on the slot succeed with *value*."""
    (unit,) = driven.running
    driven.end(unit, [(Ending.SUCCEEDED, value)], 10.0)


def test_a_job_goes_on_though_there_is_no_room_for_its_progress(with_slot: Driven) -> None:
    driven = with_slot
    declare(driven, function_stage("a"), function_stage("b"))
    job = add(driven, 1).first_id
    driven.engine._transcripts.hear(job, "progress", msgspec.msgpack.encode(Progress(1.0, 2.0, "")))
    store, apply = driven.engine._store, driven.engine._store.apply

    def full_for_progress(operation: Any) -> Any:
        if isinstance(operation, SaveProgress):
            raise DiskFull("work.db")
        return apply(operation)

    with mock.patch.object(store, "apply", full_for_progress):
        run_of(driven, pack_json(1, what="a result"))

    assert driven.call(driven.engine.job(job)).stage == "b"


def test_who_sees_the_end_of_a_job_sees_the_last_of_its_progress(with_slot: Driven) -> None:
    driven = with_slot
    declare(driven, function_stage("a"))
    job = add(driven, 1).first_id
    driven.engine._transcripts.hear(job, "progress", msgspec.msgpack.encode(Progress(4.0, 4.0, "")))
    store, apply, seen = driven.engine._store, driven.engine._store.apply, list[Any]()

    def looking_on(operation: Any) -> Any:
        if isinstance(operation, SaveProgress):
            seen.append(driven.engine._ends.get(job))
        return apply(operation)

    with mock.patch.object(store, "apply", looking_on):
        run_of(driven, pack_json(1, what="a result"))

    assert seen == [None]
    status = driven.call(driven.engine.job(job))
    assert (status.state, status.progress) == ("succeeded", Progress(4.0, 4.0, ""))


def test_a_result_waits_for_room_beside_the_file(with_slot: Driven) -> None:
    driven = with_slot
    declare(driven, function_stage("a"))
    job = add(driven, 1).first_id
    with mock.patch.object(driven.engine._values, "keep", side_effect=[DiskFull("work.db.blobs"), b"J1"]):
        run_of(driven, pack_json(1, what="a result"))
        driven.pass_by(1.0)

    assert driven.call(driven.engine.job(job)).state == "succeeded"


def test_a_batch_ends_though_its_results_cannot_be_kept(with_slot: Driven) -> None:
    driven = with_slot
    submission = BatchSubmission(function=FUNCTION, blocks=[pack([dumps((((),), {}))])], count=1)
    batch: BatchStatus = driven.call(driven.engine.submit_batch(submission))
    lost = BlobPlaceFailed("s3://bucket", "no way there")
    with mock.patch.object(driven.engine._values, "keep", side_effect=lost):
        run_of(driven, dumps(1))

    assert driven.call(driven.engine.batch(batch.id)).state == "failed"
