"""A slot that can do both: units in a child process, and those that want it in the worker's own process."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from .slot import ChildSlot
from .threads import ThreadSlot
from .units import Unit, UnitReport


class SharingSlot:
    """Runs units in a child, and shared ones in a thread of this process; one at a time, whichever it is."""

    def __init__(self, child: ChildSlot, thread: ThreadSlot) -> None:
        self._child, self._thread = child, thread
        self._current: ChildSlot | ThreadSlot = child

    async def start(self) -> None:
        """Have a child ready; raises `ClusterFailed` where there can be none."""
        await self._child.start()

    def run(self, unit: Unit) -> Coroutine[Any, Any, UnitReport]:
        """Run *unit* and report how each of its calls ended, as the slot for it does."""
        self._current = self._thread if unit.is_shared else self._child
        return self._current.run(unit)

    def cancel(self, unit_id: int) -> None:
        """Stop *unit_id*, as far as that is possible where it runs."""
        self._current.cancel(unit_id)

    def interrupt(self, unit_id: int) -> None:
        """Raise KeyboardInterrupt in *unit_id*, where that is possible."""
        self._current.interrupt(unit_id)

    def kill(self, unit_id: int) -> None:
        """End *unit_id* by force, where that is possible."""
        self._current.kill(unit_id)

    async def cut(self, unit_id: int) -> int | None:
        """Let *unit_id* end with the call that runs; return how many of its calls can have begun then."""
        return await self._current.cut(unit_id)

    async def vacate(self) -> None:
        """Let go of the devices that a child without anything to do still holds."""
        await self._child.vacate()

    async def close(self) -> None:
        """End both, and the unit with them."""
        await self._thread.close()
        await self._child.close()
