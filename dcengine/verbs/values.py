"""Values that were put for calls to refer to."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Protocol

import msgspec

from ..buffered import Piece

LONGEST = 1e10  #: seconds that one may be kept for, unless it is kept for ever


class StoredValue(msgspec.Struct, frozen=True):
    """A value that is kept."""

    digest: str  #: sha256 of what is stored, as hex
    size: int  #: bytes, packed
    created: float
    expires: float | None = None  #: Unix seconds; None: it is kept until it is deleted


class ValueVerbs(Protocol):
    """Questions about values that were put."""

    async def put_value(self, pieces: AsyncIterable[Piece], *, keep: float | None = None) -> StoredValue:
        """Keep the packed value that comes in *pieces*, for calls to refer to; *keep* seconds, None for ever."""
        ...

    async def value(self, digest: str) -> StoredValue:
        """Return what is known of a value that was put."""
        ...

    async def read_value(self, digest: str, *, at: int, size: int) -> bytes:
        """Return *size* bytes of a packed value that was put, from byte *at* on."""
        ...

    async def delete_value(self, digest: str) -> bool:
        """Keep a value no longer; return False if it was not kept."""
        ...
