"""Workloads that are installed, as forms, and what is filled in: texts and files, of which nothing is unpickled."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import IO, Any, Literal, NamedTuple, Protocol

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError

from ..errors import DcengineError, EngineBusy, InvalidOption, NotFound, PayloadTooLarge
from .answers import SUBMISSION_LIMIT, error_answer, json_answer, status_of
from .items import submitter_of
from .speaking import Content, json_of, speaks
from .uploads import FILE_LIMIT

FORM = "multipart/form-data"
AT_ONCE = 8  #: forms on their way: each has a file of its own on the engine's disk
PARTS = 1000  #: of one form
TEXT_LIMIT = 1 << 20  #: bytes of all its texts together
PIECE = 1 << 20  #: bytes of a file that are written at once
UNREADABLE = (ValueError, AssertionError, LookupError, HttpProcessingError)  #: says aiohttp of what is no form
IN_MEMORY = 1 << 20  #: bytes of a file, above which it waits on the disk

Kind = Literal["file", "text", "whole number", "number", "switch", "choice"]


class FormField(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a workload can be asked."""

    name: str
    kind: Kind  #: what it is, or each of its list
    description: str
    limits: str = ""  #: between which numbers, in words
    choices: list[str] = []
    is_many: bool = False  #: it may be said several times
    is_needed: bool = False
    default: Any = None  #: what holds where nothing is said
    suffix: str = ""  #: of the names of such files


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A workload as it is asked for."""

    name: str
    title: str
    fields: list[FormField] = []
    problem: str = ""  #: why it cannot be used


class WorkloadStarted(msgspec.Struct, frozen=True):
    """What was made of a form that was filled in."""

    project: str


class FilledIn(NamedTuple):
    """A field as it was filled in: with a text, or with a file."""

    name: str
    text: str = ""
    file: IO[bytes] | None = None
    file_name: str = ""  #: as whoever sent it calls it


class Forms(Protocol):
    """Who knows the workloads."""

    async def installed(self) -> list[Form]:
        """Return the form of each."""
        ...

    async def start(self, workload: str, filled_in: Sequence[FilledIn], submitter: str) -> str:
        """Start one as it was asked for; return the name of its project."""
        ...


class NoForms:
    """Where no workload can be started."""

    async def installed(self) -> list[Form]:
        return []

    async def start(self, workload: str, filled_in: Sequence[FilledIn], submitter: str) -> str:
        raise NotFound("workload", workload[:100])


FORMS = web.AppKey[Forms]("dcengine.forms")
UNDER_WAY = web.AppKey[list[str]]("dcengine.forms_under_way")  #: workloads whose forms are on their way


@speaks(answer=json_of(list[Form]))
async def workloads(request: web.Request) -> web.Response:
    """Return each workload that is installed, with what it can be asked; one that cannot be used says why."""
    return json_answer(await request.app[FORMS].installed())


@speaks(body=Content(FORM, dict[str, Any], "A part for each field that is filled in."), answer=json_of(WorkloadStarted))
async def start_workload(request: web.Request) -> web.Response:
    """Start a workload with what was filled into its form, and return at once.

    Files come as parts with a file name, in a list the part is said again. The same request is the same project.
    """
    workload, under_way = request.match_info["workload"], request.app[UNDER_WAY]
    if len(under_way) >= AT_ONCE:
        raise EngineBusy(len(under_way))
    under_way.append(workload)
    try:
        async with _filled_in(request) as parts:
            return await _started(request, workload, parts)
    finally:
        under_way.remove(workload)


async def _started(request: web.Request, workload: str, parts: list[FilledIn]) -> web.Response:
    try:
        project = await request.app[FORMS].start(workload, parts, submitter_of(request))
    except DcengineError as error:  # also those of plug-ins, of which no table here knows: it was asked for so
        return error_answer(error, status=400 if status_of(error) == 500 else None)
    return json_answer(WorkloadStarted(project))


# ---- what comes ----------------------------------------------------------------------------


@asynccontextmanager
async def _filled_in(request: web.Request) -> AsyncIterator[list[FilledIn]]:
    """Read the form in *request*; its files are there until the end of the block."""
    if request.content_type != FORM:
        raise InvalidOption("Content-Type", repr(request.content_type), FORM)
    limit = min(FILE_LIMIT + TEXT_LIMIT, request.app[SUBMISSION_LIMIT])
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge("the form", request.content_length or 0, limit)
    with ExitStack() as files:
        try:
            found = [part async for part in _parts(request, files, limit)]
        except DcengineError:
            raise
        except UNREADABLE as error:
            raise InvalidOption("the request body", "what was sent", f"{FORM}: {str(error)[:200]}") from error
        except ConnectionError as error:  # whoever sent it has hung up
            raise web.RequestPayloadError(str(error)) from None
        yield found


async def _parts(request: web.Request, files: ExitStack, limit: int) -> AsyncIterator[FilledIn]:
    reader, size, texts, count = await request.multipart(), 0, 0, 0
    while (part := await reader.next()) is not None:
        count += 1
        if count > PARTS or not isinstance(part, BodyPartReader) or not part.name:
            raise InvalidOption("the form", "what was sent", f"{PARTS:,} parts at most, each with the name of a field")
        if part.filename is None:
            text = b"".join([piece async for piece in _pieces(part, TEXT_LIMIT - texts)])
            texts += len(text)
            yield FilledIn(part.name, text.decode())
        else:
            file: IO[bytes] = files.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115
            async for piece in _pieces(part, limit - size):
                size += len(piece)
                await asyncio.to_thread(file.write, piece)
            file.seek(0)
            yield FilledIn(part.name, file=file, file_name=part.filename)


async def _pieces(part: BodyPartReader, limit: int) -> AsyncIterator[bytes]:
    """Yield what is in *part* as it comes; raises `PayloadTooLarge` above *limit* bytes."""
    size, gathered = 0, bytearray()
    while piece := await part.read_chunk(64 << 10):
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"the field {(part.name or '')[:100]!r}", size, limit)
        gathered += piece
        if len(gathered) >= PIECE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
