"""What happened since the engine began, counted as it happens. No I/O."""

from __future__ import annotations

from collections import Counter

from ..verbs.figures import Distribution


class Tallies:
    """Counters that only grow."""

    def __init__(self) -> None:
        self.accepted: Counter[int] = Counter()  #: tasks and items by stage
        self.expired: Counter[int] = Counter()  #: leases by stage
        self.refused = 0  #: answers under a lease that had ended
        self.lag = Distribution()  #: seconds by which the event loop came too late

    def forget(self, stages: set[int]) -> None:
        """Count nothing of *stages* any more: they are gone, and their ids may come again."""
        for stage in stages:
            self.accepted.pop(stage, None)
            self.expired.pop(stage, None)
