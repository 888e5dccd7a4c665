"""Callers who take their time: over raw sockets, with limits of fractions of a second."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from dcengine.open_files import make_room, with_room
from dcengine.server import Limits, Listening, application, listen
from dcengine.verbs import StoredValue
from tests.unit.engine_double import EngineDouble, Tokens

SHORT = Limits(connections=4, head_seconds=0.3, body_seconds=0.3, body_rate=1 << 20, silence_seconds=0.3)
ASKED = "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin-token\r\nContent-Type: {kind}\r\n"
BEAT = ASKED.format(path="/v1/tasks/heartbeat", kind="application/json")
VALUE = ASKED.format(path="/v1/values", kind="application/octet-stream")


class Keeper(EngineDouble):
    """Takes values in."""

    async def put_value(self, pieces: AsyncIterator[bytes], *, keep: float | None = None) -> StoredValue:
        size = sum([len(piece) async for piece in pieces])
        return StoredValue(digest="0" * 64, size=size, created=0.0)


@pytest.fixture
async def opened() -> AsyncIterator[Listening]:
    app = application(Keeper(), access=Tokens(), limits=SHORT)
    listening = await listen(app, "127.0.0.1", 0, limits=SHORT)
    yield listening
    await listening.close()


@asynccontextmanager
async def caller(listening: Listening) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(listening.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes the connection, which it must."""
    return await asyncio.wait_for(reader.read(), 10)


async def status_in_the_end(session: aiohttp.ClientSession, url: str) -> int:
    """The status of the first answer, once the server has noticed that there is room again."""
    while True:
        try:
            return (await session.get(url)).status
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("begun", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_connection_whose_first_request_never_comes_is_closed(opened: Listening, begun: bytes) -> None:
    async with caller(opened) as (reader, writer):
        writer.write(begun)

        assert await all_of(reader) == b""


async def test_a_connection_that_has_asked_once_may_idle_for_longer(opened: Listening) -> None:
    async with caller(opened) as (reader, writer):
        answers = []
        for pause in (0.0, 2 * SHORT.head_seconds):
            await asyncio.sleep(pause)  # idle for as long as the first request may take, and longer
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append(await asyncio.wait_for(reader.readuntil(b"alive\n"), 10))

    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.parametrize("head", [BEAT + "Content-Length: 1000\r\n", BEAT + "Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_never_ends_is_answered_by_408_and_a_closed_connection(opened: Listening, head: str) -> None:
    async with caller(opened) as (reader, writer):
        writer.write(head.encode() + b"\r\n")
        answer = await all_of(reader)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"BodyTooSlow" in answer


async def test_a_body_that_trickles_is_ended_though_each_byte_comes_in_time(
    opened: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    async with caller(opened) as (reader, writer):
        writer.write(f"{BEAT}Content-Length: 1000\r\n\r\n".encode())
        answering = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        while not answering.done():
            writer.write(b" ")
            await asyncio.sleep(0.02)

    assert (await answering).startswith(b"HTTP/1.1 408")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_large_body_has_time_in_proportion_to_its_size() -> None:
    app = application(EngineDouble(), access=Tokens(), limits=SHORT)
    listening = await listen(app, "127.0.0.1", 0, limits=SHORT)
    size, pieces = 2 << 20, 8  # at 1 MiB a second these may take two seconds more than the first 0.3

    async with caller(listening) as (reader, writer):
        writer.write(f"{BEAT}Content-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(pieces):
            writer.write(b" " * (size // pieces))
            await asyncio.sleep(0.08)
        answer = await all_of(reader)
    await listening.close()

    assert answer.startswith(b"HTTP/1.1 400"), "all of it came, and is no JSON"


async def test_a_streamed_body_may_take_its_time_as_long_as_something_comes(opened: Listening) -> None:
    async with caller(opened) as (reader, writer):
        writer.write(f"{VALUE}Content-Length: 40\r\nConnection: close\r\n\r\n".encode())
        for _ in range(40):
            writer.write(b"x")
            await asyncio.sleep(0.02)  # 0.8 s in all
        slow = await all_of(reader)
    async with caller(opened) as (reader, writer):
        writer.write(f"{VALUE}Content-Length: 40\r\n\r\nx".encode())
        silent = await all_of(reader)

    assert slow.startswith(b"HTTP/1.1 200")
    assert silent.startswith(b"HTTP/1.1 408")


async def test_connections_above_the_limit_are_closed_and_the_others_go_on(
    opened: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    held = [aiohttp.ClientSession() for _ in range(SHORT.connections)]
    for session in held:
        assert (await session.get(f"{opened.url}/healthz")).status == 200

    async with aiohttp.ClientSession() as one_more:
        with pytest.raises(aiohttp.ClientError):
            await one_more.get(f"{opened.url}/healthz")
        assert (await held[0].get(f"{opened.url}/healthz")).status == 200
        await held[1].close()
        assert await asyncio.wait_for(status_in_the_end(one_more, f"{opened.url}/healthz"), 10) == 200
    for session in held:
        await session.close()

    assert "max_connections" in caplog.text


def test_no_more_connections_are_promised_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine.open_files._limits", lambda: (1024, 4096))

    assert with_room(100) == 100
    assert with_room(10_000) == 1024 - 256


def test_a_served_engine_makes_room_for_its_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        make_room(700)
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        make_room(100)
        kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert raised == kept == (700 + 256, before[1])
