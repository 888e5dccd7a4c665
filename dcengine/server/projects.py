"""Routes of projects."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..errors import InvalidOption, NotFound
from ..verbs import ItemsSubmission, ProjectSpec
from .answers import MSGPACK, VERBS, choice, decoded, json_answer, number, required, waiting_time
from .jobs import check_code

_spec_decoder = msgspec.msgpack.Decoder(ProjectSpec)
_items_decoder = msgspec.msgpack.Decoder(ItemsSubmission)
_encoder = msgspec.msgpack.Encoder()


async def declare(request: web.Request) -> web.Response:
    spec = await decoded(request, _spec_decoder)
    for stage in spec.stages:
        if stage.function is not None:
            check_code(stage.function)
    return json_answer(await request.app[VERBS].declare_project(spec))


async def projects(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].projects())


async def project(request: web.Request) -> web.Response:
    stage, wait = _stage(request), waiting_time(request)
    return json_answer(await request.app[VERBS].project(_name(request), stage=stage, wait=wait))


async def run(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].run_project(_name(request), stage=_stage(request)))


async def pause(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].pause_project(_name(request), stage=_stage(request)))


async def cancel(request: web.Request) -> web.Response:
    return json_answer({"cancelled": await request.app[VERBS].cancel_project(_name(request))})


async def retry(request: web.Request) -> web.Response:
    cancelled = choice(request, "cancelled", ("true", "false")) == "true"
    retried = await request.app[VERBS].retry_project(_name(request), stage=_stage(request), cancelled=cancelled)
    return json_answer({"retried": retried})


async def deletion(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].deletion(_name(request)))


async def delete(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].delete_project(_name(request)))


async def imported(request: web.Request) -> web.Response:
    """Answer how far an import has come, or 204 if it has not begun."""
    record = await request.app[VERBS].imported(_name(request), required(request, "name"))
    return web.Response(status=204) if record is None else json_answer(record)


async def add(request: web.Request) -> web.Response:
    submission = await decoded(request, _items_decoder)
    if submission.project != _name(request):
        raise InvalidOption("the submission's project", repr(submission.project), "the one in the address")
    return json_answer(await request.app[VERBS].add_jobs(submission))


async def outputs(request: web.Request) -> web.Response:
    """Answer how jobs left a stage as msgpack: they carry packed values."""
    stage = request.query.get("stage", "")
    found = await request.app[VERBS].outputs(_name(request), stage, after=_after(request), limit=_limit(request))
    return web.Response(body=_encoder.encode(found), content_type=MSGPACK)


async def failed_jobs(request: web.Request) -> web.Response:
    """Answer the failed jobs as msgpack: they carry packed failures."""
    found = await request.app[VERBS].failed_jobs(_name(request), after=_after(request), limit=_limit(request))
    return web.Response(body=_encoder.encode(found), content_type=MSGPACK)


async def find_job(request: web.Request) -> web.Response:
    name, text = _name(request), request.match_info["number"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound("job", f"{name}/{text}")
    return json_answer({"id": await request.app[VERBS].find_job(name, int(text))})


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _stage(request: web.Request) -> str | None:
    return request.query.get("stage")


def _after(request: web.Request) -> int:
    return number(request, "after") or 0


def _limit(request: web.Request) -> int:
    return number(request, "limit", least=1, most=1000) or 1000
