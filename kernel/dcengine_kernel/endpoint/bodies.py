"""What front ends send beside the address: JSON, or nothing."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from aiohttp import web

from dcengine.server.answers import whole_body

from .refusing import Refused

LIMIT = 1 << 20  #: bytes
LONGEST_TEXT = 4096  #: characters of a path or a name
UNFIT = re.compile(r"[\0\ud800-\udfff]")  #: what neither the system nor JSON takes

T = TypeVar("T")


async def body_of(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the body of *request*, whatever type it says to have; none at all, and null, count as ``{}``."""
    body = (await whole_body(request, LIMIT)).strip()
    try:
        return decoder.decode(b"{}" if body in (b"", b"null") else body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not what is expected here: {error}", "Bad Request") from None


def fit(text: str, what: str) -> str:
    """Return *text* if it can be *what* a front end says it is: a path that need not exist, or a name."""
    if len(text) > LONGEST_TEXT or UNFIT.search(text):
        raise Refused(400, f"{text[:100]!a} cannot be {what}", "Bad Request")
    return text
