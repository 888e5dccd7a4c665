"""Tokens against a real engine over HTTP: every route without, with a wrong, expired, revoked and lesser token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import rich.pretty
from typer.testing import CliRunner, Result

import dcengine
from dcengine import api
from dcengine.cli import app
from dcengine.client import Client
from dcengine.codec import pack, pack_json
from dcengine.errors import NotFound
from dcengine.loops import LoopThread
from dcengine.server.access import SUFFICES, Role
from dcengine.server.routes import ROUTES, Route
from dcengine.verbs import ItemsSubmission, NewToken, ProjectSpec, StageSpec, TokenSpec
from tests.engines import embedded, eventually

PARTS = {"id": "999999", "number": "1", "stage": "a", "digest": "0" * 64}
JSON = {"Content-Type": "application/json"}

names = (f"crawl-{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("tokens") / "work.db", processes=False, workers=1) as opened:
        yield opened


@pytest.fixture
def open_project(engine: dcengine.Engine) -> Iterator[str]:
    """A project whose tasks anybody may lease; gone afterwards, since others count on there being none."""
    name = a_project(1, is_open=True)
    yield name
    ask("delete_project", name)


@pytest.fixture
async def session(engine: dcengine.Engine) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(engine.url.partition("/?")[0], timeout=aiohttp.ClientTimeout(30)) as opened:
        yield opened


def ask(verb: str, *args: Any, **options: Any) -> Any:
    return api.current().call(verb, *args, **options)


def made(role: str, **fields: Any) -> NewToken:
    found: NewToken = ask("create_token", TokenSpec(role=role, **fields))
    return found


def a_project(*items: object, is_open: bool = False) -> str:
    """Make a project with one lease stage, a, and *items* for it; it runs."""
    name = next(names)
    ask("declare_project", ProjectSpec(name=name, stages=[StageSpec(name="a", kind="lease")], is_open=is_open))
    if items:
        block = pack([pack_json(item, what="an item") for item in items])
        ask("add_jobs", ItemsSubmission(project=name, blocks=[block], count=len(items)))
    ask("run_project", name)
    return name


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def said(
    session: aiohttp.ClientSession, path: str, body: object, token: str | None = None, **headers: str
) -> tuple[int, Any]:
    data = json.dumps(body)
    async with session.post(f"/v1/{path}", data=data, headers={**JSON, **bearer(token), **headers}) as answer:
        return answer.status, await answer.json()


def path_of(route: Route, project: str) -> str:
    """The address of *route* with *project* as its name, and with what is nowhere in the other places."""
    return re.sub(r"{(\w+)[^}]*}", lambda part: {**PARTS, "name": project}.get(part[1], "nobody"), route.path)


def lease(project: str) -> str:
    return f"projects/{project}/stages/a/lease"


async def status_of(session: aiohttp.ClientSession, token: str) -> int:
    async with session.get("/v1/status", headers=bearer(token)) as answer:
        return answer.status


def expired() -> str:
    """Return a token whose time is over."""
    new = made("admin", seconds=0.01)
    eventually(lambda: [each.state for each in ask("tokens") if each.id == new.status.id] == ["expired"])
    return new.token


def revoked() -> str:
    new = made("admin")
    ask("revoke_token", new.status.id)
    return new.token


# ---- every route ---------------------------------------------------------------------------


async def test_every_route_admits_the_roles_that_suffice_and_no_other_token(session: aiohttp.ClientSession) -> None:
    project = a_project()
    holders: dict[str, str] = {
        role.value: made(role.value, project=project if role is Role.WORKER else None).token for role in Role
    }
    bad = {"none": None, "wrong": "guess", "expired": expired(), "revoked": revoked()}

    wrong = []
    for route in ROUTES:
        method, path = route.method, path_of(route, project if route.role is Role.WORKER else "nowhere")
        for who, token in {**holders, **bad}.items():
            async with session.request(method, path, headers=bearer(token)) as answer:
                refused = answer.status if answer.status in (401, 403) else None
                if refused == 401 and not answer.headers["WWW-Authenticate"].startswith("Bearer"):
                    wrong.append((method, path, who, "says not how"))
            lesser = who in holders and route.role is not None and Role(who) not in SUFFICES[route.role]
            expected = None if route.role is None else 401 if who in bad else 403 if lesser else None
            if refused != expected:
                wrong.append((method, path, who, answer.status))

    assert wrong == []


async def test_an_open_project_lets_volunteers_lease_and_do_nothing_else(
    session: aiohttp.ClientSession, open_project: str
) -> None:
    admitted = set()
    for route in ROUTES:
        async with session.request(route.method, path_of(route, open_project)) as answer:
            if route.role is not None and answer.status not in (401, 403):
                admitted.add(route)

    assert admitted == {route for route in ROUTES if route.role is Role.WORKER}
    for other in (a_project(), "nowhere"):
        assert (await said(session, lease(other), {"worker": "w"}))[0] == 401


async def test_a_bad_token_is_refused_where_none_would_do(session: aiohttp.ClientSession, open_project: str) -> None:
    garbled = {"Authorization": "Basic \xff***"}
    for path, body in ((lease(open_project), {"worker": "w"}), ("tasks/release", [])):
        refused = [(await said(session, path, body, token))[0] for token in ("guess", expired(), revoked())]
        lesser, _ = await said(session, path, body, made("view").token)
        undecodable, _ = await said(session, path, body, **garbled)

        assert (refused, lesser, undecodable) == ([401] * 3, 403, 401)
        assert (await said(session, path, body))[0] == 200


# ---- what becomes of a token ---------------------------------------------------------------


async def test_a_token_is_good_until_it_is_revoked_and_not_for_one_request_more(
    session: aiohttp.ClientSession,
) -> None:
    new, other = made("view"), made("view")
    before = await status_of(session, new.token)

    first = ask("revoke_token", new.status.id)

    assert (before, await status_of(session, new.token), await status_of(session, other.token)) == (200, 401, 200)
    assert (first.state, first.revoked) == ("revoked", ask("revoke_token", new.status.id).revoked)
    ask("revoke_token", other.status.id)


async def test_a_revoked_token_does_not_get_the_answer_that_it_got_before(session: aiohttp.ClientSession) -> None:
    project = a_project(1)
    new = made("worker", project=project)
    key = {"Idempotency-Key": "mine"}
    (status, (task,)) = await said(session, lease(project), {"worker": "w"}, new.token, **key)
    again = await said(session, lease(project), {"worker": "w"}, new.token, **key)

    ask("revoke_token", new.status.id)

    assert (status, again) == (200, (200, [task]))
    assert (await said(session, lease(project), {"worker": "w"}, new.token, **key))[0] == 401
    assert (await said(session, "tasks/complete", [{"token": task["token"]}], new.token))[0] == 401


async def test_the_tokens_of_a_deleted_project_are_gone_and_no_project_of_its_name_gets_them(
    session: aiohttp.ClientSession,
) -> None:
    project = a_project(1)
    new = made("worker", project=project)
    assert (await said(session, lease(project), {"worker": "w"}, new.token))[0] == 200

    ask("delete_project", project)
    ask("declare_project", ProjectSpec(name=project, stages=[StageSpec(name="a", kind="lease")]))

    assert (await said(session, lease(project), {"worker": "w"}, new.token))[0] == 401
    assert new.status.id not in [each.id for each in ask("tokens")]


def test_unknown_projects_and_ids_are_not_found(engine: dcengine.Engine) -> None:
    for name in ("nowhere", "functions", "/deleted/2"):
        with pytest.raises(NotFound, match="project"):
            made("worker", project=name)
    for id in (0, 999_999):
        with pytest.raises(NotFound, match="token list"):
            ask("revoke_token", id)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"role": "boss"}', b'{"role": "admin", "seconds": "soon"}'])
async def test_a_request_for_a_token_that_cannot_be_read_is_refused(
    engine: dcengine.Engine, session: aiohttp.ClientSession, body: bytes
) -> None:
    async with session.post("/v1/tokens", data=body, headers={**JSON, **bearer(engine.token)}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "InvalidOption")


# ---- workers -------------------------------------------------------------------------------


async def test_a_workers_token_is_good_for_its_own_project_alone(session: aiohttp.ClientSession) -> None:
    mine, theirs = a_project(1), a_project(2)
    token, other = (made("worker", project=name).token for name in (mine, theirs))
    _, (task,) = await said(session, lease(theirs), {"worker": "w"}, other)

    refused, problem = await said(session, lease(theirs), {"worker": "w"}, token)
    said_of_it = [
        await said(session, f"tasks/{what}", [{"token": task["token"], "reason": "mine now"}], token)
        for what in ("heartbeat", "complete", "fail", "flag")
    ]
    released = await said(session, "tasks/release", [task["token"]], token)

    assert (refused, problem["error"]) == (403, "AccessDenied")
    assert mine in problem["message"]
    assert theirs in problem["message"]
    answers = [(status, answer["is_accepted"]) for status, (answer,) in (*said_of_it, released)]
    assert answers == [(200, False)] * 5
    status, (done,) = await said(session, "tasks/complete", [{"token": task["token"]}], other)
    assert (status, done["is_accepted"]) == (200, True)
    for whose, is_known in ((other, True), (token, False)):  # said again, by its holder and by somebody else
        _, (again,) = await said(session, "tasks/complete", [{"token": task["token"]}], whose)
        assert again["is_accepted"] is is_known


async def test_a_tokens_nickname_goes_before_the_one_that_its_worker_says(session: aiohttp.ClientSession) -> None:
    project = a_project(1, 2, 3)
    named = made("worker", project=project, nickname="alice").token
    unnamed = made("worker", project=project).token
    wish = {"worker": "w", "nickname": "mallory", "n": 1}

    for token in (named, unnamed, made("admin", nickname="ada").token):
        _, (task,) = await said(session, lease(project), wish, token)
        await said(session, "tasks/complete", [{"token": task["token"]}], token)

    assert {row.nickname: row.tasks for row in ask("leaderboard", project)} == {"alice": 1, "mallory": 1, "ada": 1}


async def test_a_volunteer_speaks_of_tasks_of_open_projects_alone(
    session: aiohttp.ClientSession, open_project: str
) -> None:
    closed = a_project(1)
    _, (theirs,) = await said(session, lease(closed), {"worker": "w"}, made("worker", project=closed).token)
    _, (own,) = await said(session, lease(open_project), {"worker": "v", "nickname": "vera"})

    stolen = await said(session, "tasks/complete", [{"token": theirs["token"], "output": "rubbish"}])
    mixed = await said(session, "tasks/release", [own["token"], theirs["token"]])
    _, (done,) = await said(session, "tasks/complete", [{"token": own["token"], "output": 1}])

    assert (stolen[0], mixed[0], done["is_accepted"]) == (401, 401, True)
    assert ask("project", closed).succeeded == 0
    assert [row.nickname for row in ask("leaderboard", open_project)] == ["vera"]


# ---- how it is shown -----------------------------------------------------------------------


async def test_it_may_be_shown_in_any_of_four_ways(session: aiohttp.ClientSession) -> None:
    new = made("view")
    basic = base64.b64encode(f"anybody:{new.token}".encode()).decode()

    for header in (f"Bearer {new.token}", f"token {new.token}", f"Basic {basic}"):
        async with session.get("/v1/status", headers={"Authorization": header}) as answer:
            assert answer.status == 200
    async with session.get(f"/v1/status?token={new.token}") as answer:
        assert answer.status == 200


async def test_bytes_that_are_no_text_are_a_wrong_token(engine: dcengine.Engine) -> None:
    address = re.match(r"http://([^:]+):(\d+)", engine.url)
    assert address is not None
    reader, writer = await asyncio.open_connection(address[1], int(address[2]))
    writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
    line = await reader.readline()
    writer.close()

    assert b" 401 " in line


def test_the_secret_is_nowhere_but_in_the_answer(engine: dcengine.Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        new = made("admin", note="find me in the file")
        connected = api.ThreadLink(Client(engine.url), LoopThread("dcengine-test"))
        told = connected.call("create_token", TokenSpec(role="view"))
        connected.call("tokens")
        ask("revoke_token", told.status.id)

    secrets = (new.token, told.token)
    assert all(len(base64.urlsafe_b64decode(f"{secret}=")) == 32 for secret in secrets)
    stored = b"".join(Path(f"{engine.db}{suffix}").read_bytes() for suffix in ("", "-wal"))
    assert b"find me in the file" in stored
    for secret in secrets:
        assert secret.encode() not in stored
        assert base64.urlsafe_b64decode(f"{secret}=") not in stored
        assert hashlib.sha256(secret.encode()).digest() in stored
        assert secret not in caplog.text
        assert secret not in msgspec.json.encode(ask("tokens")).decode()
    assert new.token not in f"{new!r} {new} {[new]} {rich.pretty.pretty_repr(new)}"


# ---- the command line ----------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["token", *arguments])


async def test_the_command_line_makes_lists_and_revokes(
    engine: dcengine.Engine, session: aiohttp.ClientSession
) -> None:
    project = a_project(1)
    wish = ("--role", "worker", "--project", project, "--nickname", "alice", "--expires", "30d", "--note", "Cluster 2")
    made_it = run("create", *wish)
    token = made_it.stdout.strip()
    admitted, _ = await said(session, lease(project), {"worker": "w"}, token)
    (row,) = [each for each in json.loads(run("list", "--json").stdout) if each["project"] == project]
    table = run("list").stdout
    ended = run("revoke", str(row["id"]))

    assert (made_it.exit_code, admitted, ended.exit_code) == (0, 200, 0)
    assert re.fullmatch(r"[\w-]{43}", token)
    for fact in (project, "alice", "30 d", "this once"):
        assert fact in made_it.stderr
    assert row["expires"] - row["created"] == pytest.approx(30 * 86400)
    (line,) = [each for each in table.splitlines() if project in each]
    for fact in (str(row["id"]), "worker", "alice", "Cluster 2", "s ago", "in 29 d", "valid"):
        assert fact in line
    assert token not in table
    assert (await said(session, lease(project), {"worker": "w"}, token))[0] == 401
    assert "revoked" in next(each for each in run("list").stdout.splitlines() if project in each)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("create", "--role", "worker"), "project"),
        (("create", "--role", "worker", "--project", "nowhere"), "no project nowhere"),
        (("create", "--role", "view", "--expires", "0"), "--expires"),
        (("create", "--role", "view", "--expires", "-3d"), "--expires"),
        (("create", "--role", "view", "--expires", "soon"), "--expires"),
        (("create", "--role", "view", "--expires", "400000w"), "--expires"),
        (("revoke", "999999"), "no token 999999"),
    ],
)
def test_the_command_line_says_what_is_wrong(engine: dcengine.Engine, arguments: tuple[str, ...], named: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert named in result.stderr


def test_the_command_line_names_the_roles(engine: dcengine.Engine) -> None:
    result = run("create", "--role", "boss")

    assert result.exit_code == 2
    assert "worker" in result.stderr
