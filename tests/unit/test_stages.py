"""Which stage follows which, and what is held back."""

from __future__ import annotations

from dcengine.codec import loads, pack, unpack_failure
from dcengine.engine.feeding import Feed
from dcengine.engine.outcomes import after_run
from dcengine.engine.stages import END, Following, Stages
from dcengine.events import Kind
from dcengine.jobs import Project, Stage, State, Task, Worker, closing_gather
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

    assert stages.after(FIRST.id) == Following(SECOND)
    assert stages.after(SECOND.id) == END
    assert stages.after(1) == END
    assert (stages.project_of(FIRST.id), stages.project_of(1)) == ("photos", None)


def test_what_was_declared_last_counts() -> None:
    stages = Stages()
    stages.learn(a_project(FIRST, SECOND))
    changed = Stage(id=SECOND.id, name="stage 3", need=4, tags="gpu", function=b"g")

    stages.learn(a_project(changed, is_paused=True))

    assert stages.get(SECOND.id) == changed
    assert stages.get(FIRST.id) is None
    assert stages.of("photos") == (changed,)
    assert stages.is_paused("photos")
    assert not stages.is_paused("functions")
    assert stages.of("nobody") == ()


def test_a_success_opens_the_stage_that_follows() -> None:
    outcome = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=False, following=Following(SECOND))

    assert (outcome.task.state, outcome.following.stage, outcome.output) == (State.SUCCEEDED, SECOND, b"output")


def test_a_cancelled_job_does_not_go_on_though_its_stage_came_to_an_end() -> None:
    in_the_middle = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=True, following=Following(SECOND))
    at_the_end = after_run(leased(), Ending.SUCCEEDED, b"output", unwanted=True)

    assert (in_the_middle.task.state, in_the_middle.kind, in_the_middle.following) == (
        State.CANCELLED, Kind.CANCELLED, END,
    )  # fmt: skip
    assert unpack_failure(in_the_middle.output or b"").kind.endswith("JobCancelled")
    assert at_the_end.task.state is State.SUCCEEDED


def test_a_run_that_did_not_succeed_opens_nothing() -> None:
    outcome = after_run(leased(), Ending.INTERRUPTED, b"", unwanted=False, following=Following(SECOND))

    assert (outcome.task.state, outcome.following) == (State.QUEUED, END)


def test_tasks_of_paused_stages_are_not_handed_out() -> None:
    feed = Feed()
    feed.paused.add(FIRST.id)
    feed.tasks(FIRST.id, 1, "", 1).add(9)
    assert feed.choose(WORKER) is None

    feed.tasks(SECOND.id, 1, "", 1).add(0)
    assert feed.choose(WORKER) is feed.known(SECOND.id, "", 1)
    feed.paused.clear()
    assert feed.choose(WORKER) is feed.known(FIRST.id, "", 1)


def test_a_recount_replaces_what_was_known_of_these_stages_only() -> None:
    feed = Feed()
    feed.tasks(FIRST.id, 1, "", 1).add(0, 5)
    feed.tasks(SECOND.id, 1, "", 1).add(0, 5)

    feed.forget({FIRST.id})
    feed.count([(FIRST.id, 2, "gpu", 1, 3, 0, 4)])

    sizes = {(source.stage, source.tags): source.size for source in feed.sources()}  # type: ignore[union-attr]
    assert sizes == {(FIRST.id, "gpu"): 4, (SECOND.id, ""): 5}


# ---- parts ---------------------------------------------------------------------------------


def in_shapes(*shapes: str) -> tuple[Stages, list[Stage]]:
    """The stages of a project with these shapes, learned."""
    made = [
        Stage(id=place, name=f"stage {place}", need=1, tags="", function=b"f", shape=shape)  # type: ignore[arg-type]
        for place, shape in enumerate(shapes, 2)
    ]
    stages = Stages()
    stages.learn(a_project(*made))
    return stages, made


def test_after_an_expand_the_parts_go_on_and_the_gather_that_closes_it_waits() -> None:
    stages, (split, work, join, last) = in_shapes("expand", "map", "gather", "map")

    assert stages.after(split.id) == Following(work, join)
    assert stages.after(work.id) == END
    assert stages.after(join.id) == Following(last)
    assert closing_gather(stages.of("photos")) is None


def test_expands_and_gathers_nest_like_brackets() -> None:
    stages, (outer, inner, work, close_inner, close_outer) = in_shapes("expand", "expand", "map", "gather", "gather")

    assert stages.after(outer.id) == Following(inner, close_outer)
    assert stages.after(inner.id) == Following(work, close_inner)
    assert stages.after(close_inner.id) == END


def test_a_gather_without_an_expand_waits_for_all_that_one_add_adds() -> None:
    stages, (_, split, part, join, all_of_it) = in_shapes("map", "expand", "map", "gather", "gather")

    assert closing_gather(stages.of("photos")) == all_of_it
    assert stages.after(split.id) == Following(part, join)


def test_parts_without_a_gather_go_their_own_ways() -> None:
    stages, (split, work) = in_shapes("expand", "map")

    assert stages.after(split.id) == Following(work, None)


def test_an_expand_leaves_the_number_of_its_parts_and_hands_their_values_on() -> None:
    stages, (split, work, join) = in_shapes("expand", "map", "gather")

    outcome = after_run(
        leased(split.id), Ending.SUCCEEDED, pack([b"one", b"two"]), unwanted=False, stage=split,
        following=stages.after(split.id),
    )  # fmt: skip

    assert (outcome.following, outcome.parts) == (Following(work, join), [b"one", b"two"])
    assert loads(outcome.output or b"") == 2
