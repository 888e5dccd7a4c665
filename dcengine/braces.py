"""Brace patterns such as ``s3://x/{00000..41454}.tar``: how many texts one stands for, and which. No I/O.

The rules are those of the shell: lists ``{a,b}``, ranges ``{1..9}``, ``{001..100..5}`` and ``{a..z}``, inside and
beside each other. A backslash before a brace, a comma or a backslash makes it an ordinary character.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from .errors import InvalidOption, InvalidPattern

LIMIT = 100_000_000  #: texts that one pattern may stand for
DEPTH_LIMIT = 50  #: braces inside each other
TAIL = 4096  #: texts made once and put behind many

_NUMBERS = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")
_LETTERS = re.compile(r"(?=[a-z]..[a-z]|[A-Z]..[A-Z])(.)\.\.(.)(?:\.\.(-?\d{1,18}))?")
_SPECIAL = re.compile(r"[{},\\]")


class Numbers(msgspec.Struct, frozen=True):
    """A range of whole numbers, filled up with zeros to *width*."""

    values: range
    width: int = 0

    def count(self) -> int:
        return len(self.values)

    def texts(self) -> Iterator[str]:
        return (str(number).zfill(self.width) for number in self.values) if self.width else map(str, self.values)


class Letters(msgspec.Struct, frozen=True):
    """A range of letters."""

    values: range

    def count(self) -> int:
        return len(self.values)

    def texts(self) -> Iterator[str]:
        return map(chr, self.values)


class Choice(msgspec.Struct, frozen=True):
    """One after the other of some sequences."""

    options: tuple[Row, ...]

    def count(self) -> int:
        return sum(option.count() for option in self.options)

    def texts(self) -> Iterator[str]:
        return chain.from_iterable(option.texts() for option in self.options)


class Row(msgspec.Struct, frozen=True):
    """Literal texts and braces behind each other."""

    parts: tuple[Part, ...]

    def count(self) -> int:
        return math.prod(1 if isinstance(part, str) else part.count() for part in self.parts)

    def texts(self) -> Iterator[str]:
        return _product(self.parts)


Part = str | Numbers | Letters | Choice


def parse(pattern: str) -> Row:
    """Return what *pattern* stands for.

    Raises `InvalidPattern` for one that is not closed, has no braces, or braces around neither a list nor a range,
    and `InvalidOption` for one that stands for more than `LIMIT` texts.
    """
    found = _Parser(pattern).parse()
    if all(isinstance(part, str) for part in found.parts):
        raise InvalidPattern(pattern, 0, "no braces")
    count = found.count()
    if count > LIMIT:
        shown = f"{count:,}" if count < 10**30 else f"over 10^{len(str(count)) - 1}"
        raise InvalidOption(
            "a brace pattern", repr(pattern[:200]), f"one for at most {LIMIT:,} items; this one stands for {shown}"
        )
    return found


def _product(parts: Sequence[Part]) -> Iterator[str]:
    """Yield every text of *parts*; the last part changes fastest."""
    if not parts:
        yield ""
        return
    head, rest = parts[0], Row(tuple(parts[1:]))
    heads = (head,) if isinstance(head, str) else head.texts()
    tails = list(rest.texts()) if rest.count() <= TAIL else None
    for text in heads:
        for tail in rest.texts() if tails is None else tails:
            yield text + tail


class _Parser:
    """Reads one pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def parse(self) -> Row:
        found = self._sequence(",")  # outside of braces a comma is an ordinary character
        if self._at < len(self._pattern):
            raise self._wrong(self._at, "a closing brace that closes nothing")
        return found

    def _sequence(self, ordinary: str = "") -> Row:
        """Read up to a comma or closing brace, or the end."""
        parts: list[Part] = []
        text = ""
        while (found := _SPECIAL.search(self._pattern, self._at)) is not None:
            text += self._pattern[self._at : found.start()]
            self._at = found.start()
            mark = found[0]
            if mark == "\\" or mark in ordinary:
                text += self._literal()
            elif mark == "{":
                parts += [text] if text else []
                parts.append(self._brace())
                text = ""
            else:
                break
        else:
            text += self._pattern[self._at :]
            self._at = len(self._pattern)
        parts += [text] if text else []
        return Row(tuple(parts))

    def _literal(self) -> str:
        """Take one character as it is, without the backslash before it."""
        if self._pattern[self._at] == "\\" and _SPECIAL.match(self._pattern, self._at + 1):
            self._at += 1
        self._at += 1
        return self._pattern[self._at - 1]

    def _brace(self) -> Part:
        """Read a list or a range in braces."""
        begin = self._at
        if self._depth >= DEPTH_LIMIT:
            raise self._wrong(begin, f"more than {DEPTH_LIMIT} braces inside each other")
        end = self._pattern.find("}", begin)
        inside = self._pattern[begin + 1 : end]
        if end > 0 and (found := _range(inside)) is not None:
            self._at = end + 1
            return found
        self._depth += 1
        options = self._options(begin)
        self._depth -= 1
        if len(options) == 1:
            raise self._wrong(begin, "braces around neither a list such as {a,b} nor a range such as {001..100}")
        return Choice(tuple(options))

    def _options(self, begin: int) -> list[Row]:
        """Read what is between commas, up to the closing brace."""
        options: list[Row] = []
        while True:
            self._at += 1  # the brace or comma before it
            options.append(self._sequence())
            if self._at >= len(self._pattern):
                raise self._wrong(begin, "a brace that is not closed")
            if self._pattern[self._at] == "}":
                self._at += 1
                return options

    def _wrong(self, position: int, problem: str) -> InvalidPattern:
        return InvalidPattern(self._pattern, position, problem)


def _range(text: str) -> Numbers | Letters | None:
    """Return the range that *text* says, None if it says none."""
    if found := _NUMBERS.fullmatch(text):
        first, last = found[1], found[2]
        is_padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-")[0] == "0" for end in (first, last))
        return Numbers(_steps(int(first), int(last), found[3]), max(len(first), len(last)) if is_padded else 0)
    if found := _LETTERS.fullmatch(text):
        return Letters(_steps(ord(found[1]), ord(found[2]), found[3]))
    return None


def _steps(first: int, last: int, step: str | None) -> range:
    """Return the whole numbers from *first* to *last*, in whichever direction; the sign of *step* does not matter."""
    size = abs(int(step or 1)) or 1
    return range(first, last + 1, size) if first <= last else range(first, last - 1, -size)
