"""``dcengine workers``: what they offer and do, what they lack, and the tags that they are given."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..lists import aside_texts, devices_texts, tag_text, verdict_text
from ..verbs import Explanation, WorkerStatus
from .choosing import Json, Link, with_engine
from .showing import show_json, show_line, show_table


class _WorkersGroup(TyperGroup):
    """``dcengine workers`` is ``workers list``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


workers = typer.Typer(
    cls=_WorkersGroup,
    help="List the workers; `workers --tags EXPRESSION` says which of them match, `workers tag` gives one other tags.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@workers.command("list")
@with_engine
def list_workers(
    engine: Link,
    tags: Annotated[
        str | None, typer.Option(help="Say instead which workers have these tags, and what the others lack.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the workers: what they offer and what they do. Also what `dcengine workers` alone does."""
    if tags is not None:
        _explain(engine, tags, as_json=as_json)
        return
    found: list[WorkerStatus] = engine.call("workers")
    if as_json:
        show_json(found)
    elif found:
        columns = ["worker", "contributor", "state", "busy", "slots", "running", "tags"]
        show_table("Workers", columns, map(_row, found))
    else:
        show_line("no workers; `dcengine join` brings one, `dcengine serve --workers 2` starts them")


@workers.command("tag")
@with_engine
def tag_worker(
    engine: Link,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The worker's name.")],
    tags: Annotated[str, typer.Argument(metavar="TAGS", help="All that it is to offer, such as gpu,site=lab.")],
    as_json: Json = False,
) -> None:
    """Give a worker other tags than it was started with; what it finds by itself stays."""
    found: WorkerStatus = engine.call("tag_worker", name, tags)
    if as_json:
        show_json(found)
    else:
        show_line(f"{found.name} offers {tag_text(found)}")


def _explain(engine: Link, tags: str, *, as_json: bool) -> None:
    explanation: Explanation = engine.call("explain", tags)
    if as_json:
        show_json({"tags": tags, "explanation": explanation.sentence, "workers": explanation.workers})
        return
    show_line(explanation.sentence)
    if explanation.workers:
        show_table("", ["worker", "verdict"], [(row.name, verdict_text(row)) for row in explanation.workers])


def _row(worker: WorkerStatus) -> list[object]:
    state = "; ".join([f"{worker.state}: {worker.reason}" if worker.reason else worker.state, *aside_texts(worker)])
    running = ", ".join([*map(str, worker.running), *devices_texts(worker)])
    return [worker.name, worker.contributor, state, worker.busy, worker.slots, running, tag_text(worker)]
