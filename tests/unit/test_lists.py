"""Answers that are lists."""

from __future__ import annotations

import pickle

from dcengine.lists import JobList, Leaderboard, Sentence, WorkerList, clock
from dcengine.verbs import BatchStatus, JobStatus, LeaderboardRow, ProjectStatus, StageStatus, WorkerStatus

ROWS = [LeaderboardRow("alice", 3000, 0.75), LeaderboardRow("\x1b[31mbob", 1000, 0.25)]


def worker(name: str = "w0", **tags: str | None) -> WorkerStatus:
    return WorkerStatus(name=name, address="", contributor="alice", state="ready", slots=2, busy=1, tags=tags)


def test_a_leaderboard_is_a_list() -> None:
    board = Leaderboard(ROWS, "photos")

    assert board == ROWS
    assert board[0].nickname == "alice"
    assert board.project == "photos"


def test_a_leaderboard_prints_as_a_table() -> None:
    assert repr(Leaderboard(ROWS)).splitlines() == [
        "   contributor  credit  share",
        "1  alice         3,000  75.0%",
        r"2  \x1b[31mbob   1,000  25.0%",
    ]


def test_how_a_project_stands_prints_as_a_table() -> None:
    stages = [
        StageStatus(name="a", title="CPU", kind="lease", tags="", counts={"succeeded": 1200, "leased": 0}),
        StageStatus(name="join", shape="gather", tags="", counts={"failed": 1, "blocked": 2}, is_paused=True),
    ]
    status = ProjectStatus(name="photos", is_paused=False, stages=stages, open=2, failed=1, warning="nobody\x1b[31m")

    assert repr(status).splitlines() == [
        "project photos (runs): 1 of 3 job(s) have ended, 1 failed",
        "a (CPU)  lease           1,200 succeeded",
        "join     gather, paused  1 failed, 2 blocked",
        r"nobody\x1b[31m",
    ]
    assert repr(ProjectStatus(name="x", is_paused=True, stages=[])) == "project x (paused): 0 of 0 job(s) have ended"


def job(id: int, project: str = "functions", **facts: object) -> JobStatus:
    facts = {"name": "f", "stage": "a", "state": "open", "task_state": "queued", "created": 1e9, **facts}
    return JobStatus(id=id, project=project, number=7, **facts)  # type: ignore[arg-type]


def test_jobs_print_by_what_they_are_found_again_and_without_columns_in_which_nothing_stands() -> None:
    when = clock(1e9)
    found = JobList([job(3, state="failed", errors=2, reason="ValueError:\x1b[31m no"), job(2, "photos", worker="w1")])

    assert [line.split() for line in repr(found).splitlines()] == [
        ["job", "what", "state", "worker", "errors", "submitted", "reason"],
        ["3", "f", "failed", "2", *when.split(), "ValueError:\\x1b[31m", "no"],
        ["photos/7", "a", "queued", "w1", *when.split()],
    ]


def test_batches_print_before_the_jobs_beside_them() -> None:
    batch = BatchStatus(
        id=1, project="functions", name="f", state="failed", count=4096, succeeded=4000, failed=96, created=1e9
    )
    batches, jobs = repr(JobList([job(3)], [batch])).split("\n\n")

    assert batches.splitlines()[1].split()[:6] == ["1", "f", "failed", "4,096", "4,096", "96"]
    assert jobs.splitlines()[0].split() == ["job", "function", "state", "submitted"]
    assert repr(JobList()) == "no jobs"


def test_lists_of_jobs_and_sentences_are_the_same_after_pickling() -> None:
    found = JobList([job(3)], [], "photos")
    again = pickle.loads(pickle.dumps(found))

    assert (again, again.project, repr(again)) == (found, "photos", repr(found))
    assert repr(pickle.loads(pickle.dumps(Sentence.of("it waits")))) == "it waits"


def test_an_empty_leaderboard_says_so() -> None:
    assert repr(Leaderboard([], "photos")) == "no contributor of photos has credit yet"
    assert repr(WorkerList()) == "no workers"


def test_workers_print_with_their_tags() -> None:
    printed = repr(WorkerList([worker(gpu=None, site="lab")]))

    assert printed.splitlines()[1].split() == ["w0", "ready", "1", "of", "2", "alice", "gpu,", "site=lab"]


def test_a_long_list_prints_its_beginning() -> None:
    printed = repr(WorkerList([worker(f"w{number}") for number in range(1000)]))

    assert printed.endswith("and 950 more")
    assert len(printed.splitlines()) == 52


def test_a_list_travels_without_its_way_to_the_engine() -> None:
    class Way:
        def call(self, verb: str) -> None: ...

    board = pickle.loads(pickle.dumps(Leaderboard(ROWS, "photos", Way())))  # type: ignore[arg-type]

    assert (board, board.project, board.link) == (ROWS, "photos", None)
    assert pickle.loads(pickle.dumps(WorkerList([worker()], Way()))) == [worker()]  # type: ignore[arg-type]
