"""A slot that can do all: units in a child process, in the process of a session, or in the worker's own process."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from .sessions import Sessions
from .slot import ChildSlot
from .threads import ThreadSlot
from .units import Unit, UnitReport


class SharingSlot:
    """Runs units in a child, those of a session in its process, shared ones in a thread of this one; one at a time."""

    def __init__(self, child: ChildSlot, thread: ThreadSlot, sessions: Sessions) -> None:
        self._child, self._thread, self.sessions = child, thread, sessions
        self._current: ChildSlot | ThreadSlot = child

    async def start(self) -> None:
        """Have a child ready; raises `ClusterFailed` where there can be none."""
        await self._child.start()

    def run(self, unit: Unit) -> Coroutine[Any, Any, UnitReport]:
        """Run *unit* and report how each of its calls ended, as the slot for it does; raises `SessionLost`."""
        if unit.session:
            self._current = self.sessions.slot_for(unit)
        else:
            self._current = self._thread if unit.is_shared else self._child
        return self._current.run(unit)

    def keep(self, session: str) -> None:
        """Keep the child, which has just reported, as the process of *session*."""
        if self._current is self._child and (child := self._child.part_with_child()) is not None:
            self.sessions.adopt(session, child)

    def cancel(self, unit_id: int) -> None:
        """Stop *unit_id*, as far as that is possible where it runs."""
        self._current.cancel(unit_id)

    def interrupt(self, unit_id: int) -> None:
        """Raise KeyboardInterrupt in *unit_id*, where that is possible."""
        self._current.interrupt(unit_id)

    def kill(self, unit_id: int) -> None:
        """End *unit_id* by force, where that is possible."""
        self._current.kill(unit_id)

    def tell(self, unit_id: int, item: int, message: bytes) -> bool:
        """Hand *message* to call *item* of *unit_id*, where that is possible; return whether it has it."""
        return self._current.tell(unit_id, item, message)

    async def cut(self, unit_id: int) -> int | None:
        """Let *unit_id* end with the call that runs; return how many of its calls can have begun then."""
        return await self._current.cut(unit_id)

    async def vacate(self) -> None:
        """Let go of the devices that a child without anything to do still holds."""
        await self._child.vacate()

    async def close(self) -> None:
        """End them all, and the unit with them."""
        await self._thread.close()
        await self._child.close()
        await self.sessions.close()
