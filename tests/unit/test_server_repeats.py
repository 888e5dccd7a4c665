"""What is asked twice under one key is done once, and what takes long is come back for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine import connection
from dcengine.client import Client
from dcengine.errors import DiskFull, EngineUnreachable, InvalidOption, NotFound
from dcengine.server import Listening, application, listen, repeats
from dcengine.verbs import BackupDone, Deletion, LeasedTask, LeaseRequest, ProjectStatus, VacuumDone
from tests.unit.engine_double import EngineDouble, Tokens, project_of
from tests.unit.losing import losing_answers

Browser = TestClient[web.Request, web.Application]


class SlowDouble(EngineDouble):
    """Takes as long for upkeep as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()
        self.trouble: Exception | None = None
        self.was_cancelled = False
        self.has_ended = False

    async def vacuum(self) -> VacuumDone:
        await self._slowly()
        return await super().vacuum()

    async def backup(self, path: str) -> BackupDone:
        await self._slowly()
        return await super().backup(path)

    async def _slowly(self) -> None:
        self.questions.append("begun")
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        self.has_ended = True
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def engine() -> SlowDouble:
    return SlowDouble()


@pytest.fixture
async def browser(engine: SlowDouble) -> AsyncIterator[Browser]:
    async with TestClient(TestServer(application(engine, access=Tokens()))) as client:
        yield client


@pytest.fixture
async def listening(engine: SlowDouble) -> AsyncIterator[Listening]:
    opened = await listen(application(engine, access=Tokens()), "127.0.0.1", 0)
    yield opened
    await opened.close()


@pytest.fixture
async def client(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(connection, "POLL", 0.05)
    opened = Client(listening.url, "admin-token")
    yield opened
    await opened.close()


async def ask(browser: Browser, path: str, key: str, *, role: str = "admin", body: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {role}-token", "Idempotency-Key": key}
    answer = await browser.post(path, json=body, headers=headers)
    return answer.status, await answer.read()


async def until(condition: Any) -> None:
    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), 10)


def requests_of(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[connection.Question]:
    """Return a list that grows with each request of *client*."""
    asked: list[connection.Question] = []
    send = client._send

    async def note(question: connection.Question) -> connection.Answer:
        asked.append(question)
        return await send(question)

    monkeypatch.setattr(client, "_send", note)
    return asked


# ---- keys ----------------------------------------------------------------------------------


async def test_a_key_gets_the_same_answer_and_another_key_a_new_one(engine: SlowDouble, browser: Browser) -> None:
    await engine.offer(b"1", b"2")
    path = "/v1/projects/laion/stages/a/lease"

    first = await ask(browser, path, "k1", body={"worker": "w"})
    again = await ask(browser, path, "k1", body={"worker": "w"})
    other = await ask(browser, path, "k2", body={"worker": "w"})

    assert first == again != other
    assert engine.questions.count("lease") == 2


async def test_a_key_belongs_to_its_token_and_its_address(engine: SlowDouble, browser: Browser) -> None:
    """Nobody gets what was for another, such as tasks with their tokens."""
    await engine.offer(b"1", b"2", b"3")

    answers = [
        await ask(browser, f"/v1/projects/laion/stages/{stage}/lease", "k", role=role, body={"worker": "w"})
        for role, stage in (("worker", "a"), ("admin", "a"), ("worker", "b"))
    ]

    assert len(set(answers)) == 3


async def test_a_token_that_may_not_ask_gets_no_answer_of_old(engine: SlowDouble, browser: Browser) -> None:
    await ask(browser, "/v1/jobs/cancel-unfinished", "k")

    status, _ = await ask(browser, "/v1/jobs/cancel-unfinished", "k", role="view")

    assert status == 403


async def test_questions_under_one_key_at_the_same_time_are_one(engine: SlowDouble, browser: Browser) -> None:
    both = asyncio.gather(ask(browser, "/v1/vacuum", "k"), ask(browser, "/v1/vacuum", "k"))
    await until(lambda: "begun" in engine.questions)
    engine.may_end.set()

    first, second = await both

    assert first == second
    assert engine.questions == ["begun", "vacuum"]


async def test_an_error_is_told_and_the_next_question_is_a_new_one(engine: SlowDouble, browser: Browser) -> None:
    engine.failing = DiskFull("x.db")

    failed, _ = await ask(browser, "/v1/jobs/cancel-unfinished", "k")
    then, _ = await ask(browser, "/v1/jobs/cancel-unfinished", "k")

    assert (failed, then) == (507, 200)


@pytest.mark.parametrize("key", ["", "x" * 201])
async def test_a_key_that_cannot_be_is_refused(engine: SlowDouble, browser: Browser, key: str) -> None:
    status, body = await ask(browser, "/v1/vacuum", key)

    assert status == 400
    assert b"Idempotency-Key" in body
    assert engine.questions == []


async def test_reading_under_a_key_reads_anew(engine: SlowDouble, browser: Browser) -> None:
    headers = {"Authorization": "Bearer admin-token", "Idempotency-Key": "k"}

    await browser.get("/v1/status", headers=headers)
    await browser.get("/v1/status", headers=headers)

    assert engine.questions == ["status", "status"]


@pytest.mark.parametrize(("limit", "most"), [("KEPT_ANSWERS", 2), ("KEPT_BYTES", 40)])
async def test_old_answers_are_forgotten(
    engine: SlowDouble, browser: Browser, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(repeats, limit, most)
    for key in "abcd":
        await ask(browser, "/v1/jobs/cancel-unfinished", key)

    await ask(browser, "/v1/jobs/cancel-unfinished", "d")
    assert engine.questions.count("cancel_unfinished") == 4
    await ask(browser, "/v1/jobs/cancel-unfinished", "a")
    assert engine.questions.count("cancel_unfinished") == 5


async def test_no_more_is_begun_than_can_be_kept_in_mind(
    engine: SlowDouble, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "UNDER_WAY", 2)
    begun = [await ask(browser, "/v1/vacuum?wait=0", key) for key in "abc"]

    status, body = await ask(browser, "/v1/vacuum?wait=0", "d")

    assert [status for status, _ in begun] == [202, 202, 202]
    assert (status, b"EngineBusy" in body) == (503, True)
    engine.may_end.set()


# ---- what takes long -----------------------------------------------------------------------


async def test_long_work_is_begun_once_and_come_back_for(
    engine: SlowDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests_of(client, monkeypatch)
    waiting = asyncio.ensure_future(client.backup("/x/copy.db"))
    await until(lambda: len(asked) > 3)
    assert not waiting.done()

    engine.may_end.set()

    assert (await waiting).path == "/x/copy.db"
    assert engine.questions == ["begun", "backup"]


async def test_an_error_of_long_work_is_told_to_who_comes_back(
    engine: SlowDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.trouble = DiskFull("x.db")
    asked = requests_of(client, monkeypatch)
    waiting = asyncio.ensure_future(client.vacuum())
    await until(lambda: len(asked) > 2)

    engine.may_end.set()

    with pytest.raises(DiskFull):
        await waiting
    assert engine.questions == ["begun"]


async def test_an_error_that_nobody_was_there_for_is_kept(engine: SlowDouble, browser: Browser) -> None:
    engine.trouble = DiskFull("x.db")
    early, _ = await ask(browser, "/v1/vacuum?wait=0", "k")
    engine.may_end.set()
    await until(lambda: engine.has_ended)

    late, _ = await ask(browser, "/v1/vacuum?wait=0", "k")

    assert (early, late) == (202, 507)
    assert engine.questions == ["begun"]


async def test_long_work_goes_on_while_connections_break(engine: SlowDouble) -> None:
    async with losing_answers(application(engine, access=Tokens())) as (url, lost):
        client = Client(url, "admin-token")
        waiting = asyncio.ensure_future(client.vacuum())
        await until(lambda: "begun" in engine.questions)
        engine.may_end.set()

        done = await waiting
        await client.close()

    assert lost == ["POST /x/v1/vacuum"]
    assert done.after == 4096
    assert engine.questions == ["begun", "vacuum"]


async def test_work_under_way_ends_with_its_server(
    engine: SlowDouble, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    monkeypatch.setattr(connection, "POLL", 0.05)
    client = Client(listening.url, "admin-token")
    waiting = asyncio.ensure_future(client.vacuum())
    await until(lambda: "begun" in engine.questions)
    await listening.close()

    with pytest.raises(EngineUnreachable):
        await waiting
    assert engine.was_cancelled
    await client.close()


@pytest.mark.parametrize("role", ["submit", "view", "join", "worker"])
async def test_only_administrators_may_write_files_of_the_engines_machine(
    engine: SlowDouble, browser: Browser, role: str
) -> None:
    statuses = [(await ask(browser, path, "k", role=role))[0] for path in ("/v1/backup", "/v1/vacuum")]

    assert statuses == [403, 403]
    assert engine.questions == []


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000])
async def test_a_backup_to_nowhere_is_refused(engine: SlowDouble, client: Client, path: str) -> None:
    with pytest.raises(InvalidOption, match="path"):
        await client.backup(path)
    assert engine.questions == []


# ---- answers that were lost ----------------------------------------------------------------


async def test_tasks_whose_answer_was_lost_come_with_the_next(engine: SlowDouble) -> None:
    await engine.offer(b"1", b"2", b"3")
    async with losing_answers(application(engine, access=Tokens())) as (url, _):
        client = Client(url, "worker-token")
        tasks: list[LeasedTask] = await client.lease(LeaseRequest(project="laion", stage="a", worker="w", n=2))
        await client.close()

    assert [task.token for task in tasks] == list(engine.leased)
    assert len(engine.free) == 1


async def test_a_project_deleted_by_an_engine_that_ended_over_it_is_deleted(engine: SlowDouble) -> None:
    """The next engine does not know the key, and the project is gone."""

    class Forgetful(SlowDouble):
        async def delete_project(self, name: str) -> Deletion:
            await super().delete_project(name)
            raise NotFound("project", name)

    forgetful = Forgetful()
    await forgetful.declare_project(project_of("photos", "a"))
    opened = await listen(application(forgetful, access=Tokens()), "127.0.0.1", 0)
    client = Client(opened.url, "submit-token")

    assert (await client.delete_project("photos")).project == "photos"
    with pytest.raises(NotFound, match="photos"):
        await client.delete_project("photos")
    assert await client.projects() == list[ProjectStatus]()
    await client.close()
    await opened.close()
