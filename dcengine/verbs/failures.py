"""Why jobs have failed, those alike together."""

from __future__ import annotations

from typing import Protocol

import msgspec


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failed jobs of one stage whose reasons differ only in numbers, names and paths."""

    project: str
    stage: str
    pattern: str  #: what their reasons have in common
    count: int
    reason: str  #: of the newest
    jobs: list[int]  #: the newest of them, at most 20
    newest: float  #: Unix seconds
    oldest: float
    workers: dict[str, int] = {}  #: how many failed on each, of the ten with the most


class FailureGroups(msgspec.Struct, frozen=True, kw_only=True):
    """Such groups, the largest first."""

    groups: list[FailureGroup]
    looked_at: int  #: failed jobs
    is_all: bool  #: else there are older ones that nobody looked at


class FailureVerbs(Protocol):
    """Questions about what has failed."""

    async def failure_groups(self, *, project: str | None = None) -> FailureGroups:
        """Return the failed jobs that belong to no batch, grouped by reason: the newest 3,000."""
        ...

    async def retry_failures(self, project: str, stage: str, pattern: str) -> int:
        """Queue every failed job of a group again, older ones too; return how many those were."""
        ...
