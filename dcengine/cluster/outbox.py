"""What the calls on a worker say before they end, on its way to one engine: gathered for a moment, then fetched.

It does not pass the scheduler, which would keep it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from ..runner.units import Live

INTERVAL = 0.05  #: seconds that live messages of one worker are gathered
LIMIT = 64 * 1024  #: bytes of live messages for which nobody waits for more
ANSWER_LIMIT = 32 * 1024 * 1024  #: bytes of live messages in one answer, unless the first alone has more


class Outbox:
    """Live messages that wait for the engine to fetch them."""

    def __init__(self) -> None:
        self._live: deque[Live] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = asyncio.Event()

    def say(self, live: Live) -> None:
        """Let the engine hear *live*, together with what else is said in the next moment."""
        self._live.append(live)
        self._size += len(live.data)
        if self._size >= LIMIT:
            self.send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self.send)

    def send(self) -> None:
        """Let the engine hear what is gathered, without waiting for more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._live:
            self._is_due.set()

    def close(self) -> None:
        """Let the engine hear the rest; nobody has to listen on."""
        self.send()
        self._is_due.set()

    async def listen(self, patience: float) -> list[Live]:
        """Return what was said since the last answer, once there is something or *patience* seconds have passed."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._is_due.wait(), patience)
        if not self._live:
            return []
        said = [self._live.popleft()]
        size = len(said[0].data)
        while self._live and size + len(self._live[0].data) <= ANSWER_LIMIT:
            said.append(self._live.popleft())
            size += len(said[-1].data)
        self._size -= size
        if not self._live:
            self._is_due.clear()
        return said
