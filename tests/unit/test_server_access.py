"""Who gets in: tokens, roles, hosts, origins, and what the answers say to browsers."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine.server import AccessLog, Role, application, listen
from dcengine.server.access import SUFFICES
from dcengine.server.routes import PROBES, ROUTES, Route
from tests.unit.engine_double import EngineDouble, Tokens, submission_of

Browser = TestClient[web.Request, web.Application]
ADMIN = {"Authorization": "Bearer admin-token"}
NEVER = ("object-src", "base-uri", "form-action", "frame-ancestors")
OPEN_PATHS = {"/", "/ui/{file}", "/healthz", "/readyz", "/v1/", "/v1/openapi.json", "/v1/reference.css"}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    app = application(EngineDouble(), access=Tokens(), allowed_hosts=["jobs.example.org:443"])
    async with TestClient(TestServer(app)) as client:
        yield client


def path_of(route: web.AbstractRoute) -> str:
    assert route.resource is not None
    return route.resource.canonical


def test_every_route_of_the_application_names_its_role() -> None:
    app = application(EngineDouble(), access=Tokens())

    served = {(route.method, path_of(route)) for route in app.router.routes()}
    own = {(method, path) for method, path in served if not path.startswith("/p/")}  # those are of protocols

    assert own == {(route.method, route.shape) for route in ROUTES} | {("HEAD", path) for path in PROBES}
    assert {route.shape for route in ROUTES if route.role is None} == OPEN_PATHS
    assert len({route.handler for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_each_route_admits_the_roles_of_the_table_and_nobody_else(route: Route, browser: Browser) -> None:
    path = route.shape
    values = {"id": "1", "name": "photos", "number": "1", "stage": "a", "digest": "0" * 64, "file": "app.js"}
    values["workload"] = "render"
    for part, value in values.items():
        path = path.replace(f"{{{part}}}", value)

    for role in Role:
        answer = await browser.request(route.method, path, headers={"Authorization": f"Bearer {role.value}-token"})
        admitted = route.role is None or role in SUFFICES[route.role]
        assert (answer.status == 403) != admitted, role
    nobody = await browser.request(route.method, path)
    wrong = await browser.request(route.method, path, headers={"Authorization": "Bearer guess"})

    expected = 401 if route.role is not None else 200
    assert (nobody.status, wrong.status) == (expected, expected)


async def test_a_handler_missing_from_the_table_is_for_administrators() -> None:
    async def forgotten(request: web.Request) -> web.Response:
        return web.Response(text="reached")

    app = application(EngineDouble(), access=Tokens())
    app.router.add_get("/v1/forgotten", forgotten)
    async with TestClient(TestServer(app)) as client:
        without = await client.get("/v1/forgotten", headers={"Authorization": "Bearer submit-token"})
        admin = await client.get("/v1/forgotten", headers=ADMIN)

    assert (without.status, admin.status) == (403, 200)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer view-token"},
        {"Authorization": "bearer view-token"},
        {"Authorization": "token view-token"},
        {"Authorization": "Token view-token"},
        {"Authorization": "Basic " + base64.b64encode(b"anybody:view-token").decode()},
    ],
    ids=["Bearer", "bearer", "token", "Token", "Basic"],
)
async def test_the_token_may_stand_in_any_known_header(browser: Browser, headers: dict[str, str]) -> None:
    assert (await browser.get("/v1/status", headers=headers)).status == 200


async def test_the_token_may_stand_in_the_address_and_the_header_goes_first(browser: Browser) -> None:
    in_address = await browser.get("/v1/status?token=view-token")
    both = await browser.get("/v1/status?token=view-token", headers={"Authorization": "Bearer guess"})

    assert (in_address.status, both.status) == (200, 401)


@pytest.mark.parametrize("header", ["Basic", "Basic ***", "Basic bm9jb2xvbg==", "Bearer", "Digest x", ""])
async def test_a_garbled_header_is_no_token(browser: Browser, header: str) -> None:
    answer = await browser.get("/v1/status", headers={"Authorization": header})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await answer.json())["error"] == "AccessDenied"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:1", "[::1]:80", "jobs.example.org"])
async def test_the_machines_own_names_and_the_added_ones_are_answered(browser: Browser, host: str) -> None:
    assert (await browser.get("/healthz", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.9.8.7", "", "[", "127.0.0.1.evil.example:8787"]
)
@pytest.mark.parametrize("path", ["/healthz", "/v1/status", "/no-such-page"])
async def test_a_request_for_another_host_is_refused(browser: Browser, host: str, path: str) -> None:
    answer = await browser.get(path, headers={"Host": host, **ADMIN})

    assert answer.status == 403
    assert "--allow-host" in (await answer.json())["message"]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:1", "null", "http://["])
async def test_pages_of_other_sites_may_not_write(browser: Browser, origin: str) -> None:
    answer = await browser.post("/v1/jobs/cancel-unfinished", headers={"Origin": origin, **ADMIN})

    assert answer.status == 403


async def test_our_own_pages_and_those_of_added_hosts_may_write(browser: Browser) -> None:
    own = {"Origin": f"http://{browser.host}:{browser.port}", **ADMIN}
    added = {"Origin": "https://jobs.example.org", **ADMIN}

    for headers in (own, added):
        assert (await browser.post("/v1/jobs/cancel-unfinished", headers=headers)).status == 200


@pytest.mark.parametrize("path", ["/", "/ui/app.js", "/ui/style.css", "/v1/status", "/v1/jobs/99", "/nowhere"])
async def test_every_answer_carries_the_protective_headers_and_no_cookie(browser: Browser, path: str) -> None:
    headers = (await browser.get(path, headers=ADMIN)).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == "'self'"
    # What goes beyond that is said by the dashboard alone: pictures that jobs have made, and what it never does.
    beyond = {"img-src": "'self' data: blob:", "media-src": "'self' blob:"} | dict.fromkeys(NEVER, "'none'")
    assert policy == (beyond if path == "/" or path.startswith("/ui/") else {})
    assert "Set-Cookie" not in headers


async def test_compressed_bodies_are_refused_unread(browser: Browser) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/msgpack", **ADMIN}

    answer = await browser.post("/v1/jobs", data=b"\x1f\x8b", headers=headers, skip_auto_headers=["Accept-Encoding"])

    assert answer.status == 415
    assert (await answer.json())["error"] == "InvalidOption"


async def test_the_access_log_never_shows_a_token(caplog: pytest.LogCaptureFixture) -> None:
    listening = await listen(application(EngineDouble(), access=Tokens()), "127.0.0.1", 0)
    with caplog.at_level(logging.DEBUG):
        async with aiohttp.ClientSession() as session:
            for path in ("/v1/status", "/v1/jobs/7", "/nowhere"):
                await session.get(f"{listening.url}{path}?token=admin-token", headers=ADMIN)
        await listening.close()

    lines = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    assert any(" GET /v1/status 200 " in line for line in lines)
    assert "admin-token" not in caplog.text


async def test_the_access_log_of_a_parent_shows_no_token_if_it_is_ours(caplog: pytest.LogCaptureFixture) -> None:
    parent = web.Application()
    parent.add_subapp("/compute/", application(EngineDouble(), access=Tokens()))
    runner = web.AppRunner(parent, access_log_class=AccessLog)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with caplog.at_level(logging.DEBUG):
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/compute/v1/status?token=admin-token")
        await runner.cleanup()

    lines = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    assert any(" GET /compute/v1/status 200 " in line for line in lines)
    assert "admin-token" not in caplog.text


async def test_it_works_below_a_parent_and_a_prefix() -> None:
    parent = web.Application(client_max_size=10)  # the parent's limit is not ours
    parent.add_subapp("/compute/", application(EngineDouble(), access=Tokens()))
    body = msgspec.msgpack.encode(submission_of(abs, 1))
    async with TestClient(TestServer(parent)) as client:
        front = await client.get("/compute/")
        headers = {"Content-Type": "application/msgpack", **ADMIN}
        submitted = await client.post("/compute/v1/jobs", data=body, headers=headers)
        denied = await client.get("/compute/v1/jobs")
        missing = await client.get("/compute/nowhere", headers=ADMIN)
        problem = await missing.json()
        rebound = await client.get("/compute/", headers={"Host": "evil.example"})

    assert (front.status, submitted.status, denied.status, missing.status, rebound.status) == (200, 200, 401, 404, 403)
    assert problem["error"] == "EngineError"
