"""Expressions, read from what people write. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from ..errors import InvalidTags
from .expressions import (
    BARE_VALUE,
    Anything,
    Comparison,
    Devices,
    Either,
    Every,
    Expression,
    InSession,
    Negation,
    Present,
    flat,
)
from .offers import NAME, QUOTED_VALUE
from .quantities import has_unit, quantity, version

LENGTH_LIMIT = 4096  #: characters of an expression
DEPTH_LIMIT = 50  #: parentheses and negations inside each other
DEVICES_LIMIT = 1024  #: devices of one kind that a task may ask for

SESSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  #: names of sessions

_COUNT = re.compile(r"[0-9]{1,6}")
_OPERATOR = re.compile(r"==|!=|>=|<=|>|<|=")
_SPACED_QUANTITY = re.compile(r"\d+(?:\.\d+)?[ \t]+[A-Za-z]+")


@lru_cache(1024)
def parse(expression: str) -> Expression:
    """Return *expression* ready to match; the empty one matches every worker.

    Raises `InvalidTags` that names the position.
    """
    return _Reader(expression).read()


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def read(self) -> Expression:
        if len(self._text) > LENGTH_LIMIT:
            raise InvalidTags(f"{self._text[:60]}...", 0, f"more than {LENGTH_LIMIT:,} characters")
        self._skip_space()
        if self._at == len(self._text):
            return Anything()
        expression = self._either()
        if self._at < len(self._text):
            raise self._unexpected()
        if _is_buried(expression):
            at = self._text.index("devices")
            raise self._wrong("devices(...) stands beside the other clauses, joined by &, not below | or !", at)
        return expression

    def _either(self) -> Expression:
        parts = [self._every()]
        while self._take("|"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Either(flat(parts, Either))

    def _every(self) -> Expression:
        parts = [self._one()]
        while self._take("&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Every(flat(parts, Every))

    def _one(self) -> Expression:
        if self._take("!"):
            return Negation(self._nested(self._one))
        if self._take("("):
            opened = self._at - 1
            inside = self._nested(self._either)
            if not self._take(")"):
                raise self._unexpected() if self._at < len(self._text) else self._wrong("this ( is not closed", opened)
            return inside
        return self._clause()

    def _nested(self, read: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self._wrong(f"more than {DEPTH_LIMIT} levels of parentheses and !")
        inside = read()
        self._depth -= 1
        return inside

    def _clause(self) -> Expression:
        name = self._match(NAME)
        if name is None:
            raise self._wrong("a tag is missing")
        if name == "devices" and self._take("("):
            return self._devices()
        if name == "session" and self._take("("):
            return self._session()
        operator = self._match(_OPERATOR)
        if operator is None:
            return Present(name)
        at = self._at
        value = self._value()
        if operator not in ("=", "==", "!="):
            self._check_ordered(value, at)
        return Comparison(name, "==" if operator == "=" else operator, value)

    def _devices(self) -> Expression:
        kind = self._match(NAME)
        if kind is None or not self._take("="):
            raise self._wrong("devices are written like devices(gpu=1)")
        at, count = self._at, self._match(_COUNT)
        if count is None or not 0 < int(count) <= DEVICES_LIMIT:
            raise self._wrong(f"a number of devices is from 1 to {DEVICES_LIMIT}", at)
        if not self._take(")"):
            raise self._wrong("this devices( is not closed; another kind is asked for by another devices(...)")
        return Devices(kind, int(count))

    def _session(self) -> Expression:
        name = self._match(SESSION)
        if name is None or not self._take(")"):
            raise self._wrong("a session is written like session(training)")
        return InSession(name)

    def _value(self) -> str:
        quoted = QUOTED_VALUE.match(self._text, self._at)
        if quoted is not None:
            self._advance(quoted.end())
            return quoted[1] if quoted[1] is not None else quoted[2]
        if self._text[self._at : self._at + 1] in ("'", '"'):
            raise self._wrong("this quotation mark is not closed")
        spaced = _SPACED_QUANTITY.match(self._text, self._at)
        if spaced is not None and has_unit(spaced[0]):
            self._advance(spaced.end())
            return re.sub(r"\s+", "", spaced[0])
        value = self._match(BARE_VALUE)
        if value is None:
            raise self._wrong("a value is missing")
        return value

    def _check_ordered(self, value: str, at: int) -> None:
        if quantity(value) is None and version(value) is None:
            units = "k, M, G, T, KiB, MiB, GiB, TiB"
            raise self._wrong(f"{value!r} is neither a number (units: {units}) nor a version", at)

    # -- moving on

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._advance(self._at + 1)
        return True

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._advance(match.end())
        return match[0]

    def _advance(self, to: int) -> None:
        self._at = to
        self._skip_space()

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _unexpected(self) -> InvalidTags:
        sign = self._text[self._at]
        if sign in ",;":
            return self._wrong("use & between clauses")
        if NAME.match(sign):
            return self._wrong("& or | is missing")
        return self._wrong(f"{sign!r} has no place here")

    def _wrong(self, problem: str, at: int | None = None) -> InvalidTags:
        return InvalidTags(self._text, self._at if at is None else at, problem)


def _asks_for_devices(expression: Expression) -> bool:
    if isinstance(expression, Negation):
        return _asks_for_devices(expression.part)
    if isinstance(expression, Every | Either):
        return any(map(_asks_for_devices, expression.parts))
    return isinstance(expression, Devices)


def _is_buried(expression: Expression) -> bool:
    """Tell whether devices are asked for where they may not be needed: below | or !."""
    clauses = expression.parts if isinstance(expression, Every) else (expression,)
    return any(_asks_for_devices(clause) for clause in clauses if not isinstance(clause, Devices))
