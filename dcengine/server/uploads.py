"""Files that become items: each is kept as a value as it comes, and nobody here looks into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from aiohttp import web

from ..codec import pack, pack_json, standing_for
from ..errors import InvalidOption, NotFound, PayloadTooLarge
from ..files import HEAD_SIZE, TAIL, TAILS, head_of, place_of
from ..references import key_of_value
from ..verbs import ItemsSubmission, StoredValue
from .answers import BYTES, VERBS, json_answer, required, seconds
from .items import said_once, submitter_of
from .sending import StreamedAnswer
from .speaking import Parameter, bytes_of, json_of, speaks
from .values import KEEP, pieces_of

FILE_LIMIT = 1 << 30  #: bytes of one file: a worker has all of it in memory
PIECE = 4 << 20  #: bytes that are answered at once
NAME = Parameter("name", Annotated[str, msgspec.Meta(min_length=1)], "The file's name: the key of its job.")
MEDIA = Parameter("media", str, "Its media type, which outside workers are told.")


class FileAdded(msgspec.Struct, frozen=True):
    """What became of a file."""

    value: str  #: sha256 of the packed value that it is
    number: int  #: of its job within the project; 0 if a job with this key was there already
    is_known: bool


class FileItem(msgspec.Struct, frozen=True):
    """What an outside worker gets of a file."""

    name: str
    media: str
    size: int
    value: str  #: its bytes are at ``v1/values/VALUE/bytes``


@speaks(query=[NAME.needed, MEDIA, KEEP], body=bytes_of("The file as it is."), answer=json_of(FileAdded))
async def add_file(request: web.Request) -> web.Response:
    """Make a file an item: a function gets its bytes, an outside worker a `FileItem`.

    It is kept as a value, as long as *keep* says; a name that the project knows already makes no new job.
    """
    name, keep, size = required(request, "name"), seconds(request, "keep"), _size_of(request)
    project = await request.app[VERBS].project(request.match_info["name"])  # raises for an unknown one
    kept = await request.app[VERBS].put_value(_packed(request, size), keep=keep)
    if project.stages[0].kind == "lease":
        media = request.query.get("media") or BYTES
        item = pack_json(msgspec.to_builtins(FileItem(name, media, size, kept.digest)), what="the file")
    else:
        item = standing_for(key_of_value(bytes.fromhex(kept.digest)), [])
    return json_answer(await _added(request, name, item, kept))


async def _added(request: web.Request, name: str, item: bytes, kept: StoredValue) -> FileAdded:
    submission = ItemsSubmission(
        project=request.match_info["name"], blocks=[pack([item])], count=1, keys=[name], request=said_once(request),
        submitter=submitter_of(request),
    )  # fmt: skip
    added = await request.app[VERBS].add_jobs(submission)
    return FileAdded(kept.digest, added.first_number if added.count else 0, added.count == 0)


def _size_of(request: web.Request) -> int:
    if request.content_type != BYTES:
        raise InvalidOption("Content-Type", repr(request.content_type), BYTES)
    size = request.content_length
    if size is None:
        raise InvalidOption("Content-Length", "missing", "the size of the file")
    if size > FILE_LIMIT:
        raise PayloadTooLarge("the file", size, FILE_LIMIT)
    return size


async def _packed(request: web.Request, size: int) -> AsyncIterator[bytes]:
    """Yield the pickle of the body's bytes, as they come."""
    yield head_of(size)
    async for piece in pieces_of(request):
        yield piece
    yield TAIL


@speaks(answer=bytes_of("The bytes."))
async def file_bytes(request: web.Request) -> web.StreamResponse:
    """Answer the bytes that a value is, for outside workers: whoever is told its digest may have it."""
    verbs, digest = request.app[VERBS], request.match_info["digest"]
    place = place_of(await verbs.read_value(digest, at=0, size=HEAD_SIZE))
    if place is None or await verbs.read_value(digest, at=sum(place), size=HEAD_SIZE) not in TAILS:
        raise NotFound("value of bytes", digest)
    at, size = place
    answer = StreamedAnswer(headers={"Content-Disposition": "attachment"})
    answer.content_type, answer.content_length = BYTES, size
    await answer.prepare(request)
    for start in range(at, at + size, PIECE):
        await answer.write(await verbs.read_value(digest, at=start, size=min(PIECE, at + size - start)))
    await answer.write_eof()
    return answer
