"""What a submission may carry."""

from __future__ import annotations

from ..errors import PayloadTooLarge

VALUE_LIMIT = 512 << 20  #: bytes of one packed value
PUT_LIMIT = 64 << 30  #: bytes of one that is never in memory as a whole


def check_size(what: str, size: int, limit: int = VALUE_LIMIT) -> None:
    """Raise `PayloadTooLarge` for a value above *limit*."""
    if size > limit:
        raise PayloadTooLarge(what, size, limit)
