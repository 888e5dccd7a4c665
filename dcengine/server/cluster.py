"""Routes about the engine, its workers and what they earned."""

from __future__ import annotations

from typing import cast, get_args

from aiohttp import web

from ..verbs import Span
from .answers import VERBS, choice, json_answer, number, required


async def workers(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].workers())


async def explain(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].explain(request.query.get("tags", "")))


async def tag_worker(request: web.Request) -> web.Response:
    tags = request.query.get("tags", "")
    return json_answer(await request.app[VERBS].tag_worker(required(request, "name"), tags))


async def leaderboard(request: web.Request) -> web.Response:
    limit = number(request, "limit", least=1, most=1000) or 1000
    return json_answer(await request.app[VERBS].leaderboard(_project(request), span=_span(request), limit=limit))


async def standing(request: web.Request) -> web.Response:
    nickname = required(request, "nickname")
    return json_answer(await request.app[VERBS].standing(_project(request), nickname, span=_span(request)))


def _project(request: web.Request) -> str:
    return request.query.get("project", "functions")


def _span(request: web.Request) -> Span:
    return cast(Span, choice(request, "span", get_args(Span)) or "all")


async def status(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].status())


async def join_ticket(request: web.Request) -> web.Response:
    """Answer the scheduler's address and credentials: whoever has them runs code on every worker."""
    return json_answer(await request.app[VERBS].join_ticket())
