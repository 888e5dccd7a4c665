"""Routes about contributors: to look at one, and to ban, which is the administrator's alone.

A ban may take a while: ask under a key, with ``?wait=``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from ..errors import InvalidOption
from ..times import LATEST
from ..verbs import Verbs
from ..verbs.leases import LENGTHS
from .answers import VERBS, decoded_json, json_answer, required
from .cluster import NICKNAME
from .speaking import json_of, speaks

Nickname = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": LENGTHS["nickname"]})]


class Ban(msgspec.Struct):
    """Whose work is to count no more."""

    nickname: Nickname
    #: Unix seconds from which on its work is voided; all of it, if not given.
    since: Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": LATEST})] | None = None


class Unban(msgspec.Struct):
    """Whose work is to be taken again."""

    nickname: Nickname


_ban = msgspec.json.Decoder(Ban)
_nickname = msgspec.json.Decoder(Unban)


@speaks(Verbs.ban_contributor, body=json_of(Ban))
async def ban(request: web.Request) -> web.Response:
    said = await decoded_json(request, _ban, "a ban: nickname, since")
    return json_answer(await request.app[VERBS].ban_contributor(_checked(said.nickname), since=said.since))


@speaks(Verbs.unban_contributor, body=json_of(Unban))
async def unban(request: web.Request) -> web.Response:
    said = await decoded_json(request, _nickname, "a nickname")
    return json_answer(await request.app[VERBS].unban_contributor(_checked(said.nickname)))


@speaks(Verbs.banned_contributors)
async def banned(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].banned_contributors())


@speaks(Verbs.contributor, query=[NICKNAME.needed])
async def contributor(request: web.Request) -> web.Response:
    return json_answer(await request.app[VERBS].contributor(required(request, "nickname")))


def _checked(nickname: str) -> str:
    if not 0 < len(nickname) <= LENGTHS["nickname"]:
        raise InvalidOption("nickname", f"{len(nickname):,} characters long", f"1 to {LENGTHS['nickname']}")
    return nickname
