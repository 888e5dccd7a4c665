"""The engine and its workers."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


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
    own: list[str] = []  #: names of those tags that its owner has given it; the others were found on its machine
    says: dict[int, str] = {}  #: what running jobs say of how far they are
    since: float | None = None  #: Unix seconds when it came
    last_seen: float | None = None  #: when it last answered
    per_hour: float = 0.0  #: tasks and items that it ends, by the last hour


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
    ports: dict[str, str] = {}  #: protocols that are answered on a port of their own -> ADDRESS:PORT


class JoinTicket(msgspec.Struct, frozen=True):
    """What a machine needs to bring a Dask worker."""

    scheduler: str
    ca: str | None  #: PEM; None when the scheduler speaks plain TCP
    certificate: str | None
    key: str | None
    version: str  #: dcengine's, to be equal on both sides
    nickname: str = ""  #: who earns the credit, if the token says so


class ClusterVerbs(Protocol):
    """Questions about the engine and its workers."""

    async def workers(self, *, tags: str = "", name: str | None = None) -> list[WorkerStatus]:
        """Return the Dask workers as they are now: those that match the expression *tags*, or the one of that *name*.

        Raises `InvalidTags`.
        """
        ...

    async def explain(self, tags: str) -> Explanation:
        """Return which workers match *tags*, and what the others lack."""
        ...

    async def tag_worker(self, name: str, tags: str) -> WorkerStatus:
        """Give worker *name* these tags of its owner's making, in place of those it had; what it finds by itself stays.

        Jobs that wait are matched anew. Raises `NotFound`, `InvalidTags`, `WorkerUnfit`.
        """
        ...

    async def sessions(self) -> list[SessionStatus]:
        """Return the sessions that live, and the lost ones of which nobody was told yet."""
        ...

    async def end_session(self, name: str) -> bool:
        """End a session and what runs in it; return False if there is none. What still waits for it fails."""
        ...

    async def status(self) -> EngineStatus:
        """Return the engine as it stands: its workers, and how many tasks are in which state."""
        ...

    async def join_ticket(self) -> JoinTicket:
        """Return what a machine needs to bring a Dask worker."""
        ...
