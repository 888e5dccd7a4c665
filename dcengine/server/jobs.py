"""Routes of single jobs."""

from __future__ import annotations

import hashlib

import msgspec
from aiohttp import web

from ..client import STATE_HEADER
from ..errors import InvalidOption
from ..jobs import JobState
from ..verbs import Function, Submission
from .answers import VERBS, decoded, id_in, json_answer, number, page, text_answer, waiting_time

_decoder = msgspec.msgpack.Decoder(Submission)


async def submit(request: web.Request) -> web.Response:
    submission = await decoded(request, _decoder)
    check_code(submission.function)
    return json_answer(await request.app[VERBS].submit(submission))


def check_code(function: Function) -> None:
    """Refuse code that is not what its digest says: it is stored and cached under that digest for everybody."""
    if hashlib.sha256(function.code).digest() != function.digest:
        raise InvalidOption("the function's digest", function.digest.hex()[:80], "the sha256 of its code")


async def jobs(request: web.Request) -> web.Response:
    before, limit = page(request)
    return json_answer(await request.app[VERBS].jobs(state=_state(request), before=before, limit=limit))


def _state(request: web.Request) -> str | None:
    state = request.query.get("state")
    known = [each.text for each in JobState]
    if state is not None and state not in known:
        raise InvalidOption("?state", repr(state), f"one of {', '.join(known)}")
    return state


async def job(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].job(id_in(request, "job")))


async def result(request: web.Request) -> web.Response:
    """Answer the packed result, or 204 while there is none."""
    end = await request.app[VERBS].result(id_in(request, "job"), wait=waiting_time(request))
    if end is None:
        return web.Response(status=204)
    return web.Response(body=end.data, content_type="application/octet-stream", headers={STATE_HEADER: end.state})


async def output(request: web.Request) -> web.Response:
    return text_answer(await request.app[VERBS].output(id_in(request, "job")))


async def transcript(request: web.Request) -> web.Response:
    id, after = id_in(request, "job"), number(request, "after") or 0
    return json_answer(await request.app[VERBS].transcript(id, after=after, wait=waiting_time(request)))


async def why(request: web.Request) -> web.Response:
    return text_answer(await request.app[VERBS].why(id_in(request, "job")))


async def interrupt(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].interrupt(id_in(request, "job")))


async def kill(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].kill(id_in(request, "job")))


async def cancel(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].cancel(id_in(request, "job")))


async def cancel_unfinished(request: web.Request) -> web.Response:
    return json_answer({"cancelled": await request.app[VERBS].cancel_unfinished()})
