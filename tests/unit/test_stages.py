"""Which stage follows which, and what is held back."""

from __future__ import annotations

from dcengine.codec import unpack_failure
from dcengine.engine.feeding import Feed
from dcengine.engine.outcomes import after_run
from dcengine.engine.stages import Stages
from dcengine.events import Kind
from dcengine.jobs import Project, Stage, State, Task, Worker
from dcengine.runner.units import Ending

FIRST, SECOND = (Stage(id=id, name=f"stage {id}", need=1, tags="", function=b"f") for id in (2, 3))
WORKER = Worker(name="w1", address="", contributor="me", tags={}, slots=1)


def a_project(*stages: Stage, is_paused: bool = False) -> Project:
    return Project(id=2, name="photos", is_paused=is_paused, stages=stages)


def leased(stage: int = FIRST.id) -> Task:
    return Task(id=1, job=1, stage=stage, state=State.LEASED, attempt=1)


def test_a_stage_is_followed_by_the_next_and_the_last_by_none() -> None:
    stages = Stages()
    stages.learn(a_project(FIRST, SECOND))

    assert stages.after(FIRST.id) == SECOND
    assert stages.after(SECOND.id) is None
    assert stages.after(1) is None
    assert (stages.project_of(FIRST.id), stages.project_of(1)) == ("photos", None)


def test_what_was_declared_last_counts() -> None:
    stages = Stages()
    stages.learn(a_project(FIRST, SECOND))
    changed = Stage(id=SECOND.id, name="stage 3", need=4, tags="gpu", function=b"g")

    stages.learn(a_project(changed, is_paused=True))

    assert stages.now(SECOND) == changed
    assert stages.after(FIRST.id) is None
    assert stages.first("photos") == changed
    assert stages.is_paused("photos")
    assert not stages.is_paused("functions")
    assert stages.of("nobody") == ()


def test_a_success_opens_the_stage_that_follows() -> None:
    outcome = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=False, following=SECOND)

    assert (outcome.task.state, outcome.opens, outcome.output) == (State.SUCCEEDED, SECOND, b"output")


def test_a_cancelled_job_does_not_go_on_though_its_stage_came_to_an_end() -> None:
    in_the_middle = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=True, following=SECOND)
    at_the_end = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=True)

    assert (in_the_middle.task.state, in_the_middle.kind, in_the_middle.opens) == (
        State.CANCELLED, Kind.CANCELLED, None,
    )  # fmt: skip
    assert unpack_failure(in_the_middle.output or b"").kind.endswith("JobCancelled")
    assert at_the_end.task.state is State.SUCCEEDED


def test_a_run_that_did_not_succeed_opens_nothing() -> None:
    outcome = after_run(leased(), Ending.INTERRUPTED, b"", unwanted=False, following=SECOND)

    assert (outcome.task.state, outcome.opens) == (State.QUEUED, None)


def test_tasks_of_paused_stages_are_not_handed_out() -> None:
    feed = Feed()
    feed.paused.add(FIRST.id)
    feed.tasks(FIRST.id, 1, "").add(9)
    assert feed.choose(WORKER) is None

    feed.tasks(SECOND.id, 1, "").add(0)
    assert feed.choose(WORKER) is feed.known(SECOND.id, "")
    feed.paused.clear()
    assert feed.choose(WORKER) is feed.known(FIRST.id, "")


def test_a_recount_replaces_what_was_known_of_these_stages_only() -> None:
    feed = Feed()
    feed.tasks(FIRST.id, 1, "").add(0, 5)
    feed.tasks(SECOND.id, 1, "").add(0, 5)

    feed.recount({FIRST.id}, [(FIRST.id, 2, "gpu", 3, 4)])

    sizes = {(source.stage, source.tags): source.size for source in feed.sources()}  # type: ignore[union-attr]
    assert sizes == {(FIRST.id, "gpu"): 4, (SECOND.id, ""): 5}
