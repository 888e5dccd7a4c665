"""Who asks, what is set, and the probes, which are open to anybody and say nothing about jobs."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..config import ShownSetting
from ..errors import DcengineError
from .access import GRANT
from .answers import VERBS, json_answer, text_answer
from .metrics import MEASURED
from .speaking import json_of, speaks, text_of

SETTINGS = web.AppKey[list[ShownSetting]]("dcengine.settings")


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """What the token allows that was shown."""

    role: str
    nickname: str | None = None  #: who earns the credit of whoever uses it
    project: str | None = None  #: the one whose tasks it may lease


@speaks(answer=json_of(Me), answers={401: None})
async def me(request: web.Request) -> web.Response:
    """Say what the token of whoever asks allows."""
    grant = request[GRANT]
    assert grant is not None
    return json_answer(Me(role=grant.role, nickname=grant.nickname, project=grant.project))


@speaks(answer=json_of(list[ShownSetting]))
async def settings(request: web.Request) -> web.Response:
    """Say what is set, and where; secrets are not told."""
    return json_answer(request.app[SETTINGS])


@speaks(answer=text_of("It does."))
async def healthz(request: web.Request) -> web.Response:
    """Say that the process answers."""
    return text_answer("alive\n")


@speaks(answer=text_of("It does."), answers={503: text_of("Not now; the name of the error says why.")})
async def readyz(request: web.Request) -> web.Response:
    """Say whether the engine takes jobs."""
    engine = request.app[MEASURED]
    try:
        await (request.app[VERBS].status() if engine is None else engine.check_ready())
    except DcengineError as error:
        return web.Response(text=f"not ready: {type(error).__name__}\n", status=503)
    return text_answer("ready\n")
