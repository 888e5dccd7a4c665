"""Requests that no client of ours sends: each is answered, and never by a 5xx. Most were found by schemathesis."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

import dcengine
from dcengine.embed import EmbeddedEngine
from tests.engines import embedded, eventually

BYTES, JSON = "application/octet-stream", "application/json"
ODD_NAMES = ["%00", "%FF", "%ED%A0%80", "%F4%90%80%80", "a%2Fb", "%2e%2e", "%0d%0aX:y", "%", "x" * 5000]


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngine]:
    folder = tmp_path_factory.mktemp("odd")
    with embedded(folder / "dcengine.db", workers=0, processes=False) as engine:
        project = dcengine.Project("laion")
        project.lease_stage("a")
        project.add([1, 2])
        project.run()
        yield engine


def ask(engine: EmbeddedEngine, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Ask as a program would that knows nothing of dcengine."""
    connection = http.client.HTTPConnection(urlsplit(engine.url).netloc, timeout=20)
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    try:
        connection.request(method, path, body or None, {"Authorization": f"Bearer {engine.token}", **given})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()


def ask_raw(engine: EmbeddedEngine, head: bytes, *parts: bytes | Callable[[], bytes]) -> bytes:
    """Send a request as it is, its *parts* one by one; return all that comes back."""
    address = urlsplit(engine.url)
    head = head.replace(b"HOST", address.netloc.encode()).replace(b"TOKEN", engine.token.encode())
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for part in (head, *parts):
            connection.sendall(part() if callable(part) else part)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# ---- bodies --------------------------------------------------------------------------------


def test_a_body_that_comes_with_no_time_to_wait_is_taken_as_a_whole(engine: EmbeddedEngine) -> None:
    """Its work went on after the answer, with a body that was gone."""
    job = json.loads(ask(engine, "GET", "/v1/projects/laion/jobs/1").body)["id"]
    large = b'J"' + b"x" * 300_000 + b'"'
    head = f"POST /v1/jobs/{job}/edit?wait=0 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nIdempotency-Key: edit\r\n"
    head += f"Authorization: Bearer TOKEN\r\nContent-Type: {BYTES}\r\nContent-Length: {len(large)}\r\n\r\n"

    def rest() -> bytes:
        ask(engine, "GET", "/v1/status")  # what was sent before has been read then
        return large[1000:]

    answer = ask_raw(engine, head.encode(), large[:1000], rest)

    assert int(answer.split()[1]) in (200, 202)
    eventually(lambda: "returned" in json.loads(ask(engine, "GET", "/v1/projects/laion").body)["stages"][0]["counts"])


def test_a_stream_is_answered_when_it_has_come_whatever_the_time_to_wait(engine: EmbeddedEngine) -> None:
    answer = ask(engine, "POST", "/v1/values?wait=0", b"J" + bytes(300_000), Content_Type=BYTES, Idempotency_Key="put")

    assert (answer.status, json.loads(answer.body)["size"]) == (200, 300_001)


def test_a_value_of_no_bytes_is_refused(engine: EmbeddedEngine) -> None:
    answer = ask(engine, "POST", "/v1/values", Content_Type=BYTES)

    assert (answer.status, answer.error) == (400, "InvalidOption")


def test_a_type_with_parameters_is_the_type(engine: EmbeddedEngine) -> None:
    answer = ask(engine, "POST", "/v1/tasks/release", b'["t"]', Content_Type="Application/JSON; charset=utf-8; a=b")

    assert answer.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[null]",
        b'[{"token": null}]',
        b'[{"token": "\\ud800"}]',
        b'[{"token": "\\ud800", "output": NaN}]',
        b'[{"token": "t", "units": 1e400}]',
        b'[{"token": "t", "units": 99999999999999999999999999}]',
        b'[{"token": "t", "output": ' + b"9" * 5000 + b"}]",
        b'[{"token": "t", "output": "\xff"}]',
        b'[{"token": "t", "token": "u"}]',
        b"\xef\xbb\xbf[]",
        "[]".encode("utf-16"),
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("what", ["complete", "heartbeat", "fail", "flag", "release"])
def test_odd_json_is_answered(engine: EmbeddedEngine, what: str, body: bytes) -> None:
    answer = ask(engine, "POST", f"/v1/tasks/{what}", body, Content_Type=JSON)

    assert answer.status in (200, 400), answer
    assert answer.status == 200 or answer.error == "InvalidOption"


# ---- addresses -----------------------------------------------------------------------------


def test_a_value_is_read_beyond_its_end(engine: EmbeddedEngine) -> None:
    """The file system refused to go there."""
    digest = dcengine.put([1]).digest

    answer = ask(engine, "GET", f"/v1/values/{digest}/content?at={10**18}&size=7")

    assert answer == (200, b"")


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "1_0", "%D9%A3", ""])
@pytest.mark.parametrize("path", ["/v1/vacuum", "/v1/tasks/release", "/v1/projects/laion/pause"])
def test_a_time_to_wait_that_is_none_is_refused_everywhere(engine: EmbeddedEngine, path: str, wait: str) -> None:
    answer = ask(engine, "POST", f"{path}?wait={wait}", b"[]", Content_Type=JSON)

    assert (answer.status, answer.error) == (400, "InvalidOption")


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/projects/{}"),
        ("DELETE", "/v1/projects/{}"),
        ("POST", "/v1/projects/{}/run?stage=%FF"),
        ("GET", "/v1/projects/laion/jobs/{}"),
        ("GET", "/v1/projects/laion/outputs?stage={}"),
        ("GET", "/v1/jobs/{}"),
        ("GET", "/v1/jobs?project={}"),
        ("GET", "/v1/values/{}"),
        ("GET", "/v1/standing?nickname={}"),
        ("POST", "/v1/workers/tag?name={}"),
    ],
)
def test_an_odd_name_is_answered(engine: EmbeddedEngine, method: str, path: str, name: str) -> None:
    answer = ask(engine, method, path.format(name))

    assert answer.status in (200, 400, 403, 404), answer


@pytest.mark.parametrize("key", ["two words", "\xe4", "k" * 201])
def test_a_key_that_not_every_proxy_would_pass_on_is_refused(engine: EmbeddedEngine, key: str) -> None:
    answer = ask(engine, "POST", "/v1/tasks/release", b"[]", Content_Type=JSON, Idempotency_Key=key)

    assert (answer.status, answer.error) == (400, "InvalidOption")


def test_a_backup_that_cannot_be_written_is_the_callers_to_mend(engine: EmbeddedEngine, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()

    answer = ask(engine, "POST", "/v1/backup", json.dumps({"path": str(taken)}).encode(), Content_Type=JSON)

    assert (answer.status, answer.error) == (409, "BackupFailed")


# ---- heads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer \xff\xfe",
        b"Authorization: Basic \xff",
        b"Authorization: Basic OuT//w==",
        b"Authorization: token",
        b"Authorization:",
        b"Authorization: Bearer TOKEN\r\nContent-Type: \xff/json",
        b"Authorization: Bearer TOKEN\r\nContent-Type: ;;;",
        b"Authorization: Bearer TOKEN\r\nContent-Type: application/json; charset=\xff",
        b"Authorization: Bearer TOKEN\r\nIdempotency-Key: \xff",
        b"Authorization: Bearer TOKEN\r\nIdempotency-Key: a\r\nIdempotency-Key: b",
        b"Authorization: Bearer TOKEN\r\nOrigin: \xff://[",
        b"Authorization: Bearer TOKEN\r\nOrigin: http://[::1",
        b"Authorization: Bearer TOKEN\r\nContent-Encoding: \xff",
        b"Authorization: Bearer TOKEN\r\nTransfer-Encoding: chunked",
        b"Authorization: Bearer TOKEN\r\nContent-Length: -1",
        b"Authorization: Bearer TOKEN\r\nX-Forwarded-For: \xff\r\nX-Forwarded-Host: \xff\r\nForwarded: for=\xff",
        b"Authorization: Bearer TOKEN\r\nX-Request-Id: \xff\x7f",
    ],
)
def test_an_odd_head_is_answered(engine: EmbeddedEngine, line: bytes) -> None:
    request = b"POST /v1/tasks/release HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n" + line
    length = b"" if b"Content-Length" in line or b"Transfer" in line else b"\r\nContent-Length: 2"

    answer = ask_raw(engine, request + length + b"\r\n\r\n[]")

    assert int(answer.split()[1]) in range(200, 500), answer


@pytest.mark.parametrize("host", [b"", b"\xff", b"[", b"[::1", b"a:b:c", b"127.0.0.1:99999", b"localhost:HOST"])
def test_an_odd_host_is_answered(engine: EmbeddedEngine, host: bytes) -> None:
    answer = ask_raw(engine, b"GET /v1/status HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n")

    assert int(answer.split()[1]) in range(400, 500), answer
