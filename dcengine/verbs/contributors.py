"""Contributors: what they have earned, and what becomes of their work when they are banned."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from .outsiders import OutsideWorker

Span = Literal["all", "month", "week", "day"]  #: over which credit is summed: 30 days, 7 days, 24 hours


class BanDone(msgspec.Struct, frozen=True, kw_only=True):
    """What a ban came to."""

    nickname: str
    since: float | None  #: Unix seconds from which on its work was voided; None: all of it
    voided: int  #: accepted tasks that count no more
    requeued: int  #: of those, the ones that are to be done again; the others belong to jobs that were deleted, say
    leases: int  #: tasks in its hands that were taken back
    tokens: int  #: of its own that were revoked


class ContributorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A contributor as people see it."""

    nickname: str
    banned: float | None = None  #: Unix seconds since when nothing is taken from it


class LeaderboardRow(msgspec.Struct, frozen=True):
    """A contributor's credit in one project."""

    nickname: str
    tasks: int  #: credit: accepted tasks, each item of a map one, or the units reported for them
    share: float  #: of all accepted tasks, 0 to 1
    rank: int = 0  #: from 1; those with as much share it


class Standing(msgspec.Struct, frozen=True):
    """One contributor's place in a project."""

    nickname: str
    rank: int  #: from 1; those with as much share it
    units: int
    contributors: int  #: that have earned something


class ProjectCredit(msgspec.Struct, frozen=True):
    """What a contributor has earned in one project."""

    project: str
    units: int
    month: int  #: of those, in the last 30 days
    week: int
    day: int


class StageCredit(msgspec.Struct, frozen=True):
    """What a contributor has earned at one stage."""

    project: str
    stage: str  #: empty for jobs that are gone
    units: int


class Earned(msgspec.Struct, frozen=True):
    """One accepted task, or chunk of a map."""

    project: str
    stage: str
    job: int | None  #: None for a chunk, and for jobs that are gone
    number: int | None  #: the job's, within its project
    units: int
    at: float  #: Unix seconds


class ContributorReport(msgspec.Struct, frozen=True, kw_only=True):
    """A contributor with all that is known of it."""

    nickname: str
    banned: float | None = None  #: Unix seconds since when nothing is taken from it
    at: float  #: of the report
    hours: list[int] = []  #: credit in each of the last 720 hours, oldest first, the current one last
    projects: list[ProjectCredit] = []  #: most credit first
    stages: list[StageCredit] = []  #: the same by stage, of the newest 100,000 entries of all contributors
    newest: list[Earned] = []  #: entries, at most 20 of those
    places: dict[Span, Standing] = {}  #: in the leaderboard of all projects, in each span in which it has one
    machines: list[str] = []  #: its Dask workers that are connected
    workers: list[OutsideWorker] = []


class ContributorVerbs(Protocol):
    """Questions about contributors."""

    async def ban_contributor(self, nickname: str, *, since: float | None = None) -> BanDone:
        """Take nothing from *nickname* any more, and have what it did since a time, or ever, done again.

        Said twice, it finds the less to do. It returns once all of that is queued again, which may take a while.
        """
        ...

    async def unban_contributor(self, nickname: str) -> ContributorStatus:
        """Welcome *nickname* again; what was voided stays so, and its tokens stay revoked."""
        ...

    async def banned_contributors(self) -> list[ContributorStatus]:
        """Return who is banned, the newest first."""
        ...

    async def leaderboard(
        self, project: str = "functions", *, span: Span = "all", limit: int = 1000
    ) -> list[LeaderboardRow]:
        """Return who earned how much in *span*, most first. Spans end with the current hour.

        An empty *project* stands for all of them together, but for calls.
        """
        ...

    async def standing(self, project: str, nickname: str, *, span: Span = "all") -> Standing:
        """Return one contributor's place; raises `NotFound` for a nickname without credit."""
        ...

    async def contributor(self, nickname: str) -> ContributorReport:
        """Return all that is known of one contributor; raises `NotFound` for a nickname that was never met."""
        ...
