"""Routes of outside workers: JSON both ways, and values that nobody here looks into."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from ..errors import InvalidOption
from ..raw import decode
from ..verbs import Completion, Heartbeat, LeaseRequest, TaskFailure, TaskFlag, Verbs
from ..verbs.leases import AT_ONCE, LENGTHS, MOST_TAGS, TAG_LENGTH, LeaseWish, Token
from .access import GRANT, check_volunteer
from .answers import JSON, LONGEST_WAIT, VERBS, body_of, decoded_json, json_answer, read
from .speaking import json_of, speaks

T = TypeVar("T", bound=msgspec.Struct)

_several = msgspec.Meta(max_length=AT_ONCE)
_wish: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_beats = msgspec.json.Decoder(Annotated[list[Heartbeat], _several])
_completions = msgspec.json.Decoder(Annotated[list[Completion], _several])
_failures = msgspec.json.Decoder(Annotated[list[TaskFailure], _several])
_flags = msgspec.json.Decoder(Annotated[list[TaskFlag], _several])
_tokens = msgspec.json.Decoder(Annotated[list[Token], _several])


@speaks(Verbs.lease, body=json_of(LeaseWish))
async def lease(request: web.Request) -> web.Response:
    """Answer tasks, as soon as there are any; none when the worker's waiting time is over."""
    wish = await _lease_request(request)
    tasks = await request.app[VERBS].lease(wish)
    if tasks and _has_hung_up(request):
        # Nobody would do them before their leases end.
        await request.app[VERBS].release([task.token for task in tasks])
        tasks = []
    return json_answer(tasks)


async def _lease_request(request: web.Request) -> LeaseRequest:
    known = _known_of(request)

    def with_known(body: bytes) -> LeaseRequest:
        return msgspec.convert({**_wish.decode(body), **known}, LeaseRequest)

    wish = read(await body_of(request, JSON), with_known, "JSON of a lease request")
    _check_texts(wish)
    if not wish.worker.strip():
        raise InvalidOption("worker", repr(wish.worker), "a name, unique among the workers of the project")
    if not 1 <= wish.n <= AT_ONCE:
        raise InvalidOption("n", f"{wish.n}", f"1 to {AT_ONCE:,} tasks")
    if not wish.wait >= 0:
        raise InvalidOption("wait", f"{wish.wait:g}", "seconds, 0 or more")
    if len(wish.tags) > MOST_TAGS:
        raise InvalidOption("tags", f"{len(wish.tags):,} tags", f"at most {MOST_TAGS}")
    for text in (*wish.tags, *wish.tags.values()):
        if text is not None and len(text) > TAG_LENGTH:
            raise InvalidOption("a tag", f"{len(text):,} characters long", f"at most {TAG_LENGTH}")
    return msgspec.structs.replace(wish, wait=min(wish.wait, LONGEST_WAIT))


def _known_of(request: web.Request) -> dict[str, object]:
    """Return what address and token say of a lease request; it goes before what the worker says."""
    grant, place = request[GRANT], request.match_info
    known = {
        "project": place["name"], "stage": place["stage"], "is_volunteer": grant is None,
        "grant": None if grant is None else grant.id,
    }  # fmt: skip
    return known if grant is None or grant.nickname is None else {**known, "nickname": grant.nickname}


def _only_project(request: web.Request, leases: list[str]) -> str | None:
    """Return the one project that whoever asks may speak of, None for any.

    Raises `AccessDenied` if it is a volunteer, and one of the *leases* is of a project that is not open.
    """
    grant = request[GRANT]
    if grant is None:
        check_volunteer(request, leases)
        return None
    return grant.project


def _has_hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


@speaks(Verbs.heartbeat, body=json_of(_beats.type))
async def heartbeat(request: web.Request) -> web.Response:
    beats = await _said(request, _beats, "heartbeats")
    project = _only_project(request, [each.token for each in beats])
    return json_answer(await request.app[VERBS].heartbeat(beats, project=project))


@speaks(Verbs.complete, body=json_of(_completions.type))
async def complete(request: web.Request) -> web.Response:
    completions = await _said(request, _completions, "completions")
    project = _only_project(request, [each.token for each in completions])
    return json_answer(await request.app[VERBS].complete(completions, project=project))


@speaks(Verbs.fail, body=json_of(_failures.type))
async def fail(request: web.Request) -> web.Response:
    failures = await _said(request, _failures, "failures")
    project = _only_project(request, [each.token for each in failures])
    return json_answer(await request.app[VERBS].fail(failures, project=project))


@speaks(Verbs.flag, body=json_of(_flags.type))
async def flag(request: web.Request) -> web.Response:
    flags = await _said(request, _flags, "flags")
    project = _only_project(request, [each.token for each in flags])
    return json_answer(await request.app[VERBS].flag(flags, project=project))


@speaks(Verbs.release, body=json_of(_tokens.type))
async def release(request: web.Request) -> web.Response:
    tokens = await decoded_json(request, _tokens, "a list of tokens")
    for index, token in enumerate(tokens):
        _check_length(f"[{index}]", token, LENGTHS["token"])
    project = _only_project(request, tokens)
    return json_answer(await request.app[VERBS].release(tokens, project=project))


async def _said(request: web.Request, decoder: msgspec.json.Decoder[list[T]], what: str) -> list[T]:
    """Return what a worker says of several tasks."""
    items = read(
        await body_of(request, JSON), partial(decode, decoder=decoder, raw="output"), f"JSON of a list of {what}"
    )
    _check_texts(*items)
    return items


def _check_texts(*items: msgspec.Struct) -> None:
    """Refuse texts that are longer than anybody reads; to cut them would be to change what was said."""
    fields = items[0].__struct_fields__ if items else ()
    for name, limit in LENGTHS.items():
        if name in fields:
            for index, item in enumerate(items):
                if len(getattr(item, name)) > limit:
                    place = f"{name} of [{index}]" if len(items) > 1 else name
                    _check_length(place, getattr(item, name), limit)


def _check_length(place: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidOption(place, f"{len(text):,} characters long", f"at most {limit:,}")
