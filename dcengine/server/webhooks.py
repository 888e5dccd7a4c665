"""Routes about webhooks: the administrator's alone, since a URL may be a secret, and the engine asks it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..verbs import Verbs, WebhookSpec
from .answers import VERBS, decoded_json, id_in, json_answer, number
from .speaking import LIMIT, json_of, speaks

_spec = msgspec.json.Decoder(WebhookSpec)


@speaks(Verbs.add_webhook, body=json_of(WebhookSpec))
async def add(request: web.Request) -> web.Response:
    spec = await decoded_json(request, _spec, "a webhook: url, events")
    return json_answer(await request.app[VERBS].add_webhook(_project(request), spec))


@speaks(Verbs.webhooks)
async def webhooks(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].webhooks(_project(request)))


@speaks(Verbs.remove_webhook)
async def remove(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].remove_webhook(_project(request), id_in(request, "webhook")))


@speaks(Verbs.test_webhook)
async def test(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].test_webhook(_project(request), id_in(request, "webhook")))


@speaks(Verbs.deliveries, query=[LIMIT])
async def deliveries(request: web.Request) -> web.Response:
    limit = number(request, "limit", least=1, most=1000) or 100
    id = id_in(request, "webhook")
    return json_answer(await request.app[VERBS].deliveries(_project(request), id, limit=limit))


def _project(request: web.Request) -> str:
    return request.match_info["name"]
