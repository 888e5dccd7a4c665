"""Bans and limits over HTTP, from the request of a program that only speaks JSON to the file, with a real server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

import dcengine
from dcengine.cli import app
from dcengine.client import Client
from dcengine.codec import pack, pack_json
from dcengine.verbs import BanDone, ItemsSubmission, ProjectSpec, StageSpec, TokenSpec
from tests.engines import embedded

JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Server:
    """A running engine and what is said to it."""

    def __init__(self, engine: dcengine.Engine) -> None:
        self.url, _, self.token = engine.url.partition("/?token=")
        self.call = engine._link.call  # type: ignore[attr-defined]

    def project(self, name: str, items: int, *, is_open: bool = False) -> None:
        stages = [StageSpec(name=stage, kind="lease", votes=2) for stage in "ab"]
        self.call("declare_project", ProjectSpec(name=name, stages=stages, is_open=is_open))
        block = pack([pack_json(n, what="an item") for n in range(items)])
        self.call("add_jobs", ItemsSubmission(project=name, blocks=[block], count=items))
        self.call("run_project", name)

    def ask(self, path: str, body: Any = None, *, token: str | None = "") -> Answer:
        """Ask as the engine's owner, with another *token*, or with None as a volunteer."""
        token = self.token if token == "" else token
        headers = JSON if token is None else {**JSON, "Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, json.load(answer), answer.headers)
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, json.load(refused), refused.headers)

    def lease(self, project: str, who: str, n: int = 1, *, stage: str = "a", **more: Any) -> Answer:
        wish = {"worker": f"pc of {who}", "nickname": who, "n": n}
        return self.ask(f"projects/{project}/stages/{stage}/lease", wish, **more)

    def complete(self, tasks: list[Any], **more: Any) -> list[bool]:
        answer = self.ask("tasks/complete", [{"token": task["token"], "output": 1} for task in tasks], **more)
        return [each["is_accepted"] for each in answer.body]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with embedded(tmp_path_factory.mktemp("bans") / "work.db", workers=0, processes=False) as engine:
        yield Server(engine)


def test_a_ban_voids_what_was_done_and_refuses_what_comes_then(server: Server) -> None:
    server.project("cats", 5)
    done = server.lease("cats", "mallory", 3).body
    assert server.complete(done) == [True] * 3
    held = server.lease("cats", "mallory").body
    secret = server.call("create_token", TokenSpec(role="worker", project="cats", nickname="mallory")).token
    assert server.lease("cats", "whoever", token=secret).status == 200

    banned = server.ask("contributors/ban", {"nickname": "mallory"})

    assert banned.status == 200
    assert banned.body == {
        "nickname": "mallory", "since": None, "voided": 3, "requeued": 3, "leases": 2, "tokens": 1,
    }  # fmt: skip
    refused = server.lease("cats", "mallory")
    assert (refused.status, refused.body["error"]) == (403, "ContributorBanned")
    assert server.complete(held) == [False]
    assert server.complete(done) == [False] * 3  # what it did is not even known any more
    assert server.lease("cats", "whoever", token=secret).status == 401
    assert server.ask("leaderboard?project=cats").body == []
    assert [each["nickname"] for each in server.ask("contributors/banned").body] == ["mallory"]
    again = server.lease("cats", "alice", 5).body
    assert sorted((task["number"], task["generation"]) for task in again) == [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)]

    assert server.ask("contributors/unban", {"nickname": "mallory"}).body == {"nickname": "mallory", "banned": None}
    assert server.lease("cats", "mallory").body == []


def test_only_the_administrator_bans(server: Server) -> None:
    server.project("dogs", 1)
    worker = server.call("create_token", TokenSpec(role="worker", project="dogs")).token
    submitter = server.call("create_token", TokenSpec(role="submit")).token

    for path, body in (("ban", {"nickname": "alice"}), ("unban", {"nickname": "alice"}), ("banned", None)):
        statuses = [server.ask(f"contributors/{path}", body, token=token).status for token in (worker, submitter, None)]
        assert statuses == [403, 403, 401]


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 400, "nickname"), ({"nickname": ""}, 400, "1 to 200"), ({"nickname": "x" * 201}, 400, "201"),
        ({"nickname": 7}, 400, "nickname"), ({"nickname": "nobody we know"}, 404, "nobody we know"),
        ({"nickname": "x", "since": "yesterday"}, 400, "since"), ({"nickname": "x", "since": 1e300}, 400, "since"),
    ],
)  # fmt: skip
def test_a_ban_that_cannot_be_is_refused_by_name(server: Server, body: Any, status: int, named: str) -> None:
    answer = server.ask("contributors/ban", body)

    assert answer.status == status
    assert named in answer.body["message"]


async def test_the_client_asks_for_it_too(server: Server) -> None:
    server.project("birds", 2)
    server.complete(server.lease("birds", "mike", 2).body)
    client = Client(server.url, server.token)

    try:
        done = await client.ban_contributor("mike", since=0.0)
        assert done == BanDone(nickname="mike", since=0.0, voided=2, requeued=2, leases=0, tokens=0)
        assert "mike" in [each.nickname for each in await client.banned_contributors()]
        assert (await client.unban_contributor("mike")).banned is None
    finally:
        await client.close()


def test_the_command_line_bans_and_welcomes_again(server: Server, tmp_path: Path) -> None:
    server.project("fish", 3)
    server.complete(server.lease("fish", "moby dick", 2).body)

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["contributor", *arguments, "--url", f"{server.url}/?token={server.token}"])
        assert result.exit_code == 0, result.output
        return result.stdout

    try:
        later = command("ban", "moby dick", "--since", "0s ago")
        told = command("ban", "moby dick", "--since", "3h ago")
        assert "0 task(s) count no more" in later
        assert "moby dick is banned: 2 task(s) count no more, 2 are done again" in told
        assert "`dcengine contributor unban 'moby dick'`" in told
        assert json.loads(command("ban", "moby dick", "--json"))["voided"] == 0
        assert "moby dick" in command("banned")
        assert "moby dick is welcome again" in command("unban", "moby dick")
        assert "moby dick" not in command("banned", "--json")
    finally:
        dcengine.connect(None)


def test_a_time_to_come_is_no_time_since_when_somebody_did_something(server: Server) -> None:
    address = ["--url", server.url, "--token", server.token]
    try:
        result = CliRunner().invoke(app, ["contributor", "ban", "alice", "--since", "+10m", *address])
    finally:
        dcengine.connect(None)

    assert result.exit_code == 1
    assert "--since cannot be '+10m'; expected a time that is over" in " ".join(result.stderr.split())


# ---- limits --------------------------------------------------------------------------------


def test_a_volunteer_gets_few_tasks_and_more_with_each_that_it_brings(server: Server) -> None:
    server.project("trees", 40, is_open=True)

    first = server.lease("trees", "vera", 100, token=None).body
    refused = server.lease("trees", "vera", 100, token=None)
    assert (len(first), refused.status, refused.body["error"]) == (4, 429, "LeaseLimitReached")
    assert int(refused.headers["Retry-After"]) > 0
    assert server.complete(first, token=None) == [True] * 4

    assert len(server.lease("trees", "vera", 100, token=None).body) == 8


def test_nobody_makes_himself_less_of_a_volunteer_by_saying_so(server: Server) -> None:
    server.project("herbs", 20, is_open=True)
    wish = {"worker": "w", "n": 20, "is_volunteer": False, "grant": 5}

    answer = server.ask("projects/herbs/stages/a/lease", wish, token=None)

    assert (answer.status, len(answer.body)) == (200, 4)


def test_what_one_token_may_hold_has_an_end_whatever_its_users_call_themselves(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine.engine.leases.HOLDER_LIMIT", 10)
    server.project("moss", 40)
    secret = server.call("create_token", TokenSpec(role="worker", project="moss")).token

    got = [server.lease("moss", f"user {n}", 6, token=secret) for n in range(3)]

    assert [len(answer.body) for answer in got[:2]] == [6, 4]
    assert (got[2].status, got[2].body["error"]) == (429, "LeaseLimitReached")
    assert len(server.lease("moss", "the owner").body) == 1
