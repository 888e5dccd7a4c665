"""``dcengine contributor``: who is welcome, and who is not."""

from __future__ import annotations

import shlex
import time
from typing import Annotated

import typer

from .. import times
from ..errors import InvalidOption
from ..verbs import BanDone, ContributorStatus
from .choosing import Json, Link, with_engine
from .showing import ago, show_json, show_line, show_table

contributor = typer.Typer(
    help="Ban contributors, so that what they did is done again by others; welcome them again.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)

Nickname = Annotated[str, typer.Argument(metavar="NICK", help="As leaderboards show it.")]


@contributor.command("ban")
@with_engine
def ban(
    engine: Link,
    nickname: Nickname,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help='Void only what it did from then on: "2026-11-20 12:00", or "3h ago"; all, if not said.',
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take nothing from a contributor any more, void what it did, and queue that again for others."""
    moment = None if since is None else _moment(since)
    done: BanDone = engine.call("ban_contributor", nickname, since=moment)
    if as_json:
        show_json(done)
        return
    show_line(f"{done.nickname} is banned: {done.voided:,} task(s) count no more, {done.requeued:,} are done again")
    show_line(f"tasks taken out of its hands: {done.leases:,}; tokens revoked: {done.tokens:,}")
    show_line(f"`dcengine contributor unban {shlex.quote(done.nickname)}` welcomes it again")


def _moment(since: str) -> float:
    moment = times.past("--since", since)
    if moment > time.time():
        raise InvalidOption("--since", repr(since), "a time that is over")
    return moment


@contributor.command("unban")
@with_engine
def unban(engine: Link, nickname: Nickname, as_json: Json = False) -> None:
    """Welcome a contributor again; what was voided stays so, and its tokens stay revoked."""
    status: ContributorStatus = engine.call("unban_contributor", nickname)
    if as_json:
        show_json(status)
    else:
        show_line(f"{status.nickname} is welcome again")


@contributor.command("banned")
@with_engine
def banned(engine: Link, as_json: Json = False) -> None:
    """List who is banned, the newest first."""
    found: list[ContributorStatus] = engine.call("banned_contributors")
    if as_json:
        show_json(found)
    elif found:
        show_table("Banned", ["contributor", "since"], [(each.nickname, ago(each.banned)) for each in found])
    else:
        show_line("nobody is banned")
