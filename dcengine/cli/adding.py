"""``dcengine jobs add``: a job for each item of a file, of standard input, or of a brace pattern."""

from __future__ import annotations

import hashlib
import shlex
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .. import times
from ..errors import DcengineError, ImportChanged, InvalidOption, InvalidSource
from ..plain import clean
from ..verbs import ProjectStatus
from .bars import Bar
from .choosing import Link, with_engine
from .showing import ago, show_line, show_note

if TYPE_CHECKING:
    from ..importing import Import
    from ..sources import Source

NAME_LIMIT = 200  #: characters in the name of an import


@with_engine
def add(
    engine: Link,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project that gets the jobs.")],
    standard_input: Annotated[
        str | None, typer.Argument(metavar="-", help="The lines of standard input, one job for each.")
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="FILE", help="The values of a JSON list.")] = None,
    ndjson: Annotated[str | None, typer.Option(metavar="FILE", help="JSON values, one on each line.")] = None,
    txt: Annotated[str | None, typer.Option(metavar="FILE", help="The lines of a text.")] = None,
    brace: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="What a pattern stands for: 's3://x/{00000..41454}.tar'.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher runs earlier.")] = 0,
    not_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="When they may begin: 2030-01-31T12:00, or +10m from now.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long after its end a job's values are kept: 7d, 12h.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="The text of an item is its key: the same item gives the same job.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--import", metavar="NAME", help="The import's name, where it is to be another.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Add all of it once more.")] = False,
) -> None:
    """Add a job for each item. The same command again goes on where it stopped, and adds nothing twice."""
    from .. import importing, sources

    options = importing.Options(
        priority=priority,
        not_before=None if not_before is None else times.moment("--not-before", not_before),
        keep=None if keep is None else times.seconds("--keep", keep),
        with_keys=keys,
    )
    given = {"json": json, "ndjson": ndjson, "txt": txt, "brace": brace, "-": standard_input}
    source = sources.opened(*_one_of(given))
    status: ProjectStatus = engine.call("project", project)
    name = _name_of(source, name)
    if again:
        if name is None:
            raise typer.BadParameter("--again goes with a file, a pattern, or --import NAME")
        name = importing.unused_name(engine, project, name)
    elif name is None:
        show_note(f"{source.title} has no name by which it could be taken up again; --import NAME gives it one")
    bringing = importing.Import(engine, project, source, name=name, options=options)
    other_way = f", with --import {shlex.quote(name)} instead of --again," if name is not None and again else ""
    _bring(bringing, way_on=f"the same command{other_way}")
    if status.is_paused and bringing.added:
        show_note(f"{project} is paused: `dcengine project run {shlex.quote(project)}` lets its jobs go on")


def _one_of(given: dict[str, str | None]) -> tuple[str, str]:
    """Return kind and place of the one source that is *given*."""
    named = [(kind, place) for kind, place in given.items() if place is not None]
    if len(named) != 1 or (named[0][0] == "-" and named[0][1] != "-"):
        raise typer.BadParameter("say what to add: --json FILE, --ndjson FILE, --txt FILE, --brace PATTERN, or -")
    return named[0]


def _name_of(source: Source, name: str | None) -> str | None:
    """Return the name of an import from *source*; *name* if it was given one."""
    if name is None:
        return None if source.name is None else _short(source.name)
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise InvalidOption("--import", repr(name)[:NAME_LIMIT], f"1 to {NAME_LIMIT} printable characters")
    return name


def _short(name: str) -> str:
    """Return *name*, its middle replaced by a digest of it where it is longer than a name may be."""
    if len(name) <= NAME_LIMIT and name.isprintable():
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
    return clean(f"{name[:80]}...{digest}...{name[-80:]}", NAME_LIMIT)


def _bring(bringing: Import, *, way_on: str) -> None:
    """Bring the items in and say what came of it; *way_on* is how to go on where it stops."""
    began = time.monotonic()
    source = bringing.source
    try:
        with Bar(bringing.project, source.total) as bar:
            for _ in bringing.steps():
                bar.show(source.done, bringing.seen)
    except KeyboardInterrupt:
        bringing.stop()
        show_note(f"stopped: {_so_far(bringing, way_on)}")
        raise typer.Exit(130) from None
    except (InvalidSource, ImportChanged):
        raise
    except DcengineError:
        show_note(_so_far(bringing, way_on))
        raise
    _show_end(bringing, time.monotonic() - began)


def _so_far(bringing: Import, way_on: str) -> str:
    items = f"{bringing.items:,} item(s) of {bringing.source.title} are in {bringing.project}"
    if bringing.name is None:
        return f"{items}; without --import NAME there is no going on after them"
    return f"{items}; {way_on} goes on after them"


def _show_end(bringing: Import, seconds: float) -> None:
    source, before = bringing.source, bringing.record
    if not bringing.items:
        show_line(f"{source.title} has no items; nothing was added")
    elif before is not None and bringing.items == before.items:
        when = f"(imported {ago(before.updated)})"
        show_line(f"all {before.items:,} item(s) are there already {when}; --again adds them once more")
    else:
        rate = f"{bringing.added / max(seconds, 0.001):,.0f}/s"
        show_line(f"{bringing.added:,} job(s) added to {bringing.project} in {seconds:,.1f} s ({rate})")
        if before is not None:
            show_line(f"the first {before.items:,} item(s) were there already")
        if bringing.known:
            show_line(f"{bringing.known:,} of the others had their jobs already, by their keys")
    if source.note:
        show_note(source.note)
