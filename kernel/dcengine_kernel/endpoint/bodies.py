"""What front ends send beside the address: JSON, or nothing."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from dcengine.server.answers import whole_body

from .refusing import Refused

LIMIT = 1 << 20  #: bytes

T = TypeVar("T")


async def body_of(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the body of *request*, whatever type it says to have; none at all counts as ``{}``."""
    body = await whole_body(request, LIMIT)
    try:
        return decoder.decode(body.strip() or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not what is expected here: {error}", "Bad Request") from None
