"""What becomes of a task whose input voters call bad: the rules."""

from __future__ import annotations

import pytest

from dcengine.codec import exception_from, unpack_failure
from dcengine.engine.outcomes import Outcome, after_flag
from dcengine.errors import InputRejected
from dcengine.events import Kind
from dcengine.jobs import Stage, State, Task, Vote

NEEDED = 3  #: votes
LIMIT = 2  #: generations
STAGE = Stage(id=3, name="b", need=1, tags="", votes=NEEDED, generations=LIMIT)


def flagged(*earlier: str, voter: str = "carol", generation: int = 0, origin: int | None = 1) -> Outcome:
    """The outcome of another flag after those of the *earlier* voters."""
    task = Task(id=7, job=1, stage=3, state=State.LEASED, attempt=1, generation=generation, origin=origin)
    return after_flag(task, STAGE, Vote(voter, "404"), earlier, told=["generation 0: alice: empty"])


def test_too_few_votes_queue_the_task_for_others() -> None:
    outcome = flagged("alice")

    assert (outcome.task.state, outcome.kind, outcome.task.flags) == (State.QUEUED, Kind.FLAGGED, 2)
    assert outcome.vote == Vote("carol", "404")
    assert "2 of 3" in (outcome.reason or "")
    assert outcome.task.errors == 0


def test_enough_distinct_voters_send_the_job_back() -> None:
    outcome = flagged("alice", "bob")

    assert (outcome.task.state, outcome.kind) == (State.RETURNED, Kind.RETURNED)
    assert outcome.output is None


def test_one_voter_counts_once_however_often_it_votes() -> None:
    assert flagged("alice", "carol").task.flags == 2
    assert flagged("alice", "carol").task.state is State.QUEUED


@pytest.mark.parametrize(("generation", "state"), [(1, State.RETURNED), (2, State.FAILED), (3, State.FAILED)])
def test_after_the_last_generation_the_job_fails(generation: int, state: State) -> None:
    assert flagged("alice", "bob", generation=generation).task.state is state


def test_the_reason_is_the_history() -> None:
    outcome = flagged("alice", "bob", generation=LIMIT)
    error = exception_from(unpack_failure(outcome.output or b""))

    assert isinstance(error, InputRejected)
    assert error.votes == ["generation 0: alice: empty", "generation 2: carol: 404"]
    assert "'b'" in str(error)
    assert "2 time(s)" in str(error)


def test_what_no_stage_has_made_cannot_go_back() -> None:
    outcome = flagged("alice", "bob", origin=None)

    assert outcome.task.state is State.FAILED
    assert "no stage before" in (outcome.reason or "")
