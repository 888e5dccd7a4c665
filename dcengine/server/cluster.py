"""Routes about the engine, its workers and what they earned."""

from __future__ import annotations

from typing import Annotated, cast, get_args

from aiohttp import web
from msgspec import Meta, structs

from ..verbs import Span, Verbs
from .access import GRANT
from .answers import VERBS, choice, json_answer, number, required
from .speaking import LIMIT, PROJECT, Parameter, speaks

_Given = Annotated[str, Meta(min_length=1)]
TAGS = Parameter("tags", str, "A tag expression, or the tags to be given.")
MATCHING = Parameter("tags", str, "A tag expression: only the workers that match it.")
WORKER = Parameter("name", _Given, "The name of the worker.")
ONLY = Parameter("name", str, "The name of a worker: only this one, none if nobody is called so.")
SESSION = Parameter("name", _Given, "The name of the session.")
NICKNAME = Parameter("nickname", _Given, "The nickname of the contributor.")
SPAN = Parameter("span", Span, "The time over which credit is summed.")


@speaks(Verbs.workers, query=[MATCHING, ONLY])
async def workers(request: web.Request) -> web.Response:
    tags, name = request.query.get("tags", ""), request.query.get("name")
    return json_answer(await request.app[VERBS].workers(tags=tags, name=name))


@speaks(Verbs.explain, query=[TAGS])
async def explain(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].explain(request.query.get("tags", "")))


@speaks(Verbs.tag_worker, query=[WORKER.needed, TAGS])
async def tag_worker(request: web.Request) -> web.Response:
    tags = request.query.get("tags", "")
    return json_answer(await request.app[VERBS].tag_worker(required(request, "name"), tags))


@speaks(Verbs.sessions)
async def sessions(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].sessions())


@speaks(Verbs.end_session, query=[SESSION.needed])
async def end_session(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].end_session(required(request, "name")))


@speaks(Verbs.leaderboard, query=[PROJECT, SPAN, LIMIT])
async def leaderboard(request: web.Request) -> web.Response:
    limit = number(request, "limit", least=1, most=1000) or 1000
    return json_answer(await request.app[VERBS].leaderboard(_project(request), span=span_in(request), limit=limit))


@speaks(Verbs.standing, query=[PROJECT, NICKNAME.needed, SPAN])
async def standing(request: web.Request) -> web.Response:
    nickname = required(request, "nickname")
    return json_answer(await request.app[VERBS].standing(_project(request), nickname, span=span_in(request)))


def _project(request: web.Request) -> str:
    return request.query.get("project", "functions")


def span_in(request: web.Request, default: Span = "all") -> Span:
    """Return the span that the query names."""
    return cast(Span, choice(request, "span", get_args(Span)) or default)


@speaks(Verbs.status)
async def status(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].status())


@speaks(Verbs.join_ticket)
async def join_ticket(request: web.Request) -> web.Response:
    """Answer the scheduler's address and credentials: whoever has them runs code on every worker."""
    ticket, grant = await request.app[VERBS].join_ticket(), request[GRANT]
    if grant is not None and grant.nickname is not None:
        ticket = structs.replace(ticket, nickname=grant.nickname)
    return json_answer(ticket)
