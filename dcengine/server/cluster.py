"""Routes about the engine, its workers and what they earned."""

from __future__ import annotations

from aiohttp import web

from .answers import VERBS, json_answer, text_answer


async def workers(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].workers())


async def explain(request: web.Request) -> web.Response:
    return text_answer(await request.app[VERBS].explain(request.query.get("tags", "")))


async def leaderboard(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].leaderboard(request.query.get("project", "functions")))


async def status(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].status())


async def join_ticket(request: web.Request) -> web.Response:
    """Answer the scheduler's address and credentials: whoever has them runs code on every worker."""
    return json_answer(await request.app[VERBS].join_ticket())
