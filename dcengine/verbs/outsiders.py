"""Outside workers as people see them, and those whose protocol knows them by a secret of their own."""

from __future__ import annotations

from typing import Protocol

import msgspec

from .leases import LeasedTask


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
    jobs: list[int] = []  #: their ids
    tokens: list[str] = []  #: of its leases; only where it asks about itself
    last_said: str = ""  #: likewise: the token of the lease that it has spoken its last word of
    tags: dict[str, str | None] = {}  #: what it said that it offers, when it last asked for tasks
    per_hour: float = 0.0  #: tasks that it ends, by the last hour


class OutsiderFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which outside workers somebody looks for; what is empty does not matter."""

    project: str = ""
    tags: str = ""  #: an expression that what they offer fulfils
    text: str = ""  #: words in their name, nickname, project, stage or tags, or in what they say; whatever the case
    #: name, at, state, has, says, done, per_hour, heard, for; with a minus before it the largest first.
    order: str = ""


class OutsiderPage(msgspec.Struct, frozen=True):
    """Some of the outside workers that somebody looks for."""

    workers: list[OutsideWorker]
    found: int  #: that are meant
    total: int  #: that there are


class OutsiderVerbs(Protocol):
    """Questions about outside workers."""

    async def register_worker(self, registration: Registration) -> Registered:
        """Give a worker an identity at one lease stage: a name, and a secret that it shows from then on.

        For protocols whose workers are known by nothing else. It is forgotten once it is silent for longer than the
        stage lets it; an engine that is started anew knows it still.
        """
        ...

    async def registered_worker(self, secret: str) -> OutsideWorker:
        """Return the worker that shows this *secret*, with the tokens of its leases: a sign of life, which renews them.

        Raises `NotFound` for one that has left, or was silent for too long.
        """
        ...

    async def lease_as(
        self, secret: str, *, n: int = 1, wait: float = 0.0, is_volunteer: bool = False, grant: int | None = None
    ) -> list[LeasedTask]:
        """Hand tasks to the worker that shows this *secret*, at its stage and under its name.

        Like *is_volunteer* and *grant* of `LeaseRequest`, those here are said by whoever lets it in.
        """
        ...

    async def held_tasks(self, secret: str) -> list[LeasedTask]:
        """Return once more what the worker that shows this *secret* holds."""
        ...

    async def leave_worker(self, secret: str) -> bool:
        """Put back what the worker that shows this *secret* holds, and forget it; False if nobody knows it."""
        ...

    async def say_progress(self, secret: str, text: str) -> bool:
        """Keep what the worker that shows this *secret* says of what it does; False if nobody knows it."""
        ...

    async def outside_workers(
        self, project: str | None = None, *, tags: str = "", name: str | None = None
    ) -> list[OutsideWorker]:
        """Return the outside workers, of *project* alone if it is given, that were heard of lately.

        Only those that match the expression *tags*, or are of that *name*. Raises `InvalidTags`.
        """
        ...

    async def find_outside_workers(self, wanted: OutsiderFilter, *, skip: int = 0, limit: int = 100) -> OutsiderPage:
        """Return the outside workers *wanted*, in their order, from number *skip* on.

        Raises `InvalidTags`, and `InvalidOption` for an unknown order.
        """
        ...
