"""The body of a cell as a function of one item: what a batch and a stage call; light enough for both sides."""

from __future__ import annotations

import linecache
import reprlib
from dataclasses import dataclass, replace
from typing import Any

from dcengine.runner import live

from . import parcel
from .cell import Cell, CellResult
from .errors import NamesCannotTravel

ITEM = "__item__"  #: the name under which the item comes to the cell, whose first line binds it to names
LABEL_LENGTH = 60  #: characters of an item that tell it from others

_kept: list[str] = []  #: at most one: the file of the last cell that failed, for the traceback that is made after it


@dataclass(frozen=True, repr=False)
class ItemResult:
    """What the body made of one item."""

    made: CellResult
    label: str  #: the item, in short
    has_said: bool  #: there are lines of it to be shown

    def __repr__(self) -> str:
        return f"<what a cell made of {self.label}; unpack() gives it by name>"

    def unpack(self) -> dict[str, Any]:
        """Return what the cell made, by name, the value of its last expression as ``_``."""
        return self.made.unpack()


class OfItem:
    """The body of *cell* as a function of one item, under a name that people know the cell by."""

    def __init__(self, title: str, cell: Cell) -> None:
        self.__module__, self.__qualname__ = "__main__", title
        self._cell = cell

    def __reduce__(self) -> tuple[type[OfItem], tuple[str, Cell]]:
        return type(self), (self.__qualname__, self._cell)

    def _run(self, item: object) -> CellResult:
        from .remote import run_cell

        try:
            return run_cell(replace(self._cell, given={ITEM: item}))
        except BaseException:
            _keep_source(self._cell)
            raise


class RunItem(OfItem):
    """The function that an item of a batch calls."""

    def __call__(self, item: object) -> ItemResult:
        channel = live.current()
        before = 0 if channel is None else channel.taken
        made = self._run(item)
        return ItemResult(made, label_of(item), channel is not None and channel.taken > before)


class RunStage(OfItem):
    """The function of a stage: what the body's last expression gives goes on to the next one."""

    def __call__(self, item: object) -> Any:
        made = self._run(item)
        if not made.has_value:
            return None
        if made.value is None:
            raise NamesCannotTravel({"the value of the last line": "the next stage cannot get it"})
        return parcel.unpack(made.value, {})["_"]


def as_written(source: str) -> str:
    """Return *source* for people: without what binds the item in its first line."""
    first, end, rest = source.partition("\n")
    _, binding, written = first.partition(f"{ITEM}  ")
    return f"{written}{end}{rest}" if binding else source


def label_of(item: object) -> str:
    """Return *item* in short."""
    try:
        text = _short.repr(item)
    except Exception:  # it is the user's
        text = f"<{type(item).__name__}>"
    line = " ".join(text.split())
    return line if len(line) <= LABEL_LENGTH else f"{line[: LABEL_LENGTH - 1]}…"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = LABEL_LENGTH


def _keep_source(cell: Cell) -> None:
    """Let the traceback that is about to be made show the lines of *cell*."""
    if _kept:
        linecache.cache.pop(_kept.pop(), None)
    source = as_written(cell.source)
    linecache.cache[cell.file] = (len(source), None, source.splitlines(keepends=True), cell.file)
    _kept.append(cell.file)
