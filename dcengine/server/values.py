"""Routes about values that were put."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

from aiohttp import web

from ..errors import InvalidOption
from .answers import BYTES, VERBS, json_answer, number

PIECE = 4 << 20  #: bytes that are handed on at once
LARGEST_ANSWER = 64 << 20


async def put(request: web.Request) -> web.Response:
    if request.content_type != BYTES:
        raise InvalidOption("Content-Type", repr(request.content_type), BYTES)
    keep = _seconds(request, "keep")
    return json_answer(await request.app[VERBS].put_value(_pieces(request), keep=keep))


async def value(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].value(request.match_info["digest"]))


async def content(request: web.Request) -> web.Response:
    at, size = number(request, "at") or 0, number(request, "size", least=1, most=LARGEST_ANSWER) or PIECE
    piece = await request.app[VERBS].read_value(request.match_info["digest"], at=at, size=size)
    return web.Response(body=piece, content_type=BYTES)


async def delete(request: web.Request) -> web.Response:
    return json_answer({"deleted": await request.app[VERBS].delete_value(request.match_info["digest"])})


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes, so that no more of it is ever in memory."""
    gathered, size = list[bytes](), 0
    async for part in request.content.iter_any():
        gathered.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _seconds(request: web.Request, name: str) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise InvalidOption(f"?{name}", repr(text), "seconds, 0 or more")
    return seconds
