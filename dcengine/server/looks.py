"""What browsers show of values: the past of a job, samples of what a project makes, pictures. Nothing is unpickled."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from aiohttp import web

from ..codec import keys_in, standing_for
from ..errors import NotFound, ValueGone
from ..glances import LARGEST, Glance, bytes_in, glance, glance_at_beginning, glance_at_failure, media_of
from ..references import digest_of
from ..verbs import Flag, HistoryEntry, StageOutput, Try, Verbs
from .answers import BYTES, VERBS, bytes_answer, choice, id_in, json_answer, number
from .speaking import FEW, STAGE, Content, Parameter, Whole, bytes_of, json_of, speaks

TASK = Parameter("task", Whole, "The id of a task in the job's history; without it, the last of which there is one.")
SIDE = Parameter("side", Literal["input", "output"], "What went in, or what came out; without it, that.")
SAMPLES = 12  #: unless more or fewer are asked for


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one stage, in one generation: what went in, who did what, what came out."""

    task: int
    stage: str
    generation: int
    state: str
    attempt: int
    worker: str | None
    contributor: str | None
    finished: float | None
    seconds: float | None
    input: Glance
    output: Glance
    parts: list[int]
    tries: list[Try]
    flags: list[Flag]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """How one job left one stage."""

    job: int
    number: int
    key: str | None
    finished: float | None  #: None for a job that goes on
    state: str
    stage: str
    output: Glance


@speaks(answer=json_of(list[Episode]))
async def story(request: web.Request) -> web.Response:
    """Return what each stage made of the job in each generation, as people see it."""
    verbs = request.app[VERBS]
    history = await verbs.history(id_in(request, "job"))
    whole = [msgspec.structs.replace(entry, input=await _itself(verbs, entry.input)) for entry in history]
    return json_answer(await asyncio.to_thread(lambda: list(map(_episode, whole))))


def _episode(entry: HistoryEntry) -> Episode:
    facts = {name: getattr(entry, name) for name in entry.__struct_fields__}
    has_failed = entry.state in ("failed", "cancelled")
    output = glance_at_failure(entry.output) if has_failed else glance(entry.output)
    return Episode(**{**facts, "input": glance(entry.input), "output": output})


async def _itself(verbs: Verbs, data: bytes | None) -> bytes | None:
    """Return the value for which *data* only stands, as an uploaded file's does, if it is there and not too large."""
    keys = keys_in(data) if data else []
    digest = digest_of(keys[0]) if len(keys) == 1 else None
    if digest is None or data != standing_for(keys[0], []):
        return data
    try:
        known = await verbs.value(digest.hex())
        return data if known.size > LARGEST else await verbs.read_value(digest.hex(), at=0, size=known.size)
    except (NotFound, ValueGone):
        return data


@speaks(query=[TASK, SIDE], answer=Content("image/*", None, "The picture."))
async def picture(request: web.Request) -> web.StreamResponse:
    """Answer the picture that the job's output is, that of one stage or the last; or its input."""
    found = [data for data in await _bytes_of(request) if media_of(data).startswith("image/")]
    if not found:
        raise NotFound("picture among the values of job", request.match_info["id"])
    return await bytes_answer(request, found[-1], content_type=media_of(found[-1]))


@speaks(query=[TASK, SIDE], answer=bytes_of("The bytes."))
async def bytes_of_job(request: web.Request) -> web.StreamResponse:
    """Answer the bytes, the text or the JSON that the job's output is, that of one stage or the last; or its input."""
    found = await _bytes_of(request)
    if not found:
        raise NotFound("bytes among the values of job", request.match_info["id"])
    headers = {"Content-Disposition": "attachment"}
    return await bytes_answer(request, found[-1], content_type=BYTES, headers=headers)


async def _bytes_of(request: web.Request) -> list[bytes]:
    """Return what of the values that *request* asks for is bytes or text, oldest first."""
    id, task, side = id_in(request, "job"), number(request, "task"), choice(request, "side", ("input", "output"))
    verbs = request.app[VERBS]
    entries = [entry for entry in await verbs.history(id) if task in (None, entry.task)]
    if side == "input":
        values = [await _itself(verbs, entry.input) for entry in entries]
    else:
        values = [entry.output for entry in entries if entry.state in ("succeeded", "returned")]
    found = [await asyncio.to_thread(bytes_in, value) for value in values if value]
    return [data for data in found if data is not None]


@speaks(query=[STAGE, FEW], answer=json_of(list[Sample]))
async def samples(request: web.Request) -> web.Response:
    """Return what the newest jobs that left a stage came to; without *stage*, the last one that has let any go."""
    limit = number(request, "limit", least=1, most=100) or SAMPLES
    name, stage, verbs = request.match_info["name"], request.query.get("stage"), request.app[VERBS]
    outputs = await verbs.newest_outputs(name, stage=stage, limit=limit)
    glances = await asyncio.to_thread(lambda: list(map(_look, outputs)))
    return json_answer([await _sample(verbs, *each) for each in zip(outputs, glances, strict=True)])


def _look(output: StageOutput) -> Glance:
    if output.head:
        return glance_at_beginning(output.head, output.size)
    return glance_at_failure(output.data) if output.state == "failed" else glance(output.data)


async def _sample(verbs: Verbs, output: StageOutput, look: Glance) -> Sample:
    job = await verbs.job(output.job)
    return Sample(
        job=output.job, number=output.number, key=job.key, finished=job.finished, state=output.state,
        stage=output.stage, output=look,
    )  # fmt: skip
