"""What is known of a unit while it runs in a child."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from .journal import Journal
from .tail import CUT_OFF
from .units import Unit, UnitReport


@dataclass
class Turn:
    """A unit on its way through the slot."""

    unit: Unit
    code: bytes
    report: asyncio.Future[UnitReport]
    sequence: int = 0  #: 0 until it was sent
    started: float = 0.0
    parts: list[UnitReport] = field(default_factory=list)
    lines: int = 0  #: live messages heard from the child
    overheard: int = 0  #: live messages that the slot has made of what the child could not read itself
    overheard_size: int = 0  #: bytes in them
    readings: int = -1  #: how often the child had read when text was last seen to wait
    next_look: asyncio.TimerHandle | None = None  #: at what waits to be read
    is_cancelled: bool = False
    is_interrupted: bool = False
    killed_for: Literal["", "cancel", "kill", "time-out"] = ""
    overdue: float = 0.0  #: when the call began for which the child was killed
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def running_item(self, journal: Journal) -> int:
        """Return the index of the call that runs, as the child writes it in its *journal*."""
        reported = sum(len(part.endings) for part in self.parts)
        return min(reported + len(journal.records_from(reported)), self.unit.count - 1)

    def within_limit(self, pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Return *pieces*, overheard just now, as long as there are not too many: here nobody keeps the newest."""
        was_within = self.overheard_size <= self.unit.output_limit
        self.overheard_size += sum(len(text) for _, text in pieces)
        if self.overheard_size <= self.unit.output_limit:
            return pieces
        return [(pieces[0][0], CUT_OFF)] if was_within else []
