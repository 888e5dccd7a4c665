"""Tokens of an engine whose time passes when the test says so, and what handlers get of them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine.engine.tokens import check_token
from dcengine.errors import AccessDenied, InvalidOption
from dcengine.server import application
from dcengine.server.access import GRANT, ROLES, grant_for
from dcengine.verbs import Grant, NewToken, ProjectSpec, StageSpec, TokenSpec
from tests.driven import Driven
from tests.unit.engine_double import EngineDouble, Tokens

Browser = TestClient[web.Request, web.Application]

DAY = 86400.0


@pytest.fixture
def driven() -> Iterator[Driven]:
    opened = Driven()
    yield opened
    opened.close()
    opened.remove()


def made(driven: Driven, role: str, **fields: Any) -> NewToken:
    return driven.call(driven.engine.create_token(TokenSpec(role=role, **fields)))


def states(driven: Driven) -> list[str]:
    """How all tokens stand, the oldest first."""
    return [each.state for each in reversed(driven.call(driven.engine.tokens()))]


def test_a_token_expires_at_its_time_and_not_before(driven: Driven) -> None:
    new, endless = made(driven, "view", seconds=30 * DAY), made(driven, "view")

    driven.pass_by(30 * DAY - 1)
    before = driven.engine.grant_of(new.token)
    driven.pass_by(1)

    assert before == Grant(role="view", id=1)
    assert driven.engine.grant_of(new.token) is None
    assert driven.engine.grant_of(endless.token) == Grant(role="view", id=2)
    assert states(driven) == ["expired", "valid"]


@pytest.mark.parametrize("ending", ["reopen", "crash"])
def test_the_next_engine_on_the_file_knows_the_same_tokens(driven: Driven, ending: str) -> None:
    stages = [StageSpec(name="a", kind="lease")]
    driven.call(driven.engine.declare_project(ProjectSpec(name="laion", stages=stages)))
    valid = made(driven, "worker", project="laion", nickname="alice", note="pc 7")
    short, revoked = made(driven, "admin", seconds=60), made(driven, "submit")
    driven.call(driven.engine.revoke_token(revoked.status.id))
    before = driven.call(driven.engine.tokens())

    getattr(driven, ending)()

    grants = [driven.engine.grant_of(new.token) for new in (valid, short, revoked)]
    assert grants == [Grant(role="worker", project="laion", nickname="alice", id=1), Grant(role="admin", id=2), None]
    assert driven.call(driven.engine.tokens()) == before
    driven.pass_by(60)
    assert states(driven) == ["valid", "expired", "revoked"]


def test_the_tokens_of_a_deleted_project_are_not_in_the_file_either(driven: Driven) -> None:
    for name in ("laion", "other"):
        spec = ProjectSpec(name=name, stages=[StageSpec(name="a", kind="lease")])
        driven.call(driven.engine.declare_project(spec))
    gone, stays = made(driven, "worker", project="laion"), made(driven, "worker", project="other")

    driven.call(driven.engine.delete_project("laion"))
    driven.crash()

    assert driven.engine.grant_of(gone.token) is None
    assert driven.engine.grant_of(stays.token) == Grant(role="worker", project="other", id=stays.status.id)


@pytest.mark.parametrize("text", ["", "guess", "\udcff", "ä" * 10_000])
def test_what_was_never_given_out_is_good_for_nothing(driven: Driven, text: str) -> None:
    made(driven, "admin")

    assert driven.engine.grant_of(text) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"role": "boss"}, "one of admin, submit"),
        ({"role": "worker"}, "project cannot be missing"),
        ({"role": "view", "project": "x"}, "project"),
        ({"role": "view", "nickname": "alice"}, "nickname"),
        *(({"role": "admin", "nickname": text}, "nickname") for text in ("", " a", "a\n", "\x1b", "x" * 201, "\ud800")),
        *(({"role": "admin", "note": text}, "note") for text in ("a\nb", "x" * 501, "\udcff", "\u202eback")),
        *(({"role": "admin", "seconds": n}, "seconds") for n in (0, -1, float("nan"), float("inf"), 1e11)),
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_is_refused_and_the_field_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        check_token(TokenSpec(**fields))


# ---- what handlers get ---------------------------------------------------------------------


class Named(Tokens):
    """Knows two tokens with nicknames too: alice's is a worker's for project laion, robert's is for joining."""

    def grant_of(self, token: str) -> Grant | None:
        if token == "alices":
            return Grant(role="worker", project="laion", nickname="alice", id=7)
        if token == "roberts":
            return Grant(role="join", nickname="robert", id=8)
        return super().grant_of(token)


@pytest.fixture
def access() -> Named:
    return Named("open")


@pytest.fixture
async def browser(engine: EngineDouble, access: Named) -> AsyncIterator[Browser]:
    async with TestClient(TestServer(application(engine, access=access))) as client:
        yield client


async def post(browser: Browser, path: str, body: object, token: str | None = None) -> int:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    answer = await browser.post(path, data=json.dumps(body), headers=headers)
    return answer.status


async def test_who_is_a_volunteer_is_not_for_the_worker_to_say(engine: EngineDouble, browser: Browser) -> None:
    for claim in (True, False, "no"):
        wish = {"worker": "w", "nickname": "vera", "is_volunteer": claim}
        assert await post(browser, "/v1/projects/open/stages/a/lease", wish) == 200
        assert await post(browser, "/v1/projects/laion/stages/a/lease", wish, "alices") == 200

    said = [(each.nickname, each.is_volunteer) for each in engine.said]  # type: ignore[union-attr]
    assert said == [("vera", True), ("alice", False)] * 3


async def test_a_token_decides_for_which_project_its_worker_speaks(engine: EngineDouble, browser: Browser) -> None:
    for what in ("heartbeat", "complete", "fail", "flag", "release"):
        body: list[object] = ["t"] if what == "release" else [{"token": "t", "reason": "r"}]
        for token in ("alices", "admin-token", None):
            assert await post(browser, f"/v1/tasks/{what}", body, token) == 200

    assert engine.spoken_for == ["laion", None, None] * 5


async def test_an_open_route_knows_whose_token_it_was_shown(access: Named) -> None:
    seen = []

    async def page(request: web.Request) -> web.Response:
        seen.append(request[GRANT])
        return web.Response()

    app = application(EngineDouble(), access=access)
    app[ROLES] = {page: None}
    app.router.add_get("/page", page)
    async with TestClient(TestServer(app)) as client:
        for address in ("/page", "/page?token=guess", "/page?token=alices"):
            assert (await client.get(address)).status == 200

    assert seen == [None, None, access.grant_of("alices")]


async def test_whoever_joins_is_told_the_nickname_of_the_token(engine: EngineDouble, access: Named) -> None:
    async with TestClient(TestServer(application(engine, access=access))) as client:
        told = [
            (await (await client.get("/v1/cluster", headers={"Authorization": f"Bearer {token}"})).json())["nickname"]
            for token in ("join-token", "roberts")
        ]

    assert told == ["", "robert"]


@pytest.mark.parametrize(
    ("project", "token", "expected"),
    [
        ("open", None, None),
        ("open", "admin-token", "admin"),
        ("laion", "alices", "worker"),
        ("laion", "admin-token", "admin"),
        ("laion", None, 401),
        ("laion", "guess", 401),
        ("open", "guess", 401),
        ("open", "alices", 403),
        ("open", "view-token", 403),
    ],
)
async def test_protocols_ask_the_same_question(
    access: Named, project: str, token: str | None, expected: object
) -> None:
    """The user's name and the token as a password, as ``http://nick:TOKEN@host/p/laion/`` sends them."""
    outcome: list[object] = []

    async def speak(request: web.Request) -> web.Response:
        try:
            grant = grant_for(request, request.match_info["project"])
            outcome.append(None if grant is None else grant.role)
        except AccessDenied as denied:
            outcome.append(401 if denied.needs_token else 403)
            raise
        return web.Response()

    app = application(EngineDouble(), access=access)
    app[ROLES] = {speak: None}
    app.router.add_get("/q/{project}/", speak)
    async with TestClient(TestServer(app)) as client:
        password = base64.b64encode(f"nick:{token}".encode()).decode()
        headers = {} if token is None else {"Authorization": f"Basic {password}"}
        answer = await client.get(f"/q/{project}/", headers=headers)

    assert outcome == [expected]
    assert answer.status == (expected if isinstance(expected, int) else 200)


def test_of_many_tokens_that_are_good_no_more_the_newest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine.engine.tokens.ENDED_KNOWN", 2)
    opened = Driven()
    try:
        good = made(opened, "view")
        for _ in range(20):
            opened.call(opened.engine.revoke_token(made(opened, "view").status.id))

        known = opened.call(opened.engine.tokens())
        assert len(known) < 8
        assert [each.id for each in known][:2] == [21, 20]
        assert opened.engine.grant_of(good.token) == Grant(role="view", id=1)
    finally:
        opened.close()
        opened.remove()
