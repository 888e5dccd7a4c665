"""Webhooks in the file, and the deliveries that are still to be made, or are over."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..errors import InvalidOption, NotFound
from ..verbs import Delivery, WebhookStatus
from .contributor_reads import ContributorReads
from .names import Names
from .outbox import Hook, post
from .tokens import project_id

LIMIT, LIMIT_OF_PROJECT = 100, 10  #: webhooks: so many may hang at the same time
KEPT = 100  #: deliveries of a webhook that are over
COUNTED = 1000  #: deliveries that are pending
ALL_IN_VAIN = 20  #: failed deliveries in a row after which a webhook is told nothing any more

DELIVERY = """
delivery.name, delivery.event, delivery.created, delivery.tries, delivery.due, delivery.finished, delivery.status,
delivery.reason
"""
SELECT_WEBHOOKS = f"""
SELECT webhook.id, project.name, webhook.url, webhook.events, webhook.created, webhook.off, webhook.off_reason,
    (
        SELECT count(*)
        FROM (SELECT 1 FROM delivery WHERE webhook = webhook.id AND due IS NOT NULL LIMIT {COUNTED})
    ),
    {DELIVERY}
FROM webhook
JOIN project ON project.id = webhook.project
LEFT JOIN delivery ON delivery.id = (SELECT max(id) FROM delivery WHERE webhook = webhook.id)
"""
SELECT_TARGETS = """
SELECT webhook.id, webhook.url, webhook.secret, project.name,
    (SELECT min(due) FROM delivery WHERE delivery.webhook = webhook.id AND due IS NOT NULL)
FROM webhook
JOIN project ON project.id = webhook.project
"""
SELECT_DUE = """
SELECT id, name, event, body, tries
FROM delivery
WHERE webhook = ? AND due <= ?
ORDER BY due
LIMIT ?
"""
NOTE_TRY = """
UPDATE delivery
SET tries = tries + 1, due = ?, finished = ?, status = ?, reason = ?
WHERE id = ? AND due IS NOT NULL
"""
NOTE_END = """
UPDATE webhook
SET in_vain = CASE WHEN ? THEN 0 ELSE in_vain + 1 END
WHERE id = ?
RETURNING in_vain
"""
SWITCH_OFF = """
UPDATE webhook
SET off = ?, off_reason = ?
WHERE id = ? AND off IS NULL
"""
FAIL_PENDING = """
UPDATE delivery
SET due = NULL, finished = ?, reason = 'the webhook was switched off'
WHERE webhook = ? AND due IS NOT NULL
"""
FORGET_OLD = f"""
DELETE FROM delivery
WHERE webhook = ?1 AND due IS NULL AND id <= (
    SELECT id FROM delivery WHERE webhook = ?1 AND due IS NULL ORDER BY id DESC LIMIT 1 OFFSET {KEPT}
)
"""
INSERT_TEST = """
INSERT INTO delivery (webhook, name, event, body, created, tries, finished, status, reason)
VALUES (?, ?, 'test', ?, ?, 1, ?, ?, ?)
"""


class Target(NamedTuple):
    """A webhook as it is told something."""

    id: int
    url: str
    secret: bytes
    project: str
    due: int | None  #: when the next delivery is; microseconds


class Due(NamedTuple):
    """A delivery that is to be tried now."""

    id: int
    name: str
    event: str
    body: bytes
    tries: int


def project_named(connection: sqlite3.Connection, name: str) -> int | NotFound:
    """Return the id of project *name*; the built-in one has no webhooks."""
    return project_id(connection, name) or NotFound("project", name)


@dataclass(slots=True)
class AddWebhook:
    """Store a webhook; the result is its `WebhookStatus`, or `NotFound` or `InvalidOption`."""

    rank: ClassVar[int] = 1
    project: str
    url: str
    events: tuple[str, ...]
    secret: bytes
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddWebhook]) -> list[Any]:
        names.forget_hooks()
        return [operation._add(connection) for operation in operations]

    def _add(self, connection: sqlite3.Connection) -> WebhookStatus | NotFound | InvalidOption:
        project = project_named(connection, self.project)
        if isinstance(project, NotFound):
            return project
        all, own = connection.execute(
            "SELECT count(*), coalesce(sum(project = ?), 0) FROM webhook", (project,)
        ).fetchone()
        if own >= LIMIT_OF_PROJECT or all >= LIMIT:
            expected = f"at most {LIMIT_OF_PROJECT} for a project and {LIMIT} in all: remove one that is not needed"
            return InvalidOption("webhooks", f"more than {own} of this project and {all} in all", expected)
        row = (project, self.url, self.secret, " ".join(self.events), self.at)
        cursor = connection.execute(
            "INSERT INTO webhook (project, url, secret, events, created) VALUES (?, ?, ?, ?, ?)", row
        )
        return _stored(connection, self.project, cursor.lastrowid)


@dataclass(slots=True)
class RemoveWebhook:
    """Remove a webhook with its deliveries; the result is the `WebhookStatus` that it had, or `NotFound`."""

    rank: ClassVar[int] = 1
    project: str
    id: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[RemoveWebhook]) -> list[Any]:
        names.forget_hooks()
        return [operation._remove(connection) for operation in operations]

    def _remove(self, connection: sqlite3.Connection) -> WebhookStatus | NotFound:
        found = _stored(connection, self.project, self.id)
        if not isinstance(found, NotFound):
            connection.execute("DELETE FROM delivery WHERE webhook = ?", (self.id,))
            connection.execute("DELETE FROM webhook WHERE id = ?", (self.id,))
        return found


@dataclass(slots=True)
class NoteTry:
    """Note what a try has come to; the result is why the webhook was switched off, or None."""

    rank: ClassVar[int] = 1
    webhook: int
    delivery: int
    at: int
    status: int | None
    reason: str | None  #: None: it was taken
    due: int | None = None  #: the next try
    is_gone: bool = False  #: the receiver wants nothing any more

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[NoteTry]) -> list[Any]:
        return [operation._note(connection, names) for operation in operations]

    def _note(self, connection: sqlite3.Connection, names: Names) -> str | None:
        finished = self.at if self.due is None else None
        row = (self.due, finished, self.status, self.reason, self.delivery)
        if not connection.execute(NOTE_TRY, row).rowcount or finished is None:
            return None  # it goes on, or was removed meanwhile
        is_taken = self.reason is None
        (in_vain,) = connection.execute(NOTE_END, (is_taken, self.webhook)).fetchone()
        reason = None
        if not is_taken and (self.is_gone or in_vain >= ALL_IN_VAIN):
            reason = f"{in_vain} deliveries in a row have failed, the last: {self.reason}"
            reason = self.reason if self.is_gone else reason
            connection.execute(SWITCH_OFF, (self.at, reason, self.webhook))
            connection.execute(FAIL_PENDING, (self.at, self.webhook))
            names.forget_hooks()
        connection.execute(FORGET_OLD, (self.webhook,))
        return reason


@dataclass(slots=True)
class NoteTest:
    """Keep what a test has come to; one that was taken switches the webhook on again. The result is a `Delivery`."""

    rank: ClassVar[int] = 1
    webhook: int
    name: str
    body: bytes
    began: int
    at: int
    status: int | None
    reason: str | None

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[NoteTest]) -> list[Any]:
        names.forget_hooks()
        return [operation._note(connection) for operation in operations]

    def _note(self, connection: sqlite3.Connection) -> Delivery | NotFound:
        if connection.execute("SELECT 1 FROM webhook WHERE id = ?", (self.webhook,)).fetchone() is None:
            return NotFound("webhook", self.webhook)
        row = (self.webhook, self.name, self.body, self.began, self.at, self.status, self.reason)
        id = connection.execute(INSERT_TEST, row).lastrowid
        if self.reason is None:
            connection.execute(
                "UPDATE webhook SET in_vain = 0, off = NULL, off_reason = NULL WHERE id = ?", (self.webhook,)
            )
        return _delivery(connection.execute(f"SELECT {DELIVERY} FROM delivery WHERE id = ?", (id,)).fetchone())


@dataclass(slots=True)
class TellStalled:
    """Have those be told who want to know that *project* has stalled; the result is how many those are."""

    rank: ClassVar[int] = 4
    project: int
    data: dict[str, Any]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[TellStalled]) -> list[Any]:
        hooks = names.hooks(connection)
        return [
            post(connection, hooks.get(each.project, list[Hook]()), "project_stalled", each.data, each.at)
            for each in operations
        ]


def _stored(connection: sqlite3.Connection, project: str, id: int | None) -> WebhookStatus | NotFound:
    which = "WHERE project.name = ? AND webhook.id = ?"
    row = connection.execute(f"{SELECT_WEBHOOKS} {which}", (project, id)).fetchone()
    return NotFound("webhook", id or 0) if row is None else _status(row)


def _status(row: Sequence[Any]) -> WebhookStatus:
    id, project, url, events, created, off, reason, pending, *last = row
    return WebhookStatus(
        id=id, project=project, url=url, events=events.split(), created=created / 1e6, active=off is None,
        reason=reason, pending=pending, last=None if last[0] is None else _delivery(last),
    )  # fmt: skip


def _delivery(row: Sequence[Any]) -> Delivery:
    name, event, created, tries, due, finished, status, reason = row
    return Delivery(
        id=name, event=event, created=created / 1e6, tries=tries, due=None if due is None else due / 1e6,
        finished=None if finished is None else finished / 1e6, status=status, reason=reason,
        state="pending" if due is not None else "delivered" if reason is None else "failed",
    )  # fmt: skip


class WebhookReads(ContributorReads):
    """Answers which webhooks there are too, and what they are to be told."""

    async def webhooks(self, project: str) -> list[WebhookStatus]:
        """Return the webhooks of *project*, the newest first; raises `NotFound`."""
        await self.project_id(project)
        rows = await self._all(f"{SELECT_WEBHOOKS} WHERE project.name = ? ORDER BY webhook.id DESC", project)
        return [_status(row) for row in rows]

    async def deliveries(self, project: str, id: int, *, limit: int) -> list[Delivery]:
        """Return the newest deliveries of webhook *id*; raises `NotFound`."""
        await self.target(project, id)
        rows = await self._all(f"SELECT {DELIVERY} FROM delivery WHERE webhook = ? ORDER BY id DESC LIMIT ?", id, limit)
        return [_delivery(row) for row in rows]

    async def target(self, project: str, id: int) -> Target:
        """Return webhook *id* of *project*; raises `NotFound`."""
        await self.project_id(project)
        row = await self._one(f"{SELECT_TARGETS} WHERE project.name = ? AND webhook.id = ?", project, id)
        if row is None:
            raise NotFound("webhook", id)
        return Target(*row)

    async def targets(self) -> list[Target]:
        """Return every webhook, each with when its next delivery is."""
        return [Target(*row) for row in await self._all(SELECT_TARGETS)]

    async def due(self, webhook: int, *, at: int, limit: int) -> list[Due]:
        """Return what *webhook* is to be told by now, what waits longest first."""
        return [Due(*row) for row in await self._all(SELECT_DUE, webhook, at, limit)]
