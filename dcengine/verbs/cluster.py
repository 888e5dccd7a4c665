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
    devices: dict[str, int] = {}  #: how many of a kind are lent to what runs
    set_aside: dict[str, str] = {}  #: projects and functions that it is given nothing of for a while, and why


class WorkerVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker lacks of what was asked for."""

    name: str
    lacking: list[str]  #: clauses, with what it has instead; empty if it matches
    problem: str | None = None  #: why it is out of the question, whatever it has

    @property
    def matches(self) -> bool:
        return not self.lacking and self.problem is None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Which workers match a tag expression."""

    sentence: str  #: how many do, or what the nearest one lacks
    workers: list[WorkerVerdict]  #: by name


class OtherVersions(msgspec.Struct, frozen=True, kw_only=True):
    """A package of which workers have another version than whoever submitted, or none."""

    package: str
    here: str  #: the submitter's version
    there: dict[str, str | None]  #: worker -> its version, None where it lacks the package
    compared: int  #: workers, those with the same version included


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A session: one process of a worker, in which state stays from call to call."""

    name: str
    worker: str
    state: Literal["busy", "idle", "lost"]
    began: float  #: Unix seconds
    idle: float = 0.0  #: seconds since its last call ended
    job: int | None = None  #: that runs there, or ran last
    lost: str | None = None  #: what became of its process


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
    file: str = ""  #: what tells its file from all others, wherever that is moved to


class JoinTicket(msgspec.Struct, frozen=True):
    """What a machine needs to bring a Dask worker."""

    scheduler: str
    ca: str | None  #: PEM; None when the scheduler speaks plain TCP
    certificate: str | None
    key: str | None
    version: str  #: dcengine's, to be equal on both sides
    nickname: str = ""  #: who earns the credit, if the token says so
