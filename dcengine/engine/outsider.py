"""What is known of one outside worker, as it is kept, and as people see it."""

from __future__ import annotations

import time

import msgspec

from ..store import now
from ..store.outsiders import StoredWorker
from ..verbs import OutsideWorker


class Outsider(msgspec.Struct):
    """What is known of an outside worker."""

    project: str
    stage: str
    name: str
    nickname: str
    first_seen: float  #: Unix seconds
    last_seen: float
    heard: float  #: by the monotonic clock
    completed: int = 0
    progress: str = ""
    holding: dict[str, int] = {}  #: numbers of the jobs by the tokens of the leases, some of which may have ended
    last_said: str = ""  #: the token of the lease that it has spoken its last word of
    digest: bytes = b""  #: of its secret; empty for one that has none
    is_unsaved: bool = False
    is_noted: bool = False  #: it was written down that it came
    tags: dict[str, str | None] = {}
    grant: int | None = None  #: the token that it has shown last

    def hear(self) -> None:
        """Take note of a sign of life."""
        self.last_seen, self.heard, self.is_unsaved = time.time(), time.monotonic(), True

    @property
    def row(self) -> tuple[int, int, str, bytes]:
        return int(self.last_seen * 1e6), self.completed, self.progress, self.digest


def status_of(outsider: Outsider, *, tokens: list[str] | None = None) -> OutsideWorker:
    """Return *outsider* as people see it; only to itself with the *tokens* of its leases."""
    return OutsideWorker(
        name=outsider.name, project=outsider.project, stage=outsider.stage, nickname=outsider.nickname,
        first_seen=outsider.first_seen, last_seen=outsider.last_seen, completed=outsider.completed,
        progress=outsider.progress, holding=list(outsider.holding.values()), tokens=tokens or [],
        last_said=outsider.last_said if tokens is not None else "", tags=outsider.tags,
    )  # fmt: skip


def stored_form(outsider: Outsider) -> StoredWorker:
    """Return *outsider* as the file has it when it comes."""
    at = now()
    return StoredWorker(
        outsider.digest, outsider.project, outsider.stage, outsider.name, outsider.nickname, at, at, 0, ""
    )
