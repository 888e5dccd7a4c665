"""How many calls of one function stand, and what came of them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from .cluster import OtherVersions
from .functions import BatchSubmission


class FailedItem(msgspec.Struct, frozen=True):
    """An item of a batch that failed."""

    index: int
    job: int
    reason: str  #: in one line


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as people see it."""

    id: int
    project: str
    name: str
    state: str  #: open, succeeded, failed (some items failed), cancelled
    count: int
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    first_job: int = 0
    tags: str = ""
    priority: int = 0
    created: float = 0.0
    finished: float | None = None
    submitter: str = ""  #: who brought it, as user@host
    rate: float = 0.0  #: items per second, over the last seconds
    workers: list[str] = []
    warning: str | None = None
    other_versions: list[OtherVersions] = []

    @property
    def is_final(self) -> bool:
        return self.state != "open"

    @property
    def done(self) -> int:
        """How many items have ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def total(self) -> int:
        """How many items there are, by the name that `Progress` has for it."""
        return self.count


class Report(msgspec.Struct, frozen=True):
    """Consecutive items of a batch that ended alike, in the order they were accepted."""

    cursor: int  #: ask for reports after this one
    first: int
    count: int
    state: str  #: succeeded, failed, cancelled
    data: bytes  #: packed by `codec.pack`: a value, or a `codec.Failure`, per item


class BatchVerbs(Protocol):
    """Questions about batches."""

    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        """Store the calls of one map."""
        ...

    async def batch(self, id: int) -> BatchStatus:
        """Return the batch as it stands."""
        ...

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        """Return batches, newest first, those with an id below *before*."""
        ...

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        """Return accepted reports with a cursor above *after*; wait up to *wait* seconds for the first."""
        ...

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        """Return the first failed items of batch *id*, in order of their items, without their payload."""
        ...

    async def cancel_batch(self, id: int) -> BatchStatus:
        """Cancel the items that have not ended."""
        ...

    async def retry_batch(self, id: int) -> BatchStatus:
        """Queue the failed and cancelled items again."""
        ...
