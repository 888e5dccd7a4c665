"""What was done to an engine under soak, how long it took, and what failed."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from typing import NamedTuple

from .soak_load import Kind, Place


class Done(NamedTuple):
    """One operation that was done."""

    kind: str
    ended: float  #: seconds since the begin
    seconds: float


class Failed(NamedTuple):
    """One that failed."""

    kind: str
    at: float  #: seconds since the begin
    traceback: str


class Ledger:
    """What all loads have done, and what failed."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.done: list[Done] = []
        self.failures: list[Failed] = []

    def took(self, kind: str, started: float) -> None:
        """Take note of one operation, which ends now."""
        ended = time.monotonic()
        self.done.append(Done(kind, ended - self.begun, ended - started))

    def failed(self, kind: str) -> None:
        """Take note of the exception that is being handled."""
        self.failures.append(Failed(kind, time.monotonic() - self.begun, traceback.format_exc()))


def drive(kind: Kind, place: Place, ledger: Ledger, ending: threading.Event) -> None:
    """Do *kind* in its time until *ending*, once at least; begin it anew whenever it fails."""
    while not ending.is_set():
        try:
            _until_it_fails(kind, place, ledger, ending)
        except Exception:
            ledger.failed(kind.name)
            ending.wait(kind.every)


def _until_it_fails(kind: Kind, place: Place, ledger: Ledger, ending: threading.Event) -> None:
    load = kind.load(place)
    with contextlib.closing(load):  # type: ignore[type-var]
        next(load)
        due, is_tried = time.monotonic(), False
        while not ending.wait(max(0.0, due - time.monotonic())) or not is_tried:
            is_tried, started = True, time.monotonic()
            next(load)
            ledger.took(kind.name, started)
            due = max(due + kind.every, time.monotonic())  # what is late is not made up for
