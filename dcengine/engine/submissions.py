"""What a submission may carry."""

from __future__ import annotations

from ..blobs import is_reference
from ..errors import InvalidOption, PayloadTooLarge

VALUE_LIMIT = 512 << 20  #: bytes of one packed value
PUT_LIMIT = 64 << 30  #: bytes of one that is never in memory as a whole


def check_value(what: str, data: bytes) -> None:
    """Raise for a packed value that is too large, or that would stand for one which somebody else has stored."""
    check_size(what, len(data))
    if is_reference(data):
        raise InvalidOption(what, "a reference to a stored value", "the value itself, packed")


def check_size(what: str, size: int, limit: int = VALUE_LIMIT) -> None:
    """Raise `PayloadTooLarge` for a value above *limit*."""
    if size > limit:
        raise PayloadTooLarge(what, size, limit)
