"""How long a request may take to arrive, and how many connections there may be: nobody holds one for nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import BodyTooSlow

logger = logging.getLogger(__name__)

WARNING_SECONDS = 60.0  #: between two warnings that there are too many connections


class Limits(NamedTuple):
    """What a caller may take."""

    connections: int = 10_000  #: at the same time; more are closed at once
    head_seconds: float = 20.0  #: from the connection to the end of the first request's head
    body_seconds: float = 30.0  #: for a request's body, and
    body_rate: int = 64 << 10  #: bytes of it that have to come in each further second
    silence_seconds: float = 120.0  #: for a body that is streamed: how long nothing of it may come


LIMITS = web.AppKey[Limits]("dcengine.limits")
STREAMED = web.AppKey[frozenset[Handler]]("dcengine.streamed")  #: handlers whose bodies may take hours


class Connection(web.RequestHandler):
    """A connection that is closed unless its first request arrives in time."""

    __slots__ = ("_head_seconds", "_patience")

    def __init__(self, server: web.Server, head_seconds: float, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._head_seconds = head_seconds
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._patience = asyncio.get_running_loop().call_later(self._head_seconds, self.force_close)

    def heard(self) -> None:
        """Take note that a request has arrived."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def connection_lost(self, reason: BaseException | None) -> None:
        self.heard()
        super().connection_lost(reason)


class Refusal(asyncio.Protocol):
    """A connection too many. It is closed without a word: that is what old clients take for "try again"."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def door(server: web.Server, limits: Limits, **options: Any) -> Callable[[], asyncio.Protocol]:
    """Return what makes a protocol for each new connection of *server*; *options* are those of its requests."""
    last_warning = -WARNING_SECONDS

    def open_or_refuse() -> asyncio.Protocol:
        nonlocal last_warning
        if len(server.connections) < limits.connections:
            return Connection(server, limits.head_seconds, **options)
        if time.monotonic() - last_warning >= WARNING_SECONDS:
            last_warning = time.monotonic()
            logger.warning("%d connections, as many as may be; more are refused (max_connections)", limits.connections)
        return Refusal()

    return open_or_refuse


class BodyWatch:
    """Ends a request whose body comes too slowly: whoever reads it gets `BodyTooSlow`."""

    def __init__(self, request: web.Request, limits: Limits, *, is_streamed: bool) -> None:
        self._body, self._limits, self._is_streamed = request.content, limits, is_streamed
        self._began = time.monotonic()
        self._size = self._body.total_bytes
        self._is_over = False
        self._look_in(limits.silence_seconds if is_streamed else limits.body_seconds)

    def end(self) -> None:
        """Watch no longer: the request is answered."""
        self._timer.cancel()
        if self._is_over:
            # So that aiohttp, which reads on to the body's end, gives up at once, and not with an error in the log.
            self._body.set_exception(asyncio.TimeoutError())

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        if self._body.is_eof():
            return
        left = self._seconds_left(time.monotonic())
        if left > 0:
            self._look_in(left)
            return
        self._is_over = True
        self._body.set_exception(BodyTooSlow(self._body.total_bytes, round(time.monotonic() - self._began, 1)))

    def _seconds_left(self, now: float) -> float:
        size, before = self._body.total_bytes, self._size
        if not self._is_streamed:
            return self._began + self._limits.body_seconds + size / self._limits.body_rate - now
        self._size = size
        return self._limits.silence_seconds if size > before else 0.0


def watch_body(request: web.Request, app: web.Application) -> BodyWatch | None:
    """Watch over the body of a request that has just begun; None where it is here as a whole, as most are."""
    connection = request.protocol
    if isinstance(connection, Connection):
        connection.heard()
    if request.content.is_eof():
        return None
    is_streamed = request.match_info.handler in app[STREAMED]
    return BodyWatch(request, app[LIMITS], is_streamed=is_streamed)
