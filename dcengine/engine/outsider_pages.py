"""Outside workers that somebody looks for among very many: which are meant, and in which order. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from ..errors import InvalidOption
from ..tags import parse
from ..verbs import OutsiderFilter


class Known(Protocol):
    """What is asked of a worker."""

    project: str
    stage: str
    name: str
    nickname: str
    last_seen: float
    completed: int
    progress: str
    holding: dict[str, int]
    tags: dict[str, str | None]


W = TypeVar("W", bound=Known)

KEYS: dict[str, Callable[[Any], Any]] = {
    "": lambda worker: worker.project,
    "name": lambda worker: worker.name,
    "at": lambda worker: (worker.project, worker.stage),
    "state": lambda worker: not worker.holding,
    "has": lambda worker: len(worker.holding),
    "says": lambda worker: worker.progress,
    "done": lambda worker: worker.completed,
    "heard": lambda worker: worker.last_seen,
    "for": lambda worker: worker.nickname,
}  #: that they can be ordered by
PER_HOUR = "per_hour"


def in_order(workers: Iterable[W], order: str, per_hour: Callable[[W], float]) -> list[W]:
    """Return *workers* by *order*, the name of a key with a minus before it for the largest first, and by name.

    Raises `InvalidOption`.
    """
    name = order.removeprefix("-")
    key = per_hour if name == PER_HOUR else KEYS.get(name)
    if key is None:
        raise InvalidOption("order", repr(order), f"one of {', '.join([*filter(None, KEYS), PER_HOUR])}, or -NAME")
    by_name = sorted(workers, key=lambda worker: (worker.project, worker.stage, worker.name))
    return sorted(by_name, key=key, reverse=order.startswith("-"))


def meant_by(wanted: OutsiderFilter) -> Callable[[Known], bool]:
    """Return what tells whether a worker is *wanted*; raises `InvalidTags`."""
    words, expression = wanted.text.lower().split(), parse(wanted.tags) if wanted.tags else None

    def is_meant(worker: Known) -> bool:
        if wanted.project and worker.project != wanted.project:
            return False
        if expression is not None and not expression.matches(worker.tags):
            return False
        text = _text_of(worker) if words else ""
        return all(word in text for word in words)

    return is_meant


def _text_of(worker: Known) -> str:
    tags = " ".join(name if value is None else f"{name}={value}" for name, value in worker.tags.items())
    return f"{worker.name} {worker.nickname} {worker.project} {worker.stage} {tags} {worker.progress}".lower()
