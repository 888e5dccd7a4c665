"""Why nobody, or somebody, has what an expression asks for. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .expressions import Comparison, Devices, Expression
from .offers import Offer


@dataclass(frozen=True)
class Explanation:
    """Which workers match an expression. `str()` says it in one sentence, or what the nearest one lacks."""

    matching: list[str]
    total: int
    common: list[str]  #: clauses that no worker satisfies
    nearest: str | None = None  #: the worker that lacks the fewest clauses, where none matches
    lacking: list[str] | None = None  #: what it lacks, where that is more than what all lack
    instead: list[str] | None = None  #: what it has in place of what all lack, such as gpu.memory=8GiB
    clauses: dict[str, list[str]] = field(default_factory=dict)  #: what each worker lacks, and has instead

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
    told = {name: [_told(clause, workers[name]) for clause in clauses] for name, clauses in lacking.items()}
    matching = [name for name, clauses in lacking.items() if not clauses]
    if matching or not lacking:
        return Explanation(matching, len(workers), [], clauses=told)
    # Of two that lack as much, the one with a value that is too small is nearer than the one with none.
    nearest = min(lacking, key=lambda name: (len(lacking[name]), -len(_instead(lacking[name], workers[name]))))
    common = [clause for clause in lacking[nearest] if all(clause in clauses for clauses in lacking.values())]
    more = [_told(clause, workers[nearest]) for clause in lacking[nearest] if clause not in common]
    instead = _instead(common, workers[nearest])
    return Explanation([], len(workers), list(map(str, common)), nearest, more, instead, told)


def _instead(clauses: list[Expression], offered: Offer) -> list[str]:
    """Return what a worker with *offered* has where *clauses* ask for another value."""
    names = dict.fromkeys(
        f"{clause.kind}.count" if isinstance(clause, Devices) else clause.name
        for clause in clauses
        if isinstance(clause, Comparison | Devices)
    )
    return [f"{name}={offered[name]}" for name in names if offered.get(name) is not None]


def _told(clause: Expression, offered: Offer) -> str:
    return str(clause) + "".join(f" (it has {found})" for found in _instead([clause], offered))


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
