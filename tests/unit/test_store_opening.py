"""A file is opened only if it is ours, whole, not too new and on a good disk; else it stays as it was."""

from __future__ import annotations

import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dcengine.errors import (
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseTooNew,
    NetworkFileSystem,
    StoreError,
)
from dcengine.store import opening
from dcengine.store.opening import APPLICATION_ID, file_system_of, newest_version, open_for_writing


def test_a_new_file_is_made_private_and_ours(tmp_path: Path) -> None:
    db = tmp_path / "work.db"

    connection = open_for_writing(db)

    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (newest_version(),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.stat().st_mode & 0o777 == 0o600
    connection.close()


def test_a_file_opens_again_without_a_migration(tmp_path: Path) -> None:
    open_for_writing(tmp_path / "work.db").close()
    open_for_writing(tmp_path / "work.db").close()

    assert not list(tmp_path.glob("*.backup"))


def test_an_empty_file_becomes_ours(tmp_path: Path) -> None:
    (tmp_path / "work.db").touch()

    connection = open_for_writing(tmp_path / "work.db")

    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


def refused(db: Path, kind: type[StoreError]) -> str:
    before = db.read_bytes()
    with pytest.raises(kind) as caught:
        open_for_writing(db)
    assert db.read_bytes() == before, "a refused file must stay as it was"
    assert str(db) in str(caught.value)
    return str(caught.value)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    db = tmp_path / "notes.txt"
    db.write_text("my notes, not a database")

    assert "not an SQLite file" in refused(db, DatabaseForeign)


def test_a_file_that_lost_its_power_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    db.write_bytes(bytes(4096))  # its first page did not reach the disk, its journal did
    head = struct.pack(">8sIIIII", opening.JOURNAL_MAGIC, 0, 1, 0, 512, 4096)
    (tmp_path / "work.db-journal").write_bytes(head.ljust(512, b"\0"))

    connection = open_for_writing(db)

    assert connection.execute("PRAGMA user_version").fetchone() == (newest_version(),)
    connection.close()


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    db = tmp_path / "other.db"
    other = sqlite3.connect(db)
    other.execute("CREATE TABLE bookmark (url TEXT)")
    other.commit()
    other.close()

    assert "another program" in refused(db, DatabaseForeign)


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseForeign, match="a folder"):
        open_for_writing(tmp_path)
    with pytest.raises(StoreError, match="does not exist"):
        open_for_writing(tmp_path / "nowhere" / "work.db")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    open_for_writing(db).close()
    content = bytearray(db.read_bytes())
    content[4096 : 4096 * 8] = b"\xff" * (4096 * 7)
    db.write_bytes(content)

    assert ".recover" in refused(db, DatabaseCorrupt)


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    connection = open_for_writing(db)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA user_version = {newest_version() + 1}")
    connection.close()

    assert "pip install --upgrade dcengine" in refused(db, DatabaseTooNew)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_mounts", lambda: [("/", "ext4"), (str(tmp_path), "nfs4")])

    with pytest.raises(NetworkFileSystem, match="nfs4"):
        open_for_writing(tmp_path / "work.db")
    assert not (tmp_path / "work.db").exists()


def test_the_innermost_mount_decides(tmp_path: Path) -> None:
    mounts = [("/", "ext4"), ("/home", "nfs"), ("/home/me/fast", "xfs")]

    assert file_system_of(Path("/home/me"), mounts) == "nfs"
    assert file_system_of(Path("/home/me/fast/lab"), mounts) == "xfs"
    assert file_system_of(Path("/homework"), mounts) == "ext4"


# ---- migrations ----------------------------------------------------------------------------


def test_an_older_file_is_backed_up_and_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = tmp_path / "work.db"
    open_for_writing(db).close()
    steps = opening.migrations()
    next_step = (newest_version() + 1, "ALTER TABLE project ADD COLUMN note TEXT;")
    monkeypatch.setattr(opening, "migrations", lambda: [*steps, next_step])

    connection = open_for_writing(db)

    assert connection.execute("PRAGMA user_version").fetchone() == (next_step[0],)
    assert connection.execute("SELECT name, note FROM project").fetchone() == ("functions", None)
    path = next(tmp_path.glob("*.backup"))
    assert path.stat().st_mode & 0o777 == 0o600
    backup = sqlite3.connect(path)
    assert backup.execute("PRAGMA user_version").fetchone() == (next_step[0] - 1,)
    backup.close()
    connection.close()


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = tmp_path / "work.db"
    connection = open_for_writing(db)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(project)")]
    connection.close()
    steps = opening.migrations()
    broken = (newest_version() + 1, "ALTER TABLE project ADD COLUMN note TEXT; SELECT no_such_function();")
    with monkeypatch.context() as patch:
        patch.setattr(opening, "migrations", lambda: [*steps, broken])
        with pytest.raises(StoreError):
            open_for_writing(db)

    connection = open_for_writing(db)
    assert connection.execute("PRAGMA user_version").fetchone() == (broken[0] - 1,)
    assert [row[1] for row in connection.execute("PRAGMA table_info(project)")] == columns
    connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="locks are listed in /proc")
def test_looking_at_a_file_leaves_the_locks_of_an_engine_in_this_process_alone(tmp_path: Path) -> None:
    db = tmp_path / "x.db"
    with closing(open_for_writing(db)) as connection:
        connection.execute("SELECT * FROM meta").fetchall()
        held = locks_on(db)
        assert held
        opening.open_for_reading(db).close()
        assert locks_on(db) == held


def locks_on(path: Path) -> list[list[str]]:
    """The locks on *path* as the system lists them, without their numbers."""
    inode = str(path.stat().st_ino)
    lines = [line.split()[1:] for line in Path("/proc/locks").read_text().splitlines()]
    return [fields for fields in lines if fields[4].endswith(f":{inode}")]
