"""Routes of what has failed."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..verbs import Verbs
from .answers import VERBS, decoded_json, json_answer
from .jobs import Retried
from .speaking import PROJECT, json_of, speaks


class AlikeFailures(msgspec.Struct, frozen=True):
    """Which group is meant."""

    project: str
    stage: str
    pattern: str


_alike = msgspec.json.Decoder(AlikeFailures)


@speaks(Verbs.failure_groups, query=[PROJECT])
async def groups(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].failure_groups(project=request.query.get("project")))


@speaks(Verbs.retry_failures, body=json_of(AlikeFailures), answer=json_of(Retried))
async def retry(request: web.Request) -> web.Response:
    group = await decoded_json(request, _alike, "project, stage and pattern of a group")
    retried = await request.app[VERBS].retry_failures(group.project, group.stage, group.pattern)
    return json_answer(Retried(retried=retried))
