"""What an expression asks for beside the tags of workers: versions, devices, a session. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import InvalidOption
from .expressions import Anything, Comparison, Devices, Either, Every, InSession, flat
from .offers import NAME
from .reading import DEVICES_LIMIT, parse

LOOKED_UP = re.compile(r"(?:pkg|exe)\.[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  #: tags that are looked for on demand


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
    return str(Every(flat([*clauses, *exactly], Every)))


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


@lru_cache(1024)
def session_of(expression: str) -> str | None:
    """Return the session in which a task with this *expression* runs, None for one that is in none."""
    if "session(" not in expression:  # as usual
        return None
    parsed = parse(expression)
    clauses = parsed.parts if isinstance(parsed, Every) else (parsed,)
    return next((clause.name for clause in clauses if isinstance(clause, InSession)), None)


def with_session(expression: str, name: str) -> str:
    """Return *expression* for a task in the session of that *name*."""
    clause = str(InSession(name))
    if not expression.strip():
        return clause
    return " & ".join([f"({expression})" if isinstance(parse(expression), Either) else expression, clause])
