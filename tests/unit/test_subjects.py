"""What views ask for, and what they make of the answers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from dcengine.batches import BatchHandle
from dcengine.codec import failure_from, pack_failure
from dcengine.errors import EngineUnreachable, NotFound
from dcengine.handles import JobHandle
from dcengine.lists import Explained, Leaderboard, WorkerList
from dcengine.verbs import (
    BatchStatus,
    EngineStatus,
    Explanation,
    FailedItem,
    JobStatus,
    LeaderboardRow,
    ProjectStatus,
    StageOutput,
    StageStatus,
    WorkerStatus,
    WorkerVerdict,
)
from dcengine_magics.views.subjects import (
    IDLE_LOOKS,
    LOST,
    BatchSubject,
    JobSubject,
    LeaderboardSubject,
    Pace,
    ProjectSubject,
    StillSubject,
    WorkersSubject,
    subject_of,
)

BATCH = BatchStatus(id=1, project="functions", name="f", state="open", count=10)
JOB = JobStatus(id=1, project="functions", number=1, name="f", state="open", task_state="queued")
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


def test_a_pace_is_measured_over_the_last_looks() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    rates = []
    for count in (100, 110, 120, 120, 120):
        rates.append(pace.note(count))
        now[0] += 2.0

    assert rates == [0.0, 5.0, 5.0, 2.5, 0.0]


def test_a_project_is_over_when_no_job_is_open_or_it_is_paused() -> None:
    stages = [StageStatus(name="load", tags="", counts={"queued": 3})]
    running = ProjectStatus(name="p", is_paused=False, stages=stages, open=3)
    paused = ProjectStatus(name="p", is_paused=True, stages=stages, open=3)
    done = ProjectStatus(name="p", is_paused=False, stages=stages, succeeded=3)

    assert [ProjectSubject(Way(project=status), "p", "p").look(1.0).is_over for status in (running, paused, done)] == [
        False,
        True,
        True,
    ]


def test_a_project_names_why_its_jobs_failed() -> None:
    status = ProjectStatus(name="p", is_paused=False, stages=[], failed=1)
    end = StageOutput(7, 3, "failed", pack_failure(failure_from(ValueError("bad pixel"))))

    assert (
        "1 x ValueError: bad pixel (job 3)"
        in ProjectSubject(Way(project=status, failed_jobs=[end]), "p", "p").look(1.0).text
    )


def test_a_project_the_engine_has_not_heard_of_is_shown_as_it_is_known_here() -> None:
    sight = ProjectSubject(Way(project=NotFound("project", "p")), "p", "<dcengine project 'p'>").look(1.0)

    assert (sight.text, sight.is_over) == ("<dcengine project 'p'>", True)


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
