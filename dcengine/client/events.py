"""Questions about what happened."""

from __future__ import annotations

from ..connection import Connection
from ..verbs import EventPage


class AboutEvents(Connection):
    """Asks what happened."""

    async def events(
        self, *, after: int | None = None, project: str | None = None, wait: float = 0.0, limit: int = 500
    ) -> EventPage:
        page: EventPage | None = None

        async def ask(piece: float) -> EventPage | None:
            nonlocal page
            after_now = after if page is None else page.cursor
            query = {"after": after_now, "project": project, "wait": piece, "limit": limit}
            page = await self._get(EventPage, "v1/events", query)
            return page if page.events else None

        found = await self._until(ask, wait) or page
        assert found is not None  # it was asked for once at least
        return found
