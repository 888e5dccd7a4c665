"""Requests that no honest client makes: each is refused by name or by hanging up, and the others are served on."""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Iterator

import psutil
import pytest

from dcengine.codec import pack, pack_json
from dcengine.loops import LoopThread
from dcengine.server import application, listen
from dcengine.server.routes import ROUTES, Route
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from tests.attacks import Target
from tests.engines import embedded
from tests.unit.engine_double import EngineDouble, Tokens

EVIL = "evil.example"
PARAMETERS = {"workload": "moon", "id": "1", "name": "laion", "number": "1", "stage": "a", "digest": "0" * 64}
WRITES = [route for route in ROUTES if route.method != "GET"]
JSON_WRITES = ("/v1/tasks/heartbeat", "/v1/tasks/complete", "/v1/tasks/fail", "/v1/tasks/flag", "/v1/tasks/release")
LEASE = "/v1/projects/laion/stages/a/lease"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with embedded(tmp_path_factory.mktemp("target") / "work.db", processes=False, workers=0) as engine:
        stages = [StageSpec(name="a", kind="lease"), StageSpec(name="b", kind="lease")]
        engine._link.call("declare_project", ProjectSpec(name="laion", stages=stages))
        block = pack([pack_json(number, what="an item") for number in range(3)])
        engine._link.call("add_jobs", ItemsSubmission(project="laion", blocks=[block], count=3))
        yield Target(engine.url)


@pytest.fixture(autouse=True)
def unharmed(target: Target, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test sends: the engine answers on, nothing was done, and nobody has filled its log."""
    caplog.set_level(logging.WARNING)
    yield
    began = time.monotonic()
    status, projects = target.ask("GET", "/v1/projects")
    assert time.monotonic() - began < 5
    assert (status, [(each["name"], each["open"], each["is_paused"]) for each in projects]) == (
        200, [("laion", 3, True)],
    )  # fmt: skip
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("dcengine", "aiohttp"))] == []


def path_of(route: Route, **values: str) -> str:
    path = route.path
    for name, value in {**PARAMETERS, **values}.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def names_of(route: Route) -> str:
    return f"{route.method} {route.path}"


# ---- who is asked, and from which page -----------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Host: "],
        [f"Host: {EVIL}"],
        [f"Host: {EVIL}:8787"],
        [f"Host: localhost.{EVIL}"],
        [f"Host: 127.0.0.1.{EVIL}"],
        [f"Host: localhost@{EVIL}"],
        [f"Host: {EVIL}#@localhost"],
        [f"Host: {EVIL}\\@localhost"],
        [f"Host: localhost, {EVIL}"],
        ["Host: localhost", f"Host: {EVIL}"],
        [f"Host: {EVIL}", "Host: localhost"],
        [f"Host: {EVIL}", "X-Forwarded-Host: localhost", "Forwarded: host=localhost"],
        ["Host: [::1%25eth0]"],
        ["Host: [::ffff:10.0.0.1]"],
        ["Host: [fe80::1]"],
        [f"Host: [{EVIL}]"],
        ["Host: 2130706433"],
        ["Host: 0"],
        ["Host: 0.0.0.0"],
        ["Host: \x00localhost"],
    ],
    ids=lambda lines: " + ".join(lines) or "none",
)
def test_a_request_for_a_name_that_is_not_ours_is_refused(target: Target, lines: list[str]) -> None:
    head = ["GET /v1/status HTTP/1.1", *lines, f"Authorization: Bearer {target.token}", "Connection: close", "", ""]

    (reply,) = target.say("\r\n".join(head).encode())

    assert reply.status in (400, 403)
    assert b"version" not in reply.body


def test_a_request_without_a_name_is_refused_in_the_old_http_too(target: Target) -> None:
    (reply,) = target.say(f"GET /v1/status HTTP/1.0\r\nAuthorization: Bearer {target.token}\r\n\r\n".encode())

    assert reply.status == 403


@pytest.mark.parametrize(
    ("line", "host"),
    [
        (f"http://{EVIL}/v1/status", "localhost"),
        (f"https://{EVIL}:8787/v1/status", "localhost"),
        (f"http://localhost@{EVIL}/v1/status", "localhost"),
        ("http://localhost/v1/status", EVIL),
        (f"{EVIL}:80", "localhost"),
        (f"//{EVIL}/v1/status", "localhost"),
        (f"/\\{EVIL}/v1/status", "localhost"),
        ("*", "localhost"),
    ],
)
def test_a_whole_url_in_the_first_line_opens_no_other_door(target: Target, line: str, host: str) -> None:
    (reply,) = target.say(target.request("GET", line, host=host))

    assert reply.status in (400, 403, 404)
    assert b"version" not in reply.body


def test_our_own_address_may_stand_there_as_a_proxy_would_have_it(target: Target) -> None:
    assert target.ask("GET", f"http://127.0.0.1:{target.port}/v1/status")[0] == 200


@pytest.mark.parametrize("route", WRITES, ids=names_of)
def test_no_page_of_another_site_may_write(target: Target, route: Route) -> None:
    for token in (target.token, ""):
        (reply,) = target.say(target.request(route.method, path_of(route), b"[]", token=token, Origin=f"http://{EVIL}"))
        assert reply.status == 403


@pytest.mark.parametrize("route", ROUTES, ids=names_of)
def test_no_page_of_another_site_is_told_that_it_may_read(target: Target, route: Route) -> None:
    """Browsers ask before, and withhold an answer that does not name their page."""
    asked = {"Origin": f"http://{EVIL}", "Access_Control_Request_Method": route.method}
    (reply,) = target.say(target.request("OPTIONS", path_of(route), **asked))

    assert reply.status in (404, 405)
    assert "access-control-allow" not in reply.head.lower()


# ---- tokens in the wrong shape -------------------------------------------------------------


@pytest.mark.parametrize("route", [route for route in ROUTES if route.role is not None], ids=names_of)
@pytest.mark.parametrize(
    "said", ["", "Bearer guess", "Bearer", "Basic Og==", "Bearer \x7f", f"Bearer {'x' * 7000}", "Digest username=admin"]
)
def test_no_route_takes_a_token_that_is_none(target: Target, route: Route, said: str) -> None:
    headers = {"Host": f"{target.host}:{target.port}", "Content-Length": "0", "Connection": "close"}
    if said:
        headers["Authorization"] = said
    lines = [f"{route.method} {path_of(route)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]

    (reply,) = target.say("\r\n".join([*lines, "", ""]).encode())

    assert reply.status in (400, 401)


def test_a_token_that_was_not_shown_is_not_in_the_answer(target: Target) -> None:
    for path in ("/", "/healthz", "/v1/status", "/nowhere", f"/nowhere?token={target.token}"):
        (reply,) = target.say(target.request("GET", path, token="guess"))
        assert target.token.encode() not in reply.body
        assert target.token not in reply.head


# ---- places that lead elsewhere ------------------------------------------------------------

ELSEWHERE = (
    "..",
    "%2e%2e",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%5c%2e%2e%5cetc",
    "%252e%252e%252f",
    "%2fetc%2fpasswd",
    "a%00.html",
    "%00",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "a%0d%0aSet-Cookie:x=1",
    "%E2%80%AE%F0%9F%92%A9",
    "'%20OR%201=1--",
    "{name}",
    "%",
    "%zz",
    "x" * 7000,
    "9" * 400,
    "-1",
    "1e3",
    "%D9%A1",
    "0x1",
)  # fmt: skip
PLACES = [(route, name) for route in ROUTES for name in PARAMETERS if f"{{{name}}}" in route.path]


@pytest.mark.parametrize(
    ("route", "name"), PLACES, ids=lambda value: names_of(value) if isinstance(value, Route) else ""
)
def test_no_parameter_of_a_path_leads_elsewhere(target: Target, route: Route, name: str) -> None:
    for value in ELSEWHERE:
        (reply,) = target.say(target.request(route.method, path_of(route, **{name: value})))
        assert 400 <= reply.status < 500, value
        assert b"root:" not in reply.body
        assert "set-cookie" not in reply.head.lower()


# ---- heads and bodies ----------------------------------------------------------------------


@pytest.mark.parametrize("path", [LEASE, *JSON_WRITES])
@pytest.mark.parametrize("before", [b"[", b'{"a":', b'[{"token":', b'[{"token":"t","output":'])
def test_json_that_is_nested_without_end_is_refused(target: Target, path: str, before: bytes) -> None:
    (reply,) = target.say(target.request("POST", path, before + b"[" * 100_000))

    assert (reply.status, reply.json["error"]) == (400, "InvalidOption")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/projects", "/v1/projects/laion/jobs"])
@pytest.mark.parametrize(
    "body", [b"\x91" * 200_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_msgpack_that_is_nested_or_promises_without_end_is_refused(target: Target, path: str, body: bytes) -> None:
    (reply,) = target.say(target.request("POST", path, body, Content_Type="application/msgpack"))

    assert (reply.status, reply.json["error"]) == (400, "InvalidOption")


def test_a_bomb_is_not_unpacked(target: Target) -> None:
    before = psutil.Process().memory_info().rss
    bomb = gzip.compress(bytes(200 << 20), 1)

    for path in (LEASE, *JSON_WRITES):
        for encoding in ("gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"):
            (reply,) = target.say(target.request("POST", path, bomb, Content_Encoding=encoding))
            assert reply.status == 415
    assert psutil.Process().memory_info().rss < before + (100 << 20)


def test_a_body_that_says_it_is_too_large_is_refused_at_once(target: Target) -> None:
    for path in (LEASE, *JSON_WRITES):
        head = target.request("POST", path).replace(b"Content-Length: 0", b"Content-Length: 99999999999")
        (reply,) = target.say(head, patience=0.2)  # it waits a while for what was promised
        assert reply.status == 413


GARBLED = {
    "length and chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n[]",
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n[]",
    "a length with a sign": b"Content-Length: +2\r\n\r\n[]",
    "a negative length": b"Content-Length: -2\r\n\r\n[]",
    "a length in hex": b"Content-Length: 0x2\r\n\r\n[]",
    "a length as Python has it": b"Content-Length: 1_0\r\n\r\n[]        ",
    "an endless length": b"Content-Length: " + b"9" * 50 + b"\r\n\r\n[]",
    "a space before the colon": b"Content-Length : 2\r\n\r\n[]",
    "chunks misspelt": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks and more": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks behind a tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks on a line of their own": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "lines without a return": b"Content-Length: 2\n\n[]",
    "a NUL": b"X: a\x00b\r\nContent-Length: 2\r\n\r\n[]",
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-2\r\n[]\r\n0\r\n\r\n",
    "an endless chunk": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n[]\r\n0\r\n\r\n",
    "a chunk longer than it says": b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]XX0\r\n\r\n",
    "a length behind the chunks": b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a thousand headers": b"".join(b"X-%d: 1\r\n" % n for n in range(1000)) + b"Content-Length: 2\r\n\r\n[]",
    "a long header": b"X: " + b"y" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n[]",
    "a header without end": b"X: " + b"y" * 2_000_000,
}  # fmt: skip


@pytest.mark.parametrize("garbled", GARBLED.values(), ids=GARBLED)
def test_a_garbled_request_is_refused_and_nothing_is_smuggled_in_behind_it(target: Target, garbled: bytes) -> None:
    head = target.request("POST", "/v1/tasks/release", Connection="", Content_Length="").removesuffix(b"\r\n")
    smuggled = target.request("POST", "/v1/projects/laion/run", b"")

    replies = target.say(head + garbled + smuggled)

    assert [reply.status for reply in replies] == [400]


def test_a_body_that_is_longer_than_it_says_is_no_second_request(target: Target) -> None:
    request = target.request("POST", "/v1/tasks/release", b"[]", Connection="")

    replies = target.say(request + b'{"and": "more"}\r\n\r\n')

    assert [reply.status for reply in replies] in ([400], [200, 400])  # as the bytes happen to come


def test_requests_in_a_row_are_answered_in_that_order(target: Target) -> None:
    first = [target.request("GET", f"/v1/jobs/{number}", Connection="") for number in (1, 99, 2, 98) * 10]

    replies = target.say(b"".join(first) + target.request("GET", "/healthz"))

    assert [reply.status for reply in replies] == [200, 404, 200, 404] * 10 + [200]


def test_strange_methods_and_protocols_do_nothing(target: Target) -> None:
    for method in ("TRACE", "CONNECT", "PATCH", "PUT", "PRI", "X" * 100, "get"):
        for path in ("/v1/status", "/v1/tasks/complete", "/nowhere"):
            (reply,) = target.say(target.request(method, path))
            assert reply.status in (400, 404, 405), method
    (upgraded,) = target.say(target.request("GET", "/v1/status", Upgrade="websocket", Connection="Upgrade, close"))
    assert upgraded.status == 200
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"\r\n" * 5000 + b"?", b"\xff" * 9000):
        assert all(reply.status == 400 for reply in target.say(noise, patience=0.3))


def test_whoever_hangs_up_within_a_request_leaves_nothing(target: Target) -> None:
    request = target.request("POST", "/v1/projects/laion/run", b"")
    halves = [request[: len(request) * n // 20] for n in range(20)]
    halves += [target.request("POST", path, b"x" * 1000)[:-500] for path in (LEASE, *JSON_WRITES)]

    for half in halves:
        with target.connect() as line:
            line.sendall(half)


def test_a_body_that_was_lost_on_the_way_keeps_no_repetition_waiting(target: Target) -> None:
    request = target.request("POST", "/v1/tasks/release", b'["t"]', Idempotency_Key="lost")

    with target.connect() as line:
        line.sendall(request[:-2])
        (reply,) = target.say(request, patience=5)

    assert (reply.status, reply.json[0]["is_accepted"]) == (200, False)


def test_many_who_say_nothing_do_not_keep_the_others_waiting(target: Target) -> None:
    lines = [target.connect() for _ in range(150)]
    try:
        for number, line in enumerate(lines):
            line.sendall(target.request("POST", LEASE, b"x" * 500)[: 40 + number * 3])
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert target.ask("GET", "/v1/status")[0] == 200
            took.append(time.monotonic() - began)
        assert sorted(took)[10] < 0.5
    finally:
        for line in lines:
            line.close()


def test_an_endless_body_is_cut_off() -> None:
    """Neither its length nor its end is said: it is refused as soon as it is too large, whatever else is sent."""
    thread = LoopThread("dcengine-test")
    app = application(EngineDouble(), access=Tokens(), submission_limit=1_000_000)
    listening = thread.run(listen(app, "127.0.0.1", 0))
    try:
        target = Target(f"{listening.url}/?token=worker-token")
        for path in (LEASE, *JSON_WRITES):
            head = target.request("POST", path, Content_Length="", Transfer_Encoding="chunked")
            chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            (reply,) = target.say(head, *[chunk] * 40, patience=0.2)
            assert reply.status == 413
    finally:
        thread.run(listening.close())
        thread.stop()
