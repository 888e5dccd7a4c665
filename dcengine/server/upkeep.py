"""Routes that keep the file in order. They may take hours: ask under a key, with ``?wait=``, and come back."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from ..errors import InvalidOption
from ..verbs import Verbs
from .answers import VERBS, decoded_json, json_answer
from .speaking import json_of, speaks

PATH_LENGTH = 4096


class Target(msgspec.Struct):
    """Where a copy is to be."""

    #: Of a new file, on the engine's machine.
    path: Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": PATH_LENGTH})]


_decoder = msgspec.json.Decoder(Target)


@speaks(Verbs.backup, body=json_of(Target))
async def backup(request: web.Request) -> web.Response:
    path = (await decoded_json(request, _decoder, "where to")).path
    if not 0 < len(path) <= PATH_LENGTH or "\0" in path:
        raise InvalidOption("path", ascii(path)[:100], "a new file on the engine's machine")
    return json_answer(await request.app[VERBS].backup(path))


@speaks(Verbs.vacuum)
async def vacuum(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].vacuum())
