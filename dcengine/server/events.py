"""What happens, as pages that are asked for, or as a stream that goes on.

The stream has the format of server-sent events (WHATWG HTML, section 9.2), to be read with `fetch`: a browser's own
`EventSource` can send no token.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec
from aiohttp import web

from ..errors import DcengineError, InvalidOption
from ..verbs import EventPage, Verbs
from .answers import VERBS, json_answer, number, waiting_time
from .sending import StreamedAnswer
from .speaking import LIMIT, PROJECT, WAIT, Parameter, Whole, json_of, speaks

STREAM = "text/event-stream"
MESSAGE_EVENTS = 1000  #: in one message, at most
PACE_SECONDS = 0.1  #: between two messages
SILENCE_SECONDS = 15.0  #: after which a comment says that the line is alive
LIFE_SECONDS = 60.0  #: after which a stream ends: whoever comes back shows a token that is good still
PATIENCE_SECONDS = 30.0  #: with a listener that takes nothing
RETRY = b"retry: 500\n\n"  #: milliseconds until then
ALIVE = b": alive\n\n"

SINCE = Parameter("after", Whole, "Only what comes after this cursor; without it, what comes from now on.")


@speaks(Verbs.events, query=[SINCE, PROJECT, WAIT, LIMIT], answer=json_of(EventPage))
async def events(request: web.Request) -> web.StreamResponse:
    """Answer a page; to whoever accepts `text/event-stream` a stream, resumed where `Last-Event-ID` or *after* says.

    Each message of a stream is a list of events in JSON, and its id the cursor behind them. It ends after a minute:
    come back with that id.
    """
    project, after = request.query.get("project"), number(request, "after")
    if STREAM in request.headers.get("Accept", ""):
        return await _stream(request, _last_seen(request, after), project)
    limit = number(request, "limit", least=1, most=1000) or 500
    page = await request.app[VERBS].events(after=after, project=project, wait=waiting_time(request), limit=limit)
    return json_answer(page)


def _last_seen(request: web.Request, after: int | None) -> int | None:
    """Return the cursor that the reader of a stream has come to, None for a new one."""
    text = request.headers.get("Last-Event-ID", "")
    if not text:
        return after
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidOption("Last-Event-ID", repr(text[:40]), "the id of a message of this stream")
    return int(text)


async def _stream(request: web.Request, after: int | None, project: str | None) -> web.StreamResponse:
    """Say what happens until the reader hangs up, or the stream has come to its end."""
    verbs, until = request.app[VERBS], time.monotonic() + LIFE_SECONDS
    page = await verbs.events(after=after, project=project)  # raises before the answer begins
    answer = StreamedAnswer(headers={"Content-Type": STREAM, "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    await answer.prepare(request)
    with suppress(ConnectionError, DcengineError):  # it comes back, and is told then
        await answer.write(RETRY + _message(page))
        while (left := until - time.monotonic()) > 0:
            wait, began = min(left, SILENCE_SECONDS), time.monotonic()
            page = await verbs.events(after=page.cursor, project=project, wait=wait, limit=MESSAGE_EVENTS)
            if not page.events and time.monotonic() - began < wait / 2:
                break  # the engine closes
            await _say(request, answer, _message(page) if page.events else ALIVE)
            await asyncio.sleep(PACE_SECONDS)
        await answer.write_eof()
    return answer


async def _say(request: web.Request, answer: web.StreamResponse, message: bytes) -> None:
    """Write *message*; raises `ConnectionError` where nobody takes it. Until it is taken, no other waits behind it."""
    try:
        await asyncio.wait_for(answer.write(message), PATIENCE_SECONDS)
    except asyncio.TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError from None


def _message(page: EventPage) -> bytes:
    """Return *page* as one message; JSON holds no line breaks of its own."""
    return b"id: %d\ndata: %b\n\n" % (page.cursor, msgspec.json.encode(page.events))
