"""Outside workers over HTTP: what they may say, what is refused, and that their values pass untouched."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine import connection
from dcengine.client import Client
from dcengine.errors import InvalidOption, NotFound
from dcengine.server import Listening, answers, application, leases
from dcengine.verbs import Completion, Heartbeat, LeaseRequest, TaskFailure, TaskFlag
from tests.unit.engine_double import EngineDouble, Tokens

Browser = TestClient[web.Request, web.Application]
WORKER = {"Authorization": "Bearer worker-token"}
LEASE = "/v1/projects/laion/stages/a/lease"
REPORTS = ["heartbeat", "complete", "fail", "flag", "release"]


@pytest.fixture
async def browser(engine: EngineDouble) -> AsyncIterator[Browser]:
    app = application(engine, access=Tokens(), submission_limit=100_000)
    async with TestClient(TestServer(app), headers=WORKER) as client:
        yield client


@pytest.fixture
async def client(listening: Listening) -> AsyncIterator[Client]:
    opened = Client(listening.url, "worker-token")
    yield opened
    await opened.close()


def wish(**fields: Any) -> LeaseRequest:
    return LeaseRequest(**{"project": "laion", "stage": "a", "worker": "w1", **fields})


async def post(browser: Browser, path: str, body: bytes) -> tuple[int, Any]:
    answer = await browser.post(path, data=body, headers={"Content-Type": "application/json"})
    return answer.status, json.loads(await answer.read())


async def until(condition: Any) -> None:
    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), 10)


# ---- the whole way -------------------------------------------------------------------------


async def test_a_worker_needs_nothing_but_json(engine: EngineDouble, browser: Browser) -> None:
    await engine.offer(b'{"url": "s3://x/0.tar"}', b"[1, 2]", b"3")

    _, tasks = await post(browser, LEASE, b'{"worker": "w1", "n": 2, "tags": {"gpu": null}, "colour": "red"}')
    token = tasks[0]["token"]
    _, beaten = await post(browser, "/v1/tasks/heartbeat", json.dumps([{"token": token, "done": 1, "x": 1}]).encode())
    _, done = await post(browser, "/v1/tasks/complete", json.dumps([{"token": token, "output": {"n": 1}}]).encode())
    _, given_back = await post(browser, "/v1/tasks/release", json.dumps([tasks[1]["token"], "gone"]).encode())

    assert [task["input"] for task in tasks] == [{"url": "s3://x/0.tar"}, [1, 2]]
    assert beaten == [{"token": token, "is_accepted": True, "problem": None, "deadline": 1200.0, "cancel": False}]
    assert [answer["is_accepted"] for answer in (*done, *given_back)] == [True, True, False]
    assert engine.said[0] == wish(n=2, tags={"gpu": None})


async def test_a_value_passes_as_the_very_text_that_was_sent(engine: EngineDouble, browser: Browser) -> None:
    text = '{"b": 1.50, "a":[1e3 ,"ä\\u00e4"], "b": 2}'.encode()
    await engine.offer(text)

    answer = await browser.post(LEASE, data=b'{"worker": "w"}', headers={"Content-Type": "application/json"})
    await post(browser, "/v1/tasks/complete", b'[{"token": "t", "output": ' + text + b"}]")

    assert text in await answer.read()
    assert bytes(engine.said[-1].output) == text  # type: ignore[union-attr]


async def test_half_characters_and_infinities_that_python_writes_pass(engine: EngineDouble, browser: Browser) -> None:
    value = {"name": "caf\udce9.jpg", "n": [1.5, None, True, -math.inf]}
    body = json.dumps([{"token": "t1", "output": "fine", "units": 2}, {"token": "t2", "output": value}]).encode()

    status, _ = await post(browser, "/v1/tasks/complete", body)

    assert status == 200
    said = [(item.token, json.loads(bytes(item.output)), item.units) for item in engine.said]  # type: ignore[union-attr]
    assert said == [("t1", "fine", 2), ("t2", value, None)]


async def test_a_reason_with_half_characters_is_made_whole(engine: EngineDouble, browser: Browser) -> None:
    body = json.dumps([{"token": "t", "reason": "no file caf\udce9"}, {"token": "u", "reason": "ä"}]).encode()

    status, _ = await post(browser, "/v1/tasks/fail", body)

    assert status == 200
    assert engine.said == [TaskFailure(token="t", reason="no file caf\\udce9"), TaskFailure(token="u", reason="ä")]


async def test_they_come_to_a_worker_too(engine: EngineDouble, client: Client) -> None:
    await engine.offer(b'"caf\\udce9.jpg"', b"[1, NaN]", b'"whole"')

    tasks = await client.lease(wish(n=3))

    assert json.loads(bytes(tasks[0].input)) == "caf\udce9.jpg"
    assert str(json.loads(bytes(tasks[1].input))) == "[1, nan]"
    assert json.loads(bytes(tasks[2].input)) == "whole"


async def test_completing_without_a_value_is_completing_with_null(engine: EngineDouble, browser: Browser) -> None:
    await post(browser, "/v1/tasks/complete", b'[{"token": "t"}]')

    assert engine.said == [Completion(token="t", output=msgspec.Raw(b"null"))]


# ---- waiting -------------------------------------------------------------------------------


async def test_a_worker_waits_for_its_first_task(
    engine: EngineDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "POLL", 0.05)
    waiting = asyncio.ensure_future(client.lease(wish(wait=60)))
    await until(lambda: engine.questions.count("lease") > 2)

    await engine.offer(b"1")

    (task,) = await waiting
    assert bytes(task.input) == b"1"
    assert list(engine.leased) == [task.token]


async def test_a_wait_that_is_over_gives_no_tasks(client: Client) -> None:
    assert await client.lease(wish(wait=0.05)) == []


async def test_no_request_waits_longer_than_proxies_do(engine: EngineDouble, browser: Browser) -> None:
    await engine.offer(b"1")

    await post(browser, LEASE, b'{"worker": "w", "wait": 1e9}')

    assert engine.said == [wish(worker="w", wait=answers.LONGEST_WAIT)]


async def test_tasks_for_a_worker_that_hung_up_are_put_back(engine: EngineDouble, listening: Listening) -> None:
    host, port = listening.url.removeprefix("http://").split(":")
    body = b'{"worker": "w", "wait": 50}'
    head = f"POST {LEASE} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer worker-token\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as hanging:
        hanging.sendall(head.encode() + body)
        await until(lambda: "lease" in engine.questions)
    server = listening._runner.server
    assert server is not None
    await until(lambda: all(each.transport is None for each in server.connections))

    await engine.offer(b"1")
    await until(lambda: "release" in engine.questions)

    assert (len(engine.free), engine.leased) == (1, {})


# ---- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{}", "worker"),
        (b"[]", "object"),
        (b'{"worker": 1}', "worker"),
        (b'{"worker": null}', "worker"),
        (b'{"worker": ""}', "worker"),
        (b'{"worker": "  "}', "worker"),
        (b'{"worker": "w", "n": 0}', "n cannot be 0"),
        (b'{"worker": "w", "n": 1001}', "1 to 1,000"),
        (b'{"worker": "w", "n": "2"}', "`$.n`"),
        (b'{"worker": "w", "n": true}', "`$.n`"),
        (b'{"worker": "w", "wait": -1}', "wait"),
        (b'{"worker": "w", "wait": "soon"}', "`$.wait`"),
        (b'{"worker": "w", "wait": 1e999}', "out of range"),
        (b'{"worker": "w", "tags": ["gpu"]}', "`$.tags`"),
        (b'{"worker": "w", "tags": {"gpu": 1}}', "`$.tags"),
        (b'{"worker": "w", "tags": {"gpu": "%s"}}' % (b"1" * 201), "a tag cannot be 201 characters"),
        (b'{"worker": "w", "tags": {%s}}' % b",".join(b'"%d":null' % n for n in range(201)), "at most 200"),
        (b'{"worker": "%s"}' % (b"w" * 201), "worker cannot be 201 characters long; expected at most 200"),
        (b'{"worker": "w", "nickname": "%s"}' % (b"w" * 201), "nickname cannot be 201"),
        (b'{"worker": "w"', "truncated"),
        (b'{"worker": "\xff"}', "utf-8"),
        (b'{"x": %s, "worker": "w"}' % (b"[" * 50_000), "nested too deeply"),
        (b"", "truncated"),
    ],
)
async def test_a_lease_request_that_cannot_be_is_refused_and_the_field_named(
    engine: EngineDouble, browser: Browser, body: bytes, named: str
) -> None:
    status, problem = await post(browser, LEASE, body)

    assert (status, problem["error"]) == (400, "InvalidOption")
    assert named in problem["message"]
    assert engine.questions == []


@pytest.mark.parametrize(
    ("what", "body", "named"),
    [
        *((what, b"{}", "array") for what in REPORTS),
        *((what, b"[%s]" % b",".join([b'{"token": "t", "reason": ""}'] * 1001), "<= 1000") for what in REPORTS[:-1]),
        ("release", b"[%s]" % b",".join([b'"t"'] * 1001), "<= 1000"),
        *((what, b'[{"token": 1}]', "`$[0].token`") for what in REPORTS[:-1]),
        *((what, b'[{"reason": "r"}]', "token") for what in REPORTS[:-1]),
        ("release", b'["t", 1]', "`$[1]`"),
        ("release", b'["t", "%s"]' % (b"t" * 201), "[1] cannot be 201 characters"),
        ("heartbeat", b'[{"token": "t", "done": "half"}]', "`$[0].done`"),
        ("heartbeat", b'[{"token": "t", "text": "%s"}]' % (b"x" * 501), "text cannot be 501"),
        ("heartbeat", b'[{"token": "t"}, {"token": "%s"}]' % (b"x" * 201), "token of [1] cannot be 201"),
        ("fail", b'[{"token": "t"}]', "reason"),
        ("fail", b'[{"token": "t", "reason": "%s"}]' % (b"x" * 2001), "reason cannot be 2,001 characters"),
        ("flag", b'[{"token": "t", "reason": "%s"}]' % (b"x" * 2001), "reason cannot be 2,001 characters"),
        ("complete", b'[{"token": "t", "units": 1.5}]', "units"),
        ("complete", b'[{"token": "t", "output": nan}]', "JSON"),
        ("complete", b'[{"token": "t", "output": [1,]}]', "JSON"),
        ("complete", b'[{"token": "t", "output": "\xff"}]', "utf-8"),
        ("complete", b'[{"token": "t", "output": %s}]' % (b"[" * 40_000 + b"]" * 40_000), "nested too deeply"),
        ("complete", b'[{"token": "\\ud800", "output": 1', "JSON"),
    ],
)
async def test_a_report_that_cannot_be_is_refused_and_the_field_named(
    engine: EngineDouble, browser: Browser, what: str, body: bytes, named: str
) -> None:
    status, problem = await post(browser, f"/v1/tasks/{what}", body)

    assert (status, problem["error"]) == (400, "InvalidOption")
    assert named in problem["message"]
    assert engine.questions == []


@pytest.mark.parametrize("path", [LEASE, *(f"/v1/tasks/{what}" for what in REPORTS)])
async def test_a_body_of_another_type_or_above_the_limit_is_refused(
    engine: EngineDouble, browser: Browser, path: str
) -> None:
    text = await browser.post(path, data=b"{}", headers={"Content-Type": "text/plain"})
    large = await browser.post(path, data=b" " * 200_000, headers={"Content-Type": "application/json"})

    assert (text.status, large.status) == (400, 413)
    assert "application/json" in (await text.json())["message"]
    assert engine.questions == []


@pytest.mark.parametrize("role", ["admin", "worker"])
async def test_workers_and_administrators_may_lease(listening: Listening, role: str) -> None:
    client = Client(listening.url, f"{role}-token")

    assert await client.lease(wish()) == []
    assert [answer.is_accepted for answer in await client.release(["t"])] == [False]
    await client.close()


@pytest.mark.parametrize("what", [LEASE, *(f"/v1/tasks/{what}" for what in REPORTS)])
@pytest.mark.parametrize("role", ["submit", "view", "join"])
async def test_others_may_not(engine: EngineDouble, listening: Listening, role: str, what: str) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {role}-token"}) as session:
        answer = await session.post(f"{listening.url}{what}", json=[])

    assert answer.status == 403
    assert engine.questions == []


@pytest.mark.parametrize("path", ["/v1/jobs/1/edit", "/v1/jobs/retry", "/v1/projects/laion/jobs", "/v1/backup"])
async def test_a_worker_may_do_nothing_that_submitters_do(engine: EngineDouble, browser: Browser, path: str) -> None:
    """A pickle that a worker could leave here would be run by others."""
    answer = await browser.post(path, data=b"\x80\x05N.", headers={"Content-Type": "application/octet-stream"})

    assert answer.status == 403
    assert engine.questions == []


# ---- the client's side ---------------------------------------------------------------------


async def test_long_lists_are_said_in_parts_and_answered_in_order(engine: EngineDouble, client: Client) -> None:
    tokens = [f"token {n}" for n in range(2500)]

    answers = await client.heartbeat([Heartbeat(token=token) for token in tokens])

    assert [answer.token for answer in answers] == tokens
    assert engine.questions == ["heartbeat"] * 3
    assert await client.complete([]) == []
    assert len(engine.questions) == 3


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "{a}", "\ud800", "x" * 101])
async def test_a_name_that_leads_elsewhere_is_not_found(engine: EngineDouble, client: Client, name: str) -> None:
    for request in (wish(project=name), wish(stage=name)):
        with pytest.raises(NotFound):
            await client.lease(request)
    assert engine.questions == []


async def test_a_text_that_cannot_travel_is_refused_with_an_error_of_ours(client: Client) -> None:
    with pytest.raises(InvalidOption, match="UTF-8"):
        await client.fail([TaskFailure(token="t", reason="no file caf\udce9")])


async def test_limits_are_told_to_the_caller(client: Client) -> None:
    with pytest.raises(InvalidOption, match="1 to 1,000"):
        await client.lease(wish(n=leases.AT_ONCE + 1))
    with pytest.raises(InvalidOption, match="reason"):
        await client.flag([TaskFlag(token="t", reason="x" * 2001)])
