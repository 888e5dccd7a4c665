"""Routes about tokens: the administrator's alone."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..verbs import TokenSpec, Verbs
from .answers import VERBS, decoded_json, id_in, json_answer
from .speaking import json_of, speaks

_spec = msgspec.json.Decoder(TokenSpec)


@speaks(Verbs.create_token, body=json_of(TokenSpec))
async def create(request: web.Request) -> web.Response:
    spec = await decoded_json(request, _spec, "a token: role, project, nickname, seconds, note")
    return json_answer(await request.app[VERBS].create_token(spec))


@speaks(Verbs.tokens)
async def tokens(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].tokens())


@speaks(Verbs.revoke_token)
async def revoke(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].revoke_token(id_in(request, "token")))
