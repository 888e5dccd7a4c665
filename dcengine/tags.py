"""Tags: what workers offer, what jobs ask for, and why nobody matches. No I/O.

An expression is made of clauses (``gpu``, ``gpu.memory>=16GiB``, ``python==3.11.*``, ``site==lab``),
joined by ``&`` and ``|``, negated by ``!``, grouped by parentheses; ``&`` binds tighter than ``|``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .errors import InvalidTags
from .quantities import compare, has_unit, quantity, version

Offer = Mapping[str, "str | None"]  #: what one worker has; a tag without a value is None

LENGTH_LIMIT = 4096  #: characters of an expression
DEPTH_LIMIT = 50  #: parentheses and negations inside each other

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_OPERATOR = re.compile(r"==|!=|>=|<=|>|<|=")
_SPACED_QUANTITY = re.compile(r"\d+(?:\.\d+)?[ \t]+[A-Za-z]+")
_BARE_VALUE = re.compile(r"[^\s&|!()<>=,;\"']+")
_QUOTED_VALUE = re.compile(r"\"([^\"]*)\"|'([^']*)'")


# ---- expressions ---------------------------------------------------------------------------


class Expression(ABC):
    """What a job asks of a worker. `str()` gives its canonical text, which parses to an equal expression."""

    @abstractmethod
    def matches(self, offered: Offer) -> bool:
        """Tell whether a worker that offers *offered* will do."""

    def lacking(self, offered: Offer) -> list[Expression]:
        """Return the fewest clauses that a worker with *offered* lacks; none if it matches."""
        return [] if self.matches(offered) else [self]


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

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{_quoted(self.value)}"


@dataclass(frozen=True)
class Negation(Expression):
    """The part is false."""

    part: Expression

    def matches(self, offered: Offer) -> bool:
        return not self.part.matches(offered)

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
        name = self._match(_NAME)
        if name is None:
            raise self._wrong("a tag is missing")
        operator = self._match(_OPERATOR)
        if operator is None:
            return Present(name)
        at = self._at
        value = self._value()
        if operator not in ("=", "==", "!="):
            self._check_ordered(value, at)
        return Comparison(name, "==" if operator == "=" else operator, value)

    def _value(self) -> str:
        quoted = _QUOTED_VALUE.match(self._text, self._at)
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
        if _NAME.match(sign):
            return self._wrong("& or | is missing")
        return self._wrong(f"{sign!r} has no place here")

    def _wrong(self, problem: str, at: int | None = None) -> InvalidTags:
        return InvalidTags(self._text, self._at if at is None else at, problem)


def _flat(parts: list[Expression], kind: type[Every] | type[Either]) -> tuple[Expression, ...]:
    """Return *parts* with those of the same kind opened, since (a & b) & c is a & b & c."""
    return tuple(inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,)))


# ---- what workers offer --------------------------------------------------------------------

_OFFER = re.compile(rf"\s*(?P<name>{_NAME.pattern})\s*(?:==?\s*(?P<value>{_QUOTED_VALUE.pattern}|[^,;\"']*))?(?:,|$)")


def parse_offer(text: str) -> dict[str, str | None]:
    """Return the tags of one worker, written like ``gpu,site=lab,note="a, b"``.

    Raises `InvalidTags` that names the position.
    """
    offered: dict[str, str | None] = {}
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _OFFER.match(text, at)
        if match is None:
            raise InvalidTags(text, at, "a worker's tags are written like gpu,site=lab; something else stands")
        if match["name"] in offered:
            raise InvalidTags(text, at, f"the tag {match['name']} is given twice")
        offered[match["name"]] = _offered_value(match, text)
        at = match.end()
    return offered


def _offered_value(match: re.Match[str], text: str) -> str | None:
    value = match["value"]
    if value is None:
        return None
    value = value.strip()
    if not value:
        raise InvalidTags(text, match.start("value"), f"the value of {match['name']} is missing")
    return value[1:-1] if value[0] in "\"'" else value


# ---- why nobody matches --------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """Which workers match an expression. `str()` says it in one sentence, or what the nearest one lacks."""

    matching: list[str]
    total: int
    common: list[str]  #: clauses that no worker satisfies
    nearest: str | None = None  #: the worker that lacks the fewest clauses, where none matches
    lacking: list[str] | None = None  #: what it lacks, where that is more than what all lack
    instead: list[str] | None = None  #: what it has in place of what all lack, such as gpu.memory=8GiB

    def __str__(self) -> str:
        if self.total == 0:
            return "no workers are connected"
        if self.matching:
            return f"{len(self.matching)} of {_workers(self.total)} {'matches' if len(self.matching) == 1 else 'match'}"
        if self.total == 1:
            return f"1 worker, {self.nearest}, lacks {', '.join(self.common)}{self._instead()}"
        nobody = f"none has {' or '.join(self.common)}" if self.common else "none matches"
        return f"{_workers(self.total)}, {nobody}{self._nearest()}"

    def _nearest(self) -> str:
        if self.lacking:
            return f"; nearest: {self.nearest}, lacks {', '.join(self.lacking)}"
        return f"; nearest: {self.nearest}{self._instead()}" if self.instead else ""

    def _instead(self) -> str:
        return f" (it has {', '.join(self.instead)})" if self.instead else ""


def explain(expression: Expression, workers: Mapping[str, Offer]) -> Explanation:
    """Return which *workers* match *expression*, or what the nearest one lacks."""
    lacking = {name: expression.lacking(offered) for name, offered in workers.items()}
    matching = [name for name, clauses in lacking.items() if not clauses]
    if matching or not lacking:
        return Explanation(matching, len(workers), [])
    # Of two that lack as much, the one with a value that is too small is nearer than the one with none.
    nearest = min(lacking, key=lambda name: (len(lacking[name]), -len(_instead(lacking[name], workers[name]))))
    common = [clause for clause in lacking[nearest] if all(clause in clauses for clauses in lacking.values())]
    more = [_told(clause, workers[nearest]) for clause in lacking[nearest] if clause not in common]
    instead = _instead(common, workers[nearest])
    return Explanation([], len(workers), list(map(str, common)), nearest, more, instead)


def _instead(clauses: list[Expression], offered: Offer) -> list[str]:
    """Return what a worker with *offered* has where *clauses* ask for another value."""
    names = {clause.name: None for clause in clauses if isinstance(clause, Comparison)}
    return [f"{name}={offered[name]}" for name in names if offered.get(name) is not None]


def _told(clause: Expression, offered: Offer) -> str:
    return str(clause) + "".join(f" (it has {found})" for found in _instead([clause], offered))


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
