"""Which engine a command asks, and how its errors look: what all commands share."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer

from ..config import SETTINGS, load
from ..errors import DatabaseOwned, DcengineError
from ..owner import OWNED_EXIT
from .showing import show_error

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_DEBUG = Annotated[bool, typer.Option("--debug", help="Show tracebacks and logs.")]
_ENGINE_OPTIONS = {
    "url": Annotated[str | None, typer.Option("--url", help=SETTINGS["url"].help, show_default=False)],
    "token": Annotated[str | None, typer.Option("--token", help=SETTINGS["token"].help, show_default=False)],
    "db": Annotated[
        str | None,
        typer.Option("--db", help="Use the engine of this file, started if none runs.", show_default=False),
    ],
}


class Link(Protocol):
    """The engine, as a program without an event loop asks it."""

    @property
    def file(self) -> str:
        """What its file is called, wherever that lies."""
        ...

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Ask *verb*, one of the methods of `Verbs`; wait for the answer."""
        ...

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Ask *verb*; the future ends with the answer."""
        ...


def with_engine(command: Callable[..., None]) -> Callable[..., None]:
    """Make *command*, whose first parameter is the link, one that is told its engine by options."""

    def run(*, url: str | None, token: str | None, db: str | None, debug: bool, **own: Any) -> None:
        with told_plainly(debug=debug):
            command(chosen(url, token, db), **own)

    return _dressed(run, command, skip=1, extra={**_ENGINE_OPTIONS, "debug": _DEBUG})


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Make *command* tell errors plainly; for commands that need no engine."""

    def run(*, debug: bool, **own: Any) -> None:
        with told_plainly(debug=debug):
            command(**own)

    return _dressed(run, command, skip=0, extra={"debug": _DEBUG})


def _dressed(
    run: Callable[..., None], command: Callable[..., None], *, skip: int, extra: dict[str, Any]
) -> Callable[..., None]:
    """Return *run* with the name, the text and the parameters of *command*, and the *extra* ones."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[skip:]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    for name, annotation in extra.items():
        default = False if name == "debug" else None
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    functools.update_wrapper(run, command)
    del run.__wrapped__  # type: ignore[attr-defined]  # typer would read the command's own parameters
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


@contextmanager
def told_plainly(*, debug: bool) -> Iterator[None]:
    """Print an error of our tree as a paragraph and end with status 1; 75 where an engine found its file owned."""
    try:
        yield
    except DcengineError as error:
        if debug:
            traceback.print_exc(file=sys.stderr)
        show_error(str(error))
        raise typer.Exit(OWNED_EXIT if isinstance(error, DatabaseOwned) else 1) from None


def chosen(url: str | None, token: str | None, db: str | None) -> Link:
    """Return the link to the engine that the options name, or else to the one that everybody here uses."""
    if url and db:
        raise typer.BadParameter("--url and --db name two engines; give one of them")
    address = url or load().url
    if token and (db or not address):
        raise typer.BadParameter("--token goes with --url")
    from .. import api  # late: `dcengine --help` needs no network code

    if db:
        api.use_db(db)
    elif address and (url or token):
        api.connect(address, token)
    link: Link = api.current()
    return link
