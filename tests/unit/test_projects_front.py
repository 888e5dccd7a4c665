"""What `dcengine.Project` sends, refuses and makes of the answers, over an engine in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

import dcengine
from dcengine import api, codec
from dcengine.errors import (
    DcengineError,
    InvalidOption,
    NotFound,
    ProjectBlocked,
    ProjectPaused,
    ResultExpired,
)
from dcengine.projects import Project
from dcengine.verbs import ItemsSubmission, JobStatus, ProjectSpec, ProjectStatus, StageOutput, StageStatus
from tests.unit.linked import DoubleLink


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[DoubleLink]:
    opened = DoubleLink()
    monkeypatch.setattr(api.front, "current", lambda: opened)
    monkeypatch.setattr("dcengine.api.current", lambda: opened)
    yield opened
    opened.loop.close()


@pytest.fixture
def project(link: DoubleLink) -> Project:
    return dcengine.Project("photos")


def declared(project: Project) -> ProjectSpec:
    return project.spec()


def added(link: DoubleLink) -> list[ItemsSubmission]:
    return [each for each in link.engine.submissions if isinstance(each, ItemsSubmission)]


def values_of(submission: ItemsSubmission) -> list[Any]:
    return [codec.loads(value) for block in submission.blocks for value in codec.unpack(block)]


# ---- declaring -----------------------------------------------------------------------------


def test_a_stage_is_sent_with_all_its_options(project: Project) -> None:
    @project.stage(
        tags="gpu", retries=2, crash_retries=1, timeout="10m", title="Crop it", priority=3, lease_seconds=60,
        back_off=timedelta(seconds=2), back_off_limit="1h", votes=4, generations=5, credit="unit", paused=True,
    )  # fmt: skip
    def crop(photo: str) -> str:
        return photo

    (stage,) = declared(project).stages
    assert stage.function is not None
    assert codec.loads(stage.function.code)("x") == "x"
    assert replace(stage, function=None) == dcengine.verbs.StageSpec(
        name="crop", tags="gpu", retries=2, crash_retries=1, timeout=600.0, title="Crop it", priority=3,
        lease_seconds=60.0, back_off=2.0, back_off_limit=3600.0, votes=4, generations=5, credit="unit",
        is_paused=True,
    )  # fmt: skip
    assert crop("y") == "y"


def test_shapes_and_kinds_are_sent(project: Project) -> None:
    project.expand(list, name="split")
    project.lease_stage("see", tags="gpu", votes=5, title="GPU")
    project.gather(on_failed_part="skip", name="join")(sum)

    split, see, join = declared(project).stages
    assert [(each.kind, each.shape) for each in (split, see, join)] == [
        ("function", "expand"), ("lease", "map"), ("function", "gather"),
    ]  # fmt: skip
    assert (see.function, see.votes, see.title, join.on_failed_part) == (None, 5, "GPU", "skip")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", "x"), ("retries", True), ("timeout", "soon"), ("timeout", -1), ("tags", None), ("priority", 1.5),
        ("votes", "many"), ("credit", "hours"), ("paused", 1), ("title", 5), ("back_off", None),
    ],
)  # fmt: skip
def test_an_impossible_option_is_named_at_once(project: Project, option: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=f"{option} of stage 'crop' cannot be"):
        project.stage(name="crop", **{option: value})(str)  # type: ignore[call-overload]


def test_an_unknown_option_is_refused_with_the_nearest(project: Project) -> None:
    with pytest.raises(TypeError, match="no option 'retrys'; did you mean 'retries'"):
        project.stage(retrys=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="on_failed_part"):
        project.stage(on_failed_part="skip")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="shape"):
        project.lease_stage("a", shape="gather")  # type: ignore[call-arg]


def test_a_lease_stage_takes_no_function(project: Project) -> None:
    with pytest.raises(InvalidOption, match="outside workers do its tasks"):
        project.lease_stage(len)  # type: ignore[arg-type]


def test_stages_that_do_not_nest_are_refused_before_anything_is_sent(project: Project, link: DoubleLink) -> None:
    project.expand(list, name="split")
    with pytest.raises(InvalidOption, match="the expand 'split' cannot be the last stage"):
        project.add([1])
    project.gather(sum, name="join")
    with pytest.raises(InvalidOption, match="the gather 'join' cannot be right after the expand 'split'"):
        project.run()

    assert link.asked == []


# ---- adding --------------------------------------------------------------------------------


def test_items_go_with_what_was_asked_for(project: Project, link: DoubleLink) -> None:
    project.stage(name="crop")(str)

    before = time.time()
    project.add(iter([1, 2]), priority=3, not_before=timedelta(hours=1), keys=lambda item: f"k{item}", keep="1d")

    (sent,) = added(link)
    assert values_of(sent) == [1, 2]
    assert (sent.priority, sent.keys, sent.keep, sent.root, sent.is_last) == (3, ["k1", "k2"], 86400.0, None, True)
    assert sent.not_before is not None
    assert before + 3600 <= sent.not_before <= time.time() + 3600
    assert all(code[0] == 0x80 for code in codec.unpack(sent.blocks[0]))


def test_keys_stay_with_their_items_over_all_blocks(project: Project, link: DoubleLink) -> None:
    project.stage(name="crop")(str)

    assert project.add(range(10_000), keys=map(str, range(10_000))) == range(1, 10_001)

    blocks = added(link)
    assert len(blocks) == 3
    assert all(block.keys == [str(value) for value in values_of(block)] for block in blocks)


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"], "ab", [1, 2], ["a", ""], iter(["a"]), iter("abc")])
def test_keys_that_do_not_fit_are_refused(project: Project, link: DoubleLink, keys: Any) -> None:
    project.stage(name="crop")(str)

    with pytest.raises(InvalidOption, match="key"):
        project.add([1, 2], keys=keys)
    assert added(link) == []


def test_outside_workers_get_json(project: Project, link: DoubleLink) -> None:
    project.lease_stage("see")

    project.add([{"url": "x"}, None])

    (sent,) = added(link)
    assert codec.unpack(sent.blocks[0])[0][:1] == b"J"
    assert values_of(sent) == [{"url": "x"}, None]
    with pytest.raises(DcengineError, match="item 2"):
        project.add([1, {1, 2}])
    again = dcengine.Project("photos")  # what the engine says of the first stage counts
    again.add([3])
    assert codec.unpack(added(link)[-1].blocks[0])[0][:1] == b"J"


class RootLink(DoubleLink):
    """Answers as an engine where a gather waits for all that is added: the first block makes the root."""

    def call(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        answer = super().call(verb, *args, **kwargs)
        return answer if verb != "add_jobs" else type(answer)(answer.first_id, answer.first_number, answer.count, 77)


def test_all_blocks_of_one_add_have_one_root(monkeypatch: pytest.MonkeyPatch) -> None:
    link = RootLink()
    monkeypatch.setattr("dcengine.api.current", lambda: link)
    project = dcengine.Project("photos")
    project.stage(name="crop")(str)
    project.gather(name="join")(sum)

    project.add(range(9_000))
    project.add([1])
    project.add([])

    assert [(each.count, each.root, each.is_last) for each in added(link)] == [
        (4096, None, False), (4096, 77, False), (808, 77, True), (1, None, True),
    ]  # fmt: skip
    link.loop.close()


def test_an_add_that_breaks_off_gives_its_root_up(monkeypatch: pytest.MonkeyPatch) -> None:
    link = RootLink()
    link.engine.statuses[77] = JobStatus(id=77, project="photos", number=1, name="", state="open", task_state="blocked")
    monkeypatch.setattr("dcengine.api.current", lambda: link)
    project = dcengine.Project("photos")
    project.stage(name="crop")(str)
    project.gather(name="join")(sum)

    with pytest.raises(dcengine.NotPicklable, match="item 9001"):
        project.add([*range(9_000), threading.Lock()])

    assert link.engine.statuses[77].state == "cancelled"
    link.loop.close()


# ---- waiting -------------------------------------------------------------------------------


def stage(name: str, shape: str = "map", *, is_paused: bool = False, **counts: int) -> StageStatus:
    return StageStatus(name=name, tags="", counts=counts, shape=shape, is_paused=is_paused)  # type: ignore[arg-type]


def standing(link: DoubleLink, *stages: StageStatus, **counts: int) -> Project:
    status = ProjectStatus(name="photos", is_paused=False, stages=[*stages], **counts)  # type: ignore[arg-type]
    link.engine.project_statuses["photos"] = status
    return dcengine.Project("photos")


def fail(link: DoubleLink, number: int, stage: str, parent: int | None = None, reason: str = "bad") -> None:
    """Have a job of the project fail, a part of number *parent*."""
    data = codec.pack_failure(codec.failure_from(ValueError(reason)))
    end = StageOutput(100 + number, number, "failed", data, stage, parent)
    link.engine.stage_outputs.setdefault(f"photos/{stage}", []).append(end)
    job(link, number, "failed", stage, parent, data)


def job(
    link: DoubleLink, number: int, state: str, stage: str, parent: int | None = None, data: bytes | None = None
) -> None:
    link.engine.statuses[100 + number] = JobStatus(
        id=100 + number, project="photos", number=number, name="", state=state, stage=stage,
        task_state="blocked" if state == "open" else state, parent=None if parent is None else 100 + parent,
    )  # fmt: skip
    if data is not None:
        link.engine.results[100 + number] = dcengine.verbs.JobResult(state, data)


def test_a_paused_stage_that_holds_all_is_named(link: DoubleLink) -> None:
    stuck = standing(link, stage("a", succeeded=2), stage("b", is_paused=True, queued=2), open=2)
    with pytest.raises(ProjectPaused, match=r"stage 'b' of project 'photos' is paused with 2 .*resume\('b'\)"):
        stuck.wait(5)
    assert stuck.outputs("a") == {}  # nothing has still to leave it

    moving = standing(link, stage("a", leased=1), stage("b", is_paused=True, queued=1), open=2)
    with pytest.raises(dcengine.ResultNotReady):
        moving.wait(0.05)


def test_a_gather_that_waits_for_failed_parts_is_told(link: DoubleLink) -> None:
    project = standing(
        link, stage("a", "expand", succeeded=1), stage("b", failed=1), stage("c", "gather", blocked=1), open=1, failed=1
    )
    job(link, 1, "open", "c")
    fail(link, 2, "b", parent=1, reason="no light")

    with pytest.raises(ProjectBlocked, match=r"job 2 at stage 'b': ValueError: no light; retry\(\)"):
        project.wait(5)


def test_a_gather_whose_parts_are_still_added_is_waited_for(link: DoubleLink) -> None:
    project = standing(link, stage("b", failed=1), stage("c", "gather", blocked=1, failed=1), open=1, failed=2)
    job(link, 1, "failed", "c")
    fail(link, 2, "b", parent=1)  # of another add, which has ended

    with pytest.raises(dcengine.ResultNotReady):
        project.wait(0.05)


# ---- results -------------------------------------------------------------------------------


def give(link: DoubleLink, stage: str, values: dict[int, object]) -> None:
    link.engine.stage_outputs[f"photos/{stage}"] = [
        StageOutput(100 + number, number, "succeeded", codec.dumps(value), stage) for number, value in values.items()
    ]


def test_results_are_those_of_jobs_that_come_to_the_end(link: DoubleLink) -> None:
    project = standing(
        link, stage("a", "expand", succeeded=2), stage("b", succeeded=4), stage("c", "gather", succeeded=2),
        succeeded=6,
    )  # fmt: skip
    give(link, "c", {1: "one", 4: "four"})

    assert project.results() == ["one", "four"]


def test_a_skipped_part_is_no_failure_of_the_whole(link: DoubleLink) -> None:
    shapes = (stage("a", "expand", succeeded=1), stage("b", succeeded=1, failed=1), stage("c", "gather", succeeded=1))
    project = standing(link, *shapes, succeeded=2, failed=1)
    give(link, "c", {1: "whole"})
    fail(link, 3, "b", parent=1)

    assert project.results() == ["whole"]
    assert [letter.number for letter in project.failed()] == [3]
    assert [*project.failures] == [3]


def test_a_part_that_no_gather_takes_fails_for_itself(link: DoubleLink) -> None:
    project = standing(
        link, stage("a", "expand", succeeded=1), stage("b", succeeded=1, failed=1), succeeded=2, failed=1
    )
    give(link, "b", {2: "fine"})
    fail(link, 3, "b", parent=1, reason="no light")

    with pytest.raises(ValueError, match="no light"):
        project.results()


def test_the_first_failure_is_raised_also_if_it_was_a_cancel(link: DoubleLink) -> None:
    shapes = (stage("a", "expand", succeeded=1), stage("b", cancelled=1), stage("c", "gather", failed=1, cancelled=1))
    project = standing(link, *shapes, failed=1, cancelled=2)
    job(link, 2, "cancelled", "c", data=b"")
    job(link, 3, "cancelled", "b", parent=2, data=b"")
    fail(link, 4, "c", reason="late")

    with pytest.raises(dcengine.JobCancelled, match="102"):
        project.results()


def test_values_that_were_kept_for_a_set_time_are_told_to_be_gone(link: DoubleLink) -> None:
    project = standing(link, stage("a", succeeded=1), succeeded=1)
    link.engine.stage_outputs["photos/a"] = [StageOutput(101, 1, "succeeded", b"", "a")]
    job(link, 1, "succeeded", "a")
    link.engine.results[101] = dcengine.verbs.JobResult("expired", b"")

    for ask in (project.results, project.outputs, project.job(1).result):
        with pytest.raises(ResultExpired, match="job 101"):
            ask()
    assert project.job(1).done()


# ---- steering ------------------------------------------------------------------------------


def test_what_is_done_to_a_project_is_asked_for_as_it_was_said(link: DoubleLink) -> None:
    project = standing(link, stage("a", queued=1), stage("b"), open=1, failed=2)

    assert project.pause("b").stages[1].is_paused
    assert not project.resume("b").stages[1].is_paused
    assert project.pause().is_paused
    assert project.retry("a", cancelled=True) == 2
    assert project.cancel() == 3
    assert [call for call in link.asked if call[0] != "project"] == [
        ("pause_project", "photos", {"stage": "b"}),
        ("run_project", "photos", {"stage": "b"}),
        ("pause_project", "photos", {"stage": None}),
        ("retry_project", "photos", {"stage": "a", "cancelled": True}),
        ("cancel_project", "photos", {}),
    ]


def test_delete_says_what_would_go_and_needs_a_word_to_do_it(link: DoubleLink) -> None:
    project = standing(link, stage("a", queued=3), open=3)

    assert repr(project.delete()) == (
        "<project 'photos': 3 job(s), 3 of them open and 0 running, and the credit of 2 contributor(s)>"
    )
    assert project.status().open == 3
    project.delete(confirm=True)
    with pytest.raises(NotFound):
        project.status()


def test_jobs_are_listed_newest_first_and_no_more_than_asked_for(link: DoubleLink) -> None:
    project = standing(link, stage("a", queued=3), open=3)
    for number in range(1, 6):
        job(link, number, "open", "a")
    fail(link, 6, "a")

    assert [each.number for each in project.jobs(limit=2)] == [6, 5]
    assert [each.number for each in project.jobs("failed")] == [6]
    assert len(project.jobs()) == 6
    assert repr(project.jobs("failed")).splitlines()[1].split() == ["6", "a", "failed"]
    with pytest.raises(InvalidOption, match="'done'"):
        project.jobs("done")


def test_dead_letters_print_with_their_reasons(link: DoubleLink) -> None:
    project = standing(link, stage("a", failed=2), stage("b"), failed=2)
    fail(link, 1, "a", reason="\x1b[31mred")
    fail(link, 2, "b")

    assert [letter.number for letter in project.failed("b")] == [2]
    assert repr(project.failed()).splitlines() == [
        "job  stage  reason", r"  1  a      ValueError: \x1b[31mred", "  2  b      ValueError: bad",
    ]  # fmt: skip


def test_leaderboards_have_spans(link: DoubleLink) -> None:
    project = standing(link, stage("a"))

    assert project.leaderboard("week").span == "week"
    assert dcengine.leaderboard("photos", span="day").span == "day"
    assert project.standing("bob", "month").rank == 2
    assert [call[-1]["span"] for call in link.asked] == ["week", "day", "month"]
    for ask in (project.leaderboard, lambda span: project.standing("bob", span)):
        with pytest.raises(InvalidOption, match="'all' or 'month' or 'week' or 'day'"):
            ask("year")


def test_single_calls_may_begin_later_and_be_kept_for_a_time(link: DoubleLink) -> None:
    dcengine.submit(len, "ab", not_before=5.0, keep=timedelta(hours=1))
    dcengine.map(len, ["a"], not_before="+1h", keep=60)

    single, batch = (each.options for each in link.engine.submissions if not isinstance(each, ItemsSubmission))
    assert (single.not_before, single.keep) == (5.0, 3600.0)
    assert (round((batch.not_before or 0) - time.time(), -2), batch.keep) == (3600, 60.0)
    with pytest.raises(InvalidOption, match="keep"):
        dcengine.submit(len, "ab", keep=-1)
