"""What programs print for terminals, as HTML with its colours and as plain text. No input, no output."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import escape

from rich.ansi import AnsiDecoder
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from dcengine.plain import BLANKS, MARKS

# Of middling brightness: legible on light and on dark grounds.
_COLOURS = [
    (128, 128, 128), (205, 64, 64), (46, 150, 80), (176, 128, 20), (60, 125, 210), (170, 80, 170), (30, 150, 160),
    (140, 140, 140),
]  # fmt: skip
THEME = TerminalTheme((255, 255, 255), (128, 128, 128), _COLOURS, _COLOURS)
# What rich does not take for steering: commands of the operating system that end with a bell, strings, C1 codes.
STEERING = re.compile(r"\x1b\].*?(?:\x07|\x1b\\)|\x1b[PX^_].*?\x1b\\|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL)


def html_of(text: str) -> str:
    """Return *text* as HTML: its colours, and nothing else that it says to a terminal."""
    return "\n".join("".join(_span(part, style) for part, style in _parts(line)) for line in _lines(text))


def text_of(text: str) -> str:
    """Return *text* without its colours and whatever else it says to a terminal."""
    return "\n".join(visible(line.plain) for line in _lines(text))


def visible(text: str) -> str:
    """Return *text* with what cannot be seen written out; blanks and tabs stay."""
    shown, marks = list[str](), 0
    for letter in text.expandtabs(4):
        marks = marks + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        is_seen = letter.isprintable() and letter not in BLANKS and marks <= MARKS
        shown.append(letter if is_seen else "" if marks > MARKS else ascii(letter)[1:-1])
    return "".join(shown)


def _lines(text: str) -> list[Text]:
    decoder = AnsiDecoder()
    plain = STEERING.sub("", text).replace("\r\n", "\n")
    return [decoder.decode_line(line.rstrip("\r")) for line in plain.split("\n")]


def _parts(line: Text) -> Iterator[tuple[str, Style]]:
    """Yield the parts of *line* with the style of each: they follow each other, and none is within another."""
    begin = 0
    for span in line.spans:
        if span.start > begin:
            yield line.plain[begin : span.start], Style.null()
        yield line.plain[span.start : span.end], span.style if isinstance(span.style, Style) else Style.null()
        begin = span.end
    if begin < len(line.plain):
        yield line.plain[begin:], Style.null()


def _span(text: str, style: Style) -> str:
    said = escape(visible(text))
    rules = style.without_color.get_html_style(THEME) if style.reverse else style.get_html_style(THEME)
    if style.reverse:  # the colours around it are the front end's
        rules = f"outline:1px solid;{rules}"
    return f'<span style="{escape(rules)}">{said}</span>' if rules else said
