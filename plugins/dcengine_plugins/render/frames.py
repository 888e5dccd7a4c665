"""Which frames: ``1-120``, ``1-1200:40`` (each fortieth), ``3,5-10``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import InvalidFrames

PART = re.compile(r"\s*(-?\d{1,7})\s*(?:-\s*(-?\d{1,7})\s*(?::\s*(\d{1,7})\s*)?)?")
MOST = 1_000_000  #: in one render; Blender counts no further than 1,048,574
EXPECTED = "frames such as '1-120', '1-1200:40' for each fortieth, or '3,5-10'"


def frames_of(text: str) -> list[int]:
    """Return the frames that *text* names, each once, in order; raises `InvalidFrames`."""
    frames = sorted({frame for part in text.split(",") for frame in _frames_of_part(part, text)})
    if len(frames) > MOST:
        raise InvalidFrames("frames", f"{text!r}: {len(frames):,} of them", f"{MOST:,} at most")
    return frames


def _frames_of_part(part: str, text: str) -> Iterator[int]:
    match = PART.fullmatch(part)
    if match is None:
        raise InvalidFrames("frames", repr(text), EXPECTED)
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    if last < first or step < 1:
        raise InvalidFrames("frames", repr(text), f"{EXPECTED}: {part.strip()!r} has none")
    yield from range(first, last + 1, step)


def named(frames: list[int]) -> str:
    """Return *frames*, in order, as `frames_of` reads them."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
