"""The API's document says of each route what is true, and the page shows all of it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urljoin

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine.server import Role, application
from dcengine.server.answers import STATUS
from dcengine.server.openapi import comments_of, document, names_in
from dcengine.server.reference import as_html, inline
from dcengine.server.routes import ROUTES
from dcengine.server.speaking import PATH, Route, speaks
from dcengine.verbs import Completion, LeasedTask, StageSpec, Submission
from dcengine.verbs.leases import AT_ONCE, LENGTHS
from tests.unit.engine_double import EngineDouble, Tokens

Browser = TestClient[web.Request, web.Application]

DOCUMENT = json.loads(msgspec.json.encode(document(ROUTES)))
OPERATIONS = {(method.upper(), path): it for path, them in DOCUMENT["paths"].items() for method, it in them.items()}
TYPES = DOCUMENT["components"]["schemas"]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with TestClient(TestServer(application(EngineDouble(), access=Tokens()))) as client:
        yield client


def references_in(node: Any) -> Iterator[str]:
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references_in(each)
    if isinstance(node, dict) and isinstance(node.get("$ref"), str):
        yield node["$ref"]


# ---- the document --------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_says_what_it_takes_and_answers(route: Route) -> None:
    said = route.speaks

    assert said is not None, f"decorate {route.handler.__qualname__} with @speaks(...), see server/speaking.py"
    assert said.about, f"{route.handler.__qualname__}, or the verb that it asks, lacks a docstring"
    assert said.answers, f"{route.handler.__qualname__} does not say what it answers"
    assert set(names_in(route.path)) <= PATH.keys(), "a name in the path that server/speaking.py does not explain"


def test_it_is_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    schemathesis = pytest.importorskip("schemathesis")  # it needs Python 3.11
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_route_is_in_it_with_the_role_it_needs() -> None:
    roles = {(route.method, route.shape): "anybody" if route.role is None else route.role.value for route in ROUTES}

    assert {place: it["x-dcengine-role"] for place, it in OPERATIONS.items()} == roles
    assert [place for place, it in OPERATIONS.items() if roles[place] == "anybody" and it["security"] != []] == []
    assert "Needs a token of the role view, admin or submit." in OPERATIONS["GET", "/v1/jobs"]["description"]
    assert {} in OPERATIONS["POST", "/v1/tasks/complete"]["security"]  # of an open project


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [it["operationId"] for it in OPERATIONS.values()]

    assert sorted(names) == sorted(set(names))


def test_every_type_has_a_name_of_its_own_and_every_reference_leads_to_one() -> None:
    assert [name for name in TYPES if not re.fullmatch(r"[A-Z]\w+", name)] == []
    named = {f"#/components/schemas/{name}" for name in TYPES}
    answered = {f"#/components/responses/{status}" for status in DOCUMENT["components"]["responses"]}
    assert set(references_in(DOCUMENT)) - named - answered == set()


def test_every_status_of_an_error_is_in_it() -> None:
    told = DOCUMENT["components"]["responses"]

    assert {str(status) for _, status in STATUS} | {"401", "415"} == set(told)
    assert all(TYPES["Problem"]["required"] == ["error", "facts"] and "content" in each for each in told.values())
    assert "`NotFound`" in told["404"]["description"]


def test_fields_are_explained_by_the_comments_beside_them() -> None:
    assert TYPES["LeasedTask"]["properties"]["deadline"]["description"] == "Unix seconds; a heartbeat moves it"
    assert comments_of(StageSpec)["function"].startswith("Takes one value, the output of the stage before")
    assert comments_of(Submission)["key"] == "the same key gives the same job"


def test_limits_are_those_that_the_server_checks() -> None:
    wish = TYPES["LeaseWish"]["properties"]
    failures = OPERATIONS["POST", "/v1/tasks/fail"]["requestBody"]["content"]["application/json"]["schema"]

    assert (wish["worker"]["maxLength"], wish["n"]["maximum"]) == (LENGTHS["worker"], AT_ONCE)
    assert TYPES["TaskFailure"]["properties"]["reason"]["maxLength"] == LENGTHS["reason"]
    assert failures == {"type": "array", "items": {"$ref": "#/components/schemas/TaskFailure"}, "maxItems": AT_ONCE}


def test_values_of_outside_workers_may_be_any_json() -> None:
    assert TYPES["LeasedTask"]["properties"]["input"].keys() == {"description"}
    assert "output" in Completion.__struct_fields__
    assert TYPES["Completion"]["required"] == ["token"]
    assert LeasedTask.__struct_fields__ == tuple(TYPES["LeasedTask"]["properties"])


def test_a_body_of_messagepack_is_bytes_that_hold_a_type() -> None:
    schema = OPERATIONS["POST", "/v1/jobs"]["requestBody"]["content"]["application/msgpack"]["schema"]

    assert schema["format"] == "binary"
    assert schema["contentSchema"] == {"$ref": "#/components/schemas/Submission"}


def test_a_route_that_says_nothing_is_left_out() -> None:
    async def silent(request: web.Request) -> web.Response: ...

    @speaks()
    async def speaking(request: web.Request) -> web.Response:
        """Say something."""

    told = document((Route("GET", "/a", Role.VIEW, silent), Route("GET", "/b", None, speaking)))

    assert list(told["paths"]) == ["/b"]


# ---- as it is served -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/v1/", "/v1/reference.css"])
async def test_it_is_open_to_anybody(browser: Browser, path: str) -> None:
    answer = await browser.get(path)

    assert answer.status == 200
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"


async def test_it_is_the_same_as_served(browser: Browser) -> None:
    assert await (await browser.get("/v1/openapi.json")).json() == DOCUMENT


async def test_addresses_in_it_are_right_below_a_prefix() -> None:
    parent = web.Application()
    parent.add_subapp("/compute/", application(EngineDouble(), access=Tokens()))
    async with TestClient(TestServer(parent)) as client:
        answer = await client.get("/compute/v1/openapi.json")
        server = urljoin(answer.url.path, (await answer.json())["servers"][0]["url"])

        assert (await client.get(server.rstrip("/") + "/healthz")).status == 200
        page = await client.get("/compute/v1/")
        style = re.findall('href="([^"]+[.]css)"', await page.text())
        assert (await client.get(urljoin(page.url.path, style[0]))).content_type == "text/css"


async def test_the_page_shows_every_route_and_type_without_a_script(browser: Browser) -> None:
    page = await (await browser.get("/v1/")).text()

    for (method, path), it in OPERATIONS.items():
        assert f'<details id="{it["operationId"]}">' in page
        assert f"<b>{method}</b> {path}" in page
    assert [name for name in TYPES if f'<details id="{name}">' not in page] == []
    # What the Content-Security-Policy forbids would only fail in a browser.
    assert re.findall(r"<script|<style|\bstyle=|\bon\w+=|\bsrc=|https?://", page) == []


def test_every_link_on_the_page_leads_to_a_place_on_it() -> None:
    page = as_html(ROUTES)

    assert set(re.findall('href="#([^"]+)"', page)) - set(re.findall('id="([^"]+)"', page)) == set()


def test_what_is_said_is_escaped_on_the_page() -> None:
    assert inline("<b> *name* of `<i>`") == "&lt;b&gt; <em>name</em> of <code>&lt;i&gt;</code>"
