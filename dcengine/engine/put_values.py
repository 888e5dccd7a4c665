"""Values that were put for calls to refer to."""

from __future__ import annotations

from collections.abc import AsyncIterable

from ..buffered import Piece
from ..errors import InvalidOption, NotFound
from ..references import key_of_value
from ..store import now
from ..store.values import DeleteValue, PutValue
from ..verbs import StoredValue
from ..verbs.values import LONGEST
from .outsiders import Outsiders


class PutValues(Outsiders):
    """Keeps them and gives them back."""

    async def put_value(self, pieces: AsyncIterable[Piece], *, keep: float | None = None) -> StoredValue:
        """Keep the packed value that comes in *pieces*; it is durable when this returns.

        Raises `PayloadTooLarge`, `InvalidOption`, or an error of the `BlobError` or `StoreError` families.
        """
        if keep is not None and not 0 <= keep < LONGEST:
            raise InvalidOption("keep", str(keep), f"a number of seconds from 0 to {LONGEST:.0e}, or None for ever")
        digest, size = await self._values.put(pieces)
        at = now()
        expires = None if keep is None else at + int(keep * 1_000_000)
        await self._store.apply(PutValue(digest, size, at, expires))
        return await self.value(digest.hex())

    async def value(self, digest: str) -> StoredValue:
        """Return what is known of a value that was put; raises `NotFound`."""
        found = await self._store.reads.value(_digest(digest))
        if found is None:
            raise NotFound("value", digest)
        return found

    async def read_value(self, digest: str, *, at: int, size: int) -> bytes:
        """Return *size* bytes of a packed value, from byte *at* on; raises `ValueGone`."""
        located = await self._values.locate(key_of_value(_digest(digest)))
        return await located.read(at, size) if at < located.size else b""

    async def delete_value(self, digest: str) -> bool:
        """Keep a value no longer; return False if it was not kept."""
        was_kept = bool(await self._store.apply(DeleteValue(_digest(digest))))
        await self._forget_values([_digest(digest)])
        return was_kept

    async def _forget_values(self, digests: list[bytes]) -> None:
        """Have workers know nothing of these values any more."""
        await self._cluster.drop_values([key_of_value(digest) for digest in digests])


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise NotFound("value", text[:100])
    return digest
