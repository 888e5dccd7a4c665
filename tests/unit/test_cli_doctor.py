"""What the doctor finds, with real files, ports and engines, and that it changes nothing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from dcengine.cli import app
from dcengine.cli.checkup import cluster, database, engine, kernel, packages, port_of
from dcengine.config import Settings
from dcengine.owner import Lock
from dcengine.server import application, listen
from dcengine.store import opening
from dcengine.verbs import EngineStatus, WorkerStatus
from tests.unit.engine_double import EngineDouble, Tokens

STATUS = EngineStatus(
    version="0.1.0", db="a.db", url="", pid=1, started=0.0, scheduler="tls://h:1", workers=0, slots=0, counts={}
)
WORKER = WorkerStatus(name="w1", address="", contributor="alice", state="ready", slots=2, busy=0, tags={})


def verdict(db: Path) -> tuple[str, str]:
    """Return the doctor's worst finding about the file *db*."""
    findings = sorted(database(db), key=lambda finding: ["wrong", "note", "ok"].index(finding.verdict))
    return findings[0].verdict, findings[0].found


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "work.db"
    opening.open_for_writing(path).close()
    return path


def test_a_good_file_is_good_and_stays_as_it_is(db: Path) -> None:
    before, names = db.read_bytes(), set(os.listdir(db.parent))

    assert verdict(db)[0] == "ok"
    assert db.read_bytes() == before
    assert set(os.listdir(db.parent)) == names


def test_a_file_in_use_is_examined_all_the_same(db: Path) -> None:
    writer = opening.open_for_writing(db)
    writer.execute("BEGIN IMMEDIATE")

    assert verdict(db)[0] == "ok"
    writer.close()


def test_the_log_counts_as_a_part_of_the_file(db: Path) -> None:
    writer = opening.open_for_writing(db)
    writer.execute("UPDATE project SET name = name")
    in_file, in_log = db.stat().st_size, Path(f"{db}-wal").stat().st_size

    found = next(iter(database(db))).found

    assert in_log > 0
    assert f"{in_file + in_log:,} bytes ({in_log:,} of them in its log)" in found
    writer.close()
    assert "log" not in next(iter(database(db))).found


def test_a_missing_file_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    assert verdict(tmp_path / "new.db") == ("ok", "not there yet; the first engine makes it")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_fault(tmp_path: Path) -> None:
    assert verdict(tmp_path / "nowhere" / "new.db")[0] == "wrong"


def test_a_damaged_file_is_a_fault(db: Path) -> None:
    data = bytearray(db.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    db.write_bytes(data)

    assert verdict(db)[0] == "wrong"


def test_what_is_no_database_is_a_fault(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("to do: everything\n" * 100)

    found = verdict(text)

    assert found[0] == "wrong"
    assert "not a database" in found[1]


def test_a_database_of_another_program_is_a_fault(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE song (title TEXT)")
    connection.close()

    assert verdict(tmp_path / "other.db") == ("wrong", "the database of another program")


def test_a_file_of_a_later_version_is_a_fault(db: Path) -> None:
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()

    assert verdict(db) == ("wrong", "schema 9999 is of a later dcengine")


def test_a_port_in_use_is_told_apart_from_the_engines_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert port_of(Settings(port=port), "").verdict == "note"
        assert port_of(Settings(port=port), f"http://127.0.0.1:{port}/").found == "the engine's own"
    assert port_of(Settings(port=port), "").found == "free"


def test_installed_packages_are_compared_with_what_is_needed() -> None:
    findings = list(packages())

    assert findings
    assert all(finding.advice for finding in findings if finding.verdict != "ok")


def test_the_kernel_is_looked_for_where_jupyter_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path / "theirs"), str(tmp_path)])
    spec = tmp_path / "dcengine/kernel.json"
    missing = kernel()
    spec.parent.mkdir()
    found = []
    for python in ("python", str(tmp_path / "removed/python")):
        spec.write_text(json.dumps({"argv": [python, "-m", "dcengine_kernel"]}))
        found.append(kernel())
    spec.write_text("[]")
    damaged = kernel()

    assert (missing.verdict, missing.advice) == ("note", "dcengine kernel install --user")
    assert [one.verdict for one in found] == ["ok", "wrong"]
    assert str(spec.parent) in found[0].found
    assert "removed/python, which is gone" in found[1].found
    assert damaged.verdict == "wrong"


async def test_an_engine_that_answers_is_timed() -> None:
    listening = await listen(application(EngineDouble(), access=Tokens()), "127.0.0.1", 0)

    findings = await engine(listening.url, "admin-token")
    wrong_token = await engine(listening.url, "guess")

    assert findings[0].verdict == "ok"
    assert "answers in" in findings[0].found
    assert wrong_token[0].verdict == "wrong"
    assert "token" in wrong_token[0].advice
    await listening.close()


def test_workers_are_judged_by_what_waits_for_them() -> None:
    waiting = replace(STATUS, counts={"queued": 3})
    unfit = replace(WORKER, state="unfit", reason="no dcengine")

    assert [finding.verdict for finding in cluster(STATUS, [WORKER])] == ["ok"]
    assert [finding.verdict for finding in cluster(STATUS, [])] == ["note"]
    assert [finding.verdict for finding in cluster(waiting, [])] == ["wrong"]
    assert [finding.verdict for finding in cluster(STATUS, [unfit, WORKER])] == ["wrong", "ok"]
    assert [finding.verdict for finding in cluster(STATUS, [replace(WORKER, state="starting")])] == ["note"]


@pytest.mark.usefixtures("tmp_path")
def test_the_command_ends_with_status_1_if_something_is_wrong(
    db: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.chdir(db.parent)
    monkeypatch.delenv("DCENGINE_URL", raising=False)
    arguments = ["doctor", "--port", str(unused_tcp_port), "--json", "--db"]

    good = CliRunner().invoke(app, [*arguments, str(db)])
    db.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    bad = CliRunner().invoke(app, [*arguments, str(db)])

    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert {finding["verdict"] for finding in json.loads(good.stdout)} <= {"ok", "note"}
    assert any("damaged" in finding["found"] for finding in json.loads(bad.stdout))


def test_the_command_starts_no_engine_and_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DCENGINE_URL", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    result = CliRunner().invoke(app, ["doctor", "--port", str(unused_tcp_port), "--db", "work.db"])

    assert result.exit_code == 0, result.output
    assert "none runs for this file" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_does_not_answer_is_named_without_its_token(
    db: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.delenv("DCENGINE_URL", raising=False)
    monkeypatch.setattr("dcengine.connection.PATIENCE", 0.1)
    lock = Lock(db)
    lock.say(f"http://127.0.0.1:{unused_tcp_port}")

    result = CliRunner().invoke(app, ["doctor", "--db", str(db)])

    assert result.exit_code == 1
    assert f"process {os.getpid()}" in result.stdout
    assert "does not answer" in result.stdout
    assert lock.token not in result.output
    lock.release()
