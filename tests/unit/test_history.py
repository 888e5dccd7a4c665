"""The history checker finds nothing in a file that has lived, and all that was done to one behind its back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from dcengine.cli import app
from dcengine.codec import Failure, pack, pack_failure, pack_function, pack_json
from dcengine.errors import DatabaseForeign, StoreError
from dcengine.jobs import JobState, State
from dcengine.references import REFERRING, key_of_job
from dcengine.runner.units import Ending
from dcengine.store import opening
from dcengine.store.checking import check_history
from dcengine.store.deleting import MarkDeleted, Removal
from dcengine.store.writer import now
from dcengine.verbs import (
    BatchSubmission,
    Completion,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    Options,
    ProjectSpec,
    StageSpec,
    Submission,
    TaskFlag,
)
from tests.driven import Driven

FUNCTION = pack_function(len)
FAILURE = pack_failure(Failure("ValueError", "no luck"))
VALUE = pack_json("value", what="a value")


class Life:
    """An engine to which everything happens that a file can tell of."""

    def __init__(self, db: Path | None = None) -> None:
        self.driven = Driven(["slot ada"], db)

    def ask(self, question: Any) -> Any:
        return self.driven.call(question)

    @property
    def engine(self) -> Any:
        return self.driven.engine

    def declare(self, name: str, *stages: StageSpec) -> None:
        self.ask(self.engine.declare_project(ProjectSpec(name=name, stages=list(stages))))
        self.ask(self.engine.run_project(name))

    def add(self, project: str, count: int, **facts: Any) -> None:
        blocks = [pack([VALUE] * count)]
        self.ask(self.engine.add_jobs(ItemsSubmission(project=project, blocks=blocks, count=count, **facts)))

    def lease(self, stage: str, nickname: str, n: int = 1) -> list[LeasedTask]:
        request = LeaseRequest(project="outside", stage=stage, worker=nickname, nickname=nickname, n=n)
        return self.ask(self.engine.lease(request))  # type: ignore[no-any-return]

    def take(self, stage: str, nickname: str, job: int) -> list[LeasedTask]:
        """Lease the task of *job* at *stage*."""
        leased = self.lease(stage, nickname, 20)
        self.ask(self.engine.release([task.token for task in leased if task.job != job]))
        return [task for task in leased if task.job == job]

    def complete(self, tasks: list[LeasedTask], units: int = 1) -> None:
        said = [Completion(token=task.token, output=msgspec.Raw(b"1"), units=units) for task in tasks]
        assert all(answer.is_accepted for answer in self.ask(self.engine.complete(said)))

    def flag(self, tasks: list[LeasedTask]) -> None:
        assert all(
            answer.is_accepted for answer in self.ask(self.engine.flag([TaskFlag(token=t.token) for t in tasks]))
        )

    def end(self, *endings: tuple[Ending, bytes]) -> None:
        """Have the calls of what the slot runs end so."""
        (unit,) = self.driven.workers.sent
        self.driven.end(unit, endings, 10.0)

    def live(self) -> None:
        """Have outside workers, parts and batches in all their states."""
        self.outside()
        self.parts()
        self.batches()
        self.calls()

    def outside(self) -> None:
        lease = {"kind": "lease", "lease_seconds": 100.0, "retries": 1, "back_off": 60.0, "credit": "unit"}
        votes = {"a": 1, "b": 2, "c": 1}
        self.declare("outside", *(StageSpec(name=name, votes=n, generations=1, **lease) for name, n in votes.items()))
        self.add("outside", 8)
        for job in range(1, 8):
            self.complete(self.take("a", "ada", job), units=3)
        self.complete(self.take("b", "ada", 1))
        self.complete(self.take("c", "ada", 1))
        for nickname in ("bob", "cem"):  # job 2 goes back
            self.flag(self.take("b", nickname, 2))
        self.complete(self.take("a", "bob", 2))
        for nickname in ("dan", "eve"):  # and is then given up
            self.flag(self.take("b", nickname, 2))
        self.flag(self.take("b", "ada", 3))
        self.take("b", "bob", 4)
        self.driven.pass_by(101)
        self.ask(self.engine.cancel(4))
        self.take("b", "bob", 5)
        self.add("outside", 1, not_before=self.driven.clock.time() + 1e6)

    def parts(self) -> None:
        for policy in ("fail", "skip", "wait"):
            stages = [("split", "expand"), ("take", "map"), ("join", "gather")]
            self.declare(
                policy, *(StageSpec(name=n, shape=s, function=FUNCTION, on_failed_part=policy) for n, s in stages)
            )
            self.add(policy, 1)
            self.end((Ending.SUCCEEDED, pack([VALUE] * 3)))
            self.end((Ending.SUCCEEDED, VALUE))
            self.end((Ending.RAISED, FAILURE))
            self.ask(self.engine.pause_project(policy))
            for unit in [*self.driven.workers.sent]:
                self.driven.vanish(unit)

    def batches(self) -> None:
        for count in (4, 3):
            blocks = [pack([b"input"] * count)]
            self.ask(self.engine.submit_batch(BatchSubmission(function=FUNCTION, blocks=blocks, count=count)))
        self.end((Ending.SUCCEEDED, VALUE))
        self.end((Ending.RAISED, FAILURE))
        self.end((Ending.SUCCEEDED, VALUE))
        self.ask(self.engine.cancel_batch(1))
        self.end((Ending.INTERRUPTED, b""))
        self.end((Ending.SUCCEEDED, VALUE))
        self.ask(self.engine.submit(Submission(function=FUNCTION, input=b"input")))

    def calls(self) -> None:
        """Have calls that take results: of the job that was submitted last, of items that succeeded and failed."""
        file = self.ask(self.engine.status()).file
        last = self.ask(self.engine.jobs(limit=1))[0].id
        first = self.ask(self.engine.batch(1)).first_job
        for jobs in ([last, first], [last + 1], [first + 1], [last + 3]):
            keys = [key_of_job(job, file) for job in jobs]
            self.ask(self.engine.submit(Submission(function=FUNCTION, input=REFERRING + pack([*keys, b"input"]))))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed file that has seen everything."""
    life = Life()
    life.live()
    life.driven.close()
    db = tmp_path_factory.mktemp("history") / "lived.db"
    shutil.copy(life.driven.db, db)
    life.driven.remove()
    return db


@pytest.fixture
def life() -> Iterator[Life]:
    life = Life()
    yield life
    life.driven.close()
    life.driven.remove()


def rows(db: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(db)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def change(db: Path, *statements: str) -> None:
    connection = sqlite3.connect(db)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# ---- what is well --------------------------------------------------------------------------


def test_a_file_that_has_lived_is_as_its_events_tell(lived: Path) -> None:
    states = {state for (state,) in rows(lived, "SELECT DISTINCT state FROM task")}
    assert states == set(map(int, State))
    assert {state for (state,) in rows(lived, "SELECT DISTINCT state FROM job")} == set(map(int, JobState))

    assert check_history(lived) == []


def test_a_file_in_use_is_looked_at_without_a_trace(life: Life) -> None:
    life.outside()
    folder = {file.name for file in life.driven.db.parent.iterdir()}

    assert check_history(life.driven.db) == []
    assert {file.name for file in life.driven.db.parent.iterdir()} == folder


def test_a_project_may_be_on_its_way_out(life: Life) -> None:
    life.live()
    id = life.ask(life.engine._store.reads.project_id("outside"))
    life.ask(as_coroutine(life.engine._store.apply(MarkDeleted("outside", now()))))
    assert check_history(life.driven.db) == []
    removal, is_more = Removal(id), True
    while is_more:
        is_more = life.ask(as_coroutine(life.engine._store.maintain(removal.remove_some)))
        assert check_history(life.driven.db) == []

    assert rows(life.driven.db, f"SELECT count(*) FROM job WHERE project = {id}") == [(0,)]


async def as_coroutine(future: Any) -> Any:
    return await future


def test_values_that_were_not_kept_may_be_gone(life: Life) -> None:
    life.declare("outside", StageSpec(name="a", kind="lease"))
    life.add("outside", 1, keep=5.0)
    options = Options(keep=5.0)
    life.ask(
        life.engine.submit_batch(BatchSubmission(function=FUNCTION, blocks=[pack([b""])], count=1, options=options))
    )
    life.end((Ending.SUCCEEDED, VALUE))
    life.complete(life.lease("a", "ada"))
    for _ in range(5):
        life.driven.pass_by(10)

    assert rows(life.driven.db, "SELECT count(*) FROM event WHERE kind = 18") == [(2,)]
    assert check_history(life.driven.db) == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("These are notes, and quite long ones.")

    with pytest.raises(DatabaseForeign):
        check_history(tmp_path / "notes.db")
    with pytest.raises(StoreError, match="there is no file"):
        check_history(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


# ---- what is wrong ---------------------------------------------------------------------------

FIRST_SUCCESS = "(SELECT min(id) FROM task WHERE state = 4 AND batch IS NULL)"
BLOCKED = "(SELECT min(task.id) FROM task WHERE task.state = 2)"
CHUNK = "(SELECT min(id) FROM chunk WHERE state = 4)"
DAMAGES = {
    "counter": ("UPDATE counter SET n = n + 1 WHERE stage = 2 AND state = 0", "counter of stage 2: "),
    "counter missing": ("DELETE FROM counter WHERE stage = 2 AND state = 4", "stage 2: 0 tasks are succeeded"),
    "job counter": ("UPDATE job_counter SET n = n - 1 WHERE project = 2 AND state = 1", "job counter of project 2: "),
    "credit twice": (
        f"INSERT INTO credit SELECT NULL, project, contributor, task, chunk, units, at, 1 FROM credit"
        f" WHERE task = {FIRST_SUCCESS}",
        "has 2 entries of credit",
    ),
    "credit gone": (f"DELETE FROM credit WHERE task = {FIRST_SUCCESS}", "has no entry of credit, but an event"),
    "credit of nobody": (
        "INSERT INTO credit SELECT NULL, 2, 1, id, NULL, 0, 0, 0 FROM task WHERE state = 0 AND stage = 3 LIMIT 1",
        "has an entry of credit, but no event gives it any",
    ),
    "credit void": (f"UPDATE credit SET void = 1 WHERE task = {FIRST_SUCCESS}", "void, but 3 units of contributor"),
    "credit of another": (
        f"UPDATE credit SET contributor = 3 WHERE task = {FIRST_SUCCESS}", "3 units of contributor 3, but 3 units",
    ),
    "standing": ("UPDATE standing SET units = units + 1 WHERE project = 2", "units of credit in project 2, but"),
    "day": ("UPDATE standing SET day = day + 1 WHERE project = 2", "of the last day in project 2"),
    "hour": ("UPDATE earning SET units = units + 1 WHERE project = 2", "units of hour"),
    "total": ("UPDATE standing_total SET week = week + 1 WHERE project = 2", "in column week of their standings"),
    "contributors": ("UPDATE standing_total SET units_contributors = 9 WHERE project = 2", "but 9 with"),
    "success without an event": (
        f"DELETE FROM event WHERE kind = 4 AND task = {FIRST_SUCCESS}", "is in state succeeded, but in state leased",
    ),
    "task without events": (f"DELETE FROM event WHERE task = {BLOCKED}", "is in the file, but no event tells of it"),
    "task gone": (f"DELETE FROM task WHERE id = {BLOCKED}", "is not in the file, but events tell of it"),
    "state": ("UPDATE task SET state = 0 WHERE state = 1", "is in state queued, but in state waiting by its events"),
    "attempt": (f"UPDATE task SET attempt = 7 WHERE id = {FIRST_SUCCESS}", "is in attempt 7, but in attempt 1"),
    "stage": (f"UPDATE task SET stage = 3 WHERE id = {FIRST_SUCCESS}", "is at stage 3, but at stage 2"),
    "lease within a lease": (
        "INSERT INTO event (at, kind, job, task, stage, state, attempt)"
        " SELECT 0, 3, job, id, stage, 3, attempt + 1 FROM task WHERE state = 3",
        "says LEASED and leaves it LEASED, but it was LEASED",
    ),
    "attempt that does not grow": (
        f"UPDATE event SET attempt = 0 WHERE kind = 3 AND task = {FIRST_SUCCESS}", "in attempt 0, after attempt 0",
    ),
    "end of another attempt": (
        f"UPDATE event SET attempt = 2 WHERE kind = 4 AND task = {FIRST_SUCCESS}", "is of attempt 2, but it was in",
    ),
    "second success": (
        "INSERT INTO event (at, kind, job, task, stage, state, attempt, contributor, credit)"
        f" SELECT 0, 4, job, id, stage, 4, attempt, 1, 3 FROM task WHERE id = {FIRST_SUCCESS}",
        "says SUCCEEDED, which it had done before",
    ),
    "credit taken that nobody had": (
        f"INSERT INTO event (at, kind, job, task, stage, contributor, credit) SELECT 0, 12, job, id, stage, 1, -9"
        f" FROM task WHERE id = {FIRST_SUCCESS}",
        "takes 9 units back that nobody had",
    ),
    "credit by a lease": ("UPDATE event SET credit = 5 WHERE kind = 3", "LEASED, which changes no credit"),
    "second beginning": (
        f"INSERT INTO event (at, kind, job, task, stage, state) SELECT 0, 13, job, id, stage, 0 FROM task"
        f" WHERE id = {FIRST_SUCCESS}",
        "opens it, but it is SUCCEEDED already",
    ),
    "unknown kind": (f"UPDATE event SET kind = 99 WHERE task = {BLOCKED}", "is of the unknown kind 99"),
    "leased to nobody": ("UPDATE task SET worker = NULL WHERE state = 3", "is leased, but to nobody"),
    "token without a deadline": ("UPDATE task SET deadline = NULL WHERE state = 3", "a token, but no deadline"),
    "waits for no time": ("UPDATE task SET not_before = NULL WHERE state = 1", "is waiting, but for no time"),
    "open job without a task": (
        "UPDATE job SET state = 0, finished = NULL WHERE state = 1 AND batch IS NULL",
        "is open, but 0 of its tasks",
    ),
    "ended job with a task": ("UPDATE job SET state = 2, finished = 1 WHERE state = 0", "but 1 of its tasks"),
    "wrong end": ("UPDATE job SET state = 3 WHERE state = 2", "is cancelled, but its newest task is failed"),
    "no time of its end": ("UPDATE job SET finished = NULL WHERE state = 1", "is succeeded, but has no time"),
    "no values": (f"DELETE FROM payload WHERE task = {FIRST_SUCCESS}", "has no values"),
    "no output": (f"UPDATE payload SET output = NULL WHERE task = {FIRST_SUCCESS}", "is succeeded, but has no output"),
    "output too soon": (f"UPDATE payload SET output = x'4a31' WHERE task = {BLOCKED}", "is blocked, but has an output"),
    "origin of another job": (
        "UPDATE task SET origin = 6 WHERE origin IS NOT NULL AND state = 4 AND job <> 6", "which is one of job 6",
    ),
    "origin that was sent back": ("UPDATE task SET state = 7 WHERE job = 3 AND state = 4", "which is returned"),
    "flags": ("UPDATE task SET flags = 2 WHERE flags = 1", "has 2 flags, but 1 voters"),
    "parts": ("UPDATE gather SET parts = 4", "gathers 4 parts, but there are 3"),
    "parts that are missing": ("UPDATE gather SET left = left + 1", "waits for 3 parts, but 2 are not in"),
    "gathers nothing": ("DELETE FROM gather", "is blocked, but gathers nothing"),
    "waits for nothing": ("UPDATE gather SET left = 0", "is blocked, though it waits for nothing"),
    "argument of nothing": ("UPDATE dependency SET is_open = 0", "gathers nothing and waits for no argument"),
    "argument that is not in": (
        "UPDATE task SET state = 0 WHERE id IN (SELECT task FROM dependency)", "is queued, though the result of job",
    ),
    "argument that is in after all": ("UPDATE dependency SET is_open = 1", "is succeeded, but is said to be open"),
    "argument that has failed": (
        "UPDATE job SET state = 2 WHERE id IN (SELECT job FROM dependency)", "is blocked, though job",
    ),
    "chunks that overlap": ("UPDATE chunk SET count = 2 WHERE batch = 1 AND first = 0", "they had ended before"),
    "chunk behind the end": (f"UPDATE chunk SET first = 90 WHERE id = {CHUNK}", "there are no such"),
    "chunk gone": (f"DELETE FROM chunk WHERE id = {CHUNK}", "which is not there"),
    "chunk of no event": (
        f"DELETE FROM event WHERE kind = 4 AND batch = (SELECT batch FROM chunk WHERE id = {CHUNK})",
        "are succeeded, but no event tells of it",
    ),
    "chunk without credit": (f"DELETE FROM credit WHERE chunk = {CHUNK}", "has 0 entries of credit"),
    "tally": ("UPDATE batch SET succeeded = 2 WHERE id = 2", "2 succeeded, 1 failed, 0 cancelled items, but 1, 1, 0"),
    "tally by events": ("UPDATE batch SET succeeded = succeeded + 1 WHERE id = 2", "succeeded items, but"),
    "state of a batch": ("UPDATE batch SET state = 1 WHERE id = 1", "batch 1 is succeeded with"),
    "item": ("DELETE FROM chunk WHERE batch = 2 AND state = 5", "is failed, but no chunk says so"),
    "batch gone": ("DELETE FROM batch WHERE id = 2", "batch 2 is not in the file, but events tell of it"),
    "size of a batch": ("UPDATE batch SET count = 9 WHERE id = 2", "has 9 items, but 3 by its events"),
    "foreign key": ("DELETE FROM contributor WHERE id = 1", "names a row of table contributor that is not there"),
    "index": (
        "UPDATE sqlite_schema SET sql = replace(sql, 'state = 3', 'state = 4') WHERE name = 'task_leased'",
        "the file is damaged: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_what_was_done_behind_its_back_is_reported(lived: Path, tmp_path: Path, name: str) -> None:
    statement, expected = DAMAGES[name]
    db = tmp_path / "work.db"
    shutil.copy(lived, db)
    change(db, "PRAGMA writable_schema = ON", statement)

    violations = check_history(db)

    assert any(expected in violation for violation in violations), violations


def test_every_violation_is_reported_not_only_the_first(lived: Path, tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    shutil.copy(lived, db)
    change(db, "UPDATE counter SET n = n + 1", "UPDATE task SET attempt = attempt + 1")

    violations = check_history(db)

    (counters,), (tasks,) = (rows(db, f"SELECT count(*) FROM {table}") for table in ("counter", "task"))
    assert sum("counter of stage" in violation for violation in violations) == counters[0]
    assert sum("in attempt" in violation for violation in violations) == tasks[0]


# ---- files from before ---------------------------------------------------------------------

BEFORE = f"""
INSERT INTO project (id, name, created, last_number) VALUES (2, 'p', 0, 3);
INSERT INTO need (id, tags) VALUES (1, '');
INSERT INTO function (id, digest, name, code) VALUES (1, x'01', 'f', x'02');
INSERT INTO contributor (id, nickname) VALUES (1, 'ada');
INSERT INTO stage (id, project, position, name, function, need) VALUES (2, 2, 0, 'a', 1, 1);
INSERT INTO counter (stage, state, n) SELECT 2, state, 0 FROM counter WHERE stage = 1;
INSERT INTO job (id, project, number, state, submitter, created, finished)
VALUES (1, 2, 1, 1, 'me', 0, 9), (2, 2, 2, 0, 'me', 0, NULL), (3, 2, 3, 0, 'me', 0, NULL);
INSERT INTO task (id, job, stage, state, need, function, attempt, worker)
VALUES (1, 1, 2, 4, 1, 1, 1, 'w'), (2, 2, 2, 3, 1, 1, 1, 'w'), (3, 3, 2, 0, 1, 1, 0, NULL);
INSERT INTO payload (task, input, output) VALUES (1, x'4a31', x'4a31'), (2, x'4a31', NULL), (3, x'4a31', NULL);
UPDATE counter SET n = 1 WHERE stage = 2 AND state IN (0, 3, 4);
INSERT INTO credit (id, project, contributor, task, units, at) VALUES (1, 2, 1, 1, 1, 0);
INSERT INTO batch (id, stage, function, need, first_job, first_number, count, priority, retries, submitter, state,
    succeeded, created)
VALUES (1, 1, 1, 1, 4, 1, 5, 0, 0, 'me', 0, 2, 0);
INSERT INTO block (batch, first, count, data) VALUES (1, 0, 5, x'{pack([VALUE] * 5).hex()}');
INSERT INTO chunk (id, batch, first, count, state, data, finished) VALUES (1, 1, 0, 2, 4, x'01', 0);
INSERT INTO credit (id, project, contributor, chunk, units, at) VALUES (2, 1, 1, 1, 2, 0);
UPDATE counter SET n = 3 WHERE stage = 1 AND state = 0;
UPDATE counter SET n = 2 WHERE stage = 1 AND state = 4;
INSERT INTO standing (project, contributor, units) VALUES (2, 1, 1), (1, 1, 2);
INSERT INTO event (at, kind, job, batch, units) VALUES (0, 1, 1, NULL, 3), (0, 3, 1, NULL, 1), (0, 2, NULL, 1, 5);
"""


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as schema 2 left it, with an engine's work in the middle, then brought to the newest schema."""
    db, steps = tmp_path / "before.db", opening.migrations()
    with monkeypatch.context() as patch:
        patch.setattr(opening, "migrations", lambda: steps[:2])
        connection = opening.open_for_writing(db)
        connection.executescript(BEFORE)
        connection.close()
    opening.open_for_writing(db).close()
    return db


def test_what_an_old_file_does_not_tell_is_taken_as_it_stands(before: Path) -> None:
    assert check_history(before) == []
    change(before, "UPDATE counter SET n = n + 1 WHERE stage = 2 AND state = 4")
    assert check_history(before) == ["counter of stage 2: 2 tasks are succeeded, but 1 by their events"]


def test_old_jobs_go_on_in_a_new_schema(before: Path) -> None:
    life = Life(before)
    life.ask(life.engine.run_project("p"))
    life.add("p", 1)
    while life.driven.workers.sent:
        (unit,) = life.driven.workers.sent
        tasks, _ = life.driven.running[unit]
        life.driven.end(unit, [(Ending.SUCCEEDED, VALUE)] * max(1, len(tasks)), 10.0)
    life.driven.close()

    assert rows(life.driven.db, "SELECT sum(state = 1), count(*) FROM job") == [(4, 4)]
    assert check_history(life.driven.db) == []
    life.driven.remove()


# ---- for people ----------------------------------------------------------------------------


def test_the_doctor_tells_what_the_history_says(lived: Path, tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    shutil.copy(lived, db)
    well = CliRunner().invoke(app, ["doctor", "--db", str(db), "--history"])
    change(db, "UPDATE counter SET n = n + 1")
    ill = CliRunner().invoke(app, ["doctor", "--db", str(db), "--history"])

    assert "tables, counters and credit are what the events tell" in " ".join(well.output.split())
    assert ill.exit_code == 1
    assert "counter of stage 2: " in ill.output
    assert "more like these" in " ".join(ill.output.split())
