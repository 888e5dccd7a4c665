"""What is put away while an engine runs: deleted projects, expired values, hours; copies of a file in use."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import dcengine
from dcengine.codec import pack, pack_json
from dcengine.errors import BackupFailed, NotFound, ResultExpired
from dcengine.events import Kind
from dcengine.store import Store, deleting, now
from dcengine.store.checking import check_history
from dcengine.store.deleting import GONE, MarkDeleted
from dcengine.store.standings import HOUR
from dcengine.verbs import Completion, Heartbeat, ItemsSubmission, LeaseRequest, ProjectSpec, StageSpec
from tests.engines import embedded, eventually

BIG = 3 << 20  #: bytes of a value that lies outside the file


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Path]:
    """A file whose tables must be what its events tell in the end."""
    yield tmp_path / "work.db"
    for file in tmp_path.glob("*.db"):
        assert check_history(file) == []


@pytest.fixture
def slow_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rows of deleted projects stay for a while."""
    monkeypatch.setattr(deleting, "FIRST_LIMIT", 1)
    monkeypatch.setattr(deleting, "LIMIT", 1)


def an_engine(db: Path) -> Any:
    return embedded(db, workers=2, processes=False)


def ask(verb: str, *arguments: object, **more: object) -> Any:
    return dcengine.api.current().call(verb, *arguments, **more)


def in_file(db: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(db)
    try:
        with connection:
            return connection.execute(sql).fetchall()
    finally:
        connection.close()


def is_removed(db: Path) -> Callable[[], bool]:
    return lambda: in_file(db, f"SELECT 1 FROM project WHERE is_deleted NOT IN (0, {GONE})") == []


def blobs(db: Path) -> list[Path]:
    return [file for file in Path(f"{db}.blobs").rglob("*") if file.is_file()]


# ---- deleted projects ----------------------------------------------------------------------


def test_a_project_can_be_deleted_while_its_jobs_run(db: Path, tmp_path: Path, slow_removal: None) -> None:
    begun, go_on = tmp_path / "begun", tmp_path / "go on"

    def hold(item: int) -> int:
        begun.touch()
        while not go_on.exists():
            time.sleep(0.01)
        return item

    with an_engine(db) as engine:
        project = dcengine.Project("photos")
        project.stage(name="hold")(hold)
        project.stage(name="then")(abs)
        project.add(range(50))
        project.run()
        eventually(begun.exists)
        errors = list[BaseException]()

        def wait_for_it() -> None:
            try:
                project.job(50).result(60)
            except NotFound as error:
                errors.append(error)

        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        eventually(lambda: engine._engine._bus._listeners)
        deletion = project.delete(confirm=True)
        go_on.touch()
        waiting.join(10)

        assert (deletion.jobs, deletion.open) == (50, 50)
        assert 1 <= deletion.running <= 2
        assert len(errors) == 1
        eventually(is_removed(db))
        eventually(lambda: not ask("status").counts.get("leased"))
        assert in_file(db, "SELECT count(*) FROM job") == in_file(db, "SELECT count(*) FROM payload") == [(0,)]
        with pytest.raises(NotFound):
            project.status()

        again = dcengine.Project("photos")
        again.stage(name="hold")(lambda item: item + 1)
        again.add([1, 2])
        assert again.run().results(30) == [2, 3]
        assert list(again.outputs("hold")) == [1, 2]


def test_outside_workers_are_told_that_their_tasks_are_gone(db: Path) -> None:
    with an_engine(db):
        ask("declare_project", ProjectSpec(name="laion", stages=[StageSpec(name="a", kind="lease")]))
        block = pack([pack_json(n, what="an item") for n in range(3)])
        ask("add_jobs", ItemsSubmission(project="laion", blocks=[block], count=3))
        ask("run_project", "laion")
        held, *_ = ask("lease", LeaseRequest(project="laion", stage="a", worker="w", n=2))

        ask("delete_project", "laion")

        (beat,) = ask("heartbeat", [Heartbeat(token=held.token)])
        (done,) = ask("complete", [Completion(token=held.token, output=msgspec.Raw(b"1"))])
        assert (beat.is_accepted, beat.cancel, done.is_accepted) == (False, True, False)
        with pytest.raises(NotFound):
            ask("lease", LeaseRequest(project="laion", stage="a", worker="w"))
        eventually(is_removed(db))
        assert in_file(db, "SELECT count(*) FROM credit") == [(0,)]


async def mark_deleted(db: Path, name: str) -> None:
    """Delete a project, and die before any of its rows is removed."""
    store = Store(db)
    await store.start()
    await store.apply(MarkDeleted(name, now()))
    await store.close()


def test_a_deletion_goes_on_when_the_next_engine_starts_and_nothing_is_handed_out(db: Path, slow_removal: None) -> None:
    with an_engine(db):
        project = dcengine.Project("photos")
        project.stage(name="first", paused=True)(abs)
        project.add(range(200))
        project.run()
        project.add([1], not_before=time.time() + 1)
    in_file(db, "UPDATE stage SET is_paused = 0")
    asyncio.run(mark_deleted(db, "photos"))

    with an_engine(db):
        assert ask("projects") == []
        assert sum(ask("status").counts.values()) == 0
        eventually(is_removed(db))
        assert in_file(db, "SELECT count(*) FROM task") == [(0,)]

    assert in_file(db, f"SELECT count(*) FROM event WHERE kind = {Kind.LEASED:d}") == [(0,)]


# ---- values kept for a set time ------------------------------------------------------------


def test_results_kept_for_a_set_time_expire(db: Path) -> None:
    with an_engine(db):
        kept = dcengine.submit(len, "four")
        short = dcengine.submit(len, "three", keep=0.2)

        eventually(lambda: in_file(db, f"SELECT job FROM event WHERE kind = {Kind.EXPIRED:d}") == [(short.id,)])

        assert kept.result(30) == 4
        with pytest.raises(ResultExpired):
            short.result(5)
        assert short.status().state == "succeeded"


def test_results_of_a_batch_kept_for_a_set_time_expire(db: Path) -> None:
    with an_engine(db):
        batch = dcengine.map(len, ["a", "bb"], keep=0.2)

        eventually(lambda: in_file(db, f"SELECT batch FROM event WHERE kind = {Kind.EXPIRED:d}") == [(batch.id,)])

        with pytest.raises(ResultExpired):
            batch.results(5)
        with pytest.raises(ResultExpired):
            dcengine.job(batch.status().first_job).result(5)
        assert batch.status().state == "succeeded"


# ---- hours ---------------------------------------------------------------------------------


def test_hours_that_passed_while_no_engine_ran_are_over_when_one_starts(db: Path) -> None:
    with an_engine(db):
        dcengine.submit(len, "four").result(30)
        assert [row.tasks for row in ask("leaderboard", span="day")] == [1]
    # A day and a half ago, as far as the file knows.
    for table, column in (("credit", "at = at - 36 * 3600000000"), ("earning", "hour = hour - 36")):
        in_file(db, f"UPDATE {table} SET {column}")
    in_file(db, "UPDATE meta SET value = value - 36 WHERE key = 'hour'")

    with an_engine(db):
        eventually(lambda: ask("leaderboard", span="day") == [])
        assert [row.tasks for row in ask("leaderboard", span="week")] == [1]
        assert in_file(db, "SELECT value FROM meta WHERE key = 'hour'") >= [(now() // HOUR,)]


# ---- copies and space ----------------------------------------------------------------------


def test_a_copy_made_while_jobs_run_can_be_gone_on_with(db: Path, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"

    def work(item: int) -> int:
        while item > 50 and not go_on.exists():
            time.sleep(0.01)
        return item + 1

    def prepare() -> Any:
        project = dcengine.Project("photos")
        project.stage(name="work")(work)
        return project

    target = tmp_path / "copy.db"
    with an_engine(db):
        big = dcengine.submit(bytes, BIG)
        assert len(big.result(30)) == BIG
        project = prepare()
        project.add(range(1, 101))
        project.run()
        eventually(lambda: len(ask("outputs", "photos", "work")) >= 40)

        done = ask("backup", str(target))

        assert (done.path, done.bytes, done.blobs) == (str(target), target.stat().st_size, 1)
        with pytest.raises(BackupFailed, match="is there already"):
            ask("backup", str(target))
        go_on.touch()
        assert project.results(60) == list(range(2, 102))

    with an_engine(target):
        assert len(dcengine.job(big.id).result(30)) == BIG
        status = prepare().wait(60)
        assert (status.succeeded, status.open) == (100, 0)
        assert prepare().results(60) == list(range(2, 102))


def test_vacuum_removes_values_outside_the_file_that_nothing_refers_to(db: Path) -> None:
    with an_engine(db):
        dcengine.submit(bytes, BIG).result(30)
        project = dcengine.Project("photos")
        project.stage(name="fill")(lambda letter: letter * BIG)
        project.add([b"x", b"y"])
        project.run().results(30)
        assert len(blobs(db)) == 3
        project.delete(confirm=True)
        eventually(is_removed(db))
        in_file(db, "UPDATE blob SET created = 0")
        assert ask("vacuum").blobs == 0  # they were put just now: somebody may be about to refer to them

    with an_engine(db):
        done = ask("vacuum")

        assert (done.blobs, done.blob_bytes > 2 * BIG) == (2, True)
        assert done.after <= done.before
        assert len(blobs(db)) == 1
        assert in_file(db, "SELECT count(*) FROM blob") == [(1,)]
        assert len(dcengine.job(1).result(30)) == BIG


def test_work_goes_on_after_a_vacuum_under_load(db: Path) -> None:
    with an_engine(db):
        project = dcengine.Project("photos")
        project.stage(name="first")(lambda item: item + 1)
        project.stage(name="second")(lambda item: item * 2)
        project.run()
        project.add(range(300))

        for _ in range(3):
            ask("vacuum")

        assert project.results(60) == [2 * (item + 1) for item in range(300)]
        assert sum(row.tasks for row in project.leaderboard()) == 600
