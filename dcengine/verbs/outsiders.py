"""Outside workers as people see them, and those whose protocol knows them by a secret of their own."""

from __future__ import annotations

import msgspec


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that wants an identity of its own at one stage of a project."""

    project: str
    stage: str
    nickname: str = "anonymous"
    name: str = ""  #: unique within the project; empty: the engine makes one of two words and a number


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was given one."""

    secret: str  #: uuid4 text; all that it has to show from now on
    name: str


class OutsideWorker(msgspec.Struct, frozen=True, kw_only=True):
    """An outside worker as people see it."""

    name: str
    project: str
    stage: str
    nickname: str
    first_seen: float  #: Unix seconds
    last_seen: float
    completed: int = 0  #: tasks, since it came
    progress: str = ""  #: what it said last
    holding: list[int] = []  #: numbers of the jobs in its hands
    tokens: list[str] = []  #: of its leases; only where it asks about itself
    last_said: str = ""  #: likewise: the token of the lease that it has spoken its last word of
