"""Refusals as Jupyter front ends read them: JSON with a message, and a reason where there is one."""

from __future__ import annotations

from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from dcengine.errors import DcengineError
from dcengine.server.answers import json_answer


class Refused(DcengineError):
    """What a front end asks for cannot be done; *status* says what kind of thing is wrong."""

    def __init__(self, status: int, message: str, reason: str | None = None) -> None:
        super().__init__(status, message, reason)
        self.status, self.message, self.reason = status, message, reason

    def __str__(self) -> str:
        return self.message


def refusing(handler: Handler) -> Handler:
    """Return *handler* with each `Refused` that it raises told as Jupyter's own servers tell it."""

    @wraps(handler)
    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return json_answer({"message": refused.message, "reason": refused.reason}, status=refused.status)

    return answered
