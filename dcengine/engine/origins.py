"""Which unfinished work came from which kernel, that is not to end before it; known as long as this engine lives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container

LOOK_EACH = 10_000  #: jobs of one origin, at least, between two looks which of them have ended


class Origins:
    """The jobs, or the batches, of each origin."""

    def __init__(self) -> None:
        self._known: defaultdict[str, set[int]] = defaultdict(set)
        self._next_look: dict[str, int] = {}

    def note(self, origin: str, id: int, is_open: Container[int]) -> None:
        """Take note that *id* came from *origin*; *is_open* holds those that have not ended."""
        known = self._known[origin]
        known.add(id)
        if len(known) > self._next_look.get(origin, LOOK_EACH):
            self._look(origin, is_open)
            self._next_look[origin] = LOOK_EACH + 2 * len(known)

    def has_open(self, origin: str, is_open: Container[int]) -> bool:
        """Tell whether something of *origin* has not ended."""
        if origin not in self._known:
            return False
        self._look(origin, is_open)
        if self._known[origin]:
            return True
        del self._known[origin]
        self._next_look.pop(origin, None)
        return False

    def _look(self, origin: str, is_open: Container[int]) -> None:
        known = self._known[origin]
        known.difference_update([id for id in known if id not in is_open])
