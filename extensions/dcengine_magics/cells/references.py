"""Values that stay in the process of a session: what stands for them in the notebook."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import dcengine
from dcengine.errors import DcengineError

from .cell import FetchHeld, Stayed
from .errors import StaysRemote

UNNAMED = "unnamed-"  #: begins the names of sessions that began because something stayed
OPERATIONS = [
    "abs", "add", "and", "bool", "bytes", "call", "contains", "delitem", "enter", "exit", "float", "floordiv", "ge",
    "getitem", "gt", "index", "int", "invert", "iter", "le", "len", "lt", "matmul", "mod", "mul", "neg", "next", "or",
    "pos", "pow", "radd", "rmatmul", "rmul", "rsub", "rtruediv", "setitem", "sub", "truediv", "xor",
]  # fmt: skip
SYMBOLS = {
    "add": "+", "and": "&", "call": "calling it", "contains": "in", "delitem": "del", "enter": "with", "exit": "with",
    "floordiv": "//", "ge": ">=", "getitem": "[...]", "gt": ">", "invert": "~", "le": "<=", "lt": "<", "matmul": "@",
    "mod": "%", "mul": "*", "neg": "-", "or": "|", "pos": "+", "pow": "**", "radd": "+", "rmatmul": "@", "rmul": "*",
    "rsub": "-", "rtruediv": "/", "setitem": "[...] =", "sub": "-", "truediv": "/", "xor": "^",
}  # fmt: skip


class RemoteReference:
    """Stands for a value that stays in a session; cells that use it run there and see the value itself."""

    def __init__(self, name: str, stayed: Stayed, session: str, worker: str) -> None:
        self._name, self._stayed, self._session, self._worker = name, stayed, session, worker
        kept.refer(session, stayed.key)
        weakref.finalize(self, kept.drop, session, stayed.key).atexit = False

    def fetch(self, timeout: float | None = None) -> Any:
        """Bring the value here: for one that is only big. Raises `NotPicklable` for what cannot travel at all."""
        return dcengine.submit(FetchHeld(self._stayed.key), session=self._session).result(timeout=timeout)

    def __repr__(self) -> str:
        size = f", {self._stayed.size}" if self._stayed.size else ""
        return (
            f"<{self._name}: a {self._stayed.kind}{size}, on worker {self._worker} in session {self._session}; "
            f"{self._stayed.reason}>"
        )

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("_"):  # whoever shows or copies things asks for these
            raise AttributeError(f"RemoteReference has no attribute {attribute!r}")
        raise self._refusal(f".{attribute}")

    def __reduce__(self) -> NoReturn:
        raise self._refusal("sending or copying it")

    def _refusal(self, use: str) -> StaysRemote:
        stayed = self._stayed
        return StaysRemote(self._name, stayed.kind, self._worker, self._session, use, stayed.is_big)

    __hash__ = object.__hash__


def _refuse(operation: str) -> Callable[..., NoReturn]:
    def refuse(self: RemoteReference, *_: object, **__: object) -> NoReturn:
        raise self._refusal(SYMBOLS.get(operation) or f"{operation}()")

    return refuse


for _operation in OPERATIONS:
    setattr(RemoteReference, f"__{_operation}__", _refuse(_operation))


class Kept:
    """What this process refers to in sessions, and what it did so that can go there."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._dropped: dict[str, list[str]] = {}

    def refer(self, session: str, key: str) -> None:
        """Note that something here refers to *key* in *session*."""
        self._counts.setdefault(session, Counter())[key] += 1

    def drop(self, session: str, key: str) -> None:
        """Note that it does so no longer; called when a reference goes, wherever that happens."""
        counts = self._counts[session]
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
            self._dropped.setdefault(session, []).append(key)

    def dropped_in(self, session: str) -> tuple[str, ...]:
        """Return the keys in *session* to which nothing refers any more; they are told once."""
        counts = self._counts.get(session, Counter())
        return tuple(key for key in self._dropped.pop(session, []) if key not in counts)

    def end_unused(self) -> list[str]:
        """End the sessions without a name to which nothing refers any more; return them."""
        unused = [name for name in self._dropped if name.startswith(UNNAMED) and not self._counts.get(name)]
        for session in unused:
            self._dropped.pop(session, None)
            self._counts.pop(session, None)
            try:
                dcengine.end_session(session)
            except DcengineError:  # it ends by itself when nobody has used it for long
                pass
        return unused


kept = Kept()  #: of this process
