"""Questions about webhooks."""

from __future__ import annotations

from ..connection import Connection, Question
from ..verbs import Delivery, NewWebhook, WebhookSpec, WebhookStatus
from .projects import path_of


class AboutWebhooks(Connection):
    """Adds, lists, tests and removes webhooks."""

    async def add_webhook(self, project: str, spec: WebhookSpec) -> NewWebhook:
        return await self._post(NewWebhook, f"{path_of(project)}/webhooks", value=spec)

    async def webhooks(self, project: str) -> list[WebhookStatus]:
        return await self._get(list[WebhookStatus], f"{path_of(project)}/webhooks")

    async def remove_webhook(self, project: str, id: int) -> WebhookStatus:
        question = Question("DELETE", f"{path_of(project)}/webhooks/{id}").once()
        return self._value(WebhookStatus, await self._answer(question))

    async def test_webhook(self, project: str, id: int) -> Delivery:
        return await self._post(Delivery, f"{path_of(project)}/webhooks/{id}/test")

    async def deliveries(self, project: str, id: int, *, limit: int = 100) -> list[Delivery]:
        return await self._get(list[Delivery], f"{path_of(project)}/webhooks/{id}/deliveries", {"limit": limit})
