"""Questions about values that were put."""

from __future__ import annotations

from collections.abc import AsyncIterable

import msgspec

from ..buffered import Piece
from ..connection import Connection, Question
from ..verbs import StoredValue

OCTETS = "application/octet-stream"


class Deleted(msgspec.Struct):
    """Whether there was something to delete."""

    deleted: bool


class AboutValues(Connection):
    """Asks about values, and brings them."""

    async def put_value(self, pieces: AsyncIterable[Piece], *, keep: float | None = None) -> StoredValue:
        question = Question("POST", "v1/values", {"keep": keep}, pieces=pieces, content_type=OCTETS)
        return self._value(StoredValue, await self._answer(question))

    async def value(self, digest: str) -> StoredValue:
        return await self._get(StoredValue, f"v1/values/{digest}")

    async def read_value(self, digest: str, *, at: int, size: int) -> bytes:
        return (await self._ask("GET", f"v1/values/{digest}/content", {"at": at, "size": size})).body

    async def delete_value(self, digest: str) -> bool:
        return self._value(Deleted, await self._answer(Question("DELETE", f"v1/values/{digest}").once())).deleted
