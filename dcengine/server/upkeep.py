"""Routes that keep the file in order. They may take hours: ask under a key, with ``?wait=``, and come back."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..errors import InvalidOption
from .answers import VERBS, decoded_json, json_answer

PATH_LENGTH = 4096


class _Target(msgspec.Struct):
    path: str  #: on the engine's machine


_decoder = msgspec.json.Decoder(_Target)


async def backup(request: web.Request) -> web.Response:
    path = (await decoded_json(request, _decoder, "where to")).path
    if not 0 < len(path) <= PATH_LENGTH or "\0" in path:
        raise InvalidOption("path", ascii(path)[:100], "a new file on the engine's machine")
    return json_answer(await request.app[VERBS].backup(path))


async def vacuum(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].vacuum())
