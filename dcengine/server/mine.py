"""Routes of whoever holds a token, about itself: any role may ask, each is told of its own."""

from __future__ import annotations

from aiohttp import web

from ..verbs import Verbs
from .access import GRANT
from .answers import VERBS, json_answer, page
from .speaking import BEFORE, LIMIT, speaks


@speaks(Verbs.mine)
async def mine(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].mine(grant=request[GRANT]))


@speaks(Verbs.my_jobs, query=[BEFORE, LIMIT])
async def my_jobs(request: web.Request) -> web.Response:
    before, limit = page(request)
    return json_answer(await request.app[VERBS].my_jobs(before=before, limit=limit, grant=request[GRANT]))
