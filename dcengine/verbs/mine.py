"""What whoever asks has brought, done and holds: told to the holder of a token about itself, and to nobody else."""

from __future__ import annotations

from typing import Protocol

import msgspec

from .access import Grant, TokenRole
from .batches import BatchStatus
from .contributors import ContributorReport
from .jobs import JobPage
from .outsiders import OutsideWorker


class HeldTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task in the hands of an outside worker."""

    project: str
    stage: str
    job: int
    number: int  #: the job's, within its project
    worker: str
    deadline: float  #: Unix seconds by which the worker has to be heard of
    says: str = ""  #: how far it is


class Mine(msgspec.Struct, frozen=True, kw_only=True):
    """What concerns the holder of a token."""

    role: TokenRole
    token: int | None = None  #: its id; None for the one that an engine makes at its start
    project: str | None = None  #: the only one, for a worker
    nickname: str | None = None  #: who earns the credit
    contributors: list[ContributorReport] = []  #: who earns under it, as far as its workers were heard of lately
    workers: list[OutsideWorker] = []
    held: int = 0  #: tasks in their hands
    holding: list[HeldTask] = []  #: of those, the ones that end first
    batches: list[BatchStatus] = []  #: brought with it, the newest


class MineVerbs(Protocol):
    """Questions of who holds a token, about itself. Over HTTP *grant* is what the token allows that was shown."""

    async def mine(self, *, grant: Grant | None = None) -> Mine:
        """Return what whoever asks has done, holds and has brought; without *grant* it is who has the engine."""
        ...

    async def my_jobs(self, *, before: int | None = None, limit: int = 50, grant: Grant | None = None) -> JobPage:
        """Return the jobs that were brought with the token of whoever asks, newest first; a page as of `find_jobs`."""
        ...
