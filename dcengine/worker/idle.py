"""Whether the owner of this machine is using it: what screens, terminals and the processors tell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from ..errors import IdlenessUnknown

LOOK_SECONDS = 2.0  #: between two looks
ASK_SECONDS = 5.0  #: that a program which knows may take to answer
BUSY_SHARE = 0.25  #: of all cores, used by the programs of others: somebody works here

Source = Callable[[], float | None]


class Watch(Protocol):
    """Knows how long the owner has been away."""

    def idle_seconds(self) -> float:
        """Return the seconds since the last sign of the owner; called again and again, and may take a moment."""
        ...


class OwnerWatch:
    """Asks all *sources*, each of which knows seconds since a sign of the owner, or nothing."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def idle_seconds(self) -> float:
        """Return the seconds since the last sign of the owner."""
        return min((idle for source in self._sources if (idle := source()) is not None), default=float("inf"))


def owner_watch() -> OwnerWatch:
    """Return what watches this machine's owner; raises `IdlenessUnknown` where nothing here knows of one."""
    signs = list(_screens())
    if _seconds_since_typing() is not None:
        signs.append(_seconds_since_typing)
    if not signs:
        raise IdlenessUnknown(sys.platform)
    return OwnerWatch([*signs, OthersLoad().idle_seconds])


# ---- screens and keyboards -----------------------------------------------------------------


def _screens() -> Iterator[Source]:
    """Yield what knows of keyboard and mouse here."""
    if sys.platform == "darwin":
        yield from (source for source in (_hid_idle,) if source() is not None)
    elif _has_x11() and _xprintidle() is not None:
        yield _xprintidle  # before logind, to which simple desktops never say that they are idle
    elif _logind_idle() is not None:
        yield _logind_idle


def _has_x11() -> bool:
    """Tell whether the screen is one of X11; what stands in for it under Wayland does not see all keys."""
    return bool(os.environ.get("DISPLAY")) and not os.environ.get("WAYLAND_DISPLAY")


def _hid_idle() -> float | None:
    found = re.search(r'"HIDIdleTime" = (\d+)', _said_by("ioreg", "-c", "IOHIDSystem", "-d", "4"))
    return int(found[1]) / 1e9 if found else None


def _xprintidle() -> float | None:
    text = _said_by("xprintidle").strip()
    return int(text) / 1000 if text.isdigit() else None


def _logind_idle() -> float | None:
    return idle_by_logind(_said_by("loginctl", "show", "--property=IdleHint", "--property=IdleSinceHint"))


def idle_by_logind(text: str) -> float | None:
    """Return how long all sessions have been idle, by what logind says of them; None if it says nothing."""
    said = dict(line.partition("=")[::2] for line in text.splitlines())
    if said.get("IdleHint") == "no":
        return 0.0
    since = said.get("IdleSinceHint", "")
    if said.get("IdleHint") != "yes" or not since.isdigit():
        return None
    return max(0.0, time.time() - int(since) / 1e6) if int(since) else float("inf")


def _said_by(program: str, *arguments: str) -> str:
    """Return what a program of the system prints; nothing where it is missing or fails."""
    if shutil.which(program) is None:
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        command = [program, *arguments]
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS
        )
        return ended.stdout if ended.returncode == 0 else ""
    return ""


# ---- terminals -----------------------------------------------------------------------------


def _seconds_since_typing() -> float | None:
    """Return how long nobody has typed in a terminal; None where nobody has one."""
    consoles = [path for path in Path("/dev").glob("tty*") if path.name[3:4] in "s0123456789" and _is_in_use(path)]
    return since_typing([*Path("/dev/pts").glob("[0-9]*"), *consoles])


def _is_in_use(console: Path) -> bool:
    """Tell whether somebody has logged in there: until then it is the system's."""
    with suppress(OSError):
        return console.stat().st_uid != 0
    return False


def since_typing(terminals: Sequence[Path]) -> float | None:
    """Return the seconds since somebody typed in one of *terminals*: reading what was typed sets its access time."""
    times = []
    for terminal in terminals:
        with suppress(OSError):
            times.append(terminal.stat().st_atime)
    return max(0.0, time.time() - max(times)) if times else None


# ---- processors ----------------------------------------------------------------------------


class OthersLoad:
    """Sees the programs of others at work: processor time that neither this process nor its children have used."""

    def __init__(self) -> None:
        self._cores = psutil.cpu_count() or 1
        self._before = (time.monotonic(), *self._used())
        self._looks_busy = False
        self._busy_at = float("-inf")

    def idle_seconds(self) -> float:
        """Return how long ago they were busy at two looks in a row, of those since the first."""
        now = time.monotonic()
        if now - self._before[0] >= LOOK_SECONDS / 2:
            was_busy, self._looks_busy = self._looks_busy, self._share(now) > BUSY_SHARE
            # Once may be a mistake: what a killed child of ours has used is nobody's afterwards.
            self._busy_at = now if was_busy and self._looks_busy else self._busy_at
        return now - self._busy_at

    def _share(self, now: float) -> float:
        """Return the share of all cores that others have used since the look before."""
        (before, everybody_before, ours_before), (everybody, ours) = self._before, self._used()
        self._before = (now, everybody, ours)
        return ((everybody - everybody_before) - (ours - ours_before)) / ((now - before) * self._cores)

    def _used(self) -> tuple[float, float]:
        """Return the processor seconds that everybody and we have used so far."""
        all_of_it = psutil.cpu_times()
        everybody = sum(all_of_it) - all_of_it.idle - getattr(all_of_it, "iowait", 0.0)
        # Linux counts guests into user time too.
        everybody -= getattr(all_of_it, "guest", 0.0) + getattr(all_of_it, "guest_nice", 0.0)
        mine = os.times()
        ours = sum(mine[:4])
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                ours += sum(child.cpu_times()[:4])
        return everybody, ours
