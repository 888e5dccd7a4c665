"""What this kernel knows of the sessions that its cells run in: which of its values are there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dcengine.errors import SessionLost

from .cell import CellResult
from .errors import InvalidCell
from .references import RemoteReference, kept

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@dataclass
class Known:
    """One session as this notebook has left it."""

    token: str = ""  #: of its process
    values: dict[str, Any] = field(default_factory=dict)  #: what it has, as the notebook has it

    def has(self, name: str, value: object) -> bool:
        """Tell whether the session has *name*, and the notebook's *value* is still what it was then."""
        return name in self.values and self.values[name] is value


_known: WeakKeyDictionary[InteractiveShell, dict[str, Known]] = WeakKeyDictionary()


class Stay:
    """The stay of one cell in a session: what it leaves out, and what is known afterwards."""

    def __init__(self, shell: InteractiveShell, session: str) -> None:
        self.session = session
        self._sessions = _known.setdefault(shell, {})
        self._shell = shell
        self._sent: dict[str, Any] = {}
        self._tidy()

    def _tidy(self) -> None:
        """Forget the values that the notebook has no more: nothing here shall keep them."""
        for known in self._sessions.values():
            known.values = {name: one for name, one in known.values.items() if self._shell.user_ns.get(name) is one}
        for ended in kept.end_unused():
            self._sessions.pop(ended, None)

    @property
    def known(self) -> Known:
        """What is known of the session."""
        return self._sessions.setdefault(self.session, Known()) if self.session else Known()

    def travelling(self, taken: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the values *taken* that have to travel: the session does not have them."""
        known = self.known
        self._sent = {name: value for name, value in taken.items() if not known.has(name, value)}
        return self._sent

    def dropped(self) -> tuple[str, ...]:
        """Return the keys of values in the session that this notebook needs no more."""
        return kept.dropped_in(self.session) if self.session else ()

    def succeeded(self, result: CellResult) -> None:
        """Take note of what the session has after a cell whose names are at home now."""
        if result.session:
            self.session = result.session
            namespace = self._shell.user_ns
            made = {name: namespace[name] for name in result.made_here if name in namespace}
            self._note(result.token, {**self._sent, **made})

    def failed(self, error: BaseException, *, has_run: bool) -> None:
        """Take note of what the session has after a cell that raised *error*."""
        if isinstance(error, SessionLost):
            self._sessions.pop(self.session, None)
        elif has_run and self.session and self.known.token:
            self._note(self.known.token, self._sent)

    def _note(self, token: str, values: Mapping[str, Any]) -> None:
        known = self._sessions.setdefault(self.session, Known())
        if known.token != token:
            known = self._sessions[self.session] = Known(token)
        known.values.update(values)


def forget(shell: InteractiveShell, session: str) -> None:
    """Forget a session that was ended on purpose: whatever is needed travels to the next of that name."""
    _known.get(shell, {}).pop(session, None)


def session_for(asked: str | None, values: Iterable[tuple[str, Any]]) -> str:
    """Return the session of a cell that uses *values*: the one *asked* for, or where those are that stay.

    Raises `InvalidCell` where these are two.
    """
    places = {value._session: name for name, value in values if isinstance(value, RemoteReference)}
    return one_of(asked, places)


def one_of(asked: str | None, places: Mapping[str, str]) -> str:
    """Return the session among *places*, each with a name that stays there, and the one *asked* for."""
    others = [f"{name} stays in session {session}" for session, name in places.items() if session != asked]
    if asked and others:
        raise InvalidCell(f"--session {asked}: {others[0]}; leave --session out to run there, or fetch() the value")
    if len(others) > 1:
        problem = f"a cell runs in one session, and {' and '.join(others)}"
        raise InvalidCell(f"{problem}; fetch() one of them, or make both in one session with --session NAME")
    return asked or next(iter(places), "")
