"""The engine, its workers and what they earned."""

from __future__ import annotations

from typing import Literal

import msgspec

Span = Literal["all", "month", "week", "day"]  #: over which credit is summed: 30 days, 7 days, 24 hours


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as people see it."""

    name: str
    address: str
    contributor: str
    state: str  #: ready, starting, unfit
    slots: int
    busy: int
    tags: dict[str, str | None]
    reason: str | None = None
    running: list[int] = []  #: job ids (the first of each chunk)


class LeaderboardRow(msgspec.Struct, frozen=True):
    """A contributor's credit in one project."""

    nickname: str
    tasks: int  #: credit: accepted tasks, each item of a map one, or the units reported for them
    share: float  #: of all accepted tasks, 0 to 1
    rank: int = 0  #: from 1; those with as much share it


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The engine as people see it."""

    version: str
    db: str
    url: str
    pid: int
    started: float
    scheduler: str | None
    workers: int
    slots: int
    counts: dict[str, int]  #: task state -> number, items of batches included
    open_batches: int = 0


class JoinTicket(msgspec.Struct, frozen=True):
    """What a machine needs to bring a Dask worker."""

    scheduler: str
    ca: str | None  #: PEM; None when the scheduler speaks plain TCP
    certificate: str | None
    key: str | None
    version: str  #: dcengine's, to be equal on both sides
