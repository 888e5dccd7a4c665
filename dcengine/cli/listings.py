"""``dcengine workers``, ``status`` and ``leaderboard``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..verbs import EngineStatus, LeaderboardRow, WorkerStatus
from .choosing import Json, Link, with_engine
from .showing import ago, show_facts, show_json, show_line, show_table


@with_engine
def workers(
    engine: Link,
    tags: Annotated[
        str | None, typer.Option(help="Say instead which workers have these tags, or what the nearest lacks.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the workers: what they offer and what they do."""
    if tags is not None:
        explanation = engine.call("explain", tags)
        if as_json:
            show_json({"tags": tags, "explanation": explanation})
        else:
            show_line(explanation)
        return
    found: list[WorkerStatus] = engine.call("workers")
    if as_json:
        show_json(found)
    elif found:
        columns = ["worker", "contributor", "state", "busy", "slots", "running", "tags"]
        show_table("Workers", columns, map(_row, found))
    else:
        show_line("no workers; `dcengine join` brings one, `dcengine serve --workers 2` starts them")


def _row(worker: WorkerStatus) -> list[object]:
    state = f"{worker.state}: {worker.reason}" if worker.reason else worker.state
    offered = ", ".join(name if value is None else f"{name}={value}" for name, value in worker.tags.items())
    running = ", ".join(map(str, worker.running))
    return [worker.name, worker.contributor, state, worker.busy, worker.slots, running, offered]


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
    project: Annotated[str, typer.Option(help="Whose leaderboard.")] = "functions",
    as_json: Json = False,
) -> None:
    """Show who did how much."""
    rows: list[LeaderboardRow] = engine.call("leaderboard", project)
    if as_json:
        show_json(rows)
    elif rows:
        lines = [(place, row.nickname, f"{row.tasks:,}", f"{row.share:.1%}") for place, row in enumerate(rows, 1)]
        show_table(f"Leaderboard of {project}", ["", "nickname", "tasks", "share"], lines)
    else:
        show_line(f"nobody has done a task of {project} yet")
