"""Questions about contributors."""

from __future__ import annotations

from ..connection import Connection
from ..verbs import BanDone, ContributorReport, ContributorStatus


class AboutContributors(Connection):
    """Bans contributors, and welcomes them again."""

    async def ban_contributor(self, nickname: str, *, since: float | None = None) -> BanDone:
        return await self._long_post(BanDone, "v1/contributors/ban", value={"nickname": nickname, "since": since})

    async def unban_contributor(self, nickname: str) -> ContributorStatus:
        return await self._post(ContributorStatus, "v1/contributors/unban", value={"nickname": nickname})

    async def banned_contributors(self) -> list[ContributorStatus]:
        return await self._get(list[ContributorStatus], "v1/contributors/banned")

    async def contributor(self, nickname: str) -> ContributorReport:
        return await self._get(ContributorReport, "v1/contributor", {"nickname": nickname})
