"""Projects in the store: the hand-over is one transaction, counters say it all, old files stay readable."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dcengine.codec import dumps, failure_from, loads, pack_call, pack_failure, pack_function
from dcengine.errors import NotFound, ProjectInUse, StaleLease
from dcengine.events import Kind
from dcengine.jobs import Project, Stage, State, Task
from dcengine.store import Store, now, opening
from dcengine.store.adding import AddProjectJobs, Brought
from dcengine.store.handing import Consequences
from dcengine.store.leasing import SELECT_FLAGGED, SELECT_QUEUED, SELECT_TASK, Holder, Lease
from dcengine.store.ledger import Ledger
from dcengine.store.moving import Move, WakeDue
from dcengine.store.names import CURRENT_TASK, FIRST_LATER_TASK
from dcengine.store.project_reads import SELECT_FAILED, SELECT_OUTPUT_SIZES, SELECT_OUTPUTS
from dcengine.store.projects import CHANGE_WAITING, COUNT_QUEUED, Declared, DeclareProject, HoldProject
from dcengine.store.reads import SELECT_JOB, SELECT_OPEN_JOBS
from dcengine.store.submitting import AddJob
from dcengine.verbs import AddedJobs, ItemsSubmission, ProjectSpec, StageSpec, Submission

SUBMITTER = 1  #: the only one there is


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()


def a_project(*names: str, function: Any = abs, **options: Any) -> DeclareProject:
    packed = pack_function(function)
    stages = [StageSpec(name=name, function=packed, **options) for name in names]
    return DeclareProject(ProjectSpec(name="photos", stages=stages), now())


async def declare(store: Store, *names: str, **options: Any) -> Declared:
    declared: Declared = await store.apply(a_project(*names, **options))
    return declared


async def add(store: Store, *values: bytes, request: str | None = None) -> AddedJobs:
    submission = ItemsSubmission(project="photos", blocks=[], count=len(values), request=request, submitter="me")
    brought: Brought = await store.apply(AddProjectJobs(submission, list(values), now()))
    return brought.added


async def lease(store: Store, stage: Stage, n: int = 1) -> list[Task]:
    tasks: list[Task] = await store.apply(Lease(stage.id, stage.need, SUBMITTER, n, Holder("w1"), now()))
    return tasks


def success(task: Task, output: bytes, opens: Stage | None) -> Move:
    return Move(task, task.to(State.SUCCEEDED), Kind.SUCCEEDED, now(), "w1", "alice", output, opens=opens)


def rows(store: Store, sql: str) -> list[Any]:
    connection = sqlite3.connect(store.db)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# ---- from stage to stage -------------------------------------------------------------------


async def test_the_output_of_a_stage_is_the_input_of_the_next(store: Store) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    added = await add(store, b"a", b"b")
    tasks = await lease(store, first, 2)

    await asyncio.gather(*(store.apply(success(task, task.input + b"!", second)) for task in tasks))
    later = await lease(store, second, 2)

    assert [task.input for task in tasks] == [b"a", b"b"]
    assert [task.input for task in later] == [b"a!", b"b!"]
    assert [task.job for task in later] == [added.first_id, added.first_id + 1]
    assert [task.id for task in later] == [FIRST_LATER_TASK, FIRST_LATER_TASK + 1]
    assert rows(store, f"SELECT input FROM payload WHERE task >= {FIRST_LATER_TASK}") == [(b"",), (b"",)]


async def test_a_job_is_open_until_its_last_stage_and_ends_with_its_output(store: Store) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    job = (await add(store, b"a")).first_id
    (task,) = await lease(store, first)

    await store.apply(success(task, b"b", second))
    between = await store.reads.job(job)
    assert (between.state, between.task_state, between.stage) == ("open", "queued", "second")
    assert await store.reads.end(job) is None
    (task,) = await lease(store, second)
    await store.apply(success(task, b"c", None))

    after = await store.reads.job(job)
    result = await store.reads.end(job)
    assert (after.state, after.stage, after.name) == ("succeeded", "second", "abs")
    assert result is not None
    assert result.data == b"c"
    assert [row.tasks for row in await store.reads.leaderboard("photos")] == [2]


async def test_a_hand_over_that_cannot_be_stored_whole_is_not_stored_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    await add(store, b"a")
    (task,) = await lease(store, first)

    def fail(ledger: Ledger) -> None:
        raise RuntimeError("in the middle of it")

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "write", fail)
        with pytest.raises(RuntimeError):
            await store.apply(success(task, b"b", second))

    assert rows(store, "SELECT stage, state FROM task") == [(first.id, State.LEASED)]
    assert rows(store, "SELECT output FROM payload") == [(None,)]
    assert rows(store, "SELECT count(*) FROM credit") == [(0,)]
    assert await store.apply(success(task, b"b", second))  # and it can be stored later
    assert [task.input for task in await lease(store, second)] == [b"b"]


async def test_a_stale_report_opens_nothing(store: Store) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    await add(store, b"a")
    (old,) = await lease(store, first)
    await store.apply(Move(old, old.to(State.QUEUED), Kind.RELEASED, now()))
    (current,) = await lease(store, first)

    reports = [success(old, b"old", second), *(success(current, b"new", second) for _ in range(3))]
    outcomes = await asyncio.gather(*map(store.apply, reports), return_exceptions=True)

    assert sum(isinstance(outcome, Consequences) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StaleLease) for outcome in outcomes) == 3
    assert [task.input for task in await lease(store, second, 5)] == [b"new"]
    assert [row.tasks for row in await store.reads.leaderboard("photos")] == [1]


async def test_the_current_task_of_a_job_is_the_newest(store: Store) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    job = (await add(store, b"a")).first_id
    (task,) = await lease(store, first)
    await store.apply(success(task, b"b", second))
    (later,) = await lease(store, second)
    due = now() + 1_000_000
    await store.apply(Move(later, later.to(State.WAITING, errors=1), Kind.RETRIED, now(), not_before=due))

    current = await store.reads.task(job)

    assert current is not None
    assert (current.id, current.errors, current.input) == (later.id, 1, b"b")
    assert await store.reads.not_before(job) == due
    assert [status.id for status in await store.reads.jobs(state=None, project=None, before=None, limit=10)] == [job]


# ---- declaring -----------------------------------------------------------------------------


async def test_a_new_project_is_paused_and_that_survives(store: Store) -> None:
    declared = await declare(store, "first", tags="gpu", retries=2, timeout=1.5)
    (project,) = await store.reads.stored_projects()

    assert project == declared.project
    assert project.is_paused
    (stage,) = project.stages
    assert (stage.name, stage.tags, stage.retries, stage.timeout) == ("first", "gpu", 2, 1.5)

    running: Project = await store.apply(HoldProject("photos", None, False, now()))
    assert not running.is_paused
    assert not (await declare(store, "first")).project.is_paused
    with pytest.raises(NotFound):
        await store.apply(HoldProject("functions", None, False, now()))


async def test_what_changes_about_a_stage_holds_for_what_no_worker_has(store: Store) -> None:
    (stage,) = (await declare(store, "first")).project.stages
    await add(store, b"a", b"b", b"c")
    held, erring = await lease(store, stage, 2)
    due = now() + 1_000_000
    await store.apply(Move(erring, erring.to(State.WAITING, errors=1), Kind.RETRIED, now(), not_before=due))

    declared = await declare(store, "first", function=len, tags="gpu", retries=3)

    (changed,) = declared.project.stages
    assert declared.changed == {stage.id}
    assert declared.queued == [(stage.id, changed.need, "gpu", SUBMITTER, 0, 0, 1)]
    assert (await store.apply(WakeDue(due))) == [(stage.id, changed.need, SUBMITTER, 0, 0)]
    later = await lease(store, changed, 5)
    assert {(task.function, task.retries, task.tags) for task in later} == {(pack_function(len).digest, 3, "gpu")}
    assert len(later) == 2
    await store.apply(Move(held, held.to(State.QUEUED), Kind.RELEASED, now()))
    assert [task.function for task in await lease(store, stage, 5)] == [pack_function(abs).digest]


async def test_declaring_the_same_again_changes_nothing(store: Store) -> None:
    await declare(store, "first", "second", timeout=2)
    again = await declare(store, "first", "second", timeout=2)

    assert again.changed == set()
    assert again.queued == []


async def test_stages_change_their_order_only_without_open_jobs(store: Store) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    await add(store, b"a")

    with pytest.raises(ProjectInUse, match="first, second and 1 open"):
        await declare(store, "second", "first")
    (task,) = await lease(store, first)
    failure = pack_failure(failure_from(ValueError("no")))
    await store.apply(Move(task, task.to(State.FAILED), Kind.FAILED, now(), output=failure))
    other = (await declare(store, "third", "first")).project.stages

    assert [stage.name for stage in other] == ["third", "first"]
    assert other[1].id == first.id
    assert [output.state for output in await store.reads.outputs("photos", "first", after=0, limit=9)] == ["failed"]
    back = (await declare(store, "first", "second")).project.stages
    assert [stage.id for stage in back] == [first.id, second.id]


async def test_a_repeated_request_adds_nothing(store: Store) -> None:
    await declare(store, "first")
    once = await add(store, b"a", b"b", request="r1")

    assert await add(store, b"a", b"b", request="r1") == once
    assert (await store.reads.project("photos")).open == 2
    assert await add(store, b"c", request="r2") == AddedJobs(once.first_id + 2, 3, 1)


# ---- what is where -------------------------------------------------------------------------


async def test_counts_of_a_project_come_from_its_counters(store: Store) -> None:
    first, second = (await declare(store, "first", "second")).project.stages
    await add(store, *[b"x"] * 5)
    one, two, three, _ = await lease(store, first, 4)
    failure = pack_failure(failure_from(ValueError("no")))
    await store.apply(success(one, b"y", second))
    await store.apply(success(two, b"y", second))
    await store.apply(Move(three, three.to(State.FAILED), Kind.FAILED, now(), output=failure))
    (last,) = await lease(store, second)
    await store.apply(success(last, b"z", None))

    status = await store.reads.project("photos")

    assert (status.open, status.succeeded, status.failed, status.total) == (3, 1, 1, 5)
    assert [stage.counts for stage in status.stages] == [
        {"queued": 1, "leased": 1, "succeeded": 2, "failed": 1},
        {"queued": 1, "succeeded": 1},
    ]
    assert (status.open_until("first"), status.open_until("second"), status.open_until(None)) == (2, 3, 3)
    assert [failed.number for failed in await store.reads.failed_jobs("photos", after=0, limit=9)] == [3]
    assert await store.reads.failed_jobs("photos", after=3, limit=9) == []
    assert [project.name for project in await store.reads.projects()] == ["photos"]


async def test_outputs_come_in_pages_in_order_of_the_numbers(store: Store) -> None:
    (stage,) = (await declare(store, "only")).project.stages
    await store.apply(AddJob(1, 1, Submission(function=pack_function(abs), input=b"", submitter="me"), now()))
    await add(store, *(dumps(n) for n in range(7)))
    for task in reversed(await lease(store, stage, 7)):
        await store.apply(success(task, dumps(-loads(task.input)), None))

    first = await store.reads.outputs("photos", "only", after=0, limit=4)
    rest = await store.reads.outputs("photos", "only", after=first[-1].number, limit=4)

    assert [output.number for output in first + rest] == [1, 2, 3, 4, 5, 6, 7]
    assert [loads(output.data) for output in first + rest] == [0, -1, -2, -3, -4, -5, -6]
    with pytest.raises(NotFound):
        await store.reads.outputs("photos", "other", after=0, limit=1)


@pytest.mark.parametrize(
    "sql",
    [
        *(SELECT_OUTPUT_SIZES, SELECT_OUTPUTS, SELECT_FAILED, *CHANGE_WAITING, *COUNT_QUEUED),
        *(SELECT_QUEUED, SELECT_FLAGGED, SELECT_OPEN_JOBS),
        f"{SELECT_JOB} WHERE job.id = ?",
        f"{SELECT_TASK} JOIN job ON job.id = ? WHERE task.id = {CURRENT_TASK}",
    ],
)
async def test_no_question_reads_the_whole_table_of_tasks(store: Store, sql: str) -> None:
    plan = [row[3] for row in rows(store, f"EXPLAIN QUERY PLAN {sql.replace('?', '7')}")]

    wholly = [step for step in plan if step.startswith(("SCAN task", "SCAN job")) and " INDEX " not in step]
    assert wholly == []
    assert not any(step.startswith("USE TEMP B-TREE FOR ORDER") for step in plan)


# ---- files from before ---------------------------------------------------------------------

OLD_JOBS = """
INSERT INTO need (id, tags) VALUES (1, '');
INSERT INTO contributor (id, nickname) VALUES (1, 'alice');
INSERT INTO job (id, project, number, state, function, submitter, created, finished) VALUES
    (1, 1, 1, 1, 1, 'me', 1, 2), (2, 1, 2, 0, 1, 'me', 1, NULL);
INSERT INTO task (id, job, stage, state, need, function, attempt) VALUES (1, 1, 1, 4, 1, 1, 1), (2, 2, 1, 0, 1, 1, 0);
UPDATE project SET last_number = 2 WHERE id = 1;
UPDATE counter SET n = 1 WHERE stage = 1 AND state IN (0, 4);
INSERT INTO credit (project, contributor, task, units, at) VALUES (1, 1, 1, 1, 2);
INSERT INTO standing (project, contributor, units) VALUES (1, 1, 1);
"""


async def test_jobs_of_the_first_schema_are_read_and_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db, function = tmp_path / "work.db", pack_function(abs)
    first_schema = opening.migrations()[:1]
    with monkeypatch.context() as old:
        old.setattr(opening, "migrations", lambda: first_schema)
        connection = opening.open_for_writing(db)
    values = (function.digest, function.name, function.code)
    connection.execute("INSERT INTO function (id, digest, name, code) VALUES (1, ?, ?, ?)", values)
    connection.executescript(OLD_JOBS)
    connection.execute("INSERT INTO payload (task, input, output) VALUES (1, ?, ?)", (b"", dumps(3)))
    connection.execute("INSERT INTO payload (task, input) VALUES (2, ?)", (pack_call((-4,), {}),))
    connection.close()

    store = Store(db)
    await store.start()
    try:
        done, waiting = await store.reads.job(1), await store.reads.job(2)
        result = await store.reads.end(1)
        (task,) = await store.apply(Lease(1, 1, SUBMITTER, 9, Holder("w1"), now()))
        await store.apply(success(task, dumps(4), None))
        first, second = (await declare(store, "first", "second")).project.stages
        added = await add(store, b"a")
        (begun,) = await lease(store, first)
        await store.apply(success(begun, b"b", second))

        assert (done.state, done.name, done.number, done.stage) == ("succeeded", "abs", 1, "")
        assert (waiting.state, waiting.task_state) == ("open", "queued")
        assert result is not None
        assert loads(result.data or b"") == 3
        assert (task.id, loads(task.input)) == (2, ((-4,), {}))
        assert [row.tasks for row in await store.reads.leaderboard("functions")] == [2]
        assert added == AddedJobs(3, 1, 1)
        assert [later.input for later in await lease(store, second)] == [b"b"]
        assert rows(store, "PRAGMA foreign_key_check") == []
        assert (tmp_path / "work.db.schema1.backup").exists()
    finally:
        await store.close()
