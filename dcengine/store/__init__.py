"""The store: one SQLite file, one writer with group commit, one reader. It knows SQL and no rules."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StoreError
from .opening import open_for_writing
from .touching import Confirm
from .transactions import Operation
from .webhooks import WebhookReads
from .writer import Writer, now

__all__ = ["Operation", "Store", "now"]

T = TypeVar("T")


class Store:
    """The engine's file."""

    def __init__(self, db: Path) -> None:
        self.db = db
        self.reads = WebhookReads(db)
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

    def maintain(self, do: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have *do* called with the writing connection, between two transactions; nothing else is written meanwhile."""
        return self._writer.maintain(do)

    @property
    def writer(self) -> Writer:
        """For those who measure it."""
        return self._writer

    @property
    def broken(self) -> StoreError | None:
        """Why nothing can be written any more: the file was taken over, or the disk failed."""
        return self._writer.broken

    async def confirm_ownership(self) -> None:
        """Look whether the file is still this engine's; raises `OwnershipLost` if not, and is `broken` then."""
        if self._writer.trouble is None:
            await self._writer.put(Confirm())

    async def close(self) -> None:
        await self.reads.close()
        await self._writer.close()
