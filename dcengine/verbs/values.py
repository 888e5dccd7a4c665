"""Values that were put for calls to refer to."""

from __future__ import annotations

import msgspec

LONGEST = 1e10  #: seconds that one may be kept for, unless it is kept for ever


class StoredValue(msgspec.Struct, frozen=True):
    """A value that is kept."""

    digest: str  #: sha256 of what is stored, as hex
    size: int  #: bytes, packed
    created: float
    expires: float | None = None  #: Unix seconds; None: it is kept until it is deleted
