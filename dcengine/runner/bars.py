"""Bars of tqdm: what they write is not text, but how far the call is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..verbs import Progress
from .live import LiveChannel

WRITER = "tqdm.utils"  #: the module through which bars write; `tqdm.write` prints without it
DEPTH = 10  #: frames between a bar's method and the stream

_are_text = False


@contextmanager
def left_as_text() -> Iterator[None]:
    """Leave bars in the text as well, for one who shows it as a terminal does."""
    global _are_text
    before, _are_text = _are_text, True
    try:
        yield
    finally:
        _are_text = before


def take(writer: FrameType, text: str, channel: LiveChannel) -> bool:
    """Let *channel* know how far the bar is that writes *text*; return whether that says it all."""
    bar = _bar_above(writer)
    if bar is None:
        return False
    if _is_outermost(bar):
        channel.progress(_progress_of(bar))
    return not _are_text


def _bar_above(frame: FrameType | None) -> Any:
    """Return the bar one of whose methods called *frame*."""
    kind = sys.modules["tqdm.std"].tqdm
    for _ in range(DEPTH):
        if frame is None:
            return None
        found = frame.f_locals.get("self")
        if isinstance(found, kind):
            return found
        frame = frame.f_back
    return None


def _is_outermost(bar: Any) -> bool:
    return all(abs(bar.pos) <= abs(getattr(other, "pos", 0)) for other in list(bar._instances))


def _progress_of(bar: Any) -> Progress:
    total = None if bar.total is None else float(bar.total)
    said = (str(bar.desc or "").removesuffix(": "), str(bar.postfix or ""))
    return Progress(float(bar.n), total, ", ".join(part for part in said if part))
