"""What contributors are told of, and what becomes of their work when they are banned."""

from __future__ import annotations

import msgspec


class BanDone(msgspec.Struct, frozen=True, kw_only=True):
    """What a ban came to."""

    nickname: str
    since: float | None  #: Unix seconds from which on its work was voided; None: all of it
    voided: int  #: accepted tasks that count no more
    requeued: int  #: of those, the ones that are to be done again; the others belong to jobs that were deleted, say
    leases: int  #: tasks in its hands that were taken back
    tokens: int  #: of its own that were revoked


class ContributorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A contributor as people see it."""

    nickname: str
    banned: float | None = None  #: Unix seconds since when nothing is taken from it
