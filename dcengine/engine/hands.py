"""What outside workers have in their hands, by its token, and how much of it is whose. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import ItemsView, ValuesView

import msgspec

from ..jobs import Stage, Task
from ..verbs import LeaseRequest
from .allowances import Allowances

HEX = frozenset("0123456789abcdef")


class Held(msgspec.Struct):
    """A task in an outside worker's hands."""

    task: Task
    stage: Stage
    worker: str
    contributor: str
    voter: str
    holder: object  #: with whose tasks it is counted
    since: float  #: by the monotonic clock: nothing is late because somebody has set the clock
    until: float

    def renew(self) -> None:
        """Move the deadline, as far as the stage's time-out lets it."""
        limit = math.inf if self.task.timeout is None else self.since + self.task.timeout
        self.until = min(time.monotonic() + self.stage.lease_seconds, limit)

    @property
    def deadline(self) -> float:
        """When the lease ends, in Unix seconds."""
        return time.time() + self.until - time.monotonic()


def held_by(request: LeaseRequest, task: Task, stage: Stage) -> Held:
    """Return *task* in the hands of who made *request*, from now on."""
    held = Held(
        task, stage, request.worker, request.contributor, request.voter, request.holder, time.monotonic(), math.inf
    )
    held.renew()
    return held


class Hands:
    """The tasks that are held, by their tokens; the allowances learn of each that comes and goes."""

    def __init__(self, allowances: Allowances) -> None:
        self._held: dict[str, Held] = {}
        self._allowances = allowances

    def __getitem__(self, token: str) -> Held:
        return self._held[token]

    def get(self, token: str) -> Held | None:
        return self._held.get(token)

    def __setitem__(self, token: str, held: Held) -> None:
        assert token not in self._held
        self._held[token] = held
        self._allowances.take(held.holder)

    def pop(self, token: str) -> Held | None:
        """Take what is held under *token* out of its holder's hands; return it, None if nothing is."""
        held = self._held.pop(token, None)
        if held is not None:
            self._allowances.take(held.holder, -1)
        return held

    def give_back(self, seconds: float) -> None:
        """Move every deadline by the *seconds* for which no sign of life could be heard; none past a whole lease."""
        now = time.monotonic()
        for held in self._held.values():
            held.until = min(held.until + seconds, now + held.stage.lease_seconds)

    def items(self) -> ItemsView[str, Held]:
        return self._held.items()

    def values(self) -> ValuesView[Held]:
        return self._held.values()

    def __contains__(self, token: str) -> bool:
        return token in self._held

    def __len__(self) -> int:
        return len(self._held)


def token_for(task: Task) -> str:
    """Return what proves that somebody holds *task* in this attempt."""
    return token_of(task.id, task.attempt, task.token)


def token_of(task: int, attempt: int, secret: int) -> str:
    """Return the token of the lease that gave *task* away in this *attempt*, with a *secret* of its own."""
    return f"{task:x}-{attempt:x}-{secret:x}"


def place_of(token: str) -> tuple[int, int, int] | None:
    """Return task, attempt and secret of a token; None for a text that is none."""
    parts = token.split("-")
    if len(parts) != 3 or not all(0 < len(part) <= 16 and set(part) <= HEX for part in parts):
        return None
    task, attempt, secret = (int(part, 16) for part in parts)
    return (task, attempt, secret) if max(task, attempt, secret) < 1 << 63 and secret else None
