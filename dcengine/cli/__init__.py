"""The command line: ``dcengine COMMAND``. Each command asks the engine through the same verbs as Python does."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .._version import __version__
from . import added
from .adding import add
from .checkup import doctor
from .contributors import contributor
from .exporting import export
from .jobs import jobs
from .joining import join
from .keeping import backup, vacuum
from .listings import leaderboard, status
from .projects import project
from .repairing import edit, failed, history, retry
from .serving import serve
from .stopping import stop
from .submitting import submit
from .tokens import token
from .topping import top
from .webhooks import webhooks
from .workers import workers
from .working import worker


class _InOrder(TyperGroup):
    """Names the commands in the order in which they are met, not groups of them last; then those of other packages."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*sorted(self.commands, key=ORDER.index), *(name for name in added.names() if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or added.command(cmd_name)


ORDER = [
    "submit", "jobs", "project", "webhooks", "workers", "token", "leaderboard", "contributor", "export", "status",
    "top", "serve", "stop", "join", "worker", "backup", "vacuum", "doctor",
]  # fmt: skip

app = typer.Typer(
    name="dcengine",
    cls=_InOrder,
    help="Run functions on tagged workers and keep every job in one file that survives everything.",
    epilog="To begin: dcengine submit math:factorial 20 --wait. It starts an engine for ./dcengine.db if none runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcengine {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


for command in (serve, stop, submit, status, top, leaderboard, export, join, worker, backup, vacuum, doctor):
    app.command()(command)
for command in (add, failed, retry, edit, history):
    jobs.command()(command)
app.add_typer(jobs, name="jobs")
app.add_typer(workers, name="workers")
app.add_typer(project, name="project")
app.add_typer(webhooks, name="webhooks")
app.add_typer(token, name="token")
app.add_typer(contributor, name="contributor")


def main() -> None:
    """Run the command line."""
    app()
