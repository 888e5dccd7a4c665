"""A server that loses answers: the engine has done what was asked, and the caller does not hear of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from dcengine.server import listen


@contextlib.asynccontextmanager
async def losing_answers(app: web.Application) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve *app*, and lose its first answer at each address; yield its own address and what was lost."""
    lost: list[str] = []

    @web.middleware
    async def lose_the_first(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        answer = await handler(request)
        asked = f"{request.method} {request.path}"
        if asked not in lost and request.transport is not None:
            lost.append(asked)
            request.transport.abort()
        return answer

    parent = web.Application(middlewares=[lose_the_first])
    parent.add_subapp("/x/", app)
    opened = await listen(parent, "127.0.0.1", 0)
    try:
        yield f"{opened.url}/x/", lost
    finally:
        await opened.close()
