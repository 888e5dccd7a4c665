"""What happened since the engine began, counted as it happens. No I/O."""

from __future__ import annotations

from collections import Counter

from ..verbs.figures import Distribution
from .rates import Flows
from .worker_rates import WorkerRates


class Tallies:
    """Counters that only grow."""

    def __init__(self) -> None:
        self.accepted: Counter[int] = Counter()  #: tasks and items by stage
        self.flows = Flows()  #: the same of the last hour, second by second
        self.workers = WorkerRates()  #: what each worker has ended; those outside by project and name
        self.expired: Counter[int] = Counter()  #: leases by stage
        self.refused = 0  #: answers under a lease that had ended
        self.lag = Distribution()  #: seconds by which the event loop came too late

    def accept(self, stage: int, n: int = 1) -> None:
        """Count *n* tasks or items of *stage* as accepted now."""
        self.accepted[stage] += n
        self.flows.note(stage, n)

    def forget(self, stages: set[int]) -> None:
        """Count nothing of *stages* any more: they are gone, and their ids may come again."""
        for stage in stages:
            self.accepted.pop(stage, None)
            self.expired.pop(stage, None)
            self.flows.forget(stage)
