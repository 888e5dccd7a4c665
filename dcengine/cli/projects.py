"""``dcengine project``: projects made of a file or of names, and everything that is done to them as a whole."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InvalidOption
from ..verbs import Deletion, ProjectSpec, ProjectStatus
from .choosing import Json, Link, with_engine
from .showing import show_facts, show_json, show_line, show_note, show_table

project = typer.Typer(
    help="Make projects of a TOML file or of names, and list, run, pause, cancel or delete them.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The project's name.")]
Stage = Annotated[str | None, typer.Option(metavar="NAME", help="This stage alone.")]
STATES = ("queued", "waiting", "blocked", "leased", "succeeded", "failed", "cancelled", "returned")


@project.command("create")
@with_engine
def create(
    engine: Link,
    source: Annotated[
        str, typer.Argument(metavar="FILE.toml|NAME", help="A file that describes the project, or with --lease a name.")
    ],
    lease: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Stages a, b, c ... for outside workers, by their titles: CPU,GPU,Pack."),
    ] = None,
    votes: Annotated[
        int | None, typer.Option(min=1, help="With --lease: how many voters send a job back; 5 if not said.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="With --lease: what old clients speak at /p/NAME/, such as distcompute.")
    ] = None,
    is_open: Annotated[
        bool, typer.Option("--open", help="With --lease: let anybody lease its tasks, without a token.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a project, or bring the stages of one up to date."""
    if votes is not None and lease is None:
        raise typer.BadParameter("--votes goes with --lease; a file says votes = 5 for each stage")
    if (protocol is not None or is_open) and lease is None:
        raise typer.BadParameter('--protocol and --open go with --lease; a file says protocol = "..." and open = true')
    spec = _spec(source, lease, votes, protocol=protocol or "", is_open=is_open)
    made: ProjectStatus = engine.call("declare_project", spec)
    if as_json:
        show_json(made)
        return
    stages, name = ", ".join(stage.label for stage in made.stages), shlex.quote(made.name)
    show_line(f"project {made.name} with {_count(len(made.stages), 'stage')}: {stages}")
    if made.is_paused:
        show_line(f"next: `dcengine jobs add {name} --txt FILE`, then `dcengine project run {name}`")
    else:
        show_line(f"it runs; `dcengine jobs add {name} --txt FILE` gives it work")


def _spec(source: str, lease: str | None, votes: int | None, *, protocol: str, is_open: bool) -> ProjectSpec:
    from .. import pipelines  # late: it needs the network code that `dcengine --help` does not

    if lease is not None:
        votes = pipelines.OLD_CLIENTS_VOTES if votes is None else votes
        return pipelines.leased(source, lease.split(","), votes=votes, protocol=protocol, is_open=is_open)
    if Path(source).suffix != ".toml" and not Path(source).exists():
        expected = "a TOML file, or a name with --lease and the stages' titles"
        raise InvalidOption("what to make a project of", repr(source), expected)
    return pipelines.read(source)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@project.command("list")
@with_engine
def list_projects(engine: Link, as_json: Json = False) -> None:
    """List the projects, the newest first."""
    found: list[ProjectStatus] = engine.call("projects")
    if as_json:
        show_json(found)
    elif found:
        columns = ["project", "state", "stages", "open", "succeeded", "failed", "cancelled", "workers"]
        show_table("Projects", columns, map(_row, found))
    else:
        show_line("no projects yet; `dcengine project create FILE.toml` or dcengine.Project() makes one")


def _row(status: ProjectStatus) -> list[object]:
    counts = [f"{number:,}" for number in (status.open, status.succeeded, status.failed, status.cancelled)]
    stages = ", ".join(stage.label for stage in status.stages)
    return [status.name, _state(status), stages, *counts, ", ".join(status.workers)]


def _state(status: ProjectStatus) -> str:
    return "paused" if status.is_paused else "runs" if status.open else "idle"


@project.command("show")
@with_engine
def show(engine: Link, name: Name, as_json: Json = False) -> None:
    """Show one project and its stages."""
    status: ProjectStatus = engine.call("project", name)
    if as_json:
        show_json(status)
        return
    name = shlex.quote(status.name)
    paused = f"paused; `dcengine project run {name}` lets its jobs go on"
    jobs = f"{status.done:,} of {status.total:,} have ended"
    show_facts(
        [
            ("project", status.name),
            ("state", paused if status.is_paused else _state(status)),
            ("jobs", jobs if status.total else f"none yet; `dcengine jobs add {name} --txt FILE` adds some"),
            ("failed", f"{status.failed:,}; `dcengine jobs failed {name}`" if status.failed else None),
            ("cancelled", f"{status.cancelled:,}" if status.cancelled else None),
            ("workers", ", ".join(status.workers)),
            ("protocol", f"{status.protocol}, at /p/{name}/" if status.protocol else None),
            ("open", "anybody may lease its tasks, without a token" if status.is_open else None),
            ("warning", status.warning),
        ]
    )
    met = [state for state in STATES if any(stage.counts.get(state) for stage in status.stages)]
    rows = [
        [each.label, each.what, each.tags, *(f"{each.counts.get(state, 0):,}" for state in met)]
        for each in status.stages
    ]
    show_table("Stages", ["stage", "what", "tags", *met], rows)


@project.command("run")
@with_engine
def run(engine: Link, name: Name, as_json: Json = False) -> None:
    """Let a project's jobs go on their way, those that are added later too."""
    _let_run(engine, name, None, as_json=as_json)


@project.command("resume")
@with_engine
def resume(engine: Link, name: Name, stage: Stage = None, as_json: Json = False) -> None:
    """Hand the tasks of a project, or of one stage, out again."""
    _let_run(engine, name, stage, as_json=as_json)


def _let_run(engine: Link, name: str, stage: str | None, *, as_json: bool) -> None:
    status: ProjectStatus = engine.call("run_project", name, stage=stage)
    _say(status, f"{_what(name, stage)} runs; open jobs: {status.open:,}", as_json=as_json)
    if status.warning:
        show_note(status.warning)


@project.command("pause")
@with_engine
def pause(engine: Link, name: Name, stage: Stage = None, as_json: Json = False) -> None:
    """Hand no more tasks of a project, or of one stage, out; what runs goes on to its end."""
    status: ProjectStatus = engine.call("pause_project", name, stage=stage)
    _say(status, f"{_what(name, stage)} is paused; open jobs: {status.open:,}", as_json=as_json)


def _what(name: str, stage: str | None) -> str:
    return f"project {name}" if stage is None else f"stage {stage} of project {name}"


@project.command("cancel")
@with_engine
def cancel(engine: Link, name: Name, as_json: Json = False) -> None:
    """Cancel every open job of a project."""
    cancelled: int = engine.call("cancel_project", name)
    _say({"cancelled": cancelled}, f"jobs of {name} cancelled: {cancelled:,}", as_json=as_json)


@project.command("delete")
@with_engine
def delete(
    engine: Link,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a project with its jobs, their values and its credit, after saying what that is."""
    if not yes:
        gone: Deletion = engine.call("deletion", name)
        show_note(f"this deletes {_facts(gone)}")
        typer.confirm("Delete it?", abort=True, err=True)
    gone = engine.call("delete_project", name)
    _say(gone, f"deleted {_facts(gone)}", as_json=as_json)


def _facts(gone: Deletion) -> str:
    open_jobs = f" ({gone.open:,} open, {gone.running:,} running)" if gone.open else ""
    jobs, credit = _count(gone.jobs, "job"), _count(gone.contributors, "contributor")
    return f"project {gone.project}: {jobs}{open_jobs}, their values, the credit of {credit}"


def _say(value: Any, text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(value)
    else:
        show_line(text)
