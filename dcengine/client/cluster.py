"""Questions about the engine, its workers and what they earned."""

from __future__ import annotations

from ..connection import Connection, Query
from ..verbs import EngineStatus, Explanation, JoinTicket, LeaderboardRow, SessionStatus, Span, Standing, WorkerStatus


class AboutCluster(Connection):
    """Asks about the engine and its workers."""

    async def workers(self, *, tags: str = "", name: str | None = None) -> list[WorkerStatus]:
        return await self._get(list[WorkerStatus], "v1/workers", {"tags": tags or None, "name": name})

    async def explain(self, tags: str) -> Explanation:
        return await self._get(Explanation, "v1/explain", {"tags": tags})

    async def tag_worker(self, name: str, tags: str) -> WorkerStatus:
        return await self._post(WorkerStatus, "v1/workers/tag", {"name": name, "tags": tags})

    async def sessions(self) -> list[SessionStatus]:
        return await self._get(list[SessionStatus], "v1/sessions")

    async def end_session(self, name: str) -> bool:
        return await self._post(bool, "v1/sessions/end", {"name": name})

    async def leaderboard(
        self, project: str = "functions", *, span: Span = "all", limit: int = 1000
    ) -> list[LeaderboardRow]:
        query: Query = {"project": project, "span": span, "limit": limit}
        return await self._get(list[LeaderboardRow], "v1/leaderboard", query)

    async def standing(self, project: str, nickname: str, *, span: Span = "all") -> Standing:
        query = {"project": project, "nickname": nickname, "span": span}
        return await self._get(Standing, "v1/standing", query)

    async def status(self) -> EngineStatus:
        return await self._get(EngineStatus, "v1/status")

    async def join_ticket(self) -> JoinTicket:
        return await self._get(JoinTicket, "v1/cluster")
