"""Routes of single jobs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, TypedDict

import msgspec
from aiohttp import web

from ..client.jobs import RETRIED_AT_ONCE, STATE_HEADER, WAITED_FOR_AT_ONCE
from ..errors import InvalidOption
from ..jobs import JobState
from ..verbs import Function, HistoryEntry, JobFilter, JobResult, Submission, Verbs, brought_with
from .access import GRANT
from .answers import (
    BYTES,
    MSGPACK,
    VERBS,
    body_of,
    bytes_answer,
    choice,
    decoded,
    decoded_json,
    id_in,
    json_answer,
    number,
    page,
    text_answer,
    waiting_time,
)
from .sending import Answer
from .speaking import (
    AFTER,
    BEFORE,
    LIMIT,
    PROJECT,
    STAGE,
    WAIT,
    Parameter,
    bytes_of,
    json_of,
    msgpack_of,
    speaks,
    text_of,
)

PACKED = (b"\x80", b"J", b"O", b"R")  #: how a value begins that a job may be given: a pickle of some kind, or JSON text
STATES = [state.text for state in JobState]

_decoder = msgspec.msgpack.Decoder(Submission)
JobId = Annotated[int, msgspec.Meta(ge=0, le=10**18)]
_Retried = Annotated[list[JobId], msgspec.Meta(max_length=RETRIED_AT_ONCE)]
_WaitedFor = Annotated[list[JobId], msgspec.Meta(max_length=WAITED_FOR_AT_ONCE)]
_ids = msgspec.json.Decoder(_Retried)
_waited_for = msgspec.json.Decoder(_WaitedFor)


class NewPriority(msgspec.Struct, frozen=True):
    """Which jobs are to run earlier or later."""

    jobs: _Retried
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)]


_priority = msgspec.json.Decoder(NewPriority)
_encoder = msgspec.msgpack.Encoder()
STATE = Parameter("state", Literal["open", "succeeded", "failed", "cancelled"], "Only those in this state.")

SUBMITTER = Parameter("submitter", str, "Who brought them.")
WORKER = Parameter("worker", str, "Who has them, or had them last.")
TEXT = Parameter("text", str, "In the name of their function, their key or tags; a number: theirs, or their id.")


class Retried(TypedDict):
    """How many jobs were queued again."""

    retried: int


class Changed(TypedDict):
    """How many jobs have it now."""

    changed: int


class WasTold(TypedDict):
    """Whether the running code's process has it."""

    told: bool


class Cancelled(TypedDict):
    """How many jobs were cancelled."""

    cancelled: int


@speaks(Verbs.submit, body=msgpack_of(Submission))
async def submit(request: web.Request) -> web.Response:
    submission = await decoded(request, _decoder)
    check_code(submission.function)
    submission = msgspec.structs.replace(submission, submitter=brought_with(submission.submitter, request[GRANT]))
    return json_answer(await request.app[VERBS].submit(submission))


def check_code(function: Function) -> None:
    """Refuse code that is not what its digest says: it is stored and cached under that digest for everybody."""
    if hashlib.sha256(function.code).digest() != function.digest:
        raise InvalidOption("the function's digest", function.digest.hex()[:80], "the sha256 of its code")


@speaks(Verbs.jobs, query=[STATE, PROJECT, BEFORE, LIMIT])
async def jobs(request: web.Request) -> web.Response:
    before, limit = page(request)
    state, project = choice(request, "state", STATES), request.query.get("project")
    return json_answer(await request.app[VERBS].jobs(state=state, project=project, before=before, limit=limit))


@speaks(Verbs.find_jobs, query=[STATE, PROJECT, STAGE, SUBMITTER, WORKER, TEXT, BEFORE, LIMIT])
async def find(request: web.Request) -> web.Response:
    before, limit = page(request)
    names = ("project", "stage", "submitter", "worker", "text")
    wanted = JobFilter(state=choice(request, "state", STATES) or "", **{n: request.query.get(n, "") for n in names})
    return json_answer(await request.app[VERBS].find_jobs(wanted, before=before, limit=limit))


@speaks(Verbs.job)
async def job(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].job(id_in(request, "job")))


@speaks(Verbs.result, query=[WAIT], answer=bytes_of(f"The packed value, or failure; {STATE_HEADER} says how it ended."))
async def result(request: web.Request) -> web.StreamResponse:
    """Answer the packed result, or 204 while there is none."""
    end = await request.app[VERBS].result(id_in(request, "job"), wait=waiting_time(request))
    if end is None:
        return web.Response(status=204)
    return await bytes_answer(request, end.data, headers={STATE_HEADER: end.state})


@speaks(Verbs.ends, query=[WAIT], body=json_of(_WaitedFor), answer=msgpack_of(dict[int, JobResult]))
async def ends(request: web.Request) -> web.Response:
    """Answer how jobs ended as msgpack: it carries packed values."""
    ids = await decoded_json(request, _waited_for, "a list of the ids of jobs")
    found = await request.app[VERBS].ends(ids, wait=waiting_time(request))
    return Answer(body=_encoder.encode(found), content_type=MSGPACK)


@speaks(Verbs.output, answer=text_of("What was printed."))
async def output(request: web.Request) -> web.Response:
    return text_answer(await request.app[VERBS].output(id_in(request, "job")))


@speaks(Verbs.transcript, query=[AFTER, WAIT])
async def transcript(request: web.Request) -> web.Response:
    id, after = id_in(request, "job"), number(request, "after") or 0
    return json_answer(await request.app[VERBS].transcript(id, after=after, wait=waiting_time(request)))


@speaks(Verbs.why, answer=text_of("The reason."))
async def why(request: web.Request) -> web.Response:
    return text_answer(await request.app[VERBS].why(id_in(request, "job")))


@speaks(Verbs.history, answer=msgpack_of(list[HistoryEntry]))
async def history(request: web.Request) -> web.Response:
    """Answer what each stage made of a job as msgpack: it carries packed values."""
    found = await request.app[VERBS].history(id_in(request, "job"))
    return Answer(body=_encoder.encode(found), content_type=MSGPACK)


@speaks(Verbs.retry, body=json_of(_Retried), answer=json_of(Retried))
async def retry(request: web.Request) -> web.Response:
    ids = await decoded_json(request, _ids, "a list of the ids of jobs")
    return json_answer(Retried(retried=await request.app[VERBS].retry(ids)))


@speaks(Verbs.prioritize, body=json_of(NewPriority), answer=json_of(Changed))
async def prioritize(request: web.Request) -> web.Response:
    wanted = await decoded_json(request, _priority, "the ids of jobs and a priority")
    return json_answer(Changed(changed=await request.app[VERBS].prioritize(wanted.jobs, wanted.priority)))


@speaks(Verbs.edit, body=bytes_of("A packed value: a pickle, or J and JSON text."))
async def edit(request: web.Request) -> web.Response:
    """Take the whole body for the job's new input: a packed value, which workers will unpickle."""
    id, value = id_in(request, "job"), await body_of(request, BYTES)
    if not value.startswith(PACKED):
        raise InvalidOption("the new input", ascii(value[:20]), "a packed value: a pickle, or J and JSON text")
    return json_answer(await request.app[VERBS].edit(id, value))


@speaks(Verbs.interrupt)
async def interrupt(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].interrupt(id_in(request, "job")))


@speaks(Verbs.kill)
async def kill(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].kill(id_in(request, "job")))


@speaks(Verbs.tell, body=bytes_of("What to hand over, as it is."), answer=json_of(WasTold))
async def tell(request: web.Request) -> web.Response:
    id, message = id_in(request, "job"), await body_of(request, BYTES)
    if not message:
        raise InvalidOption("the message", "empty", "what is to be handed over, as the body of the request")
    return json_answer(WasTold(told=await request.app[VERBS].tell(id, message)))


@speaks(Verbs.cancel)
async def cancel(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].cancel(id_in(request, "job")))


@speaks(Verbs.cancel_unfinished, answer=json_of(Cancelled))
async def cancel_unfinished(request: web.Request) -> web.Response:
    return json_answer(Cancelled(cancelled=await request.app[VERBS].cancel_unfinished()))
