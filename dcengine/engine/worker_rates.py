"""How many tasks each worker has ended in the last hour. No I/O."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable

STEP, STEPS = 300, 12  #: seconds that are counted together, and how many such make the hour
LEAST_SECONDS = 60.0  #: less than that tells nothing of an hour


class WorkerRates:
    """Counts what each worker has ended."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._began = clock, clock()
        self._ended: defaultdict[Hashable, deque[list[int]]] = defaultdict(lambda: deque(maxlen=STEPS))

    def note(self, worker: Hashable, n: int = 1) -> None:
        """Count *n* tasks that *worker* has ended now."""
        step, steps = int(self._clock()) // STEP, self._ended[worker]
        if not steps or steps[-1][0] != step:
            steps.append([step, 0])
        steps[-1][1] += n

    def forget(self, worker: Hashable) -> None:
        """Know nothing of *worker* any more."""
        self._ended.pop(worker, None)

    def keep(self, is_there: Callable[[Hashable], bool]) -> None:
        """Forget the workers that are not there."""
        for worker in [worker for worker in self._ended if not is_there(worker)]:
            del self._ended[worker]

    def per_hour(self, worker: Hashable, since: float) -> float:
        """Return how many tasks *worker*, who is there *since* then, ends in an hour, by what it did in the last."""
        if worker not in self._ended:
            return 0.0
        now = self._clock()
        first = int(now) // STEP - STEPS + 1
        ended = sum(n for step, n in self._ended[worker] if step >= first)
        seconds = now - max(since, self._began, float(first * STEP))
        return 3600 * ended / max(LEAST_SECONDS, seconds)
