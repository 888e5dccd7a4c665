"""``dcengine backup`` and ``dcengine vacuum``: copies of the file, and its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidOption
from ..verbs import BackupDone, VacuumDone
from .choosing import Json, Link, with_engine
from .showing import show_json, show_line


@with_engine
def backup(
    engine: Link,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The copy: a new file on the engine's machine.")],
    as_json: Json = False,
) -> None:
    """Copy the file as it stands, while work goes on."""
    path = Path(file).absolute()
    if path.exists():
        raise InvalidOption("FILE", repr(str(path)), "a new one: what is there is not overwritten")
    done: BackupDone = engine.call("backup", str(path))
    if as_json:
        show_json(done)
        return
    beside = f", and {done.blobs:,} value(s) beside it" if done.blobs else ""
    show_line(f"{done.path}: {done.bytes:,} bytes{beside}, in {done.seconds:,.1f} s")


@with_engine
def vacuum(engine: Link, as_json: Json = False) -> None:
    """Give the space of what was deleted back to the disk; nothing is written meanwhile."""
    done: VacuumDone = engine.call("vacuum")
    if as_json:
        show_json(done)
        return
    show_line(f"{done.before:,} bytes before, {done.after:,} after, in {done.seconds:,.1f} s")
    if done.blobs:
        show_line(f"{done.blobs:,} value(s) beside the file went, with {done.blob_bytes:,} bytes")
