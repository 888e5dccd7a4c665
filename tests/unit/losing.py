"""Servers that lose answers, of which the engine has done what was asked, and that are slow at first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from dcengine.server import listen

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def losing_answers(app: web.Application) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve *app*, and lose its first answer at each address; yield its own address and what was lost."""
    lost: list[str] = []

    @web.middleware
    async def lose_the_first(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        asked = f"{request.method} {request.path}"
        if asked not in lost and request.transport is not None:
            lost.append(asked)
            request.transport.abort()
        return answer

    async with _behind(lose_the_first, app) as url:
        yield url, lost


@contextlib.asynccontextmanager
async def slow_at_first(app: web.Application, seconds: float) -> AsyncIterator[str]:
    """Serve *app*, and take so many *seconds* for its first answer; yield its own address."""
    pauses = [seconds]

    @web.middleware
    async def take_long(request: web.Request, handler: Handler) -> web.StreamResponse:
        if pauses:
            await asyncio.sleep(pauses.pop())
        return await handler(request)

    async with _behind(take_long, app) as url:
        yield url


@contextlib.asynccontextmanager
async def _behind(middleware: Callable[..., Awaitable[web.StreamResponse]], app: web.Application) -> AsyncIterator[str]:
    parent = web.Application(middlewares=[middleware])
    parent.add_subapp("/x/", app)
    opened = await listen(parent, "127.0.0.1", 0)
    try:
        yield f"{opened.url}/x/"
    finally:
        await opened.close()
