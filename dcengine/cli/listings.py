"""``dcengine status`` and ``leaderboard``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..lists import SPANS
from ..verbs import EngineStatus, LeaderboardRow, Span, Standing
from .choosing import Json, Link, with_engine
from .showing import ago, show_facts, show_json, show_line, show_table


@with_engine
def status(engine: Link, as_json: Json = False) -> None:
    """Show the engine: its file, its address, how much there is to do."""
    found: EngineStatus = engine.call("status")
    if as_json:
        show_json(found)
        return
    show_facts(
        [
            ("version", found.version),
            ("file", found.db),
            ("address", found.url),
            ("process", found.pid),
            ("started", ago(found.started)),
            ("scheduler", found.scheduler or "none"),
            ("workers", f"{found.workers} with {found.slots} slots"),
            ("jobs", ", ".join(f"{number:,} {state}" for state, number in found.counts.items() if number) or "none"),
            ("open batches", found.open_batches or None),
        ]
    )


@with_engine
def leaderboard(
    engine: Link,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="Whose leaderboard.")] = "functions",
    span: Annotated[
        Span, typer.Option(help="Over which credit is summed: all time, or the last 30 days, 7 days, 24 hours.")
    ] = "all",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many contributors at most.")] = 50,
    of: Annotated[str | None, typer.Option(metavar="NICKNAME", help="Say the place of this one instead.")] = None,
    project: Annotated[str | None, typer.Option(hidden=True, help="The same as PROJECT.")] = None,
    as_json: Json = False,
) -> None:
    """Show who did how much."""
    whose = project or name
    if of is not None:
        place: Standing = engine.call("standing", whose, of, span=span)
        if as_json:
            show_json(place)
        else:
            when = "" if span == "all" else SPANS[span]
            text = f"{place.nickname} is number {place.rank:,} of {place.contributors:,} in {whose}"
            show_line(f"{text}, with {place.units:,} units of credit{when}")
        return
    rows: list[LeaderboardRow] = engine.call("leaderboard", whose, span=span, limit=limit)
    if as_json:
        show_json(rows)
    elif rows:
        lines = [
            (row.rank or place, row.nickname, f"{row.tasks:,}", f"{row.share:.1%}") for place, row in enumerate(rows, 1)
        ]
        show_table(f"Leaderboard of {whose}", ["", "contributor", "credit", "share"], lines)
    else:
        show_line(f"nobody has credit for {whose}{SPANS[span]}")
