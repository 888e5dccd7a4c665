"""The frames of an error that concern whoever wrote the cell, and errors that come with their traceback rendered."""

from __future__ import annotations

import builtins
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import dcengine

_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)
GROUPS: tuple[Any, ...] = (_GROUP,) if _GROUP else ()  #: none before Python 3.11
OURS = tuple(str(folder) for folder in (Path(dcengine.__file__).resolve().parent, Path(__file__).resolve().parents[1]))


def of_the_cell(frames: TracebackType | None, file: str) -> TracebackType | None:
    """Return *frames* from the first one in *file* on, without those of dcengine."""
    chain = list(_chain(frames))
    start = next((n for n, frame in enumerate(chain) if frame.tb_frame.f_code.co_filename == file), 0)
    kept: TracebackType | None = None
    for frame in reversed(chain[start:]):
        if not frame.tb_frame.f_code.co_filename.startswith(OURS):
            kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept


def _chain(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


@dataclass(frozen=True)
class Rendering:
    """How IPython is to print an exception: what it calls ``_render_traceback_`` of one."""

    lines: tuple[str, ...]

    def __call__(self) -> list[str]:
        return list(self.lines)


def rendered(error: BaseException, lines: Sequence[str] = ()) -> BaseException:
    """Return *error* so that IPython prints just *lines*, or else its name and message."""
    shown = tuple(lines) or (f"{type(error).__name__}: {error}",)
    try:
        error._render_traceback_ = Rendering(shown)  # type: ignore[attr-defined]
    except AttributeError:  # a class of the user's that takes none; it shows our frames then
        print("\n".join(shown), file=sys.stderr)
    return error


def shown_lines(error: BaseException) -> Sequence[str]:
    """Return how IPython would print *error*, for whoever prints it in its place."""
    look = getattr(error, "_render_traceback_", None)
    return look() if look is not None else traceback.format_exception(type(error), error, error.__traceback__)
