"""What was asked under an ``Idempotency-Key``: asked again, it gets the answer of the first time.

For callers who lost an answer, or who come back for one that took long. It lasts as long as this engine; what has
to be remembered longer, such as a submission, says so in its body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from ..connection import KEY, STILL_AT_IT
from ..errors import EngineBusy, InvalidOption
from .access import token_of
from .answers import BODY, keep_body, waiting_time
from .guards import READING
from .limits import STREAMED
from .proxies import remote_of
from .sending import Answer

KEY_LIMIT = 200  #: characters
KEY_FORM = re.compile(f"[!-~]{{1,{KEY_LIMIT}}}")
KEPT_ANSWERS, KEPT_BYTES = 1000, 64 << 20  #: of the newest; older ones are forgotten
UNDER_WAY = 10_000  #: at the same time


class Said(NamedTuple):
    """An answer that can be given again."""

    status: int
    body: bytes
    content_type: str


class Repeats:
    """Does each work once and keeps what came of it for a while; owns the works under way."""

    def __init__(self) -> None:
        self._works: dict[Hashable, asyncio.Task[Said]] = {}  #: oldest first
        self._kept = 0  #: bytes

    async def answer(self, key: Hashable, work: Callable[[], Awaitable[Said]], *, wait: float | None) -> Said | None:
        """Return what came of *work*, or of that which began under *key* before; None if it takes longer than *wait*.

        What it raised is told once; the next question under the key is a new one.
        """
        task = self._works.get(key) or self._begin(key, work)
        done, _ = await asyncio.wait({task}, timeout=wait)
        if not done:
            return None
        if _is_void(task):
            self._forget(key, task)
        return task.result()

    async def close(self) -> None:
        """End what is under way: its engine stops."""
        works = list(self._works.values())
        for task in works:
            task.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    def _begin(self, key: Hashable, work: Callable[[], Awaitable[Said]]) -> asyncio.Task[Said]:
        if len(self._works) > UNDER_WAY:
            raise EngineBusy(len(self._works))
        task = self._works[key] = asyncio.ensure_future(work())
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Said]) -> None:
        """Make room for the answer of *task*."""
        self._kept += _size(task)
        if self._has_room():
            return
        for key, old in [(key, old) for key, old in self._works.items() if old.done()]:
            self._forget(key, old)
            if self._has_room():
                return

    def _has_room(self) -> bool:
        return len(self._works) <= KEPT_ANSWERS and self._kept <= KEPT_BYTES

    def _forget(self, key: Hashable, task: asyncio.Task[Said]) -> None:
        if self._works.get(key) is task:
            del self._works[key]
            self._kept -= _size(task)


REPEATS = web.AppKey[Repeats]("dcengine.repeats")


async def keep_repeats(app: web.Application) -> AsyncIterator[None]:
    """For ``app.cleanup_ctx``: what goes on when the application ends is ended."""
    yield
    await app[REPEATS].close()


@web.middleware
async def answer_repeats(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Do once what is asked for several times under one key.

    With ``?wait=``, work that takes longer is answered by 202: the caller comes back under the same key.
    """
    if request.method in READING:
        return await handler(request)
    wait = waiting_time(request) if "wait" in request.query_string and "wait" in request.query else None
    key = request.headers.get(KEY)
    if key is None:
        return await handler(request)
    if not KEY_FORM.fullmatch(key):
        raise InvalidOption(
            KEY, ascii(key)[: KEY_LIMIT + 2], f"1 to {KEY_LIMIT} printable characters of ASCII, no spaces"
        )
    if request.match_info.handler in request.app[STREAMED]:
        wait = None  # what is still being sent has no end to come back for
    else:
        # Before the work begins: who comes again would wait for a body that was lost on the way.
        await keep_body(request)
    # Nobody gets an answer that was for another one; volunteers of one house may choose the same key.
    whose = (token_of(request) or remote_of(request), request.method, request.path, key, _digest(request))
    said = await request.app[REPEATS].answer(whose, partial(_said, handler, request), wait=wait)
    if said is None:
        return web.Response(status=STILL_AT_IT)
    return Answer(status=said.status, body=said.body, content_type=said.content_type)


def _digest(request: web.Request) -> bytes:
    """Return what tells one body from others; nothing for one that is a stream."""
    return sha256(request.get(BODY, b"")).digest()


async def _said(handler: Handler, request: web.Request) -> Said:
    answer = await handler(request)
    assert isinstance(answer, web.Response)  # nothing that changes anything answers with a stream
    body = answer.body if isinstance(answer.body, bytes | bytearray) else b""
    return Said(answer.status, bytes(body), answer.content_type)


def _is_void(task: asyncio.Task[Said]) -> bool:
    """Tell whether *task*, which has ended, came to nothing."""
    return task.cancelled() or task.exception() is not None or task.result().status != 200


def _size(task: asyncio.Task[Said]) -> int:
    return 0 if _is_void(task) else len(task.result().body)
