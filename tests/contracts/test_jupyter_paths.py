"""Files over HTTP for whoever means no good: no way out of the folder, and none to what the engine keeps in it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from dcengine.errors import InvalidOption
from tests.asking import Asker, files_engine

FILE = {"type": "file", "format": "text", "content": "mine now"}
LINES = [
    "..",
    "../outside.txt",
    "a/../../outside.txt",
    "./../outside.txt",
    "%2e%2e/outside.txt",
    "%2e%2e%2foutside.txt",
    "..%2foutside.txt",
    "%252e%252e%252foutside.txt",
    "..%252foutside.txt",
    "..%5coutside.txt",
    "..\\outside.txt",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "%2f%2fetc%2fpasswd",
    "C:%5cWindows",
    "file:///etc/passwd",
    "~/outside.txt",
    "%00",
    "a%00/../../outside.txt",
    "a%0a.txt",
    "%0d%0aX-Odd:%20yes",
    "%1b[31m",
    "%FF%FE",
    "%ED%A0%80",
    "x" * 300,
    "/".join(["deep"] * 1200),
    "link-out/outside.txt",
    "link-out",
    "link-to-file",
    "loop",
    "pipe",
    "a//b",
    "a/./b",
]  # as they stand in the request line; ~ and file: are names like others, of things that are not there
GIVEN = [
    "../outside.txt", "a/../../outside.txt", "/../outside.txt", "..\\outside.txt", "\x00", "a\x00b", "a\nb", "\ud800",
    "x" * 300, "/".join(["deep"] * 1200), "link-out/new.txt", "link-out", ".hidden", ".hidden/a", "dcengine.db",
    "dcengine.db.lock", "DCENGINE.DB", "sub/../../x", 7, ["a"], {"a": 1}, True,
]  # fmt: skip
KEPT = [
    "dcengine.db", "dcengine.db-wal", "dcengine.db-shm", "dcengine.db.lock", "dcengine.db.blobs", "dcengine.toml",
    "dcengine.db.blobs/ab/cd", "dcengine.db.schema3.backup", "dcengine.db.log", "DCENGINE.DB", "Dcengine.Db.Lock",
    "dcengine.TOML", "hard-link", "hard-lock", "soft-link", "soft-folder/dcengine.db.lock", "sub/dcengine.toml",
    "other.sqlite", "other.sqlite.lock", "other.sqlite-wal", "dcengine%2Edb", "./dcengine.db", "sub/../dcengine.db",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked") / "files"


@pytest.fixture(scope="module")
def asker(folder: Path) -> Iterator[Asker]:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "outside.txt").write_text("secret")
    (folder.parent / "outside.txt").write_text("secret")
    (folder / "sub").mkdir(parents=True)
    (folder / "link-out").symlink_to(outside)
    (folder / "link-to-file").symlink_to(outside / "outside.txt")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (folder / "dcengine.toml").write_text("# secret")
    (folder / "sub" / "dcengine.toml").write_text("# secret")
    (folder / "a.txt").write_text("a")
    sqlite3.connect(folder / "other.sqlite").execute("CREATE TABLE a (b)").connection.close()
    (folder / "other.sqlite.lock").write_text("secret")
    with files_engine(folder) as asker:
        os.link(folder / "dcengine.db", folder / "hard-link")
        os.link(folder / "dcengine.db.lock", folder / "hard-lock")
        (folder / "soft-link").symlink_to("dcengine.db.lock")
        (folder / "soft-folder").symlink_to(".")
        yield asker


@pytest.fixture
def untouched(folder: Path, asker: Asker) -> Iterator[None]:
    """Whatever a test asks, nothing outside the folder changes, and nothing of the engine's."""

    def now() -> list[tuple[str, bytes]]:
        around = [path for path in folder.parent.rglob("*") if folder not in (path, *path.parents) and path.is_file()]
        around = [path for path in around if "files-home" not in path.parts]
        kept = [folder / name for name in ("dcengine.toml", "dcengine.db.lock", "other.sqlite", "other.sqlite.lock")]
        return sorted((str(path), path.read_bytes()) for path in (*around, *kept))

    before = now()
    yield
    assert now() == before
    assert asker.contents("GET").status == 200


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("line", LINES)
def test_no_path_leads_out(asker: Asker, line: str) -> None:
    for place in (f"/api/contents/{line}", f"/files/{line}", f"/api/contents/{line}/checkpoints"):
        for method, body in (("GET", None), ("PUT", FILE), ("PATCH", {"path": "b.txt"}), ("DELETE", None)):
            if line.startswith(("~", "%25", "..%25", "C:", "file", "%FF", "%ED")) and method == "PUT":
                continue  # names like others
            reply = asker.ask(method, place, body)
            if method == "GET" and place.endswith("/checkpoints") and reply.body == b"[]":
                continue  # of a file that is not there

            assert 400 <= reply.status < 500, (method, place, reply)
            assert reply.json["message"]
            assert b"secret" not in reply.body


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("given", GIVEN, ids=lambda given: ascii(given)[:30])
def test_no_path_in_a_body_leads_out(asker: Asker, given: object) -> None:
    for method, path, body in (
        ("PATCH", "a.txt", {"path": given}),
        ("PATCH", "sub", {"path": given}),
        ("POST", "", {"copy_from": given}),
        ("POST", "", {"type": "file", "ext": given}),
    ):
        if "ext" in body and isinstance(given, str) and not set(given) & set("/\\\0\n\ud800") and len(given) < 255:
            continue  # an ending like others
        reply = asker.contents(method, path, body)

        assert 400 <= reply.status < 500, (method, body, reply)
        assert reply.json["message"]
    assert asker.contents("GET", "a.txt").json["content"] == "a"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", KEPT)
def test_what_an_engine_keeps_is_never_read_or_written(asker: Asker, folder: Path, path: str) -> None:
    given = unquote(path)
    for method, place, body in (
        ("GET", f"/api/contents/{path}", None),
        ("GET", f"/api/contents/{path}?content=0", None),
        ("GET", f"/files/{path}", None),
        ("HEAD", f"/files/{path}", None),
        ("GET", f"/api/contents/{path}/checkpoints", None),
        ("POST", f"/api/contents/{path}/checkpoints", None),
        ("POST", f"/api/contents/{path}/checkpoints/checkpoint", None),
        ("PUT", f"/api/contents/{path}", FILE),
        ("PUT", f"/api/contents/{path}", {**FILE, "chunk": 1}),
        ("PUT", f"/api/contents/{path}", {"type": "directory"}),
        ("PATCH", f"/api/contents/{path}", {"path": "taken.txt"}),
        ("PATCH", "/api/contents/a.txt", {"path": given}),
        ("POST", "/api/contents", {"copy_from": given}),
        ("DELETE", f"/api/contents/{path}", None),
    ):
        reply = asker.ask(method, place, body)

        if "chunk" in (body or {}):
            continue  # the last piece is what makes the file
        assert 400 <= reply.status < 500, (method, place, body, reply)
        assert b"SQLite" not in reply.body
        assert asker.token.encode() not in reply.body
    last = asker.ask("PUT", f"/api/contents/{path}", {**FILE, "chunk": -1})
    assert 400 <= last.status < 500
    assert not (folder / "taken.txt").exists()


def test_what_an_engine_keeps_is_not_listed(asker: Asker) -> None:
    shown = {model["name"] for model in asker.contents("GET").json["content"]}

    assert shown == {"a.txt", "sub", "soft-folder"}
    assert asker.contents("GET", "soft-folder").json["path"] == "soft-folder"


@pytest.mark.usefixtures("untouched")
def test_a_folder_with_an_engines_files_stays_and_is_copied_without_them(asker: Asker, folder: Path) -> None:
    (folder / "sub" / "notes.txt").write_text("notes")

    assert asker.contents("PATCH", "sub", {"path": "elsewhere"}).status == 403
    assert asker.contents("DELETE", "sub").status == 403
    copied = asker.contents("POST", "", {"copy_from": "sub"}).json["path"]

    assert [path.name for path in (folder / copied).iterdir()] == ["notes.txt"]
    shutil.rmtree(folder / copied)


def test_links_within_the_folder_are_followed(asker: Asker, folder: Path) -> None:
    (folder / "sub" / "real.txt").write_text("real")
    (folder / "inner-link").symlink_to("sub/real.txt")

    assert asker.contents("GET", "inner-link").json["content"] == "real"
    assert asker.contents("PUT", "inner-link", FILE).status == 200
    assert (folder / "sub" / "real.txt").read_text() == "mine now"
    assert (folder / "inner-link").is_symlink()
    (folder / "inner-link").unlink()


def test_files_that_may_not_be_read_or_written_are_refused(asker: Asker, folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may do everything")
    (folder / "locked.txt").write_text("x")
    (folder / "locked.txt").chmod(0)

    assert asker.contents("GET", "locked.txt").status == 403
    assert asker.contents("PUT", "locked.txt", FILE).status == 403


def test_only_roles_that_may_run_code_may_see_files(asker: Asker) -> None:
    made = {role: asker.ask("POST", "/v1/tokens", {"role": role}).json["token"] for role in ("submit", "view", "join")}

    statuses = {}
    for role, token in {**made, "nobody": "", "wrong": "x"}.items():
        other = Asker(asker.url, token)
        statuses[role] = {
            other.ask("GET", "/api/contents/").status,
            other.ask("GET", "/files/a.txt").status,
            other.ask("PUT", "/api/contents/sub/b.txt", FILE).status // 10,
        }
    assert statuses["submit"] == {200, 20}
    assert all(statuses[role] == {403, 40} for role in ("view", "join", "nobody", "wrong"))


def test_a_page_of_another_site_may_not_write(asker: Asker) -> None:
    reply = asker.ask("PUT", "/api/contents/a.txt", FILE, Origin="https://evil.example")

    assert (reply.status, "message" in reply.json) == (403, True)


def test_more_than_can_be_taken_is_refused_before_it_is_sent(asker: Asker) -> None:
    reply = asker.ask("PUT", "/api/contents/a.txt", json.dumps(FILE).encode(), **{"Content-Length": str(600 << 20)})

    assert reply.status == 413


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    with pytest.raises(InvalidOption, match="missing"), files_engine(tmp_path / "engine", str(tmp_path / "missing")):
        pass
    (tmp_path / "missing").mkdir()
    with files_engine(tmp_path / "engine", str(tmp_path / "missing")) as asker:
        (tmp_path / "missing").rmdir()  # after the start, as when a disk is taken away
        reply = asker.contents("GET")

        assert (reply.status, str(tmp_path / "missing") in reply.json["message"]) == (503, True)
        (tmp_path / "missing").mkdir()
        assert asker.contents("GET").status == 200
