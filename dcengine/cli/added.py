"""Commands that other packages add, found by name through entry points; imported when they are called or listed.

Each workload is one too.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.main import get_command

from .showing import show_error

GROUP = "dcengine.commands"
WORKLOADS = "dcengine.workloads"


def names() -> list[str]:
    """Return the names of all added commands."""
    return sorted({entry.name for group in (GROUP, WORKLOADS) for entry in entry_points(group=group)})


def command(name: str) -> Any:
    """Return the added command *name*, None if there is none; one that cannot be imported says so when called."""
    for entry in entry_points(group=GROUP, name=name):
        return get_command(_loaded(entry))
    if entry_points(group=WORKLOADS, name=name):
        from .making import made_by  # late: the other commands need no projects

        return made_by(name)
    return None


def _loaded(entry: EntryPoint) -> typer.Typer:
    try:
        app: typer.Typer = entry.load()
    except (ImportError, AttributeError) as error:
        return _broken(entry, error)
    return app


def _broken(entry: EntryPoint, error: Exception) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}

    @app.command(entry.name, help=f"Cannot be loaded: {error}.", context_settings=anything)
    def say() -> None:
        package = entry.dist.name if entry.dist else entry.value
        show_error(f"the command {entry.name!r} of {package} cannot be loaded: {error}; install {package} anew")
        raise typer.Exit(1)

    return app
