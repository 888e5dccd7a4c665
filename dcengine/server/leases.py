"""Routes of outside workers: JSON both ways, and values that nobody here looks into."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from ..errors import InvalidOption
from ..raw import decode
from ..verbs import Completion, Heartbeat, LeaseRequest, TaskFailure, TaskFlag
from .answers import JSON, LONGEST_WAIT, VERBS, body_of, decoded_json, json_answer, read

AT_ONCE = 1000  #: tasks leased, or spoken of, in one request
LENGTHS = {"token": 200, "worker": 200, "nickname": 200, "reason": 2000, "text": 500}  #: characters, at most
MOST_TAGS, TAG_LENGTH = 200, 200

T = TypeVar("T", bound=msgspec.Struct)

_several = msgspec.Meta(max_length=AT_ONCE)
_wish: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_beats = msgspec.json.Decoder(Annotated[list[Heartbeat], _several])
_completions = msgspec.json.Decoder(Annotated[list[Completion], _several])
_failures = msgspec.json.Decoder(Annotated[list[TaskFailure], _several])
_flags = msgspec.json.Decoder(Annotated[list[TaskFlag], _several])
_tokens = msgspec.json.Decoder(Annotated[list[str], _several])


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
    address = {"project": request.match_info["name"], "stage": request.match_info["stage"]}

    def with_address(body: bytes) -> LeaseRequest:
        return msgspec.convert({**_wish.decode(body), **address}, LeaseRequest)

    wish = read(await body_of(request, JSON), with_address, "JSON of a lease request")
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


def _has_hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def heartbeat(request: web.Request) -> web.Response:
    beats = await _said(request, _beats, "heartbeats")
    return json_answer(await request.app[VERBS].heartbeat(beats))


async def complete(request: web.Request) -> web.Response:
    completions = await _said(request, _completions, "completions")
    return json_answer(await request.app[VERBS].complete(completions))


async def fail(request: web.Request) -> web.Response:
    failures = await _said(request, _failures, "failures")
    return json_answer(await request.app[VERBS].fail(failures))


async def flag(request: web.Request) -> web.Response:
    flags = await _said(request, _flags, "flags")
    return json_answer(await request.app[VERBS].flag(flags))


async def release(request: web.Request) -> web.Response:
    tokens = await decoded_json(request, _tokens, "a list of tokens")
    for index, token in enumerate(tokens):
        _check_length(f"[{index}]", token, LENGTHS["token"])
    return json_answer(await request.app[VERBS].release(tokens))


async def _said(request: web.Request, decoder: msgspec.json.Decoder[list[T]], what: str) -> list[T]:
    """Return what a worker says of several tasks."""
    items = read(
        await body_of(request, JSON), partial(decode, decoder=decoder, raw="output"), f"JSON of a list of {what}"
    )
    _check_texts(*items)
    return items


def _check_texts(*items: msgspec.Struct) -> None:
    """Refuse texts that are longer than anybody reads; to cut them would be to change what was said."""
    for index, item in enumerate(items):
        for name, limit in LENGTHS.items():
            place = f"{name} of [{index}]" if len(items) > 1 else name
            _check_length(place, getattr(item, name, ""), limit)


def _check_length(place: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidOption(place, f"{len(text):,} characters long", f"at most {limit:,}")
