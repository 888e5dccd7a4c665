"""Routes of batches."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ..verbs import BatchSubmission, Report, Verbs, brought_with
from .access import GRANT
from .answers import MSGPACK, VERBS, bytes_answer, decoded, id_in, json_answer, number, page, waiting_time
from .jobs import check_code
from .speaking import AFTER, BEFORE, LIMIT, WAIT, msgpack_of, speaks

_decoder = msgspec.msgpack.Decoder(BatchSubmission)
_encoder = msgspec.msgpack.Encoder()


@speaks(Verbs.submit_batch, body=msgpack_of(BatchSubmission))
async def submit(request: web.Request) -> web.Response:
    submission = await decoded(request, _decoder)
    check_code(submission.function)
    submission = msgspec.structs.replace(submission, submitter=brought_with(submission.submitter, request[GRANT]))
    return json_answer(await request.app[VERBS].submit_batch(submission))


@speaks(Verbs.batches, query=[BEFORE, LIMIT])
async def batches(request: web.Request) -> web.Response:
    before, limit = page(request)
    return json_answer(await request.app[VERBS].batches(before=before, limit=limit))


@speaks(Verbs.batch)
async def batch(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].batch(id_in(request, "batch")))


@speaks(Verbs.reports, query=[AFTER, WAIT], answer=msgpack_of(list[Report]))
async def reports(request: web.Request) -> web.StreamResponse:
    """Answer accepted reports as msgpack: they carry packed values."""
    after, wait = number(request, "after") or 0, waiting_time(request)
    found = await request.app[VERBS].reports(id_in(request, "batch"), after=after, wait=wait)
    return await bytes_answer(request, _encoder.encode(found), content_type=MSGPACK)


@speaks(Verbs.failures, query=[LIMIT])
async def failures(request: web.Request) -> web.Response:
    limit = number(request, "limit", least=1, most=1000) or 20
    return json_answer(await request.app[VERBS].failures(id_in(request, "batch"), limit=limit))


@speaks(Verbs.cancel_batch)
async def cancel(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].cancel_batch(id_in(request, "batch")))


@speaks(Verbs.retry_batch)
async def retry(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].retry_batch(id_in(request, "batch")))
