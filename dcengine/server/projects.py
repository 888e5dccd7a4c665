"""Routes of projects."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import msgspec
from aiohttp import web

from ..errors import InvalidOption, NotFound
from ..verbs import ItemsSubmission, ProjectSpec, StageOutput, Verbs, brought_with
from .access import GRANT
from .answers import JSON, MSGPACK, VERBS, choice, decoded, decoded_json, json_answer, number, required, waiting_time
from .cluster import SPAN, span_in
from .jobs import Cancelled, Retried, check_code
from .sending import Answer
from .speaking import AFTER, FEW, LIMIT, STAGE, WAIT, Parameter, json_of, msgpack_of, speaks

_spec_decoder = msgspec.msgpack.Decoder(ProjectSpec)
_spec_reader = msgspec.json.Decoder(ProjectSpec)
_items_decoder = msgspec.msgpack.Decoder(ItemsSubmission)
_encoder = msgspec.msgpack.Encoder()
CANCELLED = Parameter("cancelled", Literal["true", "false"], "The cancelled jobs too.")
IMPORT = Parameter("name", Annotated[str, msgspec.Meta(min_length=1)], "The name of the import.")


class FoundJob(TypedDict):
    """The job that has a number in a project."""

    id: int


@speaks(Verbs.declare_project, body=msgpack_of(ProjectSpec))
async def declare(request: web.Request) -> web.Response:
    """Take it as msgpack, or as JSON, in which code and digest of a function are base64."""
    if request.content_type == JSON:
        spec = await decoded_json(request, _spec_reader, "a project")
    else:
        spec = await decoded(request, _spec_decoder)
    for stage in spec.stages:
        if stage.function is not None:
            check_code(stage.function)
    return json_answer(await request.app[VERBS].declare_project(spec))


@speaks(Verbs.projects)
async def projects(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].projects())


@speaks(Verbs.project, query=[STAGE, WAIT])
async def project(request: web.Request) -> web.Response:
    stage, wait = _stage(request), waiting_time(request)
    return json_answer(await request.app[VERBS].project(_name(request), stage=stage, wait=wait))


@speaks(Verbs.run_project, query=[STAGE])
async def run(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].run_project(_name(request), stage=_stage(request)))


@speaks(Verbs.pause_project, query=[STAGE])
async def pause(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].pause_project(_name(request), stage=_stage(request)))


@speaks(Verbs.cancel_project, answer=json_of(Cancelled))
async def cancel(request: web.Request) -> web.Response:
    return json_answer(Cancelled(cancelled=await request.app[VERBS].cancel_project(_name(request))))


@speaks(Verbs.retry_project, query=[STAGE, CANCELLED], answer=json_of(Retried))
async def retry(request: web.Request) -> web.Response:
    cancelled = choice(request, "cancelled", ("true", "false")) == "true"
    retried = await request.app[VERBS].retry_project(_name(request), stage=_stage(request), cancelled=cancelled)
    return json_answer(Retried(retried=retried))


@speaks(Verbs.deletion)
async def deletion(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].deletion(_name(request)))


@speaks(Verbs.delete_project)
async def delete(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].delete_project(_name(request)))


@speaks(Verbs.imported, query=[IMPORT.needed])
async def imported(request: web.Request) -> web.Response:
    """Answer how far an import has come, or 204 if it has not begun."""
    record = await request.app[VERBS].imported(_name(request), required(request, "name"))
    return web.Response(status=204) if record is None else json_answer(record)


@speaks(Verbs.add_jobs, body=msgpack_of(ItemsSubmission))
async def add(request: web.Request) -> web.Response:
    submission = await decoded(request, _items_decoder)
    if submission.project != _name(request):
        raise InvalidOption("the submission's project", repr(submission.project), "the one in the address")
    submission = msgspec.structs.replace(submission, submitter=brought_with(submission.submitter, request[GRANT]))
    return json_answer(await request.app[VERBS].add_jobs(submission))


@speaks(Verbs.throughput, query=[SPAN])
async def throughput(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].throughput(_name(request), span=span_in(request, "day")))


@speaks(Verbs.outputs, query=[STAGE.needed, AFTER, LIMIT], answer=msgpack_of(list[StageOutput]))
async def outputs(request: web.Request) -> web.Response:
    """Answer how jobs left a stage as msgpack: they carry packed values."""
    stage = request.query.get("stage", "")
    found = await request.app[VERBS].outputs(_name(request), stage, after=_after(request), limit=_limit(request))
    return Answer(body=_encoder.encode(found), content_type=MSGPACK)


@speaks(Verbs.newest_outputs, query=[STAGE, FEW], answer=msgpack_of(list[StageOutput]))
async def newest_outputs(request: web.Request) -> web.Response:
    """Answer what newest jobs came to as msgpack: it carries packed values."""
    limit = number(request, "limit", least=1, most=100) or 12
    found = await request.app[VERBS].newest_outputs(_name(request), stage=_stage(request), limit=limit)
    return Answer(body=_encoder.encode(found), content_type=MSGPACK)


@speaks(Verbs.failed_jobs, query=[AFTER, LIMIT], answer=msgpack_of(list[StageOutput]))
async def failed_jobs(request: web.Request) -> web.Response:
    """Answer the failed jobs as msgpack: they carry packed failures."""
    found = await request.app[VERBS].failed_jobs(_name(request), after=_after(request), limit=_limit(request))
    return Answer(body=_encoder.encode(found), content_type=MSGPACK)


@speaks(Verbs.find_job, answer=json_of(FoundJob))
async def find_job(request: web.Request) -> web.Response:
    name, text = _name(request), request.match_info["number"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound("job", f"{name}/{text}")
    return json_answer(FoundJob(id=await request.app[VERBS].find_job(name, int(text))))


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _stage(request: web.Request) -> str | None:
    return request.query.get("stage")


def _after(request: web.Request) -> int:
    return number(request, "after") or 0


def _limit(request: web.Request) -> int:
    return number(request, "limit", least=1, most=1000) or 1000
