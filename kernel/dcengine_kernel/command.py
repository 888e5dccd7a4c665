"""``dcengine kernel``: makes the kernel known to Jupyter. What is heavy is imported when a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcengine.cli.choosing import Json, told
from dcengine.cli.showing import show_json, show_line, show_note, show_table
from dcengine.errors import InvalidOption

from .tagged import NAME, name_for

if TYPE_CHECKING:
    from .specs import Spec

app = typer.Typer(name="kernel", help="Make the notebook kernel known to Jupyter.", no_args_is_help=True)

User = Annotated[bool, typer.Option("--user", help="For you alone, in all your environments; the default.")]
SysPrefix = Annotated[bool, typer.Option("--sys-prefix", help="For Jupyter in the environment of this command.")]
Prefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="PATH", help="For Jupyter in the environment PATH.", show_default=False),
]
Name = Annotated[str, typer.Option("--name", help="The name by which programs choose it.")]


@app.callback()
def kernel() -> None:
    """Make the notebook kernel known to Jupyter."""


@app.command("install")
@told
def install(
    user: User = False,
    sys_prefix: SysPrefix = False,
    prefix: Prefix = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The name by which programs choose it.", show_default="dcengine, or dcengine-TAGS"),
    ] = None,
    display_name: Annotated[
        str | None, typer.Option("--display-name", help="The name that people see.", show_default=False)
    ] = None,
    tags: Annotated[
        str, typer.Option("--tags", metavar="EXPR", help="Run it on a worker that has these tags, such as gpu.")
    ] = "",
) -> None:
    """Install the kernel; cells run with the Python of this command, or with that of a worker."""
    from . import specs

    root = _root(user=user, sys_prefix=sys_prefix, prefix=prefix) or specs.user_root()
    name = name_for(tags) if name is None else name
    folder = specs.install(root, name, display_name, tags=tags)
    show_line(f"installed the kernel {name} in {folder}")
    if tags:
        show_note(f"Jupyter will ask the engine for a worker with {tags}; so its environment needs dcengine too")
    found = [spec for spec in specs.installed() if spec.name == name]
    show_line(_next_step(name, folder, found))


@app.command("list")
@told
def list_kernels(as_json: Json = False) -> None:
    """List the dcengine kernels that Jupyter finds here."""
    from . import specs

    rows = specs.installed()
    if as_json:
        show_json([spec._asdict() for spec in rows])
    elif rows:
        table = [(spec.name, spec.display_name, spec.tags or "here", spec.interpreter, spec.folder) for spec in rows]
        show_table("Kernels", ["name", "shown as", "runs on", "python", "folder"], table)
    else:
        show_note("Jupyter finds no dcengine kernel here; install one: dcengine kernel install")


@app.command("uninstall")
@told
def uninstall(user: User = False, sys_prefix: SysPrefix = False, prefix: Prefix = None, name: Name = NAME) -> None:
    """Remove the kernel from there, or from where Jupyter finds it first; notebooks are kept."""
    from . import specs

    folder = specs.uninstall(name, _root(user=user, sys_prefix=sys_prefix, prefix=prefix))
    show_line(f"removed the kernel {name} from {folder}")
    for spec in specs.installed():
        if spec.name == name:
            show_line(f"Jupyter still finds the one in {spec.folder}")


def _root(*, user: bool, sys_prefix: bool, prefix: str | None) -> Path | None:
    """Return the one place that the options name, None if they name none."""
    from . import specs

    if user + sys_prefix + (prefix is not None) > 1:
        raise InvalidOption("--user, --sys-prefix, --prefix", "given together", "one of them, for one place")
    if sys_prefix:
        return specs.prefix_root(sys.prefix)
    if prefix is not None:
        return specs.prefix_root(prefix)
    return specs.user_root() if user else None


def _next_step(name: str, folder: Path, found: list[Spec]) -> str:
    """Return what to do with a kernel just installed in *folder*; *found* are those of its name, as Jupyter looks."""
    if str(folder) not in [spec.folder for spec in found]:
        return (
            f"Jupyter of that environment shows it; any other finds it with JUPYTER_PATH={folder.parent.parent}; "
            f"see what this one finds: dcengine kernel list"
        )
    if found[0].folder != str(folder) and found[0].interpreter not in ("python", sys.executable):
        return (
            f"Jupyter here goes on using the one in {found[0].folder}, of {found[0].interpreter}: "
            f"it finds that first; remove it, or choose another --name"
        )
    return f"choose {name} in JupyterLab or VS Code, or begin here: jupyter console --kernel {name}"
