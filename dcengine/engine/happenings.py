"""The newest events, read once for all who follow them."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from operator import attrgetter

from ..verbs import Event

KEPT = 5000  #: events; who is further behind reads the file
LOOK_SECONDS = 0.2  #: between two looks into the file, however much is committed: so long what happens is gathered
LOOK_LIMIT = 1000  #: events read at once

Read = Callable[[int, int], Awaitable[list[Event]]]  #: (after which number, how many at most)
_seq = attrgetter("seq")


class Happenings:
    """What happens, while somebody asks for it; nobody looks otherwise."""

    def __init__(self, read: Read, newest: Callable[[], Awaitable[int]]) -> None:
        self._read, self._newest = read, newest
        self._events: list[Event] = []
        self._from = self._until = 0  #: what is kept is all that came after the one, up to the other
        self._looking: asyncio.Task[None] | None = None

    @property
    def until(self) -> int:
        """The number of the newest event that is known without a look into the file."""
        return self._until

    async def after(self, seq: int, limit: int) -> list[Event]:
        """Return what came after number *seq*, at most *limit* of it."""
        if not self._from <= seq < self._until:
            return await self._read(seq, limit)
        begin = bisect_right(self._events, seq, key=_seq)
        return self._events[begin : begin + limit]

    async def look(self, seconds: float) -> None:
        """Wait for the next look into the file, at most so many *seconds*; all who wait share it."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_soon())
        await asyncio.wait([self._looking], timeout=seconds)
        if self._looking.done():
            self._looking.result()  # raises what went wrong

    async def _look_soon(self) -> None:
        newest = await self._newest()
        if newest - self._until > KEPT:  # nobody has followed for a while
            self._events, self._from, self._until = [], newest, newest
        found = await self._read(self._until, LOOK_LIMIT)
        if not found:
            await asyncio.sleep(LOOK_SECONDS)
            found = await self._read(self._until, LOOK_LIMIT)
        self._keep(found)

    def _keep(self, found: list[Event]) -> None:
        if found:
            self._events = [*self._events, *found][-KEPT:]
            self._until = found[-1].seq
            self._from = max(self._from, self._events[0].seq - 1)
