"""What outside workers have in their hands, by its token, and how much of it is whose. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import ItemsView, ValuesView

import msgspec

from ..jobs import Stage, Task
from ..verbs import LeaseRequest
from .allowances import Allowances


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

    def items(self) -> ItemsView[str, Held]:
        return self._held.items()

    def values(self) -> ValuesView[Held]:
        return self._held.values()

    def __contains__(self, token: str) -> bool:
        return token in self._held

    def __len__(self) -> int:
        return len(self._held)
