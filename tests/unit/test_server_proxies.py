"""Who asks, and under which address, behind reverse proxies: trusted ones, others, and liars."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dcengine.client import Client
from dcengine.errors import InvalidOption
from dcengine.server import Proxies, application, listen
from dcengine.server.proxies import public_url, remote_of
from tests.unit.engine_double import EngineDouble, Tokens

Browser = aiohttp.ClientSession
PUBLIC = "jobs.example.org"
OWN = r"http://127\.0\.0\.1:\d+"  #: where the engine listens


async def say_who(request: web.Request) -> web.Response:
    return web.json_response([remote_of(request), public_url(request)])


@asynccontextmanager
async def seen_by(proxies: Proxies, *, allowed: tuple[str, ...] = (PUBLIC,)) -> AsyncIterator[Browser]:
    """An application that says whom it takes a caller for."""
    app = application(EngineDouble(), access=Tokens(), allowed_hosts=allowed, proxies=proxies)
    for prefix in dict.fromkeys(("", proxies.prefix)):
        app.router.add_get(f"{prefix}/who", say_who)
    opened = await listen(app, "127.0.0.1", 0)
    async with aiohttp.ClientSession(opened.url, headers={"Authorization": "Bearer admin-token"}) as browser:
        yield browser
    await opened.close()


async def who(browser: Browser, path: str = "/who", **headers: str) -> list[str]:
    answer = await browser.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == 200, await answer.text()
    found: list[str] = await answer.json()
    return found


@pytest.mark.parametrize(
    ("chain", "caller"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the left one is what the caller says of itself
        ("127.0.0.1, 203.0.113.9, 10.1.2.3, 10.9.9.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, nonsense", "127.0.0.1"),  # nobody vouches for what is left of it
        ("", "127.0.0.1"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),  # a caller within the networks of the proxies
    ],
)
async def test_the_rightmost_address_that_is_no_trusted_proxy_is_the_caller(chain: str, caller: str) -> None:
    async with seen_by(Proxies(["127.0.0.1", "10.0.0.0/8"])) as browser:
        remote, _ = await who(browser, X_Forwarded_For=chain)

    assert remote == caller


async def test_nobody_else_is_believed() -> None:
    forged = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Host": PUBLIC, "X_Forwarded_Prefix": "/evil"}
    for proxies in (Proxies(), Proxies(["192.0.2.1"])):
        async with seen_by(proxies) as browser:
            remote, url = await who(browser, **forged)

        assert remote == "127.0.0.1"
        assert re.fullmatch(OWN, url)


async def test_proto_host_and_prefix_make_the_public_address() -> None:
    async with seen_by(Proxies(["127.0.0.1"])) as browser:
        _, url = await who(
            browser, X_Forwarded_Proto="https", X_Forwarded_Host=f"{PUBLIC}:8443", X_Forwarded_Prefix="/farm/"
        )
        _, garbled = await who(
            browser, X_Forwarded_Proto="gopher", X_Forwarded_Host=f"{PUBLIC}/<x>", X_Forwarded_Prefix="//evil.example"
        )

    assert url == f"https://{PUBLIC}:8443/farm"
    assert re.fullmatch(OWN, garbled)


async def test_the_prefix_may_be_cut_off_by_the_proxy_or_not() -> None:
    async with seen_by(Proxies(["127.0.0.1"], "farm/")) as browser:
        found = [await who(browser, path, X_Forwarded_Host=PUBLIC) for path in ("/who", "/farm/who")]
        there = await browser.get("/farm/v1/status")
        template = "dcengine_http_requests_total{" + 'method="GET",path="/v1/status",status="200"} 1.0'
        counted = template in await (await browser.get("/metrics")).text()

    assert [url for _, url in found] == [f"http://{PUBLIC}/farm"] * 2
    assert (there.status, counted) == (200, True)


async def test_the_forwarded_host_is_checked_as_any_other() -> None:
    async with seen_by(Proxies(["127.0.0.1"]), allowed=()) as browser:
        answer = await browser.get("/healthz", headers={"X-Forwarded-Host": "evil.example"})
        said = await answer.text()

    assert answer.status == 403
    assert "--allow-host 'evil.example'" in said


async def test_pages_of_the_public_address_may_write_and_others_may_not() -> None:
    async with seen_by(Proxies(["127.0.0.1"])) as browser:
        answers = [
            (await browser.post("/v1/vacuum", headers={"X-Forwarded-Host": PUBLIC, "Origin": origin})).status
            for origin in (f"https://{PUBLIC}", "https://evil.example")
        ]

    assert answers == [200, 403]


async def test_the_log_of_requests_names_the_caller_behind_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aiohttp.access"):
        async with seen_by(Proxies(["127.0.0.1"])) as browser:
            await who(browser, X_Forwarded_For="203.0.113.9", X_Request_Id="abc-1")

    (record,) = [record for record in caplog.records if record.name == "aiohttp.access"]
    assert (record.remote, record.path, record.status) == ("203.0.113.9", "/who", 200)  # type: ignore[attr-defined]
    assert record.request_id == "abc-1"  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["proxy.example.org", "10.0.0.0/33", "x"])
def test_a_trusted_proxy_must_be_an_address_or_a_network(wrong: str) -> None:
    with pytest.raises(InvalidOption, match="trusted_proxy"):
        Proxies([wrong])


@pytest.mark.parametrize("wrong", ["/a b", "/a//b", "/{x}", "http://x/"])
def test_a_prefix_must_be_a_plain_path(wrong: str) -> None:
    with pytest.raises(InvalidOption, match="prefix"):
        Proxies([], wrong)


async def test_our_client_works_through_a_reverse_proxy_with_a_prefix() -> None:
    """A real proxy in between: it cuts the prefix off, sets the headers, and streams both ways."""
    app = application(EngineDouble(), access=Tokens(), allowed_hosts=[PUBLIC], proxies=Proxies(["127.0.0.1"], "/farm"))
    async with TestServer(app) as engine, aiohttp.ClientSession(auto_decompress=False) as upstream:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            headers = {
                name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")
            }
            headers |= {
                "X-Forwarded-For": request.remote or "",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": PUBLIC,
                "X-Forwarded-Prefix": "/farm",
            }
            url = engine.make_url("/").join(request.rel_url.with_path("/" + request.match_info["rest"]))
            body = await request.read() if request.can_read_body else None
            async with upstream.request(
                request.method, url.with_query(request.rel_url.query), headers=headers, data=body
            ) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

        proxy = web.Application()
        proxy.router.add_route("*", "/farm/{rest:.*}", pass_on)
        async with TestServer(proxy) as front:
            client = Client(str(front.make_url("/farm/")), "admin-token")
            status = await client.status()
            listed = await client.jobs()
            await client.close()

    assert status.version
    assert listed == []
