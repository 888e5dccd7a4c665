"""Values that are put over HTTP: they come in pieces, and go back in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, cast

import pytest

from dcengine.buffered import Pieces
from dcengine.client import Client
from dcengine.errors import AccessDenied, InvalidOption, PayloadTooLarge
from dcengine.server import Listening, application, listen
from dcengine.verbs import StoredValue, Verbs
from tests.unit.engine_double import Tokens
from tests.unit.losing import losing_answers

STORED = StoredValue("ab" * 32, 7, 1.5)


class Taker:
    """Takes values, and notes what came."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.largest = 0
        self.limit = 1 << 40

    async def put_value(self, pieces: AsyncIterable[bytes], *, keep: float | None = None) -> StoredValue:
        data = b""
        async for piece in pieces:
            self.largest = max(self.largest, len(piece))
            data += piece
            if len(data) > self.limit:
                raise PayloadTooLarge("the value", len(data), self.limit)
        self.came.append(data)
        return StoredValue("ab" * 32, 7, 1.5, keep)


@pytest.fixture
def engine() -> Taker:
    return Taker()


@pytest.fixture
async def listening(engine: Taker) -> AsyncIterator[Listening]:
    opened = await listen(application(cast(Verbs, engine), access=Tokens()), "127.0.0.1", 0)
    yield opened
    await opened.close()


@pytest.fixture
async def client(listening: Listening) -> AsyncIterator[Client]:
    client = Client(listening.url, "submit-token")
    yield client
    await client.close()


async def test_a_value_arrives_in_pieces_none_of_which_is_large(engine: Taker, client: Client) -> None:
    parts: list[Any] = [b"head", memoryview(bytes(20 << 20)), bytearray(b"tail")]

    assert await client.put_value(Pieces(parts), keep=5.0) == StoredValue("ab" * 32, 7, 1.5, 5.0)
    assert engine.came == [b"head" + bytes(20 << 20) + b"tail"]
    assert engine.largest < 12 << 20


async def test_one_whose_answer_was_lost_is_sent_again_as_a_whole(engine: Taker) -> None:
    async with losing_answers(application(cast(Verbs, engine), access=Tokens())) as (url, lost):
        client = Client(url, "admin-token")
        await client.put_value(Pieces([b"once", b" more"]))
        await client.close()

    assert lost
    assert engine.came == [b"once more"] * 2  # it has the same digest each time


async def test_one_that_is_too_large_is_refused_with_the_limit(engine: Taker, client: Client) -> None:
    engine.limit = 1000

    with pytest.raises(PayloadTooLarge, match="1,000"):
        await client.put_value(Pieces([bytes(2000)]))


async def test_who_may_only_look_cannot_put(listening: Listening) -> None:
    client = Client(listening.url, "view-token")

    with pytest.raises(AccessDenied):
        await client.put_value(Pieces([b"x"]))
    await client.close()


async def test_a_time_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(InvalidOption, match="keep"):
        await client.put_value(Pieces([b"x"]), keep=-1.0)
