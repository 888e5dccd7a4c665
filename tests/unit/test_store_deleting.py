"""Deleting a project: hidden at once, removed slice by slice, and nothing else is touched."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dcengine.codec import pack, pack_function
from dcengine.errors import InvalidOption, NotFound, StaleLease, StoreError
from dcengine.events import Kind
from dcengine.store import Store, deleting, now
from dcengine.store.checking import check_history
from dcengine.store.deleting import MarkDeleted, MarkedDeleted, Removal
from dcengine.store.saying import AddOutput, SaveProgress
from dcengine.store.standings import HOUR, RollHours
from dcengine.store.submitting import AddJob
from dcengine.verbs import Deletion, ImportStep, Options, Progress, Submission
from tests.unit.pipelines import Pipeline, a_stage, change, rows

#: What holds rows of a project, and which of them.
TABLES = {
    "job": "project = 2", "task": "stage <> 1", "payload": "task NOT IN (SELECT id FROM task WHERE stage = 1)",
    "gather": "1", "flag": "1", "output": "1", "progress": "1", "credit": "project = 2",
    "standing": "project = 2", "standing_total": "project = 2", "earning": "project = 2", "import": "project = 2",
    "request": "id <> 'mine'", "counter": "stage <> 1", "job_counter": "project = 2",
}  # fmt: skip


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "work.db")
    await store.start()
    yield store
    await store.close()


async def a_full_project(store: Store) -> Pipeline:
    """Make a project with something in every table, jobs in every state, and one task in a worker's hands."""
    photos = Pipeline(store)
    await photos.declare(
        a_stage("split", "expand"), a_stage("do", votes=2, retries=1), a_stage("join", "gather"), a_stage("end")
    )
    await photos.add(b"a", b"b", request="theirs")
    step = ImportStep(name="list", offset=0, before=b"", after=b"digest")
    await photos.add(b"c", imported=step)
    await photos.run("split", 3, pack([b"x", b"y", b"z"]))
    await photos.run("do", 5)
    (task,) = await photos.lease("do")
    await photos.flag(task, "bob", "blurred")
    (task,) = await photos.lease("do")
    await photos.fail(task, "no luck")
    await photos.lease("do")
    await photos.run("join", 1)
    await store.apply(AddOutput([(3, 1, "stdout", "hello")]))
    await store.apply(SaveProgress({5: Progress(1, 2, "half")}))
    return photos


async def a_function_call(store: Store) -> int:
    submission = Submission(
        function=pack_function(len), input=b"input", options=Options(), request="mine", submitter="me"
    )
    return int((await store.apply(AddJob(1, 1, submission, now()))).id)


async def delete(store: Store, name: str = "photos") -> MarkedDeleted:
    marked: MarkedDeleted = await store.apply(MarkDeleted(name, now()))
    return marked


async def remove(store: Store, project: int) -> int:
    """Remove the rows of a deleted project; return in how many slices."""
    removal, slices = Removal(project), 1
    while await store.maintain(removal.remove_some):
        slices += 1
    return slices


def left(store: Store) -> dict[str, int]:
    """Return how many rows of the project are left in each table."""
    return {
        table: n
        for table, which in TABLES.items()
        if (n := rows(store, f"SELECT count(*) FROM {table} WHERE {which}")[0][0])
    }


async def test_what_would_be_deleted_is_told_before(store: Store) -> None:
    await a_full_project(store)
    expected = Deletion(project="photos", jobs=12, open=7, running=1, contributors=1)

    assert await store.reads.deletion("photos") == expected
    assert (await delete(store)).deletion == expected


async def test_a_deleted_project_is_gone_at_once_and_its_name_is_free(store: Store) -> None:
    photos = await a_full_project(store)

    marked = await delete(store)

    assert await store.reads.projects() == []
    assert await store.reads.stored_projects() == []
    assert sum((await store.reads.counts()).values()) == 0
    assert await store.reads.open_jobs() == []
    assert await store.reads.jobs(state=None, project=None, before=None, limit=10) == []
    for question in (
        store.reads.project("photos"), store.reads.leaderboard("photos"), store.reads.deletion("photos"),
        store.reads.job(1), store.apply(MarkDeleted("photos", now())),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await question
    assert await store.reads.being_deleted() == [marked.project]
    assert set(await store.reads.deleted_stages()) == marked.stages == {2, 3, 4, 5}
    await photos.declare(a_stage("another"))
    assert (await photos.add(b"in", request="theirs 2")).first_number == 1
    assert [project.name for project in await store.reads.projects()] == ["photos"]


async def test_every_row_of_a_deleted_project_goes_and_no_other(store: Store) -> None:
    call = await a_function_call(store)  # job 1
    await a_full_project(store)
    before = [rows(store, f"SELECT * FROM {table}") for table in ("contributor", "need", "submitter", "batch")]
    assert set(left(store)) == set(TABLES)

    marked = await delete(store)
    await remove(store, marked.project)

    assert left(store) == {}
    assert rows(store, "PRAGMA foreign_key_check") == []
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]
    assert [rows(store, f"SELECT * FROM {table}") for table in ("contributor", "need", "submitter", "batch")] == before
    assert (await store.reads.job(call)).state == "open"
    assert rows(store, "SELECT id FROM request") == [("mine",)]
    assert rows(store, "SELECT name, is_deleted FROM project WHERE id = ?", marked.project) == [("/deleted/2", 2)]
    assert await store.reads.being_deleted() == []
    assert check_history(store.db) == []
    told = rows(store, "SELECT units, detail FROM event WHERE kind = ?", int(Kind.DELETED))
    assert told == [(12, "photos")]


async def test_removal_goes_on_after_a_restart(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "FIRST_LIMIT", 1)
    monkeypatch.setattr(deleting, "LIMIT", 1)
    await a_full_project(store)
    marked = await delete(store)
    removal = Removal(marked.project)
    for _ in range(5):
        assert await store.maintain(removal.remove_some)
    assert len(rows(store, "SELECT 1 FROM job")) == 7
    await store.close()

    again = Store(tmp_path / "work.db")
    await again.start()
    (project,) = await again.reads.being_deleted()
    slices = await remove(again, project)
    end = left(again)
    await again.close()

    assert end == {}
    assert slices > 10


async def test_a_part_never_outlives_the_job_whose_part_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "FIRST_LIMIT", 1)
    monkeypatch.setattr(deleting, "LIMIT", 1)
    await a_full_project(store)
    removal = Removal((await delete(store)).project)

    while rows(store, "SELECT 1 FROM job"):
        orphans = (
            "SELECT 1 FROM job WHERE parent NOT IN (SELECT id FROM job) OR gather NOT IN (SELECT task FROM gather)"
        )
        assert rows(store, orphans) == []
        assert await store.maintain(removal.remove_some)


async def test_who_reports_after_the_end_is_refused_and_earns_nothing(store: Store) -> None:
    photos = await a_full_project(store)
    (task,) = await photos.lease("do")
    marked = await delete(store)

    await photos.succeed(task)  # its rows are still there
    await remove(store, marked.project)
    with pytest.raises(StaleLease):
        await photos.succeed(task)

    assert left(store) == {}


async def test_ids_of_deleted_jobs_and_tasks_are_not_given_away_again(store: Store, tmp_path: Path) -> None:
    await a_full_project(store)
    job, task = rows(store, "SELECT max(id) FROM job")[0][0], rows(store, "SELECT max(id) FROM task")[0][0]
    await remove(store, (await delete(store)).project)
    await store.close()

    again = Store(tmp_path / "work.db")
    await again.start()
    photos = Pipeline(again)
    await photos.declare(a_stage("first"), a_stage("second"))
    added = await photos.add(b"in")
    await photos.run("first")
    newest = rows(again, "SELECT max(id) FROM task")[0][0]
    projects = rows(again, "SELECT id FROM project WHERE name = 'photos'")
    await again.close()

    assert added.first_id == job + 1
    assert newest == task + 1
    assert projects == [(3,)]


async def test_a_request_of_a_deleted_project_is_no_answer_any_more(store: Store) -> None:
    photos = await a_full_project(store)
    await remove(store, (await delete(store)).project)

    await photos.declare(a_stage("first"))
    added = await photos.add(b"a", b"b", request="theirs")

    assert (added.count, added.first_number) == (2, 1)


async def test_credit_of_all_hours_goes(store: Store) -> None:
    photos = Pipeline(store)
    await photos.declare(a_stage("first"))
    await photos.add(*[b"in"] * 3)
    for hours in (0, 30, 60):
        await store.apply(RollHours(now() + hours * HOUR))
        await photos.run("first")
    assert len(rows(store, "SELECT DISTINCT hour FROM earning")) == 3
    other = Pipeline(store, "other")
    await other.declare(a_stage("first"))
    await other.add(b"in")
    await other.run("first")

    await remove(store, (await delete(store)).project)

    assert rows(store, "SELECT DISTINCT project FROM earning") == [(3,)]
    assert [row.tasks for row in await store.reads.leaderboard("other")] == [1]


async def test_the_built_in_project_and_unknown_ones_cannot_be_deleted(store: Store) -> None:
    for name, error in (("functions", InvalidOption), ("nothing", NotFound)):
        with pytest.raises(error):
            await store.apply(MarkDeleted(name, now()))
        with pytest.raises(error):
            await store.reads.deletion(name)


async def test_others_write_between_two_slices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "LIMIT", 50)
    photos = Pipeline(store)
    await photos.declare(a_stage("first"))
    await photos.add(*[b"in"] * 1000)
    project = (await delete(store)).project

    slices, *calls = await asyncio.gather(remove(store, project), *(a_call_at_leisure(store) for _ in range(10)))

    assert slices > 20
    assert len(set(calls)) == 10
    assert left(store) == {}


async def a_call_at_leisure(store: Store) -> int:
    await asyncio.sleep(0)
    submission = Submission(function=pack_function(len), input=b"input", options=Options(), submitter="me")
    return int((await store.apply(AddJob(1, 1, submission, now()))).id)


async def test_a_slice_that_fails_is_undone_and_keys_are_checked_again(store: Store) -> None:
    await a_full_project(store)
    removal = Removal((await delete(store)).project)
    before = len(rows(store, "SELECT 1 FROM payload"))
    change(store, "CREATE TRIGGER no BEFORE DELETE ON job BEGIN SELECT RAISE(ABORT, 'not now'); END")

    with pytest.raises(StoreError, match="not now"):
        await store.maintain(removal.remove_some)

    assert len(rows(store, "SELECT 1 FROM payload")) == before
    assert await store.maintain(foreign_keys) == 1
    change(store, "DROP TRIGGER no")
    assert await store.maintain(removal.remove_some)
    assert await store.maintain(foreign_keys) == 1


def foreign_keys(connection: sqlite3.Connection) -> Any:
    return connection.execute("PRAGMA foreign_keys").fetchone()[0]
