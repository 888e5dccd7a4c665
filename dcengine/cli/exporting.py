"""``dcengine export``: what came of a project's jobs, in a file or on standard output."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .bars import Bar
from .choosing import Link, with_engine
from .showing import show_note

if TYPE_CHECKING:
    from ..exporting import Export


@with_engine
def export(
    engine: Link,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project whose jobs they are.")],
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="What this stage made of them; the last one if not said.")
    ] = None,
    format: Annotated[Literal["jsonl", "csv"], typer.Option(help="A JSON object or a row for each job.")] = "jsonl",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where it goes, replacing what is there.")
    ] = "-",
    failed: Annotated[bool, typer.Option("--failed", help="The jobs that failed, at any stage, and why.")] = False,
) -> None:
    """Write what a stage made of the jobs of a project, in order of their numbers."""
    from ..exporting import Export, into

    exported = Export(engine, project, stage=stage, failed=failed)
    try:
        with into(output) as file, Bar(project, exported.total) as bar:
            for _ in exported.write(file, format):
                bar.show(exported.rows, exported.rows)
    except BrokenPipeError:  # whoever read it has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        show_note("stopped; nothing was written" if output != "-" else "stopped")
        raise typer.Exit(130) from None
    _show_end(exported, output)


def _show_end(exported: Export, output: str) -> None:
    if output != "-":
        show_note(f"{exported.rows:,} job(s) written to {output}")
    if exported.unwritable:
        show_note(
            f"{exported.unwritable:,} value(s) are no JSON: their text as Python shows it is written, "
            "in JSON lines under 'repr' instead of 'value'"
        )
