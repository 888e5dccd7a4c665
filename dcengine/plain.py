"""Text from outside made safe to show, and small tables of it.

Nicknames, tags, names of functions and messages of errors come from people nobody knows: they may hold what
steers a terminal, reverses the line around them, or looks like nothing at all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 200  #: characters of one text that are shown
MARKS = 2  #: accents one letter may carry; more of them cover the lines above
BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  #: letters that look like nothing


def clean(text: str, limit: int = LONGEST) -> str:
    """Return *text* on one line, cut to *limit* characters, with what cannot be seen written out."""
    cut = text[: 4 * limit]  # enough of it: shown letters may be wider than they were, never narrower but for space
    shown: list[str] = []
    marks = 0
    for letter in " ".join(cut.split()):
        marks = marks + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        if marks <= MARKS:
            shown.append(letter if letter.isprintable() and letter not in BLANKS else ascii(letter)[1:-1])
    line = "".join(shown)
    return line if len(line) <= limit and len(cut) == len(text) else f"{line[: limit - 1]}…"


def width(text: str) -> int:
    """Return how many columns *text* takes in a terminal."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> str:
    """Return *rows* below *columns*, aligned; those named in *numbers* are set to the right."""
    lines = [list(columns), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(width(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(
        "  ".join(
            _set(cell, size, to_the_right=name in numbers)
            for cell, size, name in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )


def _set(cell: str, size: int, *, to_the_right: bool) -> str:
    blank = " " * (size - width(cell))
    return blank + cell if to_the_right else cell + blank
