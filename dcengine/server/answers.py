"""Requests to values and values to answers; every error becomes JSON with a fitting status."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from ..connection import Problem
from ..errors import (
    AccessDenied,
    BackupFailed,
    BlobError,
    BodyTooSlow,
    ClusterError,
    ContributorBanned,
    DatabaseOwned,
    DcengineError,
    DiskFull,
    EngineBusy,
    EngineError,
    ExecutorShut,
    ImportChanged,
    InvalidOption,
    InvalidTransition,
    LeaseLimitReached,
    NotFound,
    PayloadTooLarge,
    ProjectBlocked,
    ProjectInUse,
    ProjectPaused,
    ResultExpired,
    ResultLost,
    ResultNotReady,
    StageRetired,
    StaleLease,
    StoreError,
    TaskError,
    TooManyRequests,
    ValueGone,
    WorkloadBroken,
)
from ..verbs import Verbs
from .sending import Answer, StreamedAnswer

logger = logging.getLogger(__name__)

VERBS = web.AppKey[Verbs]("dcengine.verbs")
SUBMISSION_LIMIT = web.AppKey[int]("dcengine.submission_limit")  #: bytes of a body that carries code and inputs
MSGPACK, JSON, BYTES = "application/msgpack", "application/json", "application/octet-stream"
BODY_LIMIT = web.RequestKey[int]("dcengine.body_limit")  #: bytes that a request may have, if it is less than others
BODY = web.RequestKey[bytes]("dcengine.body")  #: what was read of a request already
FOREIGN = web.AppKey[set[Handler]]("dcengine.foreign")  #: whose askers ask for a password when they read 401
PIECE = 1 << 20  #: bytes of a large answer that are sent at once
LONGEST_WAIT = 60.0  #: seconds a request may be kept waiting; proxies give up after about as long

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (AccessDenied, 403),
    (ContributorBanned, 403),
    (NotFound, 404),
    (InvalidTransition, 409),
    (ProjectInUse, 409),
    (StageRetired, 409),
    (StaleLease, 409),
    (DatabaseOwned, 409),
    (TaskError, 409),
    (ResultNotReady, 409),
    (ExecutorShut, 409),
    (ProjectPaused, 409),
    (ProjectBlocked, 409),
    (ImportChanged, 409),
    (ResultExpired, 410),
    (ResultLost, 410),
    (BackupFailed, 409),
    (ValueGone, 410),
    (BodyTooSlow, 408),
    (PayloadTooLarge, 413),
    (LeaseLimitReached, 429),
    (TooManyRequests, 429),
    (DiskFull, 507),
    (EngineError, 503),
    (StoreError, 503),
    (BlobError, 503),
    (ClusterError, 503),
    (WorkloadBroken, 501),
    (ValueError, 400),  # what else the caller handed in
    (TypeError, 400),
)  #: the first that fits counts

HUNG_UP = 499  #: as nginx has it; nobody gets it

T = TypeVar("T")


# ---- answers -------------------------------------------------------------------------------


def json_answer(value: Any, *, status: int = 200) -> web.Response:
    """Return *value*, a struct or a list of structs, as JSON."""
    return Answer(body=msgspec.json.encode(value), status=status, content_type=JSON)


def text_answer(text: str) -> web.Response:
    """Return *text* as it is; what UTF-8 cannot say is escaped."""
    return Answer(body=text.encode(errors="backslashreplace"), content_type="text/plain", charset="utf-8")


async def bytes_answer(
    request: web.Request, data: bytes, *, content_type: str = BYTES, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer *data*, a large one piece by piece: aiohttp keeps an answer until the next question of its connection."""
    if len(data) <= PIECE:
        return Answer(body=data, content_type=content_type, headers=headers)
    answer = StreamedAnswer(headers=headers)
    answer.content_type, answer.content_length = content_type, len(data)
    await answer.prepare(request)
    view = memoryview(data)
    for start in range(0, len(view), PIECE):
        await answer.write(view[start : start + PIECE])
    await answer.write_eof()
    return answer


def error_answer(error: DcengineError, *, status: int | None = None) -> web.Response:
    """Return *error* as JSON from which `errors.rebuild` makes it again."""
    answer = json_answer(
        Problem(type(error).__name__, error.facts(), str(error)),
        status=status or status_of(error),
    )
    if isinstance(error, AccessDenied) and error.needs_token:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="dcengine"'
    if isinstance(error, TooManyRequests):
        answer.headers["Retry-After"] = str(math.ceil(error.seconds))
    elif isinstance(error, LeaseLimitReached):
        answer.headers["Retry-After"] = "10"  # until some of what it holds is done
    elif isinstance(error, EngineBusy):
        answer.headers["Retry-After"] = "1"
    return answer


def status_of(error: DcengineError) -> int:
    """Return the status that says what kind of thing went wrong."""
    if isinstance(error, AccessDenied) and error.needs_token:
        return 401
    return next((code for kind, code in STATUS if isinstance(error, kind)), 500)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer; details of what was not foreseen stay in the log."""
    try:
        return await handler(request)
    except DcengineError as error:
        is_refused = isinstance(error, AccessDenied) and request.match_info.handler in request.app.get(FOREIGN, ())
        return error_answer(error, status=403 if is_refused else None)
    except web.HTTPException as other:
        # aiohttp's own: no such path, or a path without such a method.
        answer = error_answer(
            EngineError(f"{request.method} {request.path}: {other.reason.lower()}"), status=other.status
        )
        answer.headers.update({name: value for name, value in other.headers.items() if name == "Allow"})
        return answer
    except web.RequestPayloadError as error:
        return error_answer(InvalidOption("the request body", "cut short or garbled", f"a whole one ({error})"))
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            logger.info("%s %s: the caller has hung up", request.method, request.path)
            return web.Response(status=HUNG_UP)
        logger.exception("%s %s failed", request.method, request.path)
        return error_answer(EngineError("the engine failed to answer; its log says why"), status=500)


# ---- bodies --------------------------------------------------------------------------------


async def decoded(request: web.Request, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """Return the msgpack body of *request*.

    Raises `InvalidOption` for anything else and `PayloadTooLarge` above the application's limit.
    """
    body = await body_of(request, MSGPACK)
    return read(body, decoder.decode, f"msgpack of a {name_of(decoder.type)}")


async def decoded_json(request: web.Request, decoder: msgspec.json.Decoder[T], wanted: str) -> T:
    """Return the JSON body of *request*, which is to be *wanted*; raises like `decoded`."""
    return read(await body_of(request, JSON), decoder.decode, f"JSON of {wanted}")


def read(body: bytes, decode: Callable[[bytes], T], wanted: str) -> T:
    """Return what *decode* makes of *body*; raises `InvalidOption`, which names the field, if it is not *wanted*."""
    try:
        return decode(body)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # also of msgspec and of UTF-8
        problem = str(error)
    raise InvalidOption("the request body", "what was sent", f"{wanted}: {problem}")


def name_of(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


async def body_of(request: web.Request, content_type: str) -> bytes:
    """Return the body of *request*; raises `InvalidOption` for one of another type."""
    if request.content_type != content_type:
        raise InvalidOption("Content-Type", repr(request.content_type), content_type)
    return await whole_body(request, request.app[SUBMISSION_LIMIT])


async def whole_body(request: web.Request, limit: int) -> bytes:
    """Read the whole body, up to *limit* bytes, whatever the limit of the application this one is mounted in."""
    if BODY in request:
        return request[BODY]
    limit = min(limit, request.get(BODY_LIMIT, limit))
    declared = request.content_length or 0
    if declared > limit:
        raise PayloadTooLarge("the request body", declared, limit)
    if request.content.is_eof() and 0 < declared <= PIECE:  # as nearly always: all of it is here
        return request.content.read_nowait()
    # Not a list of its parts: so many small ones would stay with the process as free memory.
    body = io.BytesIO()
    async for part in parts_of(request):
        body.write(part)
        if body.tell() > limit:
            raise PayloadTooLarge("the request body", body.tell(), limit)
    return body.getvalue()


async def parts_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body of *request* as it comes."""
    try:
        async for part in request.content.iter_any():
            yield part
    except ConnectionError as error:  # whoever sent it has hung up
        raise web.RequestPayloadError(str(error)) from None


async def keep_body(request: web.Request) -> None:
    """Read the body of *request* now, for `body_of` to find."""
    request[BODY] = await whole_body(request, request.app[SUBMISSION_LIMIT])


# ---- addresses -----------------------------------------------------------------------------


def id_in(request: web.Request, kind: str) -> int:
    """Return the id in the address; raises `NotFound` for one that cannot exist."""
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound(kind, text)
    return int(text)


def number(request: web.Request, name: str, *, least: int = 0, most: int = 10**18) -> int | None:
    """Return the whole number *name* of the query, None where it is not given."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= most):
        raise InvalidOption(f"?{name}", repr(text), f"a whole number from {least} to {most}")
    return int(text)


def choice(request: web.Request, name: str, known: Sequence[str]) -> str | None:
    """Return the word *name* of the query, one of those *known*; None where it is not given."""
    text = request.query.get(name)
    if text is not None and text not in known:
        raise InvalidOption(f"?{name}", repr(text), f"one of {', '.join(known)}")
    return text


def required(request: web.Request, name: str) -> str:
    """Return the text *name* of the query."""
    text = request.query.get(name, "")
    if not text:
        raise InvalidOption(f"?{name}", "missing", "a name")
    return text


def page(request: web.Request) -> tuple[int | None, int]:
    """Return what the query says of the page: the id that all of it lie below, and how many."""
    return number(request, "before"), number(request, "limit", least=1, most=1000) or 50


def waiting_time(request: web.Request) -> float:
    """Return how many seconds the caller is ready to wait, cut to `LONGEST_WAIT`."""
    return min(seconds(request, "wait") or 0.0, LONGEST_WAIT)


def seconds(request: web.Request, name: str) -> float | None:
    """Return the seconds *name* of the query, None where they are not given."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        found = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        found = math.nan
    if not found >= 0:  # also what is not a number
        raise InvalidOption(f"?{name}", repr(text), "seconds, 0 or more")
    return found
