"""Tags: what jobs ask of workers. No I/O.

An expression is made of clauses (``gpu``, ``gpu.memory>=16GiB``, ``python==3.11.*``, ``site==lab``),
joined by ``&`` and ``|``, negated by ``!``, grouped by parentheses; ``&`` binds tighter than ``|``.
``devices(gpu=1)`` asks for so many of a worker's devices for a task alone, ``session(NAME)`` for the worker where
that session is; they stand beside the others, joined by ``&``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import InvalidOption, InvalidTags
from .offers import NAME, QUOTED_VALUE, Offer, devices_offered
from .quantities import compare, has_unit, quantity, version

LENGTH_LIMIT = 4096  #: characters of an expression
DEPTH_LIMIT = 50  #: parentheses and negations inside each other
DEVICES_LIMIT = 1024  #: devices of one kind that a task may ask for

LOOKED_UP = re.compile(r"(?:pkg|exe)\.[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  #: tags that are looked for on demand

SESSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  #: names of sessions

_COUNT = re.compile(r"[0-9]{1,6}")
_OPERATOR = re.compile(r"==|!=|>=|<=|>|<|=")
_SPACED_QUANTITY = re.compile(r"\d+(?:\.\d+)?[ \t]+[A-Za-z]+")
_BARE_VALUE = re.compile(r"[^\s&|!()<>=,;\"']+")


# ---- expressions ---------------------------------------------------------------------------


class Expression(ABC):
    """What a job asks of a worker. `str()` gives its canonical text, which parses to an equal expression."""

    @abstractmethod
    def matches(self, offered: Offer) -> bool:
        """Tell whether a worker that offers *offered* will do."""

    def lacking(self, offered: Offer) -> list[Expression]:
        """Return the fewest clauses that a worker with *offered* lacks; none if it matches."""
        return [] if self.matches(offered) else [self]

    def names(self) -> frozenset[str]:
        """Return the names of all tags that it mentions."""
        return frozenset()


@dataclass(frozen=True)
class Anything(Expression):
    """The empty expression: every worker will do."""

    def matches(self, offered: Offer) -> bool:
        return True

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class Present(Expression):
    """The tag is there, with or without a value."""

    name: str

    def matches(self, offered: Offer) -> bool:
        return self.name in offered

    def names(self) -> frozenset[str]:
        return frozenset((self.name,))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Comparison(Expression):
    """The tag has a value that compares so. False when it is missing or has no value."""

    name: str
    operator: str
    value: str

    def matches(self, offered: Offer) -> bool:
        found = offered.get(self.name)
        return found is not None and compare(found, self.operator, self.value)

    def names(self) -> frozenset[str]:
        return frozenset((self.name,))

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{_quoted(self.value)}"


@dataclass(frozen=True)
class Devices(Expression):
    """The worker has so many devices of a kind, which the task is to have for itself alone."""

    kind: str
    count: int

    def matches(self, offered: Offer) -> bool:
        return devices_offered(offered, self.kind) >= self.count

    def __str__(self) -> str:
        return f"devices({self.kind}={self.count})"


@dataclass(frozen=True)
class InSession(Expression):
    """The task is to run where a session is; any worker may begin one, so the engine knows which."""

    name: str

    def matches(self, offered: Offer) -> bool:
        return True

    def __str__(self) -> str:
        return f"session({self.name})"


@dataclass(frozen=True)
class Negation(Expression):
    """The part is false."""

    part: Expression

    def matches(self, offered: Offer) -> bool:
        return not self.part.matches(offered)

    def names(self) -> frozenset[str]:
        return self.part.names()

    def __str__(self) -> str:
        return f"!{_grouped(self.part, (Every, Either, Comparison))}"


@dataclass(frozen=True)
class Every(Expression):
    """All parts are true."""

    parts: tuple[Expression, ...]

    def matches(self, offered: Offer) -> bool:
        return all(part.matches(offered) for part in self.parts)

    def lacking(self, offered: Offer) -> list[Expression]:
        return [clause for part in self.parts for clause in part.lacking(offered)]

    def names(self) -> frozenset[str]:
        return frozenset().union(*(part.names() for part in self.parts))

    def __str__(self) -> str:
        return " & ".join(_grouped(part, (Either,)) for part in self.parts)


@dataclass(frozen=True)
class Either(Expression):
    """At least one part is true."""

    parts: tuple[Expression, ...]

    def matches(self, offered: Offer) -> bool:
        return any(part.matches(offered) for part in self.parts)

    def lacking(self, offered: Offer) -> list[Expression]:
        return min((part.lacking(offered) for part in self.parts), key=len)

    def names(self) -> frozenset[str]:
        return frozenset().union(*(part.names() for part in self.parts))

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts))


def _grouped(part: Expression, kinds: tuple[type[Expression], ...]) -> str:
    return f"({part})" if isinstance(part, kinds) else str(part)


def _quoted(value: str) -> str:
    if _BARE_VALUE.fullmatch(value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


# ---- reading expressions -------------------------------------------------------------------


@lru_cache(1024)
def parse(expression: str) -> Expression:
    """Return *expression* ready to match; the empty one matches every worker.

    Raises `InvalidTags` that names the position.
    """
    return _Reader(expression).read()


@lru_cache(1024)
def looked_up(expression: str) -> frozenset[str]:
    """Return the names in *expression* that workers are asked for only when somebody mentions them."""
    return frozenset(name for name in parse(expression).names() if LOOKED_UP.fullmatch(name))


def with_versions(expression: str, packages: Mapping[str, str]) -> str:
    """Return *expression* that asks for exactly these versions of *packages* too."""
    if not packages:
        return expression
    parsed = parse(expression)
    clauses = [] if isinstance(parsed, Anything) else [parsed]
    exactly = [Comparison(f"pkg.{name}", "==", version) for name, version in sorted(packages.items())]
    return str(Every(_flat([*clauses, *exactly], Every)))


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
        return parts[0] if len(parts) == 1 else Either(_flat(parts, Either))

    def _every(self) -> Expression:
        parts = [self._one()]
        while self._take("&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Every(_flat(parts, Every))

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
        value = self._match(_BARE_VALUE)
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


def _flat(parts: list[Expression], kind: type[Every] | type[Either]) -> tuple[Expression, ...]:
    """Return *parts* with those of the same kind opened, since (a & b) & c is a & b & c."""
    return tuple(inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,)))


def devices_of(expression: str) -> dict[str, int]:
    """Return how many devices of each kind *expression* asks for; raises `InvalidTags`."""
    parsed = parse(expression)
    clauses = parsed.parts if isinstance(parsed, Every) else (parsed,)
    asked: dict[str, int] = {}
    for clause in clauses:
        if isinstance(clause, Devices):
            asked[clause.kind] = asked.get(clause.kind, 0) + clause.count
    return asked


def with_devices(expression: str, devices: Mapping[Any, Any]) -> str:
    """Return *expression* that asks for *devices* too; raises `InvalidOption`."""
    clauses = []
    for kind, count in devices.items():
        if not isinstance(kind, str) or not NAME.fullmatch(kind):
            raise InvalidOption("a kind of devices", repr(kind)[:100], "a name such as 'gpu'")
        if not isinstance(count, int) or not 0 <= count <= DEVICES_LIMIT:
            raise InvalidOption(f"devices of kind {kind!r}", repr(count)[:100], f"a number up to {DEVICES_LIMIT}")
        if count:
            clauses.append(f"devices({kind}={count})")
    if not clauses or not expression.strip():
        return " & ".join(clauses) or expression
    return " & ".join([*clauses, f"({expression})" if isinstance(parse(expression), Either) else expression])
