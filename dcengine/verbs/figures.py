"""What an engine counts and measures of itself: read from memory, or from counters that are kept with each change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OPERATIONS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Distribution:
    """How often something had which size; noting it costs half a microsecond."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0  #: of all sizes

    def note(self, size: float) -> None:
        """Count one of *size*."""
        self._counts[bisect_left(self._bounds, size)] += 1
        self.total += size

    def buckets(self) -> list[tuple[str, float]]:
        """Return for each bound, as text, how many were no larger; the last bound is infinite."""
        bounds = [*map(str, self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))


class Figures(NamedTuple):
    """An engine in numbers."""

    tasks: list[tuple[str, str, str, int]]  #: project, stage, state, how many; items of batches included
    jobs: list[tuple[str, str, int]]  #: project, state, how many; not of the built-in project
    leases: dict[tuple[str, str], int]  #: in the hands of outside workers, by project and stage
    outside_workers: dict[str, int]  #: connected now, by project
    workers: dict[str, int]  #: Dask workers by state
    slots: dict[str, int]  #: theirs: busy, idle
    accepted: dict[tuple[str, str], int]  #: tasks and items since the engine began, by project and stage
    expired: dict[tuple[str, str], int]  #: leases that ended by themselves
    refused: int  #: answers under a lease that had ended
    commits: Distribution  #: seconds of a transaction, from its begin to the end of its commit
    operations: Distribution  #: in one transaction
    inbox: int  #: operations that wait to be written
    inbox_bytes: int  #: of their payload
    held_log: int  #: bytes of the file's log that cannot be emptied, because somebody reads an old state
    lag: Distribution  #: seconds by which the event loop came too late


class Measured(Protocol):
    """What can be asked only of an engine in this process."""

    async def figures(self) -> Figures:
        """Return the engine in numbers."""
        ...

    async def check_ready(self) -> None:
        """Raise why no jobs are taken now: it closes, its file is broken, the disk is full."""
        ...
