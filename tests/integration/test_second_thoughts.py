"""What somebody says twice, or takes back: words of workers, cancelled runs, another try for what was given up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any
from unittest import mock

import msgspec
import pytest

from dcengine.codec import Failure, pack, pack_failure, pack_function, pack_json
from dcengine.jobs import State
from dcengine.runner.units import Ending
from dcengine.store.checking import check_history
from dcengine.verbs import (
    AddedJobs,
    BatchStatus,
    BatchSubmission,
    Completion,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    ProjectSpec,
    StageSpec,
    TaskFlag,
)
from tests.driven import Driven

FUNCTION = pack_function(len)
VALUE = pack_json("value", what="a value")
FAILURE = pack_failure(Failure("ValueError", "no luck"))


@pytest.fixture
def driven() -> Iterator[Driven]:
    """An engine with two slots; at the end its history must be true."""
    driven = Driven(["ada", "bob"])
    yield driven
    driven.close()
    assert check_history(driven.db) == []
    driven.remove()


def declare(driven: Driven, *stages: StageSpec) -> None:
    driven.call(driven.engine.declare_project(ProjectSpec(name="p", stages=list(stages))))
    driven.call(driven.engine.run_project("p"))


def function(name: str, **options: Any) -> StageSpec:
    return StageSpec(name=name, function=FUNCTION, **options)


def add(driven: Driven, count: int, **facts: Any) -> AddedJobs:
    submission = ItemsSubmission(project="p", blocks=[pack([VALUE] * count)], count=count, **facts)
    return driven.call(driven.engine.add_jobs(submission))


def lease(driven: Driven, stage: str, worker: str = "w") -> LeasedTask:
    (task,) = driven.call(driven.engine.lease(LeaseRequest(project="p", stage=stage, worker=worker)))
    return task


def end(driven: Driven, job: int, ending: Ending, value: bytes = b"") -> None:
    """Have the run of *job* end so."""
    (unit,) = (unit for unit, (tasks, _) in driven.running.items() if tasks[0].job == job)
    driven.end(unit, [(ending, value)], 10.0)


def state(driven: Driven, job: int) -> str:
    return driven.call(driven.engine.job(job)).task_state


async def together(*questions: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*questions)


# ---- the same word twice -------------------------------------------------------------------


def test_a_word_said_again_while_it_is_being_stored_is_answered_alike(driven: Driven) -> None:
    declare(driven, StageSpec(name="a", kind="lease"))
    add(driven, 1)
    said = [Completion(token=lease(driven, "a").token)]
    answers = driven.call(together(*(driven.engine.complete(said) for _ in range(3))))

    assert [answer.is_accepted for (answer,) in answers] == [True] * 3
    assert [row.tasks for row in driven.call(driven.engine.leaderboard("p"))] == [1]


def test_a_job_may_end_while_it_is_being_cancelled(driven: Driven) -> None:
    declare(driven, StageSpec(name="a", kind="lease"))
    job = add(driven, 1).first_id
    reads, is_first = driven.engine._store.reads, True
    read = reads.task

    async def read_late(id: int) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            await driven.engine.cancel(job)
        return await read(id)

    with mock.patch.object(reads, "task", read_late):
        assert driven.call(driven.engine.cancel(job)).state == "cancelled"


# ---- cancelled while it ran ----------------------------------------------------------------


def test_a_cancelled_run_is_not_begun_again_because_its_worker_has_gone(driven: Driven) -> None:
    declare(driven, function("a"))
    job = add(driven, 1).first_id
    driven.call(driven.engine.cancel(job))
    (unit,) = driven.running
    driven.vanish(unit)

    assert state(driven, job) == "cancelled"
    assert not driven.running


def test_a_cancelled_run_is_not_begun_again_because_the_engine_is_closed(driven: Driven) -> None:
    declare(driven, function("a"))
    job = add(driven, 1).first_id
    driven.call(driven.engine.cancel(job))
    driven.reopen()

    assert state(driven, job) == "cancelled"
    assert not driven.running


def test_a_cancelled_item_is_not_begun_again_because_its_worker_has_gone(driven: Driven) -> None:
    batch = submit_batch(driven, 1)
    driven.call(driven.engine.cancel(batch.first_job))
    (unit,) = driven.workers.sent
    driven.vanish(unit)

    assert driven.call(driven.engine.batch(batch.id)).cancelled == 1
    assert not driven.workers.sent


@pytest.mark.parametrize("is_whole", [True, False])
def test_cancelled_items_are_not_begun_again_because_the_engine_is_closed(driven: Driven, is_whole: bool) -> None:
    batch = submit_batch(driven, 2)
    engine = driven.engine
    driven.call(engine.cancel_batch(batch.id) if is_whole else engine.cancel(batch.first_job))
    driven.reopen()

    status = driven.call(driven.engine.batch(batch.id))
    assert (status.cancelled, status.running) == ((2, 0) if is_whole else (1, 1))


def submit_batch(driven: Driven, count: int) -> BatchStatus:
    blocks = [pack([b"input"] * count)]
    return driven.call(driven.engine.submit_batch(BatchSubmission(function=FUNCTION, blocks=blocks, count=count)))


# ---- another try ---------------------------------------------------------------------------


def test_a_part_that_still_runs_goes_on_with_the_job_that_had_given_it_up(driven: Driven) -> None:
    declare(driven, function("a"), function("b"), function("all", shape="gather"))
    root = add(driven, 2).root
    assert root is not None
    end(driven, root + 1, Ending.RAISED, FAILURE)
    assert state(driven, root) == "failed"
    driven.call(driven.engine.retry([root]))
    end(driven, root + 2, Ending.INTERRUPTED)  # it had been told to stop before

    assert state(driven, root) == "blocked"
    for _ in range(4):
        (unit, (tasks, _)), *_ = driven.running.items()
        driven.end(unit, [(Ending.SUCCEEDED, VALUE)] * len(tasks), 10.0)
    end(driven, root, Ending.SUCCEEDED, VALUE)
    assert state(driven, root) == "succeeded"


def test_a_skipped_part_is_tried_again_though_the_whole_has_failed_for_another_reason(driven: Driven) -> None:
    declare(driven, function("a"), function("all", shape="gather", on_failed_part="skip"))
    root = add(driven, 2).root
    assert root is not None
    end(driven, root + 1, Ending.RAISED, FAILURE)
    end(driven, root + 2, Ending.SUCCEEDED, VALUE)
    end(driven, root, Ending.RAISED, FAILURE)
    assert driven.call(driven.engine.retry([root + 1])) == 1

    assert (state(driven, root), state(driven, root + 1)) == ("failed", "leased")


def test_a_job_that_was_cancelled_while_parts_were_added_waits_for_the_rest(driven: Driven) -> None:
    declare(driven, function("a"), function("all", shape="gather"))
    root = add(driven, 1, is_last=False).root
    assert root is not None
    end(driven, root + 1, Ending.SUCCEEDED, VALUE)
    driven.call(driven.engine.cancel(root))
    driven.call(driven.engine.retry([root]))

    assert state(driven, root) == "blocked"
    add(driven, 0, root=root)
    assert state(driven, root) == "leased"


# ---- credit for nothing --------------------------------------------------------------------


def test_credit_of_no_units_is_taken_back_like_any_other(driven: Driven) -> None:
    lease_stage = {"kind": "lease", "votes": 1, "generations": 0, "credit": "unit"}
    declare(driven, StageSpec(name="a", **lease_stage), StageSpec(name="b", **lease_stage))
    job = add(driven, 1).first_id
    said = [Completion(token=lease(driven, "a").token, output=msgspec.Raw(b"1"), units=0)]
    driven.call(driven.engine.complete(said))
    driven.call(driven.engine.flag([TaskFlag(token=lease(driven, "b").token)]))

    made, flagged = driven.call(driven.engine.history(job))
    assert (made.state, flagged.state) == (State.SUCCEEDED.name.lower(), "failed")
    assert [each.what for each in made.tries] == ["returned"]  # told of the task that earned it
