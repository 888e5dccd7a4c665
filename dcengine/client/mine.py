"""Questions about whoever asks."""

from __future__ import annotations

from ..connection import Connection
from ..verbs import Grant, JobPage, Mine


class AboutMe(Connection):
    """Asks what its own token has brought, done and holds."""

    async def mine(self, *, grant: Grant | None = None) -> Mine:
        return await self._get(Mine, "v1/mine")

    async def my_jobs(self, *, before: int | None = None, limit: int = 50, grant: Grant | None = None) -> JobPage:
        return await self._get(JobPage, "v1/mine/jobs", {"before": before, "limit": limit})
