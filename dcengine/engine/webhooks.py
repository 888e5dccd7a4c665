"""Webhooks: projects' news, delivered over HTTP to those who were named.

What is to be told is in the file since the transaction in which it happened (`store.outbox`), and stays there until it
was taken, or tried in vain three times: at once, half a minute and five minutes later. So nothing is lost with an
engine, but may come twice; its id is the same then. Each webhook has a few connections of its own, and waits for none
of the others. One for which twenty deliveries in a row have failed is switched off.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from ..cluster import ClusterSettings
from ..errors import InvalidOption, StoreError
from ..messenger import Answer, Messenger, check_url, new_secret, shown_secret
from ..store import now
from ..store.outbox import body_of
from ..store.webhooks import AddWebhook, Due, NoteTest, NoteTry, RemoveWebhook, Target, TellStalled
from ..verbs import Delivery, NewWebhook, ProjectStatus, WebhookEvent, WebhookSpec, WebhookStatus
from ..verbs.webhooks import URL_LIMIT
from .failures import Failures

logger = logging.getLogger(__name__)

BACK_OFF = (30.0, 300.0)  #: seconds after the first try, and after the second
SPREAD = 0.2  #: of a back-off: what failed together is not tried again together
AT_ONCE = 2  #: deliveries to one webhook
LOOK_SECONDS = 0.5  #: between two looks at what is to be delivered, as long as there are webhooks
STALLED_SECONDS = 300.0  #: without a running task, though there are open jobs
STALLED_LOOK_SECONDS = 10.0
DELIVERIES_LIMIT = 1000  #: in one answer


class Webhooks(Failures):
    """Takes webhooks in, and tells them what they asked for."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self.may_tell_private = False  #: whether webhooks may have private addresses
        self._messengers: Messenger | None = None
        self._telling: set[int] = set()  #: webhooks to which something is just being delivered
        self._has_webhooks = asyncio.Event()
        self._stalls: dict[str, float | None] = {}  #: since when no task of a project runs; None: that was told

    # ---- verbs -----------------------------------------------------------------------------

    async def add_webhook(self, project: str, spec: WebhookSpec) -> NewWebhook:
        """Tell *spec*'s URL what becomes of *project*; nobody can read its secret again.

        Raises `InvalidOption`, and `NotFound` for an unknown project.
        """
        events = _checked(spec)
        await self._messenger.check(spec.url)
        secret = new_secret()
        operation = AddWebhook(project, spec.url, events, secret, now())
        status = await self._submit(operation, 0, lambda _: self._has_webhooks.set())
        logger.info("webhook %d of project %r was added: %s", status.id, project, urlsplit(spec.url).hostname)
        return NewWebhook(secret=shown_secret(secret), status=status)

    async def webhooks(self, project: str) -> list[WebhookStatus]:
        """Return the webhooks of *project*, the newest first; raises `NotFound`."""
        return await self._store.reads.webhooks(project)

    async def remove_webhook(self, project: str, id: int) -> WebhookStatus:
        """Tell webhook *id* nothing any more; raises `NotFound`."""
        status: WebhookStatus = await self._write(RemoveWebhook(project, id))
        logger.info("webhook %d of project %r was removed", id, project)
        return status

    async def test_webhook(self, project: str, id: int) -> Delivery:
        """Send webhook *id* a test, once; return what became of it. Raises `NotFound`."""
        target = await self._store.reads.target(project, id)
        began, name = now(), f"msg_{secrets.token_hex(16)}"
        body = body_of("test", {"project": project, "webhook": id}, began)
        answer = await self._messenger.send(target.url, target.secret, name, body)
        note = NoteTest(id, name, body, began, now(), answer.status, answer.reason)
        delivery: Delivery = await self._write(note)
        return delivery

    async def deliveries(self, project: str, id: int, *, limit: int = 100) -> list[Delivery]:
        """Return what webhook *id* was told, the newest first; raises `NotFound`."""
        return await self._store.reads.deliveries(project, id, limit=max(1, min(limit, DELIVERIES_LIMIT)))

    # ---- deliveries ------------------------------------------------------------------------

    @property
    def _messenger(self) -> Messenger:
        """Who sends; made when first needed, on the engine's loop."""
        if self._messengers is None:
            self._messengers = Messenger(is_private_allowed=self.may_tell_private)
        return self._messengers

    async def _deliver(self) -> None:
        """Deliver what is due, as long as the engine runs; nothing that goes wrong ends this."""
        stalls_due = time.monotonic()
        try:
            while self._store.broken is None:
                try:
                    targets = await self._store.reads.targets()
                    self._begin_deliveries(targets)
                    if targets and time.monotonic() >= stalls_due:
                        await self._tell_stalls({target.project for target in targets})
                        stalls_due = time.monotonic() + STALLED_LOOK_SECONDS
                except StoreError as error:
                    targets = []
                    logger.warning("webhooks: %s", error)
                await self._next_look(is_needed=bool(targets))
        finally:
            if self._messengers is not None:
                await self._messengers.close()

    async def _next_look(self, *, is_needed: bool) -> None:
        if not is_needed:
            await self._has_webhooks.wait()
            self._has_webhooks.clear()
        await asyncio.sleep(LOOK_SECONDS)

    def _begin_deliveries(self, targets: list[Target]) -> None:
        at = now()
        for target in targets:
            if target.due is not None and target.due <= at and target.id not in self._telling:
                self._telling.add(target.id)
                self._own(self._deliver_to(target))

    async def _deliver_to(self, target: Target) -> None:
        """Deliver all that is due to *target*, a few at the same time."""
        try:
            while dues := await self._store.reads.due(target.id, at=now(), limit=AT_ONCE):
                await asyncio.gather(*(self._try(target, due) for due in dues))
        except StoreError as error:  # a full disk, say: it comes again
            logger.warning("webhook %d: %s", target.id, error)
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._telling.discard(target.id)

    async def _try(self, target: Target, due: Due) -> None:
        """Try one delivery once, and note what that has come to."""
        answer = await self._messenger.send(target.url, target.secret, due.name, due.body)
        note = NoteTry(target.id, due.id, now(), answer.status, answer.reason, is_gone=answer.is_gone)
        note.due = _next_try(due.tries, answer, note.at)
        why_off = await self._write(note)
        if answer.reason is not None:
            logger.info("webhook %d of project %r: %s: %s", target.id, target.project, due.name, answer.reason)
        if why_off is not None:
            logger.warning("webhook %d of project %r was switched off: %s", target.id, target.project, why_off)

    # ---- projects where nothing happens -------------------------------------------------------

    async def _tell_stalls(self, projects: set[str]) -> None:
        """Tell of those *projects* in which no task has run for long, once for each time."""
        for name in self._stalls.keys() - projects:
            del self._stalls[name]
        for status in await self.projects():
            if status.name not in projects:
                continue
            if not _is_idle(status):
                self._stalls.pop(status.name, None)
                continue
            since = self._stalls.setdefault(status.name, time.monotonic())
            if since is not None and time.monotonic() - since >= STALLED_SECONDS:
                self._stalls[status.name] = None
                await self._tell_stalled(status)

    async def _tell_stalled(self, status: ProjectStatus) -> None:
        reason = status.warning or "its tasks are queued, and no worker takes them"
        data = {"project": status.name, "open": status.open, "reason": reason}
        await self._store.apply(TellStalled(await self._store.reads.project_id(status.name), data, now()))


def _checked(spec: WebhookSpec) -> tuple[str, ...]:
    """Return which events *spec* asks for, each once; raises `InvalidOption`."""
    check_url(spec.url, URL_LIMIT)
    known = get_args(WebhookEvent)
    events = tuple(dict.fromkeys(spec.events))
    unknown = [event for event in events if event not in known]
    if unknown or not events:
        value = repr(unknown[0])[:100] if unknown else "empty"
        raise InvalidOption("events", value, f"some of {', '.join(known)}")
    return events


def _next_try(tries: int, answer: Answer, at: int) -> int | None:
    """Return when a delivery is tried again that was tried so often before, None if it is over."""
    if answer.reason is None or answer.is_gone or tries >= len(BACK_OFF):
        return None
    return at + int(BACK_OFF[tries] * random.uniform(1, 1 + SPREAD) * 1e6)


def _is_idle(status: ProjectStatus) -> bool:
    """Tell whether *status* has tasks that could run, and none that runs or waits for its time."""
    stages = [stage for stage in status.stages if not stage.is_paused]
    is_moving = any(stage.counts.get(state) for stage in status.stages for state in ("leased", "waiting"))
    return not (status.is_paused or is_moving) and any(stage.counts.get("queued") for stage in stages)
