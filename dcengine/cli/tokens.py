"""``dcengine token``: who may do what, until when."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .. import times
from ..errors import InvalidOption
from ..verbs import NewToken, TokenRole, TokenSpec, TokenStatus
from .choosing import Json, Link, with_engine
from .showing import ago, duration, show_json, show_line, show_note, show_table

token = typer.Typer(
    help="Make tokens, which let others use this engine, and list or revoke them.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)


@token.command("create")
@with_engine
def create(
    engine: Link,
    role: Annotated[
        TokenRole,
        typer.Option(
            help="worker: lease one project's tasks; view: look; submit: run code; join: bring a Dask worker."
        ),
    ],
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="For a worker: the project whose tasks it may lease.")
    ] = None,
    nickname: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who earns the credit, whatever the worker says.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long it is good, such as 12h or 30d; for ever if not said."),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="For yourself: who has it.")] = "",
    as_json: Json = False,
) -> None:
    """Make a token and print it, this once."""
    seconds = None if expires is None else _seconds(expires)
    spec = TokenSpec(role=role, project=project, nickname=nickname, seconds=seconds, note=note)
    made: NewToken = engine.call("create_token", spec)
    if as_json:
        show_json(made)
        return
    show_note(f"token {made.status.id}: {_facts(made.status)}. It is shown this once:")
    show_line(made.token)


def _seconds(expires: str) -> float:
    found = times.seconds("--expires", expires)
    if not found > 0:
        raise InvalidOption("--expires", repr(expires), "a time from now on, such as 12h or 30d")
    return found


def _facts(status: TokenStatus) -> str:
    facts: list[str] = [status.role]
    if status.project is not None:
        facts.append(f"for project {status.project}")
    if status.nickname is not None:
        facts.append(f"credit goes to {status.nickname}")
    expires = status.expires
    facts.append("never expires" if expires is None else f"good for {duration(expires - status.created)}")
    return ", ".join(facts)


@token.command("list")
@with_engine
def list_tokens(engine: Link, as_json: Json = False) -> None:
    """List the tokens that were made, the newest first; what they are is not known here."""
    found: list[TokenStatus] = engine.call("tokens")
    if as_json:
        show_json(found)
    elif found:
        columns = ["id", "role", "project", "nickname", "note", "created", "expires", "state"]
        show_table("Tokens", columns, map(_row, found))
    else:
        show_line("no tokens yet but the engine's own; `dcengine token create --role ROLE` makes one")


def _row(status: TokenStatus) -> list[object]:
    return [
        status.id, status.role, status.project, status.nickname, status.note, ago(status.created), _until(status),
        status.state,
    ]  # fmt: skip


def _until(status: TokenStatus) -> str:
    if status.expires is None:
        return "never"
    return ago(status.expires) if status.state == "expired" else f"in {_left(status)}"


def _left(status: TokenStatus) -> str:
    return duration((status.expires or 0.0) - time.time())


@token.command("revoke")
@with_engine
def revoke(
    engine: Link,
    id: Annotated[int, typer.Argument(metavar="ID", min=1, help="Of the token, as `dcengine token list` shows it.")],
    as_json: Json = False,
) -> None:
    """Have a token be good for nothing, from this moment on."""
    status: TokenStatus = engine.call("revoke_token", id)
    if as_json:
        show_json(status)
    else:
        show_line(f"token {status.id} is revoked")
