"""``dcengine NAME`` for each workload that is installed: its parameters as options."""

from __future__ import annotations

import enum
import inspect
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from ..errors import DcengineError, ResultNotReady, WorkloadBroken
from ..workloads import Field, File, Run, Workload, load, start
from .bars import StageBars
from .choosing import Json, Link, with_engine
from .showing import show_error, show_json, show_line, show_note

POLL_SECONDS = 0.5  #: between two looks at how far it is

_WAIT = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it is done, and put what comes of it where it belongs.")
]


def made_by(name: str) -> Any:
    """Return the command that starts the workload *name*; one that cannot be used says so when called."""
    app = typer.Typer(add_completion=False)
    try:
        workload = load(name)
    except WorkloadBroken as error:
        _say_broken(app, name, error)
    else:
        settings = {"help_option_names": ["-h", "--help"]}
        app.command(name, help=workload.title, context_settings=settings)(with_engine(_command(workload)))
    return get_command(app)


def _say_broken(app: typer.Typer, name: str, error: WorkloadBroken) -> None:
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}

    @app.command(name, help=f"Cannot be used: {error.problem}.", context_settings=anything)
    def say() -> None:
        show_error(str(error))
        raise typer.Exit(1)


def _command(workload: Workload) -> Callable[..., None]:
    def command(_: Link, /, *, wait: bool, json: bool, **given: Any) -> None:
        run = _started(workload.name, {name: value for name, value in given.items() if value not in (None, [])})
        if wait:
            show_note(f"project {run.project.name}")
            files = _followed(run)
            _show(run, files, as_json=json)
        else:
            _show(run, None, as_json=json)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("_", inspect.Parameter.POSITIONAL_ONLY, annotation=Link),
        *map(_parameter, workload.fields),
        inspect.Parameter("wait", keyword, default=True, annotation=_WAIT),
        inspect.Parameter("json", keyword, default=False, annotation=Json),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__name__ = workload.name
    command.__doc__ = workload.title
    return command


def _parameter(field: Field) -> inspect.Parameter:
    """Return *field* as typer reads it: what must be given is an argument, the rest are options."""
    kind = Path if field.kind is File else field.kind
    whole: Any = list[kind] if field.is_many else kind  # type: ignore[valid-type]
    if field.is_needed:
        told: Any = typer.Argument(metavar=_metavar(field), help=field.told, show_default=False)
        return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[whole, told])
    option = typer.Option(help=f"{field.told}{_unless(field)}", show_default=False)
    is_flag = kind is bool and not field.is_many
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default if is_flag else None,
        annotation=Annotated[whole if is_flag and field.default is not None else whole | None, option],
    )


def _metavar(field: Field) -> str:
    return "|".join(field.choices) or field.name.upper()


def _unless(field: Field) -> str:
    """Return what holds where nothing is said, as far as it is worth saying."""
    default = field.default.value if isinstance(field.default, enum.Enum) else field.default
    if field.kind in (bool, File) or default in ("", None, (), []):
        return ""
    shown = ", ".join(map(str, default)) if isinstance(default, (list, tuple)) else f"{default}"
    return f" Unless said: {shown.removesuffix('.0') if isinstance(default, float) else shown}."


def _started(name: str, given: dict[str, Any]) -> Run:
    """Start the workload *name*, its warnings as notes."""
    with warnings.catch_warnings(record=True) as cautions:
        warnings.simplefilter("always", UserWarning)
        run = start(name, **given)
    for caution in cautions:
        if issubclass(caution.category, UserWarning):
            show_note(str(caution.message))
    return run


def _show(run: Run, files: Sequence[Path] | None, *, as_json: bool) -> None:
    paths = [str(path) for path in files or ()]
    if as_json:
        show_json({"project": run.project.name} | ({} if files is None else {"files": paths}))
    elif files is None:
        show_line(run.project.name)
    else:
        for path in paths:
            show_line(path)


def _followed(run: Run) -> Sequence[Path]:
    """Show how far *run* is until it is done, then put what came of it where it belongs; return the files."""
    name = run.project.name
    try:
        with StageBars(name) as bars:
            while not _is_done(run, bars):
                pass
        return _saved(run)
    except KeyboardInterrupt:
        show_note(f"{name} goes on; the same command waits for it again, `dcengine project cancel {name}` ends it")
        raise typer.Exit(130) from None


def _saved(run: Run) -> Sequence[Path]:
    has_failed = run.status().failed > 0
    try:
        return run.save()
    except Exception as error:  # what a job raised, of anybody's code
        if has_failed:
            show_note(f"`dcengine jobs failed {run.project.name}` lists what failed; the same command tries that again")
        if isinstance(error, DcengineError) or not has_failed:
            raise
        show_error(f"{type(error).__name__}: {error}")
        raise typer.Exit(1) from error


def _is_done(run: Run, bars: StageBars) -> bool:
    try:
        run.project.wait(POLL_SECONDS)
    except ResultNotReady:
        bars.show(run.status())
        return False
    return True
