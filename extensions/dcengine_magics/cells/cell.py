"""A cell on its way to a worker, and what comes back; light enough for both sides."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A cell ready to travel."""

    source: str  #: Python, IPython's own syntax translated; its line numbers are those of the notebook's cell
    number: int  #: the notebook's In[number]
    file: str  #: what the notebook knows its source by, so that tracebacks of what comes back find it
    names: bytes  #: a parcel of the names that the cell needs
    out: tuple[str, ...]  #: the names to bring back
    is_asked_for: bool  #: *out* was given by hand, so each of its names has to come
    colors: str = ""  #: the notebook's, for tracebacks
    sources: dict[str, tuple[int, str]] = field(default_factory=dict)  #: other cells, by file: number and source
    lent: frozenset[str] = frozenset()  #: those of *out* that only a ``with`` binds; few want a closed file
    given: dict[str, Any] = field(default_factory=dict)  #: further names, not packed: an item that it runs for
    keep_above: int = 0  #: bytes above which a name that it makes stays where it is; 0: none does
    token: str = ""  #: of the process in which it expects names that the notebook has left there
    expects: frozenset[str] = frozenset()  #: these names
    dropped: tuple[str, ...] = ()  #: keys of values that stayed there and that nobody needs any more
    is_item: bool = False  #: one run of many: its value is wanted whatever its size, and shown only if it is a picture


@dataclass(frozen=True)
class Stayed:
    """A value that a cell made and that stays in its process."""

    key: str  #: by which it is found there
    kind: str  #: its type, for people
    size: str  #: for people, empty where nobody knows
    reason: str  #: why it stays
    is_big: bool = False  #: that is all: it could travel


@dataclass(frozen=True, repr=False)
class CellResult:
    """What a cell that succeeded leaves behind."""

    names: bytes  #: a parcel
    modules: dict[str, str] = field(default_factory=dict)  #: names that stand for modules
    has_value: bool = False  #: its last expression had a value
    value_is: str | None = None  #: the name among *names* that has this very value
    value: bytes | None = None  #: else the value as a parcel of the name ``_``, if it can travel
    stays: dict[str, Stayed] = field(default_factory=dict)  #: names whose values stay there
    session: str = ""  #: in whose process it ran, or which that became
    worker: str = ""  #: of that session
    token: str = ""  #: of the process
    made_here: tuple[str, ...] = ()  #: all names that are there and come home, as values or as what stands for them

    def __repr__(self) -> str:
        return f"<what a cell made, {len(self.names) + len(self.value or b''):,} bytes; unpack() gives it by name>"

    def unpack(self) -> dict[str, Any]:
        """Return what the cell made, by name, the value of its last expression as ``_``; functions use ``__main__``."""
        from .parcel import unpack

        here = vars(sys.modules["__main__"])
        made = unpack(self.names, here) | {name: import_module(module) for name, module in self.modules.items()}
        if self.value_is is not None:
            return made | {"_": made[self.value_is]}
        return made | unpack(self.value, here) if self.value is not None else made


class FetchHeld:
    """A function that returns a value that stays in the session where it is called."""

    def __init__(self, key: str) -> None:
        self.__module__, self.__qualname__ = "dcengine", "fetch"
        self._key = key

    def __reduce__(self) -> tuple[type[FetchHeld], tuple[str]]:
        return FetchHeld, (self._key,)

    def __call__(self) -> Any:
        from .lasting import held

        return held(self._key)


class RunCell:
    """The function that a remote cell's job calls, under a name that people know the cell by."""

    def __init__(self, title: str) -> None:
        self.__module__, self.__qualname__ = "__main__", title

    def __reduce__(self) -> tuple[type[RunCell], tuple[str]]:
        return RunCell, (self.__qualname__,)

    def __call__(self, cell: Cell) -> CellResult:
        from .remote import run_cell

        return run_cell(cell)
