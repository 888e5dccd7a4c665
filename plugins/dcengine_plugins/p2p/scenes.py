"""Scenes as old workers get them: base64, kept for the next chunk."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import AsyncIterator

from dcengine.codec import pieces_of
from dcengine.errors import NotFound
from dcengine.glances import bytes_in
from dcengine.verbs import StoredValue, Verbs

KEPT_SECONDS = 30 * 86400.0  #: after it was asked for last
READ_AT_ONCE = 16 << 20  #: bytes
MOST_KEPT = 256 << 20  #: bytes in memory, or a single scene


class Scenes:
    """The scenes that are being rendered, by their digest."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._turn = asyncio.Lock()

    async def put(self, content: bytes) -> StoredValue:
        """Keep a scene."""
        packed = await asyncio.to_thread(pieces_of, content)

        async def pieces() -> AsyncIterator[bytes]:
            for piece in packed:
                yield bytes(piece)

        return await self._verbs.put_value(pieces(), keep=KEPT_SECONDS)

    async def content_of(self, digest: str) -> bytes:
        """Return a scene; raises `NotFound`, `ValueGone`."""
        size = (await self._verbs.value(digest)).size
        packed = bytearray()
        for at in range(0, size, READ_AT_ONCE):
            packed += await self._verbs.read_value(digest, at=at, size=min(READ_AT_ONCE, size - at))
        content = await asyncio.to_thread(bytes_in, bytes(packed))
        if content is None:
            raise NotFound("scene", digest)
        return content

    async def text_of(self, digest: str) -> bytes:
        """Return a scene in base64; raises `NotFound`, `ValueGone`."""
        async with self._turn:
            if digest not in self._texts:
                self._texts[digest] = await asyncio.to_thread(base64.b64encode, await self.content_of(digest))
            self._texts.move_to_end(digest)
            while len(self._texts) > 1 and sum(map(len, self._texts.values())) > MOST_KEPT:
                self._texts.popitem(last=False)
            return self._texts[digest]
