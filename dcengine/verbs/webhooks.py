"""Webhooks: who is told over HTTP what becomes of a project. The secret is told once."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import msgspec

WebhookEvent = Literal[
    "job_succeeded",  # a job has come through all stages
    "job_retried",  # a try has failed, another one follows
    "job_failed",  # a job has failed for good
    "job_cancelled",
    "stage_done",  # nothing is left to do at a stage, nor at those before it
    "project_done",  # no job is open any more; the figures say how many have failed
    "project_stalled",  # there are open jobs, and for long none of them has run
]
USUAL: tuple[WebhookEvent, ...] = ("job_failed", "project_done", "project_stalled")  #: where none are named
URL_LIMIT = 2000  #: characters


class WebhookSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as somebody asks for it."""

    #: http or https; of a private address only where the engine's settings allow it.
    url: Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": URL_LIMIT})]
    events: list[WebhookEvent] = msgspec.field(default_factory=lambda: [*USUAL])


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one webhook, and what has become of it."""

    id: str  #: the header `webhook-id`, the same at each try
    event: str
    state: Literal["pending", "delivered", "failed"]
    created: float  #: Unix seconds
    tries: int = 0  #: that are over
    due: float | None = None  #: when the next one is
    finished: float | None = None
    status: int | None = None  #: of the last answer
    reason: str | None = None  #: why the last try failed


class WebhookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as people see it, without its secret."""

    id: int
    project: str
    url: str
    events: list[str]
    created: float  #: Unix seconds
    active: bool
    reason: str | None = None  #: why it is told nothing, if it is not
    pending: int = 0  #: deliveries that are still to be made; of many, the first 1,000 are counted
    last: Delivery | None = None  #: the newest


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that was made, with the secret that signs what it is told; nobody can read that again."""

    secret: str  #: `whsec_` and 32 bytes in base64
    status: WebhookStatus

    def __repr__(self) -> str:
        """Return it without the secret: what is shown ends up in logs and notebooks."""
        return f"NewWebhook(status={self.status!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status)]


class WebhookVerbs(Protocol):
    """Questions about webhooks."""

    async def add_webhook(self, project: str, spec: WebhookSpec) -> NewWebhook:
        """Have a URL be told what becomes of *project* from now on. The secret is in the answer, and nowhere else.

        Each message is tried three times: at once, half a minute and five minutes later. Whoever has answered with a
        status from 200 to 299 has taken it. After a crash of the engine one may come twice, with the same id.
        """
        ...

    async def webhooks(self, project: str) -> list[WebhookStatus]:
        """Return the webhooks of *project*, the newest first."""
        ...

    async def remove_webhook(self, project: str, id: int) -> WebhookStatus:
        """Tell webhook *id* nothing any more, also not what it was still to be told."""
        ...

    async def test_webhook(self, project: str, id: int) -> Delivery:
        """Send webhook *id* a message of the type `test`, once; return what became of it.

        One that was switched off because all was in vain is told again what happens once it has taken this.
        """
        ...

    async def deliveries(self, project: str, id: int, *, limit: int = 100) -> list[Delivery]:
        """Return what webhook *id* was told, or is to be told, the newest first; of what is over, the last 100."""
        ...
