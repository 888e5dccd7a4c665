"""What Jupyter front ends ask before anything else, over a real engine."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import yaml

from dcengine_kernel.endpoint.shapes import ANSWERS
from tests.asking import Asker, files_engine

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with files_engine(tmp_path_factory.mktemp("about")) as asker:
        yield asker


@pytest.fixture(scope="module")
def stranger(asker: Asker) -> Asker:
    return Asker(asker.url, "")


def token_of(asker: Asker, role: str) -> Asker:
    return Asker(asker.url, asker.ask("POST", "/v1/tokens", {"role": role}).json["token"])


def test_probes_without_a_token_find_a_server_and_no_login(stranger: Asker) -> None:
    for path, status in (("/", 200), ("/tree", 200), ("/tree?token=wrong", 200), ("/api", 200), ("/hub/api", 404)):
        reply = stranger.ask("GET", path)

        assert (reply.status, "Location" in reply.headers) == (status, False)
    assert re.fullmatch(r"\d+\.\d+\.\d+", stranger.ask("GET", "/api").json["version"])


@pytest.mark.parametrize("path", ["kernelspecs", "kernelspecs/dcengine", "status", "me", "terminals", "contents"])
def test_whoever_has_no_token_is_told_so_in_json(stranger: Asker, path: str) -> None:
    reply = stranger.ask("GET", f"/api/{path}")

    assert (reply.status, bool(reply.json["message"])) == (403, True)


def test_our_kernel_is_the_default_and_stands_first(asker: Asker) -> None:
    found = asker.ask("GET", "/api/kernelspecs?1700000000=").json

    assert found["default"] == "dcengine"
    assert next(iter(found["kernelspecs"])) == "dcengine"
    assert "python3" in found["kernelspecs"]
    spec = found["kernelspecs"]["dcengine"]["spec"]
    assert spec.keys() >= {"argv", "env", "display_name", "language", "interrupt_mode", "metadata"}
    assert spec["argv"][1:] == ["-m", "dcengine_kernel", "-f", "{connection_file}"]
    assert asker.ask("GET", "/api/kernelspecs/dcengine").json == found["kernelspecs"]["dcengine"]


def test_pictures_of_a_kernel_load_without_a_token(asker: Asker, stranger: Asker) -> None:
    resources = asker.ask("GET", "/api/kernelspecs/dcengine").json["resources"]

    assert set(resources) == {"logo-32x32", "logo-64x64", "logo-svg"}
    for url in resources.values():
        reply = stranger.ask("GET", url)
        assert (reply.status, reply.headers["Content-Type"].startswith("image/")) == (200, True)


@pytest.mark.parametrize(
    "path",
    [
        "dcengine/kernel.json",
        "dcengine/..%2fkernel.json",
        "dcengine/%2e%2e%2f%2e%2e%2f__init__.py",
        "dcengine/logo-..%2f..%2f__init__.py",
        "dcengine/%2fetc%2fpasswd",
        "dcengine/logo-%00",
        "dcengine/logo-" + "x" * 5000,
        "dcengine/logo-9x9.png",
        "nothing/logo-64x64.png",
        "..%2f/logo-64x64.png",
        "%00/logo-64x64.png",
    ],
)
def test_nothing_else_of_a_kernels_folder_is_shown(asker: Asker, path: str) -> None:
    reply = asker.ask("GET", f"/kernelspecs/{path}")

    assert (reply.status, bool(reply.json["message"])) == (404, True)


def test_a_picture_that_leads_out_of_its_folder_is_not_shown(
    asker: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"argv": ["true"], "display_name": "Odd", "language": "none", "env": {"SECRET": "s"}}
    folder = tmp_path / "kernels" / "odd"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
    (folder / "logo-64x64.png").symlink_to("/etc/passwd")
    (folder / "logo-32x32.png").write_bytes(b"picture")
    for name, content in {"broken": "{", "list": "[]", "empty": "{}"}.items():
        (tmp_path / "kernels" / name).mkdir()
        (tmp_path / "kernels" / name / "kernel.json").write_text(content)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    assert asker.ask("GET", "/api/kernelspecs").json["kernelspecs"]["odd"]["spec"]["display_name"] == "Odd"
    assert asker.ask("GET", "/kernelspecs/odd/logo-64x64.png").status == 404
    assert asker.ask("GET", "/kernelspecs/odd/logo-32x32.png").body == b"picture"


@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e", "a%2fb", "%00", "%FF", "x" * 5000])
def test_a_kernel_that_is_not_installed_is_not_found(asker: Asker, name: str) -> None:
    reply = asker.ask("GET", f"/api/kernelspecs/{name}")

    assert (reply.status, bool(reply.json["message"])) == (404, True)


def test_status_and_terminals(asker: Asker) -> None:
    status = asker.ask("GET", "/api/status").json

    assert re.fullmatch(MOMENT, status["started"])
    assert re.fullmatch(MOMENT, status["last_activity"])
    assert (status["kernels"], status["connections"]) == (0, 0)
    assert asker.ask("GET", "/api/terminals").json == []


def test_me_is_whoever_the_token_says(asker: Asker) -> None:
    guest = token_of(asker, "submit").ask("GET", "/api/me").json
    owner = asker.ask("GET", "/api/me").json

    assert re.fullmatch(r"token \d+", guest["identity"]["username"])
    assert guest["identity"].keys() == {"username", "name", "display_name", "initials", "avatar_url", "color"}
    assert (owner["identity"]["username"], owner["identity"]["initials"]) == ("owner", "O")
    assert guest["permissions"] == {"updatable_fields": []}


def test_permissions_are_those_of_the_role(asker: Asker) -> None:
    query = "?permissions=" + quote(
        json.dumps({"contents": ["read", "write", "fly"], "api": ["read"], "moon": ["read"]})
    )
    may = {role: token_of(asker, role).ask("GET", f"/api/me{query}").json["permissions"] for role in ("submit", "view")}

    none = {"contents": [], "moon": [], "updatable_fields": []}
    assert may["submit"] == {**none, "contents": ["read", "write"], "api": ["read"]}
    assert may["view"] == {**none, "api": ["read"]}


@pytest.mark.parametrize("query", ["[", "[]", "5", '{"a": 5}', '{"a": [5]}', '{"a": "read"}', "[" * 2000, "\x00", "%"])
def test_permissions_that_cannot_be_are_refused(asker: Asker, query: str) -> None:
    reply = asker.ask("GET", f"/api/me?permissions={quote(query)}")

    assert (reply.status, "permissions" in reply.json["message"]) == (400, True)


# ---- the description -----------------------------------------------------------------------


def test_the_description_is_yaml_and_openapi_and_open_to_anybody(stranger: Asker) -> None:
    reply = stranger.ask("GET", "/api/spec.yaml")

    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, "text/x-yaml")
    document = yaml.safe_load(reply.body)
    schemathesis = pytest.importorskip("schemathesis")  # it needs Python 3.11
    schemathesis.openapi.from_dict(document).validate()
    described = {(method.upper(), path) for path, them in document["paths"].items() for method in them}
    assert described >= set(ANSWERS)
    assert all(it["summary"] for them in document["paths"].values() for it in them.values())
    assert not any(path.startswith("/v1") for path in document["paths"])


def test_answers_are_as_they_are_described(asker: Asker) -> None:
    asker.contents("PUT", "a.txt", {"type": "file", "format": "text", "content": "a"})
    asker.contents("POST", "a.txt/checkpoints")
    given = {"path": "a.txt", "name": "dcengine"}
    asked = [(path, kind) for (method, path), (_, kind) in ANSWERS.items() if method == "GET" and kind is not None]

    for path, kind in asked:
        if "{id}" in path:
            continue  # of kernels, which run elsewhere
        reply = asker.ask("GET", path.format(**given))
        assert reply.status == 200
        msgspec.json.decode(reply.body, type=kind)


def test_pages_of_files_and_kernels_are_never_cached_nor_guessed(asker: Asker) -> None:
    for path in ("/tree", "/api/contents", "/api/kernelspecs"):
        headers = asker.ask("GET", path).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src" in headers["Content-Security-Policy"]


def test_below_a_prefix_every_address_has_it(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    with files_engine(tmp_path / "engine", prefix="/farm") as asker:
        below = Asker(asker.url, asker.token)
        reply = below.ask("POST", "/farm/api/contents", {"type": "directory"})

        assert reply.headers["Location"] == "/farm/api/contents/Untitled%20Folder"
        logo = below.ask("GET", "/farm/api/kernelspecs/dcengine").json["resources"]["logo-64x64"]
        assert logo.startswith("/farm/kernelspecs/")
        assert below.ask("GET", logo).status == 200


def test_an_engine_without_kernels_answers_none_of_it(tmp_path: Path) -> None:
    with files_engine(tmp_path, kernels=False) as asker:
        assert asker.ask("GET", "/api/kernelspecs").status == 404
        assert asker.ask("GET", "/files/dcengine.db").status == 404


def test_heads_are_answered_where_there_are_files(asker: Asker) -> None:
    asker.contents("PUT", "head.txt", {"type": "file", "format": "text", "content": "abc"})
    connection = http.client.HTTPConnection(asker.url.removeprefix("http://"), timeout=20)
    connection.request("HEAD", f"/files/head.txt?token={asker.token}")

    assert connection.getresponse().headers["Content-Length"] == "3"
    connection.close()
