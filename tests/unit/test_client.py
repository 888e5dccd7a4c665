"""The client over a real socket: addresses, errors, and engines that go away and come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from dcengine import codec, connection, errors
from dcengine.client import Client
from dcengine.connection import split_address
from dcengine.server import Listening, application, listen
from dcengine.verbs import Submission
from tests.unit.engine_double import EngineDouble, Tokens, batch_of, submission_of
from tests.unit.losing import losing_answers


@contextlib.asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve *handler* at every path; yield the address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    opened = await listen(app, "127.0.0.1", 0)
    yield opened.url
    await opened.close()


# ---- addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "given", "address", "token"),
    [
        ("http://h:1", None, "http://h:1/", None),
        ("http://h:1/?token=T", None, "http://h:1/", "T"),
        ("http://h:1/?token=T", "U", "http://h:1/", "U"),
        ("http://anybody:P@h:1/", None, "http://h:1/", "P"),
        ("https://h/compute/?token=T#x", None, "https://h/compute/", "T"),
        (" http://[::1]:8787/?token=T\n", None, "http://[::1]:8787/", "T"),
    ],
)
def test_an_address_is_split_from_its_token(url: str, given: str | None, address: str, token: str | None) -> None:
    base, found = split_address(url, given)

    assert (str(base.with_path(base.path or "/")), found) == (address, token)


@pytest.mark.parametrize("url", ["", "h:1", "tcp://h:1", "http://", "/path", "http://h:port/", "http://["])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidOption, match="http://127"):
        Client(url)


@pytest.mark.parametrize("prefix", ["/compute", "/compute/", "/a/b/"])
async def test_it_asks_below_a_prefix(engine: EngineDouble, prefix: str) -> None:
    parent = web.Application()
    parent.add_subapp(prefix.rstrip("/") + "/", application(engine, access=Tokens()))
    opened = await listen(parent, "127.0.0.1", 0)
    client = Client(f"{opened.url}{prefix}?token=view-token")

    assert (await client.status()).db == "double.db"
    await client.close()
    await opened.close()


# ---- errors --------------------------------------------------------------------------------


async def test_errors_of_the_engine_are_raised_as_themselves(client: Client) -> None:
    with pytest.raises(errors.NotFound, match="no job 99"):
        await client.result(99, wait=60)
    with pytest.raises(errors.NotFound, match="no batch 99"):
        await client.reports(99, wait=60)


@pytest.mark.parametrize("token", [None, "guess", "view-token"])
async def test_a_token_that_does_not_suffice_is_denied(listening: Listening, token: str | None) -> None:
    client = Client(listening.url, token)

    with pytest.raises(errors.AccessDenied):
        await client.cancel_unfinished()
    await client.close()


async def test_an_error_with_facts_of_another_version_keeps_its_message(engine: EngineDouble) -> None:
    async def newer(request: web.Request) -> web.Response:
        return web.json_response({"error": "NotFound", "facts": [1, 2, 3, 4], "message": "no such moon"}, status=404)

    async with serving(newer) as url:
        client = Client(url)
        with pytest.raises(errors.EngineError, match="no such moon"):
            await client.status()
        await client.close()


@pytest.mark.parametrize("status", [200, 301, 404, 500])
@pytest.mark.parametrize("verb", ["status", "result", "reports"])
async def test_a_program_that_is_no_engine_is_recognized(status: int, verb: str) -> None:
    async def stranger(request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", status=status, content_type="text/html")

    async with serving(stranger) as url:
        client = Client(url)
        question = client.status() if verb == "status" else getattr(client, verb)(1)
        with pytest.raises(errors.EngineUnreachable, match="is not dcengine"):
            await question
        await client.close()


async def test_nobody_there_is_said_after_some_patience(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    client = Client(f"http://127.0.0.1:{unused_tcp_port}/?token=secret")

    with pytest.raises(errors.EngineUnreachable, match=f"127.0.0.1:{unused_tcp_port}") as caught:
        await client.submit(submission_of())

    assert "secret" not in str(caught.value)
    await client.close()


# ---- waiting -------------------------------------------------------------------------------


async def test_a_long_wait_is_asked_in_pieces(
    engine: EngineDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "POLL", 0.02)
    job = await client.submit(submission_of())
    waiting = asyncio.ensure_future(client.result(job.id, wait=60))
    while engine.questions.count("result") < 3:
        await asyncio.sleep(0.005)
    await engine.finish(job.id, "done")

    end = await waiting

    assert end is not None
    assert codec.loads(end.data) == "done"


async def test_a_wait_that_is_over_returns_nothing(client: Client) -> None:
    job = await client.submit(submission_of())
    batch = await client.submit_batch(batch_of(codec.pack_function(abs), 1))

    assert await client.result(job.id, wait=0.05) is None
    assert await client.reports(batch.id, wait=0.05) == []


async def test_many_waiting_callers_hold_up_neither_questions_nor_each_other(
    engine: EngineDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LANES", 3)
    jobs = [await client.submit(submission_of()) for _ in range(12)]
    waiting = [asyncio.ensure_future(client.result(job.id, wait=60)) for job in jobs]

    await asyncio.wait_for(client.status(), 5)
    for job in reversed(jobs):
        await engine.finish(job.id, job.id)
    ends = await asyncio.wait_for(asyncio.gather(*waiting), 20)

    assert [codec.loads(end.data) for end in ends if end] == [job.id for job in jobs]


# ---- engines that come and go --------------------------------------------------------------


async def test_a_submission_whose_answer_was_lost_makes_one_job(engine: EngineDouble) -> None:
    async with losing_answers(application(engine, access=Tokens())) as (url, lost):
        client = Client(url, "admin-token")
        job = await client.submit(submission_of())
        await client.close()

    assert lost == ["POST /x/v1/jobs"]
    assert engine.questions.count("submit") == 2
    assert [job.id] == list(engine.statuses)
    assert len(engine.submissions) == 1


async def test_many_jobs_are_retried_in_several_requests(engine: EngineDouble, client: Client) -> None:
    for number in range(3):
        await client.submit(submission_of(abs, number))
        await engine.end(number + 1, "failed", b"")

    assert await client.retry([1, 2, 3] * 500) == 3
    assert engine.questions.count("retry") == 2
    assert await client.retry([]) == 0


async def test_a_submission_of_many_pieces_arrives_whole(
    engine: EngineDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PIECE", 1000)
    data = bytes(range(256)) * 50

    await client.submit(submission_of(len, data))

    (sent,) = engine.submissions
    assert isinstance(sent, Submission)
    assert codec.loads(sent.input) == ((data,), {})


async def test_two_equal_submissions_make_two_jobs(engine: EngineDouble, client: Client) -> None:
    submission = submission_of()

    first, second = await client.submit(submission), await client.submit(submission)

    assert first.id != second.id
    assert all(isinstance(sent, Submission) and sent.request for sent in engine.submissions)


async def test_an_engine_that_moved_is_followed_while_waiting(engine: EngineDouble) -> None:
    old = await listen(application(engine, access=Tokens()), "127.0.0.1", 0)
    new = await listen(application(engine, access=Tokens()), "127.0.0.1", 0)
    asked = 0

    async def resolve() -> tuple[str, str]:
        nonlocal asked
        asked += 1
        return new.url, "admin-token"

    client = Client(old.url, "admin-token", resolve)
    job = await client.submit(submission_of())
    waiting = asyncio.ensure_future(client.result(job.id, wait=60))
    while "result" not in engine.questions:
        await asyncio.sleep(0.005)
    await old.close()
    await engine.finish(job.id, "moved")

    end = await asyncio.wait_for(waiting, 30)

    assert end is not None
    assert codec.loads(end.data) == "moved"
    assert asked >= 1
    assert client.url.rstrip("/") == new.url
    await client.close()
    await new.close()


async def test_an_engine_that_says_it_is_closed_is_left_for_the_next_one(listening: Listening) -> None:
    closed = EngineDouble()
    closed.closed = True
    closing = await listen(application(closed, access=Tokens()), "127.0.0.1", 0)

    async def resolve() -> tuple[str, str]:
        return listening.url, "admin-token"

    client = Client(closing.url, "admin-token", resolve)

    assert (await client.submit(submission_of())).id == 1
    await client.close()
    await closing.close()


async def test_a_new_engine_at_the_old_address_gets_its_own_token(listening: Listening) -> None:
    async def resolve() -> tuple[str, str]:
        return listening.url, "admin-token"

    client = Client(listening.url, "token-of-the-last-engine", resolve)

    assert (await client.status()).db == "double.db"
    assert client.token == "admin-token"
    await client.close()


async def test_a_wrong_token_is_told_when_there_is_no_other(listening: Listening) -> None:
    async def resolve() -> tuple[str, str]:
        return listening.url, "guess"

    client = Client(listening.url, "guess", resolve)

    with pytest.raises(errors.AccessDenied):
        await asyncio.wait_for(client.status(), 10)
    await client.close()


async def test_an_engine_restarting_at_the_same_port_is_waited_for(engine: EngineDouble) -> None:
    first = await listen(application(engine, access=Tokens()), "127.0.0.1", 0)
    port = int(first.url.rpartition(":")[2])
    client = Client(first.url, "admin-token")
    await client.status()
    await first.close()

    question = asyncio.ensure_future(client.status())
    await asyncio.sleep(0)
    second = await listen(application(engine, access=Tokens()), "127.0.0.1", port)

    assert (await question).db == "double.db"
    await client.close()
    await second.close()


async def test_a_closed_client_can_be_used_again(client: Client) -> None:
    await client.status()
    await client.close()

    assert (await client.status()).db == "double.db"
