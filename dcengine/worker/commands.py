"""What a command is given for one task, and what its end says of that task. No process is started here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from ..codec import json_text, pack_json
from ..errors import InvalidOption, PayloadTooLarge
from ..plain import clean

INVALID_INPUT = 65  #: the exit code EX_DATAERR of <sysexits.h>: the input is bad
REASON_LIMIT = 1900  #: characters of a reason; the engine takes 2,000
LAST_LIMIT = 300  #: of the last line, where it stands for all of it
SHOWN_LIMIT = 60  #: characters of an argument in an error
EXPECTED = (
    "{input}, {file}, {output}, {job} or {number} wherever braces stand; a brace that is meant as such is doubled: {{"
)

_INPUTS = frozenset({"input", "file"})
_NAMES = frozenset({*_INPUTS, "output", "job", "number"})


class Verdict(Enum):
    """What is to be said of a task."""

    COMPLETE = "done"
    FAIL = "failed"
    FLAG = "flagged"
    RETURN = "returned"  #: for somebody else to do it


class Judgement(NamedTuple):
    """What is to be said of a task, and why."""

    verdict: Verdict
    output: bytes = b""  #: JSON text, of a task that is complete
    reason: str = ""  #: of any other


class End(NamedTuple):
    """How a command ended."""

    code: int  #: its exit code; below zero the signal that ended it
    cause: str  #: the same in words
    reason: str = ""  #: what it gave as the reason
    messages: str = ""  #: the end of what it wrote to stderr

    def told(self) -> str:
        """Return the reason in its own words: the last line first, since lists of failures show one line."""
        if self.reason or "\n" not in self.messages:
            return self.reason or self.messages
        return "\n".join([self.messages.rpartition("\n")[2][:LAST_LIMIT], self.messages])

    def why(self) -> str:
        """Return all that is known of why it ended so."""
        return ": ".join(part for part in (self.cause, self.told()) if part)[:REASON_LIMIT]


class CommandLine:
    """A command and its arguments, with places for what differs from task to task.

    Raises `InvalidOption` where the braces cannot be understood, or there is no such program.
    """

    def __init__(self, words: Sequence[str]) -> None:
        if not words:
            raise InvalidOption("the command", "empty", "a program and its arguments, behind --")
        self._words = list(words)
        self.places = frozenset(place for word in words for place in _places_in(word))
        if _places_in(words[0]):
            raise InvalidOption("the program", repr(words[0]), "one that is the same for all tasks")
        if shutil.which(words[0].format()) is None:
            raise InvalidOption("the command", repr(words[0]), "a program that can be run here, by its name or path")

    @property
    def takes_input(self) -> bool:
        """Whether the arguments say where the input is; on stdin there is none then."""
        return bool(self.places & _INPUTS)

    def filled(self, **values: object) -> list[str]:
        """Return the arguments for one task. Raises `InvalidOption` for a value that no argument can be."""
        words = [word.format_map(values) for word in self._words]
        for word in words:
            if "\0" in word:
                raise InvalidOption("an argument", "a text with a NUL in it", "{file} in place of {input}, or stdin")
        return words

    def __str__(self) -> str:
        return clean(" ".join(self._words))


def _places_in(word: str) -> frozenset[str]:
    """Return the names in braces in *word*."""
    shown = repr(word[:SHOWN_LIMIT])
    try:
        parts = list(Formatter().parse(word))
    except ValueError:
        raise InvalidOption("the argument", shown, EXPECTED) from None
    for _, name, details, conversion in parts:
        if name is not None and (name not in _NAMES or details or conversion):
            raise InvalidOption("the argument", shown, EXPECTED)
    return frozenset(name for _, name, _, _ in parts if name is not None)


# ---- values --------------------------------------------------------------------------------


def text_of(raw: str) -> bytes:
    """Return the input whose JSON text is *raw* as a command gets it: a text as such, anything else as JSON."""
    if not raw.startswith('"'):
        return raw.encode()
    text: str = json.loads(raw)
    try:
        return text.encode("utf-8", "surrogateescape")  # what `json_of` made of bytes becomes them again
    except UnicodeEncodeError:  # half of a character beyond the first 65,536
        return text.encode("utf-8", "surrogatepass")


def line_of(text: bytes) -> bytes:
    """Return *text* as it stands on stdin: with a newline at its end, as `echo` writes it."""
    return text if text.endswith(b"\n") else text + b"\n"


def json_of(text: bytes, *, as_json: bool) -> bytes:
    """Return the JSON text of what a command has written as the output of its task.

    What is not UTF-8 becomes half characters, as in Python's file names. Raises `ValueError` for what is no JSON.
    """
    if not as_json:
        return json_text(pack_json(text.decode("utf-8", "surrogateescape"), what="the output"))
    try:
        json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return text.strip()


# ---- judging -------------------------------------------------------------------------------


def judged(end: End, text: bytes | PayloadTooLarge, *, as_json: bool) -> Judgement:
    """Return what is to be said of the task whose command ended so and wrote *text*."""
    if end.code == INVALID_INPUT:
        return Judgement(Verdict.FLAG, reason=(end.told() or end.cause)[:REASON_LIMIT])
    if isinstance(text, PayloadTooLarge):
        return Judgement(Verdict.FAIL, reason=f"{text}")
    if end.code != 0:
        return Judgement(Verdict.FAIL, reason=end.why())
    try:
        return Judgement(Verdict.COMPLETE, output=json_of(text, as_json=as_json))
    except ValueError as error:
        return Judgement(Verdict.FAIL, reason=f"what the command wrote is no JSON value: {error}"[:REASON_LIMIT])


def file_text(path: Path, limit: int) -> bytes | PayloadTooLarge | None:
    """Return what a command wrote to *path*; None if it wrote nothing there."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    return path.read_bytes() if size <= limit else PayloadTooLarge("the output of the command", size, limit)
