"""The store: one SQLite file, one writer with group commit, one reader. It knows SQL and no rules."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .opening import open_for_writing
from .project_reads import ProjectReads
from .writer import Operation, Writer, now

__all__ = ["Operation", "Store", "now"]


class Store:
    """The engine's file."""

    def __init__(self, db: Path) -> None:
        self.db = db
        self.reads = ProjectReads(db)
        self._writer = Writer(db, lambda: open_for_writing(db))

    async def start(self) -> None:
        """Open the file; raises an error of the `StoreError` family and leaves the file as it was."""
        await self._writer.start()
        await self.reads.start()

    def apply(self, operation: Operation) -> asyncio.Future[Any]:
        """Hand in *operation*; the future ends with its result once that is durable."""
        return self._writer.put(operation)

    def submit(self, operation: Operation, size: int) -> asyncio.Future[Any]:
        """Hand in new work of *size* bytes; raises `EngineBusy` while too much waits."""
        return self._writer.put(operation, size=size, new_work=True)

    @property
    def broken(self) -> StoreError | None:
        """Why nothing can be written any more: the file was taken over, or the disk failed."""
        return self._writer.broken

    async def close(self) -> None:
        await self.reads.close()
        await self._writer.close()
