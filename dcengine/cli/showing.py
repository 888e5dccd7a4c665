"""Tables, lines and JSON on the terminal. What workers and jobs say is shown, never obeyed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..plain import BLANKS

PIPE_WIDTH = 200  #: columns where there is no terminal to ask


def show_json(value: Any) -> None:
    """Print *value* as one line of JSON."""
    typer.echo(msgspec.json.encode(value).decode())


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people; a column of numbers only is set to the right."""
    # On one line each: the second line of a name would look like a row.
    lines = [[clean("" if cell is None else str(cell)).replace("\n", "\\n") for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        is_number = bool(lines) and all(line[index].rstrip("%").replace(",", "").isdigit() for line in lines)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    _console().print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values below each other, those without a value left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts:
        if value not in (None, "", [], {}):
            table.add_row(Text(name, style="bold"), Text(clean(str(value))))
    _console().print(table)


def show_line(text: str, *, style: str = "") -> None:
    """Print one line that is never broken, so that it can be copied."""
    _console().print(Text(clean(text), style=style), soft_wrap=True)


def show_error(text: str) -> None:
    """Print *text* in red on stderr; a log gets it on one line."""
    _console(stderr=True).print(Text(clean(text), style="red"), soft_wrap=not sys.stderr.isatty())


def show_note(text: str) -> None:
    """Print *text* on stderr, out of the way of results."""
    _console(stderr=True).print(Text(clean(text)), soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def clean(text: str) -> str:
    """Return *text* without what would steer the terminal, or looks like nothing."""
    if text.isprintable() and BLANKS.isdisjoint(text):
        return text
    return "".join(each if _is_seen(each) or each in "\n\t" else ascii(each)[1:-1] for each in text)


def _is_seen(letter: str) -> bool:
    return letter.isprintable() and letter not in BLANKS


def ago(moment: float | None) -> str:
    """Return how long ago *moment* was, as people say it."""
    return duration(time.time() - moment) + " ago" if moment else ""


def duration(seconds: float) -> str:
    """Return *seconds* in the two units that matter."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
