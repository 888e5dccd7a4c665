"""Questions about what has failed."""

from __future__ import annotations

from ..connection import Connection
from ..verbs import FailureGroups
from .jobs import Retried


class AboutFailures(Connection):
    """Asks what has failed, and for another try."""

    async def failure_groups(self, *, project: str | None = None) -> FailureGroups:
        return await self._get(FailureGroups, "v1/failures", {"project": project})

    async def retry_failures(self, project: str, stage: str, pattern: str) -> int:
        group = {"project": project, "stage": stage, "pattern": pattern}
        return (await self._post(Retried, "v1/failures/retry", value=group)).retried
