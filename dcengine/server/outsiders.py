"""Routes of workers that were given an identity, and of those who look at all outside workers."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from ..errors import NotFound
from ..verbs import OutsiderFilter, OutsideWorker, Registration, Verbs
from ..verbs.leases import AT_ONCE, LENGTHS
from .access import GRANT, grant_for
from .answers import LONGEST_WAIT, VERBS, decoded_json, json_answer, number
from .cluster import MATCHING, ONLY
from .speaking import LIMIT, PROJECT, Parameter, Whole, json_of, speaks

WORDS = Parameter("text", str, "Words in their name, nickname, project, stage or tags, or in what they say.")
ORDER = Parameter("order", str, "name, at, state, has, says, done, per_hour, heard, for; -NAME for the largest first.")
SKIP = Parameter("skip", Whole, "How many to leave out before the first.")

Secret = Annotated[str, Meta(max_length=200)]


class NewWorker(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says that wants an identity."""

    nickname: Annotated[str, Meta(max_length=LENGTHS["nickname"])] = "anonymous"
    name: Annotated[str, Meta(max_length=LENGTHS["worker"])] = ""  #: empty: the engine makes one


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What such a worker shows from then on."""

    secret: Secret


class Wish(Shown, frozen=True, kw_only=True):
    """Tasks that it wants."""

    n: Annotated[int, Meta(ge=1, le=AT_ONCE)] = 1
    wait: Annotated[float, Meta(ge=0)] = 0.0  #: seconds to wait for the first


class ProgressSaid(Shown, frozen=True, kw_only=True):
    """What it does."""

    text: Annotated[str, Meta(max_length=LENGTHS["text"])]


S = TypeVar("S", bound=Shown)

_new_worker, _shown = msgspec.json.Decoder(NewWorker), msgspec.json.Decoder(Shown)
_wish, _progress = msgspec.json.Decoder(Wish), msgspec.json.Decoder(ProgressSaid)


@speaks(Verbs.register_worker, body=json_of(NewWorker))
async def register(request: web.Request) -> web.Response:
    said, grant = await decoded_json(request, _new_worker, "a worker: nickname, name"), request[GRANT]
    nickname = said.nickname if grant is None or grant.nickname is None else grant.nickname
    place = request.match_info
    registration = Registration(project=place["name"], stage=place["stage"], nickname=nickname, name=said.name)
    return json_answer(await request.app[VERBS].register_worker(registration))


@speaks(Verbs.registered_worker, body=json_of(Shown))
async def look(request: web.Request) -> web.Response:
    _, worker = await _worker(request, _shown)
    return json_answer(worker)


@speaks(Verbs.lease_as, body=json_of(Wish))
async def lease(request: web.Request) -> web.Response:
    wish, _ = await _worker(request, _wish)
    grant = request[GRANT]
    tasks = await request.app[VERBS].lease_as(
        wish.secret, n=wish.n, wait=min(wish.wait, LONGEST_WAIT), is_volunteer=grant is None,
        grant=None if grant is None else grant.id,
    )  # fmt: skip
    return json_answer(tasks)


@speaks(Verbs.held_tasks, body=json_of(Shown))
async def held(request: web.Request) -> web.Response:
    shown, _ = await _worker(request, _shown)
    return json_answer(await request.app[VERBS].held_tasks(shown.secret))


@speaks(Verbs.leave_worker, body=json_of(Shown))
async def leave(request: web.Request) -> web.Response:
    try:
        shown, _ = await _worker(request, _shown)
    except NotFound:
        return json_answer(False)
    return json_answer(await request.app[VERBS].leave_worker(shown.secret))


@speaks(Verbs.say_progress, body=json_of(ProgressSaid))
async def progress(request: web.Request) -> web.Response:
    try:
        said, _ = await _worker(request, _progress)
    except NotFound:
        return json_answer(False)
    return json_answer(await request.app[VERBS].say_progress(said.secret, said.text))


@speaks(Verbs.outside_workers, query=(PROJECT, MATCHING, ONLY))
async def outside_workers(request: web.Request) -> web.Response:
    tags, name = request.query.get("tags", ""), request.query.get("name")
    found = await request.app[VERBS].outside_workers(request.query.get("project"), tags=tags, name=name)
    return json_answer(found)


@speaks(Verbs.find_outside_workers, query=(PROJECT, MATCHING, WORDS, ORDER, SKIP, LIMIT))
async def found(request: web.Request) -> web.Response:
    wanted = OutsiderFilter(**{name: request.query.get(name, "") for name in OutsiderFilter.__struct_fields__})
    skip, limit = number(request, "skip", least=0) or 0, number(request, "limit", least=1, most=1000) or 100
    return json_answer(await request.app[VERBS].find_outside_workers(wanted, skip=skip, limit=limit))


async def _worker(request: web.Request, decoder: msgspec.json.Decoder[S]) -> tuple[S, OutsideWorker]:
    """Return what a worker says, and who it is; whoever asks may work on its project."""
    said = await decoded_json(request, decoder, "what a registered worker says: its secret")
    worker = await request.app[VERBS].registered_worker(said.secret)
    grant_for(request, worker.project)
    return said, worker
