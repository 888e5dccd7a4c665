"""The process of one session: units that run in it find what those before them have left there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..errors import SessionLost
from .nursery import ChildProcess, Nursery
from .reports import cause_of
from .slot import PATIENCE, ChildSlot
from .units import Live, Unit, UnitReport


class SessionSlot(ChildSlot):
    """Runs the units of one session in one child process; when that has ended, it starts no other."""

    def __init__(self, nursery: Nursery, on_live: Callable[[Live], None]) -> None:
        super().__init__(nursery, on_live)
        self.loss: tuple[str, float] | None = None  #: what became of the process, and when
        self._has_begun = False

    def adopt(self, child: ChildProcess) -> None:
        """Take over *child*, in which a call has left something."""
        child.hand_over(self._hear, self._lose)
        self._child, self._has_begun = child, True

    async def _child_for(self, unit: Unit) -> ChildProcess:
        child = await self._ready_child()
        child.devices = unit.devices
        return child

    def _spawn_soon(self) -> None:
        if not self._has_begun:
            super()._spawn_soon()

    async def _spawn(self) -> None:
        await super()._spawn()
        self._has_begun = self._child is not None

    def _rest_later(self) -> None:
        """Rest never: what the process holds of its devices is what it is kept for."""

    def _drop_child(self) -> None:
        self._note_loss("was killed")
        super()._drop_child()

    def _lose(self, child: ChildProcess, status: int) -> None:
        if child is self._child:
            turn = self._turn
            was_killed = turn is not None and turn.killed_for
            cause = "ended with its fork server" if child.is_bereft else cause_of(status)
            self._note_loss("was killed" if was_killed else cause)
        super()._lose(child, status)

    def _note_loss(self, what: str) -> None:
        if self._child is not None and not self._is_closed:
            self.loss = what, time.time()


class Sessions:
    """The sessions of one slot, by name."""

    def __init__(self, nursery: Nursery, on_live: Callable[[Live], None], worker: str) -> None:
        self._nursery, self._on_live, self._worker = nursery, on_live, worker
        self._slots: dict[str, SessionSlot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def slot_for(self, unit: Unit) -> SessionSlot:
        """Return where *unit* runs, which names a session; raises `SessionLost`, once, where its process has ended."""
        slot = self._slots.get(unit.session)
        if slot is not None and slot.loss is None:
            return slot
        lost = self._slots.pop(unit.session, None)
        if not unit.begins:
            what, at = (lost.loss if lost is not None else None) or ("is not there any more", time.time())
            raise SessionLost(unit.session, self._worker, what, at)
        slot = self._slots[unit.session] = SessionSlot(self._nursery, self._on_live)
        return slot

    def adopt(self, name: str, child: ChildProcess) -> None:
        """Make *child* the process of session *name*."""
        slot = self._slots[name] = SessionSlot(self._nursery, self._on_live)
        slot.adopt(child)

    async def end(self, name: str) -> None:
        """End session *name*, if it is here, and the unit that runs in it; when this returns its process is gone."""
        slot = self._slots.pop(name, None)
        if slot is not None:
            await asyncio.wait_for(slot.close(), PATIENCE + 1)

    async def close(self) -> None:
        """End all sessions."""
        slots, self._slots = [*self._slots.values()], {}
        await asyncio.gather(*(slot.close() for slot in slots))


def stays_in(report: UnitReport) -> bool:
    """Tell whether the process that sends *report* is to be kept as a session."""
    return bool(report.session)
