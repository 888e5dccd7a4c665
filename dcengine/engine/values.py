"""Values on their way into the file and out of it: those too big for a row lie outside, a reference stands for each."""

from __future__ import annotations

from ..blobs import ROW_LIMIT, Blobs, digest_of, is_reference, size_of
from ..store import Store, now
from ..store.saying import NoteBlob


class Values:
    """Keeps packed values wherever they fit."""

    def __init__(self, store: Store, place: str) -> None:
        self._store, self._place = store, place

    async def start(self) -> None:
        """Learn what the file is called, so that several may share one place."""
        self.blobs = Blobs(self._place, await self._store.reads.store_id())

    async def close(self) -> None:
        await self.blobs.close()

    async def keep(self, data: bytes) -> bytes:
        """Return what to store for *data*: itself, or a reference to where it lies safely now."""
        if len(data) <= ROW_LIMIT:
            return data
        reference = await self.blobs.reference_to(data)
        # Written down first: so it can be removed whatever happens from here on.
        await self._store.apply(NoteBlob(digest_of(reference), size_of(reference), now()))
        return await self.blobs.put(data, reference)

    async def get(self, data: bytes) -> bytes:
        """Return the value that was kept as *data*; raises `BlobMissing` or `BlobCorrupt`."""
        return await self.blobs.get(data) if is_reference(data) else data
