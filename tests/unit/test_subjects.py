"""What views ask for, and what they make of the answers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from dcengine.batches import BatchHandle
from dcengine.errors import EngineUnreachable, NotFound
from dcengine.handles import JobHandle
from dcengine.lists import Explained, JobList, Leaderboard, WorkerList
from dcengine.verbs import (
    BatchStatus,
    EngineStatus,
    Explanation,
    FailedItem,
    FailureGroup,
    FailureGroups,
    JobFilter,
    JobPage,
    JobStatus,
    LeaderboardRow,
    ProjectStatus,
    StageStatus,
    Throughput,
    WorkerStatus,
    WorkerVerdict,
)
from dcengine_magics.views.board import BoardSubject
from dcengine_magics.views.browser import REST_SECONDS, Browser
from dcengine_magics.views.sights import LOST
from dcengine_magics.views.subjects import (
    IDLE_LOOKS,
    BatchSubject,
    JobSubject,
    LeaderboardSubject,
    StillSubject,
    WorkersSubject,
    subject_of,
)

BATCH = BatchStatus(id=1, project="functions", name="f", state="open", count=10)
JOB = JobStatus(id=1, project="functions", number=1, name="f", state="open", task_state="queued")
NOTHING = Throughput(at=0.0, credit=[], stages={})
VERDICT = WorkerVerdict(name="w7", lacking=["gpu"])
EXPLAINED = Explained.of(Explanation(sentence="1 worker, w7, lacks gpu", workers=[VERDICT]))


class Way:
    """A link that answers from a dictionary and remembers what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked.append(verb)
        future: Future[Any] = Future()
        answer = self.answers.get(verb)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return self.start(verb, *args, **kwargs).result(0)


def failure(pattern: str, count: int) -> FailureGroup:
    return FailureGroup(
        project="p", stage="load", pattern=pattern, count=count, reason="4 dead", jobs=[5], newest=0.0, oldest=0.0
    )


def groups_of(groups: list[FailureGroup]) -> FailureGroups:
    return FailureGroups(groups=groups, looked_at=8, is_all=True)


def engine(leased: int) -> EngineStatus:
    return EngineStatus(
        version="", db="", url="", pid=1, started=0.0, scheduler=None, workers=1, slots=1, counts={"leased": leased}
    )


def test_failures_are_read_only_when_there_are_more_of_them() -> None:
    way = Way(batch=BATCH, failures=[FailedItem(4, 5, "ValueError: bad")])
    subject = BatchSubject(BatchHandle(way, BATCH))
    subject.look(1.0)
    way.answers["batch"] = BatchStatus(id=1, project="functions", name="f", state="open", count=10, failed=1)
    seen = [subject.look(1.0), subject.look(1.0)]

    assert way.asked == ["batch", "batch", "failures", "batch"]
    assert all("ValueError: bad" in sight.text and "ValueError: bad" in sight.html for sight in seen)


def test_a_job_that_waits_says_why() -> None:
    way = Way(job=JOB, why="job 1 waits for a worker: none has gpu")

    assert "none has gpu" in JobSubject(JobHandle(way, 1)).look(1.0).text


def test_an_engine_that_does_not_answer_in_time_is_lost() -> None:
    with pytest.raises(LOST):
        JobSubject(JobHandle(Way(), 1)).look(0.001)


def test_a_board_is_at_rest_when_no_job_is_open_or_nothing_moves_in_a_pause() -> None:
    def stages(**counts: int) -> list[StageStatus]:
        return [StageStatus(name="load", tags="", counts=counts)]

    statuses = [
        ProjectStatus(name="p", is_paused=False, stages=stages(queued=3), open=3),
        ProjectStatus(name="p", is_paused=True, stages=stages(queued=2, leased=1), open=3),
        ProjectStatus(name="p", is_paused=True, stages=stages(queued=3), open=3),
        ProjectStatus(name="p", is_paused=False, stages=stages(), succeeded=3),
    ]

    sights = [BoardSubject(Way(project=status, throughput=NOTHING), "p", "p").look(1.0) for status in statuses]
    assert [sight.is_over for sight in sights] == [False, False, True, True]
    assert [[act.label for act in sight.acts] for sight in sights] == [
        ["Pause", "Cancel"],
        *[["Run", "Cancel"]] * 2,
        [],
    ]


def test_a_board_groups_failures_and_offers_to_queue_a_group_again() -> None:
    status = ProjectStatus(name="p", is_paused=False, stages=[], failed=9)
    groups = [failure("ValueError: N dead", 7), failure("OSError: no", 1)]
    way = Way(project=status, throughput=NOTHING, failure_groups=groups_of(groups))
    sight = BoardSubject(way, "p", "p").look(1.0)

    assert "7 x ValueError: N dead at load (%job 5)" in sight.text
    assert "and 1 more" in sight.text
    assert [act.label for act in sight.acts] == [
        "Requeue failed", "Requeue 7 × ValueError: N dead", "Requeue 1 × 4 dead"
    ]  # fmt: skip
    assert (sight.acts[1].verb, sight.acts[1].args) == ("retry_failures", ("p", "load", "ValueError: N dead"))


def test_a_board_asks_for_what_costs_more_only_when_something_has_changed() -> None:
    now = ProjectStatus(name="p", is_paused=False, stages=[StageStatus(name="load", tags="", counts={})], open=3)
    way = Way(project=now, throughput=NOTHING)
    subject = BoardSubject(way, "p", "p")
    for _ in range(5):
        subject.look(1.0)

    assert way.asked.count("throughput") == 1
    assert "newest_outputs" not in way.asked
    assert "failure_groups" not in way.asked


def test_a_project_the_engine_has_not_heard_of_is_shown_as_it_is_known_here() -> None:
    sight = BoardSubject(Way(project=NotFound("project", "p")), "p", "<dcengine project 'p'>").look(1.0)

    assert (sight.text, sight.is_over, sight.acts) == ("<dcengine project 'p'>", True, ())


def test_a_browser_asks_nobody_until_somebody_does_something_and_rests_after_a_while() -> None:
    now = [0.0]
    way = Way(find_jobs=JobPage([JOB], None), batches=[])
    browser = Browser(JobList([JOB], link=way, older=1), lambda: now[0])
    at_rest = browser.look(1.0)
    browser.older()
    moved = browser.look(1.0)
    now[0] += REST_SECONDS + 1

    assert (at_rest.is_over, moved.is_over) == (True, False)
    assert way.asked == ["find_jobs"]
    assert browser.has_newer
    assert browser.look(1.0).is_over


def test_a_browser_says_that_there_is_no_such_project_and_goes_on() -> None:
    browser = Browser(JobList([JOB], link=Way(find_jobs=NotFound("project", "nope"))))
    browser.search(JobFilter(project="nope"))
    sight = browser.look(1.0)

    assert "no project nope" in sight.text
    assert not sight.is_over


def test_a_leaderboard_grows_while_there_is_work_and_rests_after_it() -> None:
    way = Way(status=engine(1), leaderboard=[LeaderboardRow("alice", 2, 1.0)])
    subject = LeaderboardSubject(Leaderboard([LeaderboardRow("alice", 1, 1.0)], link=way))
    first = subject.look(1.0)
    way.answers.update(status=engine(0), leaderboard=[LeaderboardRow("alice", 3, 1.0)])
    rest = [subject.look(1.0) for _ in range(IDLE_LOOKS)]

    assert "  2" in first.text
    assert not first.is_over
    assert [sight.is_over for sight in rest] == [False] * (IDLE_LOOKS - 1) + [True]
    assert "  3" in rest[-1].text


def test_an_old_leaderboard_without_work_stays_as_it_was() -> None:
    way = Way(status=engine(0), leaderboard=[LeaderboardRow("alice", 99, 1.0)])
    sight = LeaderboardSubject(Leaderboard([LeaderboardRow("alice", 1, 1.0)], link=way)).look(1.0)

    assert sight.is_over
    assert "99" not in sight.text
    assert way.asked == ["status"]


def test_a_project_s_leaderboard_follows_the_project() -> None:
    stages = [StageStatus(name="load", tags="", counts={"leased": 1})]
    status = ProjectStatus(name="photos", is_paused=False, stages=stages, open=3)
    way = Way(project=status, leaderboard=[LeaderboardRow("alice", 2, 1.0)])

    assert not LeaderboardSubject(Leaderboard([], "photos", way)).look(1.0).is_over


def test_a_list_from_another_process_asks_nobody() -> None:
    assert LeaderboardSubject(Leaderboard()).look(1.0).is_over
    assert WorkersSubject(WorkerList()).look(1.0).is_over


def test_workers_are_asked_again_while_they_work() -> None:
    worker = WorkerStatus(name="w7", address="", contributor="a", state="ready", slots=1, busy=1, tags={})
    sight = WorkersSubject(WorkerList([], Way(status=engine(1), workers=[worker]))).look(1.0)

    assert "w7" in sight.text
    assert not sight.is_over


def test_everything_that_is_shown_has_its_subject() -> None:
    way = Way()

    assert isinstance(subject_of(BatchHandle(way, BATCH)), BatchSubject)
    assert isinstance(subject_of(JobHandle(way, 1)), JobSubject)
    assert isinstance(subject_of(Leaderboard()), LeaderboardSubject)
    assert isinstance(subject_of(WorkerList()), WorkersSubject)
    assert isinstance(subject_of(EXPLAINED), StillSubject)


def test_an_explanation_is_as_it_was_when_it_was_asked_for() -> None:
    sight = subject_of(EXPLAINED).look(1.0)

    assert sight.is_over
    assert "lacks gpu" in sight.html
    assert sight.text == repr(EXPLAINED)


def test_what_the_engine_raises_comes_through() -> None:
    with pytest.raises(EngineUnreachable):
        JobSubject(JobHandle(Way(job=EngineUnreachable("http://h", "refused")), 1)).look(1.0)
