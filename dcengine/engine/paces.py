"""How long one call of a function takes, learned from its runs, and how many make one chunk. No I/O."""

from __future__ import annotations

from collections import deque
from statistics import median

TARGET_SECONDS = 0.1  #: what a chunk of tiny calls should take
GROWTH = 8  #: a chunk has at most so many times the items of the largest before it
CHUNKS_LEFT = 4  #: chunks per slot that should remain, so that all slots end together
RECENT = 15  #: runs of which the median tells what is usual
WARMED_UP = 8  #: times as quick as what was known: the call before had to load what this one finds there
WORKERS_KNOWN = 1000  #: of which it is remembered how quick each is


class Pace:
    """How long one call of a function takes, here and there."""

    def __init__(self) -> None:
        self.seconds: float | None = None  #: per call; None before the first has ended
        self._largest = 0
        self._on: dict[str, float] = {}  # the same for each worker
        self._recent: deque[float] = deque(maxlen=RECENT)

    def learn(self, calls: int, seconds: float, worker: str = "") -> None:
        """Take in that *calls* calls took *seconds* on *worker*."""
        each = max(seconds / calls, 1e-6)
        self.seconds = _blended(self.seconds, each)
        if len(self._on) >= WORKERS_KNOWN:
            self._on.clear()
        self._on[worker] = _blended(self._on.get(worker), each)
        self._recent.append(each)
        self._largest = max(self._largest, calls)

    def take_at_least(self, seconds: float, worker: str) -> None:
        """Take in that a call takes *seconds* or more on *worker*, before it has ended."""
        if (self.seconds_on(worker) or 0.0) < seconds:
            self.seconds = self._on[worker] = seconds

    def start_over(self) -> None:
        """Go back to single calls, and grow again from there."""
        self.seconds, self._largest = None, 1
        self._on.clear()

    def seconds_on(self, worker: str) -> float | None:
        """Return what a call takes on *worker*, or elsewhere if it has done none; None before the first has ended."""
        return self._on.get(worker, self.seconds)

    @property
    def usual(self) -> float | None:
        """What a call usually takes, whatever stragglers take; None before the first has ended."""
        return median(self._recent) if self._recent else None

    def chunk(self, remaining: int, slots: int, worker: str = "") -> int:
        """Return how many of *remaining* calls should go to one of *slots* slots at once, if it is one of *worker*."""
        each = self.seconds_on(worker)
        if each is None:
            return 1
        wanted = min(TARGET_SECONDS / each, self._largest * GROWTH, remaining / (CHUNKS_LEFT * max(slots, 1)))
        return max(1, int(wanted))


def _blended(before: float | None, each: float) -> float:
    if before is None or each < before / WARMED_UP:
        return each
    return 0.5 * before + 0.5 * each
