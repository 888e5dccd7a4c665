"""Keeping the file: copies of it, and its size."""

from __future__ import annotations

from typing import Protocol

import msgspec


class BackupDone(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of the file."""

    path: str
    bytes: int
    blobs: int  #: values outside the file that were copied beside it
    seconds: float


class VacuumDone(msgspec.Struct, frozen=True, kw_only=True):
    """What cleaning up has given back."""

    before: int  #: bytes of the file
    after: int
    blobs: int  #: values outside the file that nothing referred to any more
    blob_bytes: int
    seconds: float


class UpkeepVerbs(Protocol):
    """Questions about the file."""

    async def backup(self, path: str) -> BackupDone:
        """Copy the file to the new file *path* on the engine's machine, as it stands, while work goes on."""
        ...

    async def vacuum(self) -> VacuumDone:
        """Give the space of what was deleted back to the disk; nothing is written meanwhile."""
        ...
