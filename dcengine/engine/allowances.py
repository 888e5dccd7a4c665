"""How many tasks somebody may hold at once: the rule, and nothing else. No I/O.

Whoever shows a token may hold `HOLDER_LIMIT` of them. A volunteer, whom nobody knows, may hold

    min(VOLUNTEER_LIMIT, VOLUNTEER_START + tasks accepted in the last 24 hours)

so whoever begins takes little away by vanishing, and whoever brings results soon holds as many as it can do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

HOLDER_LIMIT = 10_000  #: tasks in the hands of one who has shown a token
VOLUNTEER_START = 4  #: in those of a volunteer, before anything it did was accepted
VOLUNTEER_LIMIT = 1_000  #: and in those of one that did ever so much


def allowance(*, is_volunteer: bool, accepted_today: int = 0) -> int:
    """Return how many tasks one may hold at once; *accepted_today* is what it has earned in the last 24 hours."""
    if not is_volunteer:
        return HOLDER_LIMIT
    return min(VOLUNTEER_LIMIT, VOLUNTEER_START + max(0, accepted_today))


class Allowances:
    """Counts what everybody holds, and what is about to be handed to them."""

    def __init__(self) -> None:
        self._held: Counter[object] = Counter()
        self._promised: Counter[object] = Counter()

    def held_by(self, holder: object) -> int:
        """Return how many tasks *holder* has in its hands."""
        return self._held[holder]

    def room_of(self, holder: object, allowed: int) -> int:
        """Return how many more *holder* may be handed, out of so many that are *allowed* it."""
        return max(0, allowed - self._held[holder] - self._promised[holder])

    def take(self, holder: object, n: int = 1) -> None:
        """Note that *holder* was handed *n* tasks; fewer than none for those that it holds no longer."""
        _add(self._held, holder, n)

    @contextmanager
    def promise(self, holder: object, n: int) -> Iterator[Promise]:
        """Note that up to *n* tasks are on their way to *holder*, until they are there or nobody waits for them."""
        promise = Promise(self._promised, holder, n)
        try:
            yield promise
        finally:
            promise.keep(promise.left)


class Promise:
    """Tasks on their way to one holder."""

    def __init__(self, promised: Counter[object], holder: object, n: int) -> None:
        self.left = n  #: of them that are not there yet
        self._promised, self._holder = promised, holder
        _add(promised, holder, n)

    def keep(self, n: int = 1) -> None:
        """Note that *n* of them are on their way no longer; none may be, when nobody waits for them any more."""
        n = min(n, self.left)
        self.left -= n
        _add(self._promised, self._holder, -n)


def _add(counts: Counter[object], holder: object, n: int) -> None:
    counts[holder] += n
    if counts[holder] <= 0:  # else every nickname ever met would stay
        del counts[holder]
