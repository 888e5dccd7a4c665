"""How values come to one worker: each once, however many calls refer to it, and by its path where that will do."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from ..buffered import Packed
from ..codec import failure_from, pack_failure
from ..errors import ClusterError, DcengineError, WorkerFull
from ..runner.units import Unit
from ..runner.values import mapped
from .settings import WorkerGone

logger = logging.getLogger(__name__)

PIECE = 8 << 20  #: bytes that are sent or fetched at once
TRIES = 5  #: times that a unit's values are sent; a worker which loses them again and again has no room
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Located(NamedTuple):
    """Where a value is."""

    size: int
    read: Callable[[int, int], Awaitable[bytes]]  #: gives so many bytes of it, from one on
    path: str | None = None  #: of the file that it is, on this machine
    at: tuple[str, bytes] | None = None  #: the worker that has it already, and its key there


class Source(Protocol):
    """Knows where values are; the engine."""

    @property
    def home(self) -> str:
        """What tells the engine's file from others."""
        ...

    @property
    def limit(self) -> int:
        """How many bytes of values a worker may keep for it."""
        ...

    @property
    def folder(self) -> str | None:
        """The folder in which calls on this machine may leave large results; None where that would not help."""
        ...

    async def locate(self, key: bytes) -> Located:
        """Return where the value of *key* is; raises an error of ours where it cannot be had."""
        ...


class Nowhere:
    """Has no values."""

    home, limit, folder = "", 0, None

    async def locate(self, key: bytes) -> Located:
        """Raise that there is none."""
        raise ClusterError(f"nobody knows the value {key.hex()}")


class Spot(msgspec.Struct, frozen=True):
    """A folder of one machine, told so that another process can tell whether it would find the same there."""

    machine: str
    user: int
    folder: str
    device: int
    inode: int


def spot_of(folder: str) -> Spot:
    """Return the spot of *folder*, or of what there is of it."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    found = path.stat()
    return Spot(_machine(), _user(), str(path), found.st_dev, found.st_ino)


def is_here(spot: Spot) -> bool:
    """Tell whether this process sees the very same folder, as the same user."""
    try:
        return spot_of(spot.folder) == spot and os.access(spot.folder, os.R_OK | os.W_OK)
    except OSError:
        return False


def _machine() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return f"{socket.gethostname()} {sys.platform}"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


class Carrier:
    """Brings values to the worker called *name*, which is asked through *ask*."""

    def __init__(self, name: str, ask: Callable[..., Awaitable[Any]], source: Source) -> None:
        self._name, self._ask, self._source = name, ask, source
        self._there: set[bytes] = set()
        self._arriving: dict[bytes, asyncio.Task[None]] = {}
        self._is_near = False

    async def begin(self) -> None:
        """Find out whether the worker sees the folder of large values."""
        folder = self._source.folder
        spot = None if folder is None else msgspec.to_builtins(await asyncio.to_thread(spot_of, folder))
        self._is_near = bool(spot and await self._ask("near", spot=spot))

    async def prepared(self, unit: Unit) -> Unit:
        """Return *unit* as it is sent, once the worker has what its calls refer to.

        What cannot be had, the calls that need it will be told.
        """
        spool = self._source.folder if self._is_near and not unit.stays else None
        if not unit.values and spool is None:
            return unit
        lost: dict[bytes, bytes] = {}
        arrivals = {key: self._arrival(key) for key in unit.values if key not in self._there}
        for key, arrival in arrivals.items():
            try:
                await asyncio.shield(arrival)
            except WorkerGone:
                raise
            except DcengineError as error:
                lost[key] = pack_failure(failure_from(error))
        values = [key for key in unit.values if key not in lost]
        return msgspec.structs.replace(unit, values=values, lost=lost, spool=spool or "")

    def forget(self, keys: list[bytes]) -> None:
        """Take note that the worker has these values no longer."""
        self._there.difference_update(keys)

    async def drop(self, keys: list[bytes]) -> None:
        """Have the worker forget values that are kept no longer."""
        if not self._there.isdisjoint(keys):
            self.forget(keys)
            await self._ask("drop", keys=keys)

    async def fetch(self, key: bytes, at: int, size: int) -> bytes | None:
        """Return *size* bytes of a value that the worker has, from byte *at* on; None where it has it no longer."""
        reply = await self._ask("read", key=key, at=at, size=size)
        data: bytes | None = reply["data"]
        return data

    async def mapped(self, key: bytes) -> Packed | None:
        """Return a value that the worker has, mapped from its file, if this process sees it."""
        path = (await self._ask("path", key=key))["path"] if self._is_near else None
        try:
            return None if path is None else await asyncio.to_thread(mapped, path)
        except OSError:
            return None

    def _arrival(self, key: bytes) -> asyncio.Task[None]:
        """Return the task at whose end the value is there; two units that need it share one."""
        arrival = self._arriving.get(key)
        if arrival is None:
            arrival = self._arriving[key] = asyncio.create_task(self._bring(key))
            arrival.add_done_callback(lambda done: self._arrived(key, done))
        return arrival

    def _arrived(self, key: bytes, done: asyncio.Task[None]) -> None:
        del self._arriving[key]
        if not done.cancelled() and done.exception() is None:
            self._there.add(key)

    async def _bring(self, key: bytes) -> None:
        located = await self._source.locate(key)
        if await self._is_there(key, located):
            return
        for at in range(0, max(1, located.size), PIECE):
            piece = await located.read(at, min(PIECE, located.size - at))
            reply = await self._ask("piece", key=key, piece=piece, at=at, size=located.size)
            if reply["problem"]:
                raise WorkerFull(self._name, reply["problem"])

    async def _is_there(self, key: bytes, located: Located) -> bool:
        """Tell the worker which of its values or of this machine's files has *key*; return whether that will do."""
        if located.at is not None and located.at[0] == self._name:
            return bool(await self._ask("name", key=key, other=located.at[1]))
        if located.path is not None and self._is_near:
            return bool(await self._ask("file", key=key, path=located.path, size=located.size))
        return False
