"""`dcengine.progress` and `dcengine.track`: how a running function says how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from ..verbs import Progress
from . import live

T = TypeVar("T")


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Say that *done* of *total* are done; outside a job this does nothing."""
    channel = live.current()
    if channel is not None:
        channel.progress(Progress(float(done), None if total is None else float(total), str(text)))


def track(iterable: Iterable[T], total: float | None = None, text: str = "") -> Iterator[T]:
    """Yield from *iterable* and say after each element how many are done; *total* is its length where it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    progress(0, total, text)
    for done, element in enumerate(iterable, 1):
        yield element
        progress(done, total, text)
