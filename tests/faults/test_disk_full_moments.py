"""A disk that gets full in the middle of something: a migration, a checkpoint, the log's index, a vacuum."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcengine.errors import DiskFull
from dcengine.store import Store, opening
from dcengine.store.copying import vacuum
from dcengine.store.touching import Touch
from tests.engines import environment, eventually
from tests.faults.aftermath import check_survivor, check_whole
from tests.faults.disks import NO_ROOM, SHORT, Calls, Full, Shimmed, disk_in
from tests.faults.shims import needs_shims

CHILD = """
import asyncio, json, os, sqlite3, sys
from pathlib import Path
from dcengine.errors import DcengineError
from dcengine.store import Store, log, now, opening, writer
from dcengine.store.submitting import AddJob
from dcengine.codec import pack_call, pack_function
from dcengine.verbs import Submission
db = Path(sys.argv[1])
def a_job(size=100):
    return AddJob(1, 1, Submission(function=pack_function(abs), input=os.urandom(size), submitter="u"), now())
def say(what):
    print(json.dumps(what), flush=True)
def hear():
    return sys.stdin.readline().strip()
"""


@contextmanager
def child(disk: Full, code: str, *arguments: str, **more: str) -> Iterator[Callable[[str], Any]]:
    """Run *code* where *disk* is; yields what sends it a line and returns the JSON that it answers."""
    process = subprocess.Popen(
        disk.command(sys.executable, "-c", CHILD + textwrap.dedent(code), str(disk.inside / "work.db"), *arguments),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(**disk.more, **more),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(line: str = "") -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"it ended with {process.wait()}"
        return json.loads(answer)

    try:
        yield ask
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


OPEN_OLD = """
def opened():
    try:
        opening.open_for_writing(db).close()
        return "opened"
    except DcengineError as error:
        return f"{type(error).__name__}: {error}"
steps = opening.migrations()
opening.migrations = lambda: steps[:-1]
connection = opening.open_for_writing(db)
connection.execute("INSERT INTO meta (key, value) VALUES ('filler', zeroblob(1000000))")
connection.close()
opening.migrations = lambda: steps
while True:
    hear()
    say(opened())
"""


def test_a_migration_for_which_there_is_no_room_leaves_the_old_file(tmp_path: Path) -> None:
    with disk_in(tmp_path, kind="tmpfs", size="4m") as disk:
        with child(disk, OPEN_OLD) as ask:
            eventually((disk.path / "work.db").exists)
            eventually(lambda: version_of(disk.path / "work.db") == opening.newest_version() - 1)
            before = (disk.path / "work.db").read_bytes()
            disk.fill()

            said = ask()

            assert said.startswith("DiskFull: the disk of ")
            assert (disk.path / "work.db").read_bytes() == before
            assert not list(disk.path.glob("*.backup"))
            disk.make_room()
            assert ask() == "opened"
        assert version_of(disk.path / "work.db") == opening.newest_version()


def version_of(db: Path) -> int:
    """Return the schema in the header of *db*, if nobody is writing it."""
    if db.with_name("work.db-wal").exists():
        return -1
    return int.from_bytes(db.read_bytes()[60:64], "big")


CHECKPOINT = """
async def main():
    log.FOLD_PAGES, log.FOLD_AGAIN_SECONDS = 64, 0.05
    store = Store(db)
    await store.start()
    while (word := await asyncio.to_thread(hear)):
        taken, refused = 0, ""
        try:
            for n in range(int(word)):
                await store.apply(a_job(20_000))
                taken += 1
        except DcengineError as error:
            refused = type(error).__name__
        await asyncio.sleep(0.2)
        say([taken, refused, store.broken is None])
    await store.close()
asyncio.run(main())
"""


@needs_shims
def test_a_log_that_cannot_be_folded_into_a_full_file_is_kept_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk = Shimmed(tmp_path / "disk")
    with child(disk, CHECKPOINT) as ask:
        assert ask("5") == [5, "", True]
        disk.failing.fail(Calls.GROW, "work.db$", NO_ROOM)  # the log has room, the file has not
        assert ask("60") == [60, "", True]
        assert disk.failing.hits() > 0
        disk.failing.fail(Calls.GROW, "work.db-wal", NO_ROOM, rule=1)
        assert ask("60")[1:] == ["DiskFull", True]
        disk.failing.heal(1)
        disk.failing.heal()
        assert ask("10") == [10, "", True]
        disk.failing.fail(Calls.WRITE, "work.db-wal", SHORT, times=1)  # half of what is written: no room for the rest
        assert ask("1") in ([0, "DiskFull", True], [1, "", True])
        assert ask("70") == [70, "", True]
        size = (disk.path / "work.db").stat().st_size
        assert size > 100 * 20_000
    check_survivor(disk.path / "work.db")


@needs_shims
def test_an_index_of_the_log_that_cannot_grow_is_a_full_disk_and_no_broken_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk = Shimmed(tmp_path / "disk")
    code = CHECKPOINT.replace("64, 0.05", "10**6, 0.05; writer.HERE_IN_A_ROW = 10**6")
    with child(disk, code) as ask:
        assert ask("10") == [10, "", True]
        disk.failing.fail(Calls.GROW, "work.db-shm", NO_ROOM)
        taken, refused, is_whole = ask("1500")
        assert (taken < 1500, refused, is_whole) == (True, "DiskFull", True)
        disk.failing.heal()
        assert ask("10") == [10, "", True]
    check_whole(disk.path / "work.db")


def test_a_vacuum_for_which_the_temporary_folder_has_no_room_names_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoRoom(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "VACUUM":
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *values)

    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    opening.open_for_writing(tmp_path / "work.db").close()
    connection = sqlite3.connect(tmp_path / "work.db", isolation_level=None, factory=NoRoom)

    with pytest.raises(DiskFull, match=f"the disk of {tmp_path} is full"):
        vacuum(connection)

    assert connection.execute("PRAGMA temp_store").fetchone() == (2,)
    connection.close()


async def test_whether_there_is_room_is_tried_by_a_real_write(tmp_path: Path) -> None:
    """What stands in the file already, SQLite does not write: that goes well on a full disk too."""
    store = Store(tmp_path / "work.db")
    await store.start()
    for _ in range(2):
        await store.apply(Touch())
    assert await store.reads._one("SELECT value FROM meta WHERE key = 'touched'") == (2,)
    await store.close()
