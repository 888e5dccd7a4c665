"""What lasts in the process of a session: the names that its cells made, and the values that notebooks refer to."""

from __future__ import annotations

import secrets
import time
from types import ModuleType
from typing import Any

from dcengine.errors import SessionLost
from dcengine.runner import staying

from . import parcel
from .cell import Cell, Stayed
from .sizes import size


class Lasting:
    """The namespace of a session, or of a cell that may become one."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)  #: tells it from one of the same name in another process
        self.module = ModuleType("__main__")
        self.known: set[str] = set()  #: names in it that every notebook has, or that came from one
        self.held: dict[str, Any] = {}  #: what notebooks refer to, by its key

    def taken_in(self, namespace: dict[str, Any], cell: Cell) -> set[str]:
        """Put the names that came with *cell* into *namespace*; return the names that the notebook knows then."""
        self.known = self.known or set(namespace)
        for key in cell.dropped:
            self.held.pop(key, None)
        before = set(namespace)
        namespace.update(parcel.unpack(cell.names, namespace) | cell.given)
        self.known |= {name for name in namespace if name not in before} | cell.expects
        return set(self.known)

    def stayed(self, value: object, reason: str, *, is_big: bool) -> Stayed:
        """Keep *value*, which stays for a *reason*; return what the notebook is told of it."""
        kind = type(value)
        module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
        bytes_of = getattr(value, "nbytes", None)
        return Stayed(
            key=self.hold(value),
            kind=f"{module}{kind.__qualname__}",
            size=size(bytes_of) if isinstance(bytes_of, int) else "",
            reason=f"it {reason}",
            is_big=is_big,
        )

    def hold(self, value: object) -> str:
        """Keep *value*; return the key by which it is found again."""
        known = next((key for key, one in self.held.items() if one is value), None)
        key = known or secrets.token_hex(8)
        self.held[key] = value
        return key

    def check(self, token: str) -> None:
        """Raise `SessionLost` if a notebook that expects to find names here left them in another process."""
        if token and token != self.token:
            raise lost("is another one now, begun since this notebook used it")


_lasting: list[Lasting] = []  #: that of the session which this process is; at most one


def of_this_process() -> Lasting:
    """Return what lasts here; in a process that is no session (yet), something new each time."""
    if not staying.name():
        return Lasting()
    if not _lasting:
        _lasting.append(Lasting())
    return _lasting[0]


def keep(lasting: Lasting) -> str:
    """Have this process live on with what is in *lasting*; return the name of its session."""
    _lasting[:] = [lasting]
    return staying.stay()


def held(key: str) -> Any:
    """Return the value that is kept here as *key*; raises `SessionLost` where there is none."""
    if not _lasting or key not in _lasting[0].held:
        raise lost("no longer has the value, having been begun anew, or let it go when nothing referred to it")
    return _lasting[0].held[key]


def lost(what: str) -> SessionLost:
    """Return the error of who looks here for what another process had."""
    return SessionLost(staying.name() or "of this value", staying.worker(), what, time.time())
