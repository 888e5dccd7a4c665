"""An engine that is killed while it brings an old file to the newest schema: the file opens as the old one, or as new.

The old files in ``schemas`` were written by the dcengine of their time, whose last engine was killed at its work.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.store import opening
from dcengine.store.checking import check_history
from dcengine.store.opening import COMPANIONS, UNFINISHED, newest_version, open_for_writing
from tests.engines import embedded
from tests.faults.aftermath import check_survivor, check_whole
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.report import Record, recorded

SCHEMAS = Path(__file__).with_name("schemas")
OLD = range(1, newest_version())
POINTS = in_form(short=2, long=200)  #: of each way to be killed, for each schema
LOOKED_AT = 20  #: one of so many files that are left is worked on too
STEPS = 50  #: of SQLite's machine, between two moments at which it may be killed

Hook = Callable[[sqlite3.Connection, Callable[[], None]], None]


def old_file(folder: Path, version: int) -> Path:
    """Return a file of schema *version*."""
    db = folder / "work.db"
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript((SCHEMAS / f"schema{version}.sql").read_text())
    return db


def rows(db: Path) -> list[str]:
    """Return all that is in a file."""
    with closing(sqlite3.connect(db)) as connection:
        return list(connection.iterdump())


def version_of(db: Path) -> int:
    with closing(sqlite3.connect(db)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("version", OLD)
def test_a_file_of_each_released_schema_opens_and_its_work_goes_on(tmp_path: Path, version: int) -> None:
    db = old_file(tmp_path, version)
    before = rows(db)

    with embedded(db, processes=False):
        assert dcengine.submit(abs, -1).result(30) == 1

    assert version_of(db) == newest_version()
    assert rows(backup_of(db, version)) == before
    check_survivor(db)


# ---- killed --------------------------------------------------------------------------------


def at_steps(connection: sqlite3.Connection, moment: Callable[[], None]) -> None:
    """Have *moment* come after every few steps of SQLite's machine."""
    connection.set_progress_handler(moment, STEPS)


def at_statements(connection: sqlite3.Connection, moment: Callable[[], None]) -> None:
    """Have *moment* come before every statement."""
    connection.set_trace_callback(lambda _: moment())


def at_calls(connection: sqlite3.Connection, moment: Callable[[], None]) -> None:
    """Have *moment* come wherever something is done to files, and around it."""
    for name in ("sync", "_create_private", "_remove_database", "_migrate"):
        setattr(opening, name, _with_moments(getattr(opening, name), moment))
    Path.rename = _with_moments(Path.rename, moment)  # type: ignore[method-assign]


def _with_moments(function: Callable[..., Any], moment: Callable[[], None]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        moment()
        try:
            return function(*args)
        finally:
            moment()

    return called


HOOKS: dict[str, Hook] = {"steps": at_steps, "statements": at_statements, "calls": at_calls}


def test_a_migration_that_is_killed_leaves_the_old_schema_or_the_new_one(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with recorded("kill -9 in a migration", seed=seed, is_long=IS_LONG) as record:
        record.figures = {"opened as old": 0, "opened as new": 0}
        for version in OLD:
            (tmp_path / f"{version}").mkdir()
            kill_migrations(tmp_path / f"{version}", version, dice, record)
    assert record.figures["opened as old"] > record.figures["opened as new"] > 0


def kill_migrations(folder: Path, version: int, dice: random.Random, record: Record) -> None:
    """Have migrations from *version* be killed at chosen moments, and go on with what is left."""
    original = old_file(folder, version)
    before, content = rows(original), original.read_bytes()
    for place, (hook, at) in enumerate(moments(content, folder, dice)):
        db = folder / f"{place}" / "work.db"
        db.parent.mkdir()
        db.write_bytes(content)
        open_in_child(db, HOOKS[hook], at)

        record.runs += 1
        record.figures[f"opened as {after_kill(db, version, before)}"] += 1
        open_for_writing(db).close()
        assert version_of(db) == newest_version()
        assert rows(backup_of(db, version)) == before, f"killed at {hook} {at}"
        record.corrupt += bool(check_history(db))
        if place % LOOKED_AT == 0:
            check_survivor(db, examples=0)
        shutil.rmtree(db.parent)


def moments(content: bytes, folder: Path, dice: random.Random) -> Iterator[tuple[str, int]]:
    """Yield in which way, and at which moment, an opening is to be killed."""
    for hook in HOOKS:
        db = folder / f"count-{hook}.db"
        db.write_bytes(content)
        n = open_in_child(db, HOOKS[hook], None)
        assert n > 3, f"there is no moment for {hook}"
        # What happens last is the most of interest: it decides what the file is.
        chosen = {*range(n - 2, n), *dice.sample(range(n), min(n, POINTS))}
        yield from ((hook, at) for at in sorted(chosen))


def after_kill(db: Path, version: int, before: list[str]) -> str:
    """Return whether *db* is ``old`` or ``new``; nothing else, and a copy beside it is whole or has no name."""
    for path in db.parent.glob("*.backup"):
        assert rows(path) == before
    names = {f"{db.name}.schema{version}.backup{UNFINISHED}{companion}" for companion in COMPANIONS}
    names |= {f"{db.name}{companion}" for companion in COMPANIONS} | {f"{db.name}.schema{version}.backup"}
    assert {path.name for path in db.parent.iterdir()} <= names
    found = version_of(db)
    if found == version:
        assert rows(db) == before
        return "old"
    assert found == newest_version()
    assert backup_of(db, version).exists()
    return "new"


def backup_of(db: Path, version: int) -> Path:
    return db.with_name(f"{db.name}.schema{version}.backup")


def open_in_child(db: Path, hook: Hook, at: int | None) -> int:
    """Open *db* in a process that is killed at moment *at*; without one return how many there are."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _open_and_die(db, hook, at, writing)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    told = os.read(reading, 100)
    os.close(reading)
    if at is None:
        assert status == 0
        return int(told)
    assert os.WIFSIGNALED(status), f"it was not killed: {status}"
    return at


def _open_and_die(db: Path, hook: Hook, at: int | None, writing: int) -> None:
    passed = 0

    def moment() -> None:
        nonlocal passed
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    connect = sqlite3.connect

    def hooked(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        if hook is not at_calls:
            hook(connection, moment)
        return connection

    try:
        sqlite3.connect = hooked  # type: ignore[assignment]
        if hook is at_calls:
            at_calls(connect(":memory:"), moment)
        open_for_writing(db).close()
        os.write(writing, str(passed).encode())
        os._exit(0)
    finally:
        os._exit(1)


def test_half_a_copy_of_an_old_file_is_never_taken_for_one(tmp_path: Path) -> None:
    db = old_file(tmp_path, 3)
    before = rows(db)
    unfinished = Path(f"{backup_of(db, 3)}{UNFINISHED}")
    for companion in COMPANIONS:
        Path(f"{unfinished}{companion}").write_bytes(b"what somebody has left who was killed")

    open_for_writing(db).close()

    assert rows(backup_of(db, 3)) == before
    check_whole(db)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work.db", "work.db.schema3.backup"]
