"""What happened, as it is told to whoever watches."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened, stored in the transaction in which it did."""

    seq: int  #: grows from event to event, over all lives of the engine
    at: float  #: Unix seconds
    kind: str  #: `events.Kind` in small letters: job_submitted, leased, succeeded, failed, retried, ...
    project: str = ""
    stage: str = ""
    job: int | None = None
    number: int | None = None  #: the job's, within its project
    batch: int | None = None
    task: int | None = None  #: the first, where there are several
    units: int = 1  #: so many tasks
    state: str = ""  #: where they are now
    attempt: int | None = None
    worker: str | None = None
    contributor: str | None = None
    credit: int | None = None  #: given, or taken back below zero
    seconds: float | None = None  #: that the run took
    detail: str | None = None  #: why, in words


class EventPage(msgspec.Struct, frozen=True):
    """Consecutive events, oldest first."""

    events: list[Event]
    cursor: int  #: ask for what comes after it


class EventVerbs(Protocol):
    """Questions about what happened."""

    async def events(
        self, *, after: int | None = None, project: str | None = None, wait: float = 0.0, limit: int = 500
    ) -> EventPage:
        """Return events after the cursor *after*; wait up to *wait* seconds for the first.

        Without *after* there are none in the answer, but the cursor of the newest. The events of one *project* are
        looked for among *limit* of all: ask on from the cursor.
        """
        ...
