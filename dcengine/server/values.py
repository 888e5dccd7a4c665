"""Routes about values that were put."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, TypedDict

from aiohttp import web
from msgspec import Meta

from ..errors import InvalidOption
from ..verbs import Verbs
from ..verbs.values import LONGEST
from .answers import BYTES, VERBS, json_answer, number, parts_of, seconds
from .sending import Answer
from .speaking import Parameter, Whole, bytes_of, json_of, speaks

PIECE = 4 << 20  #: bytes that are handed on at once
LARGEST_ANSWER = 64 << 20
KEEP = Parameter(
    "keep", Annotated[float, Meta(ge=0, lt=LONGEST)], "Seconds to keep it; without, it is kept until it is deleted."
)
AT = Parameter("at", Whole, "The first byte.")
SIZE = Parameter("size", Annotated[int, Meta(ge=1, le=LARGEST_ANSWER)], "How many bytes, at most.")


class Deleted(TypedDict):
    """Whether there was something to delete."""

    deleted: bool


@speaks(Verbs.put_value, query=[KEEP], body=bytes_of("A packed value."))
async def put(request: web.Request) -> web.Response:
    if request.content_type != BYTES:
        raise InvalidOption("Content-Type", repr(request.content_type), BYTES)
    if not request.body_exists:
        raise InvalidOption("the request body", "empty", "a packed value")
    keep = seconds(request, "keep")
    return json_answer(await request.app[VERBS].put_value(pieces_of(request), keep=keep))


@speaks(Verbs.value)
async def value(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].value(request.match_info["digest"]))


@speaks(Verbs.read_value, query=[AT, SIZE], answer=bytes_of("A piece of the packed value."))
async def content(request: web.Request) -> web.Response:
    at, size = number(request, "at") or 0, number(request, "size", least=1, most=LARGEST_ANSWER) or PIECE
    piece = await request.app[VERBS].read_value(request.match_info["digest"], at=at, size=size)
    return Answer(body=piece, content_type=BYTES)


@speaks(Verbs.delete_value, answer=json_of(Deleted))
async def delete(request: web.Request) -> web.Response:
    return json_answer(Deleted(deleted=await request.app[VERBS].delete_value(request.match_info["digest"])))


async def pieces_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes, so that no more of it is ever in memory."""
    gathered, size = list[bytes](), 0
    async for part in parts_of(request):
        gathered.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
