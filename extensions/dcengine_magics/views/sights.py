"""What there is to see of something, and to do about it; how it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dcengine.errors import ClusterError, DcengineError, EngineError, StoreError
from dcengine.handles import Link

from . import markup

PATIENCE = 5.0  #: seconds an engine may take to answer
LOST = (EngineError, StoreError, ClusterError, ConnectionError, NoAnswer, TimeoutError, CancelledError)
SHARE = 20  #: times as long as an answer took, until it is asked for again

T = TypeVar("T")


class Act(NamedTuple):
    """Something that can be done, at the press of a button."""

    label: str
    verb: str
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    question: str = ""  #: asked before, where it cannot be undone
    said: str = ""  #: afterwards; ``{}`` stands for the answer


class Sight(NamedTuple):
    """What there was to see at one moment."""

    html: str
    text: str
    is_over: bool
    more: str = ""  #: HTML below the rest, which changes more seldom
    acts: tuple[Act, ...] = ()

    def bundle(self, note: str = "") -> dict[str, Any]:
        """Return what is published of it, *note* below."""
        html = self.html + self.more
        if not note:
            return {"text/html": html, "text/plain": self.text}
        return {"text/html": markup.with_note(html, note), "text/plain": f"{self.text}\n{note}"}


class Subject(Protocol):
    """Something that can be looked at."""

    cancel: Callable[[], object] | None

    def look(self, patience: float) -> Sight:
        """Ask the engine, for at most *patience* seconds a question; raises what it raises, or `TimeoutError`."""
        ...


def ask(link: Link, verb: str, *args: Any, patience: float, **kwargs: Any) -> Any:
    """Ask for *verb*; raises the `TimeoutError` of futures when no answer came in time."""
    future = link.start(verb, *args, **kwargs)
    try:
        return future.result(patience)
    finally:
        future.cancel()


class Seldom(Generic[T]):
    """An answer that costs more than a look: asked for when it may have changed, and not all the time."""

    def __init__(self, value: T, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._value, self._pause, self._clock = value, pause, clock
        self._state: Hashable = None
        self._due = clock()

    def get(self, state: Hashable, question: Callable[[], T], *, is_last: bool = False) -> T:
        """Return the answer to *question*: anew if *state* is another one, and at the last look without delay.

        What an engine does not answer, too old for it say, stays as it was.
        """
        begin = self._clock()
        if state != self._state and (is_last or begin >= self._due):
            try:
                self._value = question()
            except LOST:
                raise
            except DcengineError:
                pass
            self._state, took = state, self._clock() - begin
            self._due = begin + took + max(self._pause, SHARE * took)
        return self._value
