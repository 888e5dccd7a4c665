"""An engine double, and the way to it over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dcengine.client import Client
from dcengine.server import Listening, application, listen
from tests.unit.engine_double import EngineDouble, Tokens


@pytest.fixture
def engine() -> EngineDouble:
    return EngineDouble()


@pytest.fixture
async def listening(engine: EngineDouble) -> AsyncIterator[Listening]:
    opened = await listen(application(engine, access=Tokens()), "127.0.0.1", 0)
    yield opened
    await opened.close()


@pytest.fixture
async def client(listening: Listening) -> AsyncIterator[Client]:
    opened = Client(listening.url, "admin-token")
    yield opened
    await opened.close()
