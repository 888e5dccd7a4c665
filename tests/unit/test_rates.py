"""How often volunteers may ask: our own API says when to come back, old clients are kept waiting."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine.errors import InvalidOption
from dcengine.server import Rates, application, rates
from dcengine.server.access import ROLES
from dcengine.server.protocols import PREFIX
from dcengine.server.rates import subject_of
from tests.unit.engine_double import EngineDouble, Tokens

LEASE = "/v1/projects/laion/stages/a/lease"
Browser = TestClient[web.Request, web.Application]


# ---- the allowance of an address ---------------------------------------------------------------


def test_an_address_that_was_quiet_may_ask_for_two_seconds_at_once_and_evenly_from_then_on() -> None:
    allowed = Rates(rate=10.0)

    assert sum(allowed.take("a", 100.0) == 0.0 for _ in range(50)) == 20
    assert allowed.take("a", 100.0) == pytest.approx(0.1)
    assert sum(allowed.take("a", 101.0) == 0.0 for _ in range(50)) == 10
    assert sum(allowed.take("a", 1000.0) == 0.0 for _ in range(50)) == 20


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_of_none_is_refused(rate: float) -> None:
    with pytest.raises(InvalidOption, match="volunteer_rate"):
        Rates(rate)


def test_addresses_do_not_take_each_others_turns() -> None:
    allowed = Rates(rate=1.0)
    for _ in range(10):
        allowed.take("a", 0.0)

    assert allowed.take("b", 0.0) == 0.0


def test_a_rate_below_one_a_second_lets_the_first_through() -> None:
    allowed = Rates(rate=0.1)

    assert allowed.take("a", 0.0) == 0.0
    assert allowed.take("a", 0.0) == pytest.approx(10.0)
    assert allowed.take("a", 10.0) == 0.0


def test_turns_are_kept_for_those_who_wait() -> None:
    allowed = Rates(rate=10.0)

    waits = [allowed.reserve("a", 0.0) for _ in range(23)]

    assert waits[:20] == [0.0] * 20
    assert waits[20:] == pytest.approx([0.1, 0.2, 0.3])


def test_no_more_addresses_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KNOWN_LIMIT", 100)
    allowed = Rates()
    for n in range(1000):
        allowed.take(f"10.0.{n}", 0.0)

    assert len(allowed._due) == 100


@pytest.mark.parametrize(
    ("remote", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/engine.sock", "/run/engine.sock"),
    ],
)
def test_of_ipv6_a_whole_network_counts_as_one(remote: str, subject: str) -> None:
    assert subject_of(remote) == subject


# ---- over HTTP ---------------------------------------------------------------------------------


async def old(request: web.Request) -> web.Response:
    return web.Response(text="here")


@pytest.fixture
def rate() -> float:
    """Requests a second."""
    return 20.0


@pytest.fixture
async def browser(engine: EngineDouble, rate: float) -> AsyncIterator[Browser]:
    app = application(engine, access=Tokens("laion"), rates=Rates(rate, body_limit=1000))
    app[ROLES] = {**app[ROLES], old: None}
    app.router.add_get(f"{PREFIX}/old", old)
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(browser: Browser, path: str = LEASE, body: bytes = b'{"worker": "w"}', **headers: str) -> Any:
    return await browser.post(path, data=body, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("rate", [1.0])
async def test_a_volunteer_who_asks_too_often_is_told_when_to_come_back(browser: Browser) -> None:
    statuses = [(await ask(browser)).status for _ in range(10)]
    answer = await ask(browser)

    assert statuses[:2] == [200, 200]
    assert answer.status == 429
    problem = json.loads(await answer.read())
    assert (problem["error"], answer.headers["Retry-After"]) == ("TooManyRequests", "1")
    assert "ask for several tasks at once" in problem["message"]


async def test_who_shows_a_token_is_not_counted_and_neither_are_pages(browser: Browser) -> None:
    asked = [await ask(browser, Authorization="Bearer worker-token") for _ in range(60)]
    probed = [await browser.get("/healthz") for _ in range(60)]

    assert {answer.status for answer in (*asked, *probed)} == {200}


async def test_a_volunteers_body_may_be_smaller_than_others(browser: Browser) -> None:
    body = json.dumps({"worker": "w", "tags": {"note": "x" * 100, **{f"t{n}": None for n in range(150)}}}).encode()

    refused = await ask(browser, body=body)
    taken = await ask(browser, body=body, Authorization="Bearer worker-token")

    assert (refused.status, taken.status) == (413, 200)
    assert json.loads(await refused.read())["error"] == "PayloadTooLarge"


async def test_an_old_client_is_kept_waiting_until_its_turn(browser: Browser) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(browser.get("/p/laion/old") for _ in range(50)))

    assert [answer.status for answer in answers] == [200] * 50
    assert time.monotonic() - began >= 0.4  # 40 at once, 10 at 20 a second


@pytest.mark.parametrize("rate", [5.0])
async def test_so_many_wait_and_no_more_the_others_are_hung_up_on(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "HELD_BY_ONE_LIMIT", 3)
    asked = [browser.get("/p/laion/old", headers={"Connection": "close"}) for _ in range(60)]

    ends = await asyncio.gather(*asked, return_exceptions=True)

    answered = [end for end in ends if not isinstance(end, BaseException)]
    assert {answer.status for answer in answered} == {200}
    assert 10 <= len(answered) < 60
    assert all(isinstance(end, aiohttp.ClientConnectionError) for end in ends if end not in answered)


async def test_what_would_have_to_wait_too_long_does_not_begin_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "HELD_SECONDS", 0.5)
    allowed = Rates(rate=1.0)

    held = [await allowed.hold("a") for _ in range(2)]
    waits = [asyncio.create_task(allowed.hold("a")) for _ in range(3)]
    done, pending = await asyncio.wait(waits, timeout=0.2)

    assert held == [True, True]
    assert [task.result() for task in done] == [False] * 3
    assert not pending
