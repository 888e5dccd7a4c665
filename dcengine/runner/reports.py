"""Reports of units that did not come to their end as usual, and the words for what happened to a process."""

from __future__ import annotations

import os
import signal

from .. import codec
from ..errors import DevicesHidden
from .bindings import environment
from .units import Ending, Unit, UnitReport


def cause_of(status: int) -> str:
    """Return in words what ended a process with this wait *status*."""
    if not os.WIFSIGNALED(status):
        return f"ended with exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "a real-time signal"
    suspect = ", often the system's out-of-memory killer" if number == signal.SIGKILL else ""
    return f"was ended by signal {number} ({name}){suspect}"


def hidden(unit: Unit) -> UnitReport | None:
    """Return the report of a *unit* with devices that this process does not see itself; None for any other."""
    try:
        environment(unit.devices, os.environ)
    except DevicesHidden as error:
        return padded([(Ending.RAISED, codec.pack_failure(codec.failure_from(error)))] * unit.count, unit)
    return None


def padded(ended: list[tuple[Ending, bytes]], unit: Unit, *, seconds: float = 0.0, lines: int = 0) -> UnitReport:
    """Return the report of *unit* whose first calls have *ended* so; the others were not run."""
    rows = [*ended, *[(Ending.NOT_RUN, b"")] * (unit.count - len(ended))]
    endings = bytes(ending for ending, _ in rows)
    return UnitReport(endings=endings, values=codec.pack([value for _, value in rows]), seconds=seconds, lines=lines)


def report_of_nothing(unit: Unit) -> UnitReport:
    """Return the report of *unit* of which no call began."""
    return padded([], unit)


def ended_in(parts: list[UnitReport]) -> list[tuple[Ending, bytes]]:
    """Return how the calls in *parts* of a report ended."""
    return [
        (Ending(ending), value)
        for part in parts
        for ending, value in zip(part.endings, codec.unpack(part.values), strict=True)
    ]
