"""Files over Jupyter's contents API: as a stock server answers, on a folder and elsewhere, and nothing is ever lost."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.asking import Asker, Reply, files_engine, stock_server

CODE = {"cell_type": "code", "execution_count": 1, "id": "a1", "metadata": {}, "outputs": [], "source": "1 + 1"}
NOTEBOOK = {"cells": [CODE], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
INVALID = {"cells": [{**CODE, "source": 5}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
OLD = {
    "metadata": {"name": "old"},
    "nbformat": 3,
    "nbformat_minor": 0,
    "worksheets": [{"cells": [{"cell_type": "markdown", "metadata": {}, "source": "hello"}], "metadata": {}}],
}
UNTOLD = ("last_modified", "created")  #: of a model: differs from server to server


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with files_engine(tmp_path_factory.mktemp("ours")) as asker:
        yield asker


@pytest.fixture(scope="module")
def root(ours: Asker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(tmp_path_factory.getbasetemp().glob("ours*[0-9]"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with files_engine(tmp_path_factory.mktemp("elsewhere"), f"memory://{uuid4().hex}/files") as asker:
        yield asker


@pytest.fixture(scope="module", params=["folder", "memory"])
def place(request: pytest.FixtureRequest, ours: Asker, elsewhere: Asker) -> Asker:
    return ours if request.param == "folder" else elsewhere


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder, home = tmp_path_factory.mktemp("stock"), tmp_path_factory.mktemp("home")
    with stock_server(folder, home) as asker:
        yield asker


def save(asker: Asker, path: str, content: str, **more: object) -> Reply:
    return asker.contents("PUT", path, {"type": "file", "format": "text", "content": content, **more})


def save_notebook(asker: Asker, path: str, content: object = NOTEBOOK) -> Reply:
    return asker.contents("PUT", path, {"type": "notebook", "format": "json", "content": content})


def names(asker: Asker, path: str = "") -> set[str]:
    return {model["name"] for model in asker.contents("GET", path).json["content"]}


# ---- beside a stock server -----------------------------------------------------------------

FOLDER, FILE = {"type": "directory"}, {"type": "file", "format": "text", "content": "one\n"}
BYTES = {"type": "file", "format": "base64", "content": base64.b64encode(bytes(range(256)) * 3).decode()}
WHOLE = {"type": "notebook", "format": "json", "content": NOTEBOOK}
STORY: list[tuple[str, str, Any, str]] = [
    ("PUT", "s", FOLDER, ""),
    ("PUT", "s", FOLDER, ""),
    ("PUT", "s/a.txt", FILE, ""),
    ("PUT", "s/a.txt", {**FILE, "content": "two\n"}, ""),
    ("PUT", "s/empty.txt", {"type": "file"}, ""),
    ("PUT", "s/b.bin", BYTES, ""),
    ("PUT", "s/n.ipynb", WHOLE, ""),
    ("PUT", "s/new.ipynb", {"type": "notebook"}, ""),
    ("PUT", "s/invalid.ipynb", {"type": "notebook", "format": "json", "content": INVALID}, ""),
    ("PUT", "s/old.ipynb", {"type": "file", "format": "text", "content": json.dumps(OLD)}, ""),
    ("PUT", "s/broken.ipynb", {"type": "file", "format": "text", "content": '{"cells": ['}, ""),
    ("PUT", "s/odd type", {"type": "sculpture", "format": "text", "content": ""}, ""),
    ("PUT", "s/ünï cödé ☃.txt", FILE, ""),
    ("PUT", "s/plus+and %.txt", FILE, ""),
    *[("GET", f"s/{name}", None, query) for query in ("", "?content=0", "?hash=1", "?content=0&hash=1&type=file")
      for name in ("a.txt", "b.bin", "n.ipynb", "new.ipynb", "old.ipynb", "ünï cödé ☃.txt", "plus+and %.txt")],
    ("GET", "s/invalid.ipynb", None, ""),
    ("GET", "s/broken.ipynb", None, ""),
    ("GET", "s/broken.ipynb", None, "?content=0"),
    ("GET", "s/broken.ipynb", None, "?type=file"),
    ("GET", "s/n.ipynb", None, "?type=file"),
    ("GET", "s/n.ipynb", None, "?type=file&format=base64"),
    ("GET", "s/a.txt", None, "?type=notebook"),
    ("GET", "s/a.txt", None, "?type=directory"),
    ("GET", "s/a.txt", None, "?format=base64"),
    ("GET", "s/b.bin", None, "?format=text"),
    ("GET", "s/b.bin", None, "?format=base64"),
    ("GET", "s/a.txt", None, "?format=morse"),
    ("GET", "s/a.txt", None, "?content=2"),
    ("GET", "s/a.txt", None, "?hash=yes"),
    ("GET", "s/a.txt", None, "?type=sculpture"),
    ("GET", "s", None, "?type=file"),
    ("GET", "s", None, "?type=notebook"),
    ("GET", "s", None, "?content=0"),
    ("GET", "s/nothing.txt", None, ""),
    ("PUT", "s/t.txt", {"content": "x", "format": "text"}, ""),
    ("PUT", "s/t.txt", {"content": "x", "format": "text"}, ""),
    ("PUT", "s/t.txt", {"type": "file"}, ""),
    ("PUT", "s/t.txt", {"type": "file", "content": "x"}, ""),
    ("PUT", "s/t.txt", {"type": "file", "content": "ä", "format": "base64"}, ""),
    ("PUT", "s/a.txt", FOLDER, ""),
    ("PUT", "s/t.txt", {"copy_from": "s/a.txt"}, ""),
    ("PUT", "s/.hidden", FILE, ""),
    ("GET", "s/.hidden", None, ""),
    ("POST", "s", {"type": "notebook"}, ""),
    ("POST", "s", {"type": "notebook"}, ""),
    ("POST", "s", {"ext": ".ipynb"}, ""),
    ("POST", "s", {"type": "directory"}, ""),
    ("POST", "s", {"type": "directory"}, ""),
    ("POST", "s", {"type": "file"}, ""),
    ("POST", "s", {"type": "file", "ext": ".py"}, ""),
    ("POST", "s", {"ext": ".tar.gz"}, ""),
    ("POST", "s", {"ext": ".tar.gz"}, ""),
    ("POST", "s", None, ""),
    ("PUT", "s", None, ""),
    ("POST", "s/nowhere", {"type": "file"}, ""),
    ("POST", "s/a.txt", {"type": "file"}, ""),
    ("POST", "s", {"copy_from": "s/a.txt"}, ""),
    ("POST", "s", {"copy_from": "s/a-Copy1.txt"}, ""),
    ("POST", "s", {"copy_from": "s/n.ipynb"}, ""),
    ("POST", "s", {"copy_from": "s/nothing"}, ""),
    ("POST", "s", {"copy_from": "s/.hidden"}, ""),
    ("POST", "s/named copy.txt", {"copy_from": "s/a.txt"}, ""),
    ("POST", "s/nowhere/copy.txt", {"copy_from": "s/a.txt"}, ""),
    ("PUT", "s/d", FOLDER, ""),
    ("PUT", "s/d/deep.txt", FILE, ""),
    ("POST", "", {"copy_from": "s/d"}, ""),
    ("POST", "", {"copy_from": "s/d"}, ""),
    ("PATCH", "s/t.txt", {"path": "s/moved.txt"}, ""),
    ("PATCH", "s/moved.txt", {"path": "s/moved.txt"}, ""),
    ("PATCH", "s/moved.txt", {"path": "s/a.txt"}, ""),
    ("PATCH", "s/moved.txt", {"path": "s/nowhere/a.txt"}, ""),
    ("PATCH", "s/moved.txt", {}, ""),
    ("PATCH", "s/nothing", {"path": "s/something"}, ""),
    ("PATCH", "s/moved.txt", {"path": "s/.hidden"}, ""),
    ("PATCH", "s/d", {"path": "s/d2"}, ""),
    ("GET", "s/d2/deep.txt", None, ""),
    ("PATCH", "s/d2", {"path": "s/a.txt"}, ""),
    ("GET", "s/n.ipynb/checkpoints", None, ""),
    ("POST", "s/n.ipynb/checkpoints", None, ""),
    ("GET", "s/n.ipynb/checkpoints", None, ""),
    ("GET", "s/a.txt/checkpoints", None, ""),
    ("POST", "s/a.txt/checkpoints", None, ""),
    ("PUT", "s/a.txt", {**FILE, "content": "three"}, ""),
    ("POST", "s/a.txt/checkpoints/checkpoint", None, ""),
    ("GET", "s/a.txt", None, ""),
    ("PATCH", "s/a.txt", {"path": "s/a2.txt"}, ""),
    ("GET", "s/a2.txt/checkpoints", None, ""),
    ("DELETE", "s/a2.txt/checkpoints/checkpoint", None, ""),
    ("DELETE", "s/a2.txt/checkpoints/checkpoint", None, ""),
    ("GET", "s/a2.txt/checkpoints", None, ""),
    ("POST", "s/n.ipynb/trust", None, ""),
    ("PUT", "s/big.bin", {"type": "file", "format": "base64", "content": "AAAA", "chunk": 1}, ""),
    ("PUT", "s/nb", {"type": "notebook", "format": "json", "content": NOTEBOOK, "chunk": 1}, ""),
    ("PUT", "s/big.bin", {"type": "file", "format": "base64", "content": "BBBB", "chunk": -1}, ""),
    ("GET", "s/big.bin", None, ""),
    ("DELETE", "s/a2.txt", None, ""),
    ("DELETE", "s/a2.txt", None, ""),
    ("DELETE", "s/.hidden", None, ""),
    ("DELETE", "s/d2", None, ""),
    ("DELETE", "", None, ""),
    ("DELETE", "s/Untitled Folder", None, ""),
    ("GET", "s", None, ""),
    ("GET", "", None, ""),
]  # fmt: skip


def told(reply: Reply) -> Any:
    """What *reply* says, without what differs from one server to the other."""
    try:
        reply.json  # noqa: B018
    except ValueError:  # what a stock server says of some errors is text
        return reply.status
    return (reply.status, comparable(reply.json)) if reply.status < 400 else reply.status


def comparable(answer: Any) -> Any:
    if isinstance(answer, list):
        parts = [comparable(each) for each in answer]
        return sorted(parts, key=lambda part: str(part.get("name"))) if parts and isinstance(parts[0], dict) else parts
    if isinstance(answer, dict):
        model = {name: comparable(value) for name, value in answer.items() if name not in UNTOLD}
        if model.get("type") == "notebook" and isinstance(model.get("content"), dict):
            for cell in model["content"]["cells"]:
                cell.pop("id", None)  # made up for notebooks that have none
        return model | ({"message": "..."} if "message" in model else {})
    return answer


def test_a_stock_server_would_have_answered_the_same(ours: Asker, stock: Asker) -> None:
    different = []
    for method, path, body, query in STORY:
        replies = [asker.contents(method, path, body, query) for asker in (ours, stock)]
        if told(replies[0]) != told(replies[1]):
            different.append((method, path, query, *(told(reply) for reply in replies)))

    assert different == []


def test_hashes_and_bytes_are_those_of_the_file(ours: Asker, root: Path) -> None:
    save(ours, "hashed.txt", "räksmörgås\r\n")

    model = ours.contents("GET", "hashed.txt", query="?hash=1").json

    data = (root / "hashed.txt").read_bytes()
    assert data == "räksmörgås\r\n".encode()
    assert (model["hash"], model["hash_algorithm"]) == (sha256(data).hexdigest(), "sha256")


def test_front_ends_that_ask_with_a_slash_and_any_scheme_get_the_root(place: Asker) -> None:
    for path in ("/api/contents/", "/api/contents", "/api/contents?1699=", "/api/contents//"):
        for scheme in ("Token", "token", "Bearer"):
            reply = place.ask("GET", path, scheme=scheme)

            assert (reply.status, reply.json["type"], reply.json["path"]) == (200, "directory", "")


# ---- elsewhere than in a folder ------------------------------------------------------------


def test_files_live_wherever_fsspec_leads(place: Asker) -> None:
    assert place.contents("PUT", "far", FOLDER).status == 201
    assert save_notebook(place, "far/n.ipynb").status == 201
    assert save(place, "far/a.txt", "one").status == 201
    assert save(place, "far/a.txt", "two").status == 200
    assert place.contents("POST", "far", {"type": "directory"}).json["path"] == "far/Untitled Folder"
    assert place.contents("POST", "far", {"copy_from": "far/a.txt"}).json["path"] == "far/a-Copy1.txt"
    assert names(place, "far") == {"n.ipynb", "a.txt", "Untitled Folder", "a-Copy1.txt"}
    assert place.contents("PATCH", "far", {"path": "near"}).status == 200
    assert place.contents("GET", "far").status == 404
    assert place.contents("GET", "near/n.ipynb").json["content"]["cells"][0]["source"] == "1 + 1"
    assert len(place.contents("GET", "near/n.ipynb/checkpoints").json) == 1
    save(place, "near/a.txt", "three")
    assert place.contents("POST", "near/a.txt/checkpoints").status == 201
    save(place, "near/a.txt", "four")
    assert place.contents("POST", "near/a.txt/checkpoints/checkpoint").status == 204
    assert place.contents("GET", "near/a.txt").json["content"] == "three"
    assert place.contents("POST", "", {"copy_from": "near"}).json["path"] == "near-Copy1"
    assert names(place, "near-Copy1") == names(place, "near")
    assert place.contents("PATCH", "near/a.txt", {"path": "near/n.ipynb"}).status == 409
    assert save(place, "nowhere/a.txt", "x").status == 404
    for name in names(place, "near"):
        assert place.contents("DELETE", f"near/{name}").status == 204
    assert place.contents("DELETE", "near").status == 204
    assert "near" not in names(place)


def test_a_bucket_has_no_bin_so_that_only_empty_folders_go(elsewhere: Asker) -> None:
    elsewhere.contents("PUT", "full", FOLDER)
    save(elsewhere, "full/a.txt", "precious")

    assert elsewhere.contents("DELETE", "full").status == 400
    assert elsewhere.contents("GET", "full/a.txt").json["content"] == "precious"


@pytest.mark.skipif(sys.platform == "darwin", reason="there the bin is the user's own")
def test_what_is_deleted_from_a_folder_lies_in_the_bin(
    ours: Asker, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("send2trash")]:
        monkeypatch.delitem(sys.modules, name)  # it looks once where the bin is
    ours.contents("PUT", "thrown", FOLDER)
    save(ours, "thrown/a.txt", "precious")

    assert ours.contents("DELETE", "thrown").status == 204

    binned = (tmp_path / "Trash").rglob("a.txt")
    assert [path.read_text() for path in binned] == ["precious"]
    assert not (root / "thrown").exists()


# ---- uploads -------------------------------------------------------------------------------


def test_a_large_upload_is_seen_when_its_last_piece_is_there(place: Asker) -> None:
    pieces = [os.urandom(300_000) for _ in range(3)]
    for number, piece in zip((1, 2, -1), pieces, strict=True):
        body = {"type": "file", "format": "base64", "content": base64.b64encode(piece).decode(), "chunk": number}
        reply = place.contents("PUT", "upload.bin", body)
        assert (reply.status in (200, 201), reply.json["path"]) == (True, "upload.bin")
        assert ("upload.bin" in names(place)) == (number == -1)

    assert place.ask("GET", "/files/upload.bin").body == b"".join(pieces)


def test_a_piece_of_an_upload_that_never_began_is_refused(place: Asker) -> None:
    for number in (2, -1, 0, -2, "1", 1.5, True):
        body = {"type": "file", "format": "text", "content": "x", "chunk": number}
        assert place.contents("PUT", "never.bin", body).status == 400

    assert "never.bin" not in names(place)


# ---- nothing is lost -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "notebook", "content": ',
        b"[1, 2]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"type": "notebook", "content": "text"}',
        b'{"type": "notebook", "content": {}}',
        b'{"type": "notebook", "content": null}',
        b'{"type": "notebook", "content": {"nbformat": 99, "nbformat_minor": 0, "cells": []}}',
        b'{"type": "notebook", "content": {"nbformat": 4, "nbformat_minor": 5, "cells": 7, "metadata": 8}}',
        b'{"type": "notebook", "content": {"nbformat": 4, "nbformat_minor": 5, "metadata": {"a": "\\ud800"}}}',
        b'{"type": "file", "format": "text", "content": 5}',
        b'{"type": "file", "format": "text", "content": "\\ud800"}',
        b'{"type": "file", "format": "base64", "content": "%%%"}',
        b'{"type": "directory"}',
    ],
)
def test_what_cannot_be_saved_leaves_the_old_notebook_as_it_was(place: Asker, body: bytes) -> None:
    save_notebook(place, "kept.ipynb")
    before = place.contents("GET", "kept.ipynb", query="?hash=1").json

    reply = place.contents("PUT", "kept.ipynb", body)

    after = place.contents("GET", "kept.ipynb", query="?hash=1").json
    assert reply.status == 400
    assert reply.json["message"]
    assert after["hash"] == before["hash"]


def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    """A process that may write no more than 20 kB into a file meets the same as one with a full disk."""
    code = """
import resource, signal, sys
from dcengine_kernel.endpoint.contents.files import Files
from dcengine_kernel.endpoint.contents.folder import Folder
from dcengine_kernel.endpoint.contents.kept import Kept
from dcengine_kernel.endpoint.refusing import Refused
files = Files(Folder(sys.argv[1], Kept(sys.argv[1] + "/dcengine.db")))
files.put("a.txt", {"type": "file", "format": "text", "content": "old"})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    files.put("a.txt", {"type": "file", "format": "text", "content": "new" * 20_000})
except Refused as refused:
    print(refused.status, refused.message)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True)

    assert done.stdout.startswith("507 no room for a.txt"), done.stderr
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_who_reads_while_another_saves_gets_one_or_the_other(ours: Asker) -> None:
    save(ours, "contested.txt", "0" * 500_000)

    def read(_: int) -> set[str]:
        return set(ours.contents("GET", "contested.txt").json["content"])

    def write(number: int) -> int:
        return save(ours, "contested.txt", str(number) * 500_000).status

    with ThreadPoolExecutor(4) as threads:
        written, seen = threads.map(write, range(1, 9)), list(threads.map(read, range(20)))

    assert all(len(found) == 1 for found in seen)
    assert set(written) == {200}


def test_names_that_are_chosen_here_are_chosen_once(place: Asker) -> None:
    place.contents("PUT", "many", FOLDER)
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda _: place.contents("POST", "many", {"type": "file"}).json["path"], range(8))

    assert len(set(found)) == 8


def test_rights_of_a_file_outlive_saving_it(ours: Asker, root: Path) -> None:
    save(ours, "script.sh", "echo one")
    (root / "script.sh").chmod(0o750)

    save(ours, "script.sh", "echo two")

    assert (root / "script.sh").stat().st_mode & 0o777 == 0o750


def test_a_notebook_with_odd_numbers_comes_back_as_it_went(place: Asker) -> None:
    body = json.dumps({"type": "notebook", "format": "json", "content": NOTEBOOK})
    odd = body.replace('"metadata": {}, "nbformat"', '"metadata": {"a": NaN, "b": 12345678901234567890123}, "nbformat"')

    assert place.contents("PUT", "odd.ipynb", odd.encode()).status == 201
    assert place.contents("GET", "odd.ipynb").json["content"]["metadata"] == {"a": None, "b": 12345678901234567890123}


# ---- downloads -----------------------------------------------------------------------------


def test_a_page_among_the_files_can_do_nothing_here(place: Asker) -> None:
    save(place, "page.html", "<script>alert(1)</script>")

    reply = place.ask("GET", "/files/page.html")

    assert (reply.status, reply.body) == (200, b"<script>alert(1)</script>")
    assert reply.headers["Content-Disposition"] == "attachment; filename*=utf-8''page.html"
    assert "sandbox;" in reply.headers["Content-Security-Policy"]
    assert "allow-scripts" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_pictures_show_and_any_file_can_be_downloaded(place: Asker) -> None:
    place.contents("PUT", "ä b.png", BYTES)

    shown, kept = place.ask("GET", "/files/%C3%A4%20b.png"), place.ask("GET", "/files/%C3%A4%20b.png?download=1")

    assert shown.headers["Content-Disposition"] == "inline; filename*=utf-8''%C3%A4%20b.png"
    assert kept.headers["Content-Disposition"].startswith("attachment")
    assert shown.body == kept.body == bytes(range(256)) * 3
    assert place.ask("HEAD", "/files/%C3%A4%20b.png").headers["Content-Length"] == "768"
    assert place.ask("GET", "/files/nothing.png").status == 404


def test_a_part_of_a_file_can_be_downloaded(place: Asker) -> None:
    save(place, "parts.txt", "0123456789")
    wanted = {
        "bytes=2-4": "234",
        "bytes=7-": "789",
        "bytes=-2": "89",
        "bytes=0-99": "0123456789",
        "bytes=0-9": "0123456789",
    }

    for asked, part in wanted.items():
        reply = place.ask("GET", "/files/parts.txt", Range=asked)
        assert (reply.status, reply.body.decode()) == (206 if len(part) < 10 else 200, part)
    assert place.ask("GET", "/files/parts.txt", Range="bytes=2-4").headers["Content-Range"] == "bytes 2-4/10"
    for asked in ("bytes=10-", "bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5"):
        assert place.ask("GET", "/files/parts.txt", Range=asked).status == 416
    save(place, "nothing.txt", "")
    assert place.ask("GET", "/files/nothing.txt")[0] == 200


def test_a_compressed_file_beside_another_is_not_taken_for_it(ours: Asker, root: Path) -> None:
    save(ours, "data.csv", "plain")
    (root / "data.csv.gz").symlink_to("/etc/passwd")

    reply = ours.ask("GET", "/files/data.csv", **{"Accept-Encoding": "gzip"})

    assert (reply.body, reply.headers.get("Content-Encoding")) == (b"plain", None)
