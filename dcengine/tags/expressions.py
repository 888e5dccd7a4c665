"""Tags: what jobs ask of workers. No I/O.

An expression is made of clauses (``gpu``, ``gpu.memory>=16GiB``, ``python==3.11.*``, ``site==lab``),
joined by ``&`` and ``|``, negated by ``!``, grouped by parentheses; ``&`` binds tighter than ``|``.
``devices(gpu=1)`` asks for so many of a worker's devices for a task alone, ``session(NAME)`` for the worker where
that session is; they stand beside the others, joined by ``&``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from .offers import Offer, devices_offered
from .quantities import compare

BARE_VALUE = re.compile(r"[^\s&|!()<>=,;\"']+")  #: what needs no quotation marks


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


def flat(parts: list[Expression], kind: type[Every] | type[Either]) -> tuple[Expression, ...]:
    """Return *parts* with those of the same kind opened, since (a & b) & c is a & b & c."""
    return tuple(inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,)))


def _grouped(part: Expression, kinds: tuple[type[Expression], ...]) -> str:
    return f"({part})" if isinstance(part, kinds) else str(part)


def _quoted(value: str) -> str:
    if BARE_VALUE.fullmatch(value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'
