"""What items can be imported from: a JSON list, lines of text or JSON, a brace pattern.

Each source is read piece by piece, so that ten million items take no more memory than a thousand.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from . import braces
from .errors import InvalidOption, InvalidSource

PIECE = 1 << 20  #: bytes that are read at once
LONGEST = 64 << 20  #: characters, or bytes of a line, that one item may take in a file
BOM = codecs.BOM_UTF8

_BLANK = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_decode = msgspec.json.Decoder().decode


class Source(Protocol):
    """Items in their order. It can be iterated once."""

    name: str | None  #: what is the same when the same is imported again; None if nothing is
    title: str  #: for people
    total: int | None  #: how much there is, in bytes or items; None if nobody knows
    done: int  #: how much of it has been read

    @property
    def note(self) -> str:
        """What its reader should know at its end."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Pattern:
    """The texts that a brace pattern stands for."""

    note = ""

    def __init__(self, pattern: str) -> None:
        self._row = braces.parse(pattern)
        self.name: str | None = f"brace {pattern}"
        self.title = pattern
        self.total: int | None = self._row.count()
        self.done = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._row.texts():
            self.done += 1
            yield text


class _File:
    """A file, or standard input, read piece by piece."""

    kind = ""
    note = ""

    def __init__(self, path: str) -> None:
        self._file = _opened(path, f"--{self.kind}")
        found = _status(self._file)
        is_plain = path != "-" and found is not None and stat.S_ISREG(found.st_mode)
        # The name of a pipe, such as the shell's /dev/fd/63, says nothing of what comes out of it.
        self.name = f"{self.kind} {Path(path).resolve()}" if is_plain else None
        self.title = "standard input" if path == "-" else path
        self.total = found.st_size if is_plain and found is not None else None
        self.done = 0

    def _pieces(self) -> Iterator[bytes]:
        """Yield the file piece by piece, without the mark that some editors put before UTF-8."""
        try:
            while piece := self._read():
                is_first = not self.done
                self.done += len(piece)
                yield piece.removeprefix(BOM) if is_first else piece
        finally:
            if self._file is not sys.stdin.buffer:
                self._file.close()

    def _read(self) -> bytes:
        try:
            return self._file.read1(PIECE)  # type: ignore[attr-defined, no-any-return]
        except OSError as error:
            raise self._wrong(f"cannot be read any further: {error.strerror or error}") from error

    def _wrong(self, problem: str) -> InvalidSource:
        return InvalidSource(self.title, problem)


class Lines(_File):
    """The lines of a text, each without its end; one that is empty is an item too."""

    kind = "txt"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._lines = 0  #: before the piece that is being read
        self._empty = 0

    @property
    def note(self) -> str:  # type: ignore[override]
        return f"empty lines among the items: {self._empty:,}" if self._empty else ""

    def __iter__(self) -> Iterator[Any]:
        for whole in self._whole_lines():
            yield from self._items(self._text(whole))
            self._lines += whole.count(b"\n")

    def _items(self, text: str) -> Iterator[Any]:
        lines = _split(text)
        self._empty += lines.count("")
        yield from lines

    def _whole_lines(self) -> Iterator[bytes]:
        """Yield the file in pieces that end where a line ends."""
        rest: list[bytes] = []
        size = 0
        for piece in self._pieces():
            cut = piece.rfind(b"\n") + 1
            size += cut or len(piece)
            if size > LONGEST:
                raise self._wrong(f"line {self._lines + 1:,} is longer than {LONGEST:,} bytes")
            rest.append(piece[:cut] if cut else piece)
            if cut:
                yield b"".join(rest)
                rest, size = [piece[cut:]], len(piece) - cut
        if size:
            yield b"".join(rest)

    def _text(self, whole: bytes) -> str:
        try:
            return whole.decode()
        except UnicodeDecodeError as error:
            line = self._lines + whole.count(b"\n", 0, error.start) + 1
            column = error.start - whole.rfind(b"\n", 0, error.start)
            raise self._wrong(f"line {line:,} is no UTF-8 text, from its byte {column:,} on") from None


class JsonLines(Lines):
    """The JSON values of a text, one on each line; empty lines hold none."""

    kind = "ndjson"

    def _items(self, text: str) -> Iterator[Any]:
        for place, line in enumerate(_split(text), self._lines + 1):
            if line and not line.isspace():
                yield self._value(line, place)

    def _value(self, line: str, place: int) -> Any:
        try:
            return _decode(line)
        except (msgspec.DecodeError, RecursionError):
            return self._unusual(line, place)

    def _unusual(self, line: str, place: int) -> Any:
        """Return the value on *line* by the rules of Python's json, which takes NaN and lone surrogates too."""
        try:
            return json.loads(line)
        except RecursionError:
            raise self._wrong(f"line {place:,} is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise self._wrong(f"line {place:,} is no JSON: {_said(error)} at its character {error.pos + 1:,}") from None


def _split(text: str) -> list[str]:
    """Return the lines of *text*; no other character than a line feed ends one."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # what is behind the last line's end
    if "\r" in text:
        return [line.removesuffix("\r") for line in lines]
    return lines


class JsonList(_File):
    """The values of a JSON list."""

    # The scanner of Python's json finds where a value ends, on text that is read as far as it is needed. A streaming
    # parser (ijson on yajl was tried) turns lone surrogates into question marks and refuses large numbers and NaN.

    kind = "json"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._text = ""
        self._at = 0  #: up to where the text has been read
        self._line, self._column = 1, 1  #: where the text begins in the file
        self._is_first = True  #: nothing of the list has been read
        self._is_whole = False  #: the text goes up to the end of the file

    def __iter__(self) -> Iterator[Any]:
        self._more = self._texts()
        self._begin()
        while not self._is_at_end():
            yield self._value()
            while (found := _COMMA.match(self._text, self._at)) and found.end() < len(self._text):
                self._at = found.end()
                yield self._value()
        self._at += 1
        if self._next_mark():
            raise self._broken("something stands behind the list", self._at)

    def _begin(self) -> None:
        mark = self._next_mark()
        if not mark:
            raise self._wrong("it is empty, not a JSON list")
        if mark != "[":
            raise self._broken(f"it is not a JSON list, which begins with '[': {mark!r} stands", self._at)
        self._at += 1

    def _is_at_end(self) -> bool:
        """Go to the next value; tell whether the list ends instead."""
        mark = self._next_mark()
        if self._is_first:
            self._is_first = False
            return mark == "]"
        if mark == ",":
            self._at += 1
            self._next_mark()
        elif mark != "]":
            raise self._broken("',' or ']' is missing" if mark else "the list ends too early", self._at)
        return mark == "]"

    def _next_mark(self) -> str:
        """Return the next character that is not blank; nothing at the end of the file."""
        while True:
            self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _value(self) -> Any:
        """Read the value that begins here; more of the file where it may go on there."""
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except RecursionError:
                raise self._broken("an item is nested too deeply", self._at) from None
            except (StopIteration, json.JSONDecodeError) as error:
                if not self._may_be_cut(error) or not self._fill():
                    raise self._unreadable(error) from None
                continue
            # A number may go on; it does not where more characters follow than the longest "e+" of one.
            if end >= len(self._text) - 2 and self._fill():
                continue
            if end == len(self._text):  # what was cut off may have been a part of it
                raise self._broken("the list ends too early", end)
            self._at = end
            return value

    def _may_be_cut(self, error: StopIteration | json.JSONDecodeError) -> bool:
        """Tell whether *error* may be one only because the text ends too early."""
        if isinstance(error, StopIteration):
            return len(self._text) - int(error.value) < len("-Infinity")
        return error.msg.startswith("Unterminated") or len(self._text) - error.pos < len("\\ud800\\udc00")

    def _unreadable(self, error: StopIteration | json.JSONDecodeError) -> InvalidSource:
        if isinstance(error, StopIteration):
            at = int(error.value)
            return self._broken("no JSON value begins" if at < len(self._text) else "the list ends too early", at)
        return self._broken(_said(error), error.pos)

    def _broken(self, problem: str, at: int) -> InvalidSource:
        line, column = self._place(at)
        return self._wrong(f"{problem} at line {line:,}, character {column:,}")

    def _place(self, at: int) -> tuple[int, int]:
        """Return line and column of the character *at* of the text."""
        lines = self._text.count("\n", 0, at)
        if not lines:
            return self._line, self._column + at
        return self._line + lines, at - self._text.rfind("\n", 0, at)

    def _fill(self) -> bool:
        """Forget what has been read and read on, at least as much as is left; return whether there was more."""
        if self._is_whole:
            return False
        left = len(self._text) - self._at
        if left > LONGEST:
            raise self._broken(f"an item is longer than {LONGEST:,} characters", self._at)
        parts: list[str] = []
        size = 0
        while size <= left and not self._is_whole:
            text = next(self._more, None)
            self._is_whole = text is None
            parts.append(text or "")
            size += len(parts[-1])
        if size:
            self._line, self._column = self._place(self._at)
            self._text, self._at = "".join([self._text[self._at :], *parts]), 0
        return size > 0

    def _texts(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for piece in self._pieces():
            yield self._decoded(decoder, piece)
        yield self._decoded(decoder, b"", final=True)

    def _decoded(self, decoder: codecs.IncrementalDecoder, piece: bytes, *, final: bool = False) -> str:
        pending = len(decoder.getstate()[0])
        try:
            return decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            place = self.done - len(piece) - pending + error.start + 1
            raise self._wrong(f"it is no UTF-8 text, from its byte {place:,} on") from None


def opened(kind: str, place: str) -> Source:
    """Return the source of *kind* at *place*: a pattern for ``brace``, else a file, or ``-`` for standard input.

    Raises `InvalidOption` for a file that cannot be read, and what `braces.parse` raises.
    """
    if kind == "brace":
        return Pattern(place)
    kinds: dict[str, type[JsonList | Lines]] = {"json": JsonList, "ndjson": JsonLines, "txt": Lines, "-": Lines}
    return kinds[kind](place)


def _said(error: json.JSONDecodeError) -> str:
    return f"{error.msg[0].lower()}{error.msg[1:].removesuffix(' starting at').removesuffix(' at')}"


def _opened(path: str, option: str) -> IO[bytes]:
    if path == "-":
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise InvalidOption(option, repr(path), f"a file that can be read: {error.strerror or error}") from None


def _status(file: IO[bytes]) -> Any:
    try:
        return os.fstat(file.fileno())
    except OSError:  # not a file of the system's
        return None
