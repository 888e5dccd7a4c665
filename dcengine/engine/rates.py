"""How fast tasks come through each stage, and how long what is left of a project will take. No I/O.

The rate of stages, in tasks per second, is ``n / t``: *n* tasks have ended there, well or badly, in the last 30 seconds
(120 or 600 where those hold fewer than 50), and *t* are the seconds from the first of them until now. Seconds in which
a stage was held, or no engine ran, are left out: it goes on as fast as it went before.

What is left of a project takes, in seconds, the largest ``left / rate``. Stages that are functions count together,
since the slots are theirs in turn; each lease stage counts by itself, since workers come for that one. *left* are the
tasks that have to end there still: one for each open job that is at the stage, or before it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

HOUR = 3600  #: seconds that are remembered
WINDOWS = (30, 120, 600)  #: seconds over which a rate is taken: the first in which enough has happened
ENOUGH = 50  #: tasks in such a window


class Second(NamedTuple):
    """What ended at a stage within one second."""

    at: int  #: on the monotonic clock
    worked: float  #: when the first of them did, on the stage's own clock, which stands while it is held
    done: int
    failed: int


class Ended(NamedTuple):
    """The same as the file tells it."""

    stage: int
    at: int  #: Unix seconds
    done: int
    failed: int


class Load(NamedTuple):
    """What there is still to do at a stage."""

    stage: int
    is_shared: bool  #: by slots that do other stages too
    left: int  #: tasks that have to end there, those that are not there yet included
    here: int  #: tasks that are


class Flow:
    """What came through one stage in the last hour."""

    def __init__(self) -> None:
        self._seconds: deque[Second] = deque(maxlen=HOUR)  #: those without any left out
        self._held = 0.0  #: seconds in which it could not work
        self._held_since: float | None = None

    def worked(self, at: float) -> float:
        """Return what the stage's own clock shows at *at*."""
        return (at if self._held_since is None else self._held_since) - self._held

    def note(self, at: float, *, done: int = 0, failed: int = 0) -> None:
        """Count tasks that end at *at*, on the monotonic clock."""
        if self._seconds and self._seconds[-1].at == int(at):
            last = self._seconds[-1]
            self._seconds[-1] = last._replace(done=last.done + done, failed=last.failed + failed)
        else:
            self._seconds.append(Second(int(at), self.worked(at), done, failed))

    def hold(self, at: float) -> None:
        """Have its clock stand."""
        if self._held_since is None:
            self._held_since = at

    def go_on(self, at: float) -> None:
        """Have its clock run again."""
        if self._held_since is not None:
            self._held += at - self._held_since
            self._held_since = None

    def skip(self, seconds: float) -> None:
        """Leave out *seconds* that have just gone by."""
        self._held += seconds

    def since(self, begin: float) -> list[Second]:
        """Return the seconds from *begin* on, the newest first."""
        return list(takewhile(lambda each: each.at >= int(begin), reversed(self._seconds)))

    def worked_since(self, begin: float) -> list[Second]:
        """Return the same by the stage's own clock."""
        return list(takewhile(lambda each: each.worked >= begin, reversed(self._seconds)))


class Flows:
    """The same for all stages."""

    def __init__(self) -> None:
        self._flows: dict[int, Flow] = {}

    def note(self, stage: int, n: int = 1) -> None:
        """Count *n* tasks of *stage* that are done now."""
        self._of(stage).note(time.monotonic(), done=n)

    def note_failed(self, stage: int) -> None:
        """Count a task of *stage* that has failed for good now."""
        self._of(stage).note(time.monotonic(), failed=1)

    def hold(self, stage: int) -> None:
        """Take note that tasks of *stage* are not handed out any more."""
        self._of(stage).hold(time.monotonic())

    def go_on(self, stage: int) -> None:
        """Take note that tasks of *stage* are handed out."""
        self._of(stage).go_on(time.monotonic())

    def forget(self, stage: int) -> None:
        self._flows.pop(stage, None)

    def recall(self, ended: Iterable[Ended], last: float) -> None:
        """Take up what *ended* in the engine before this one, oldest first; it ran until *last*, in Unix seconds."""
        wall, here = time.time(), time.monotonic()
        recalled = set()
        for each in ended:
            recalled.add(each.stage)
            self._of(each.stage).note(here - (wall - each.at), done=each.done, failed=each.failed)
        for stage in recalled:
            self._of(stage).skip(max(0.0, wall - last))

    def rate(self, stages: Sequence[int]) -> float:
        """Return how many tasks of *stages* end in a second, lately; 0 where none did for ten minutes."""
        now = time.monotonic()
        flows = [self._flows[stage] for stage in stages if stage in self._flows]
        for window in WINDOWS:
            found = [
                (flow.worked(now) - each.worked, each.done + each.failed)
                for flow in flows
                for each in flow.worked_since(flow.worked(now) - window)
            ]
            n = sum(n for _, n in found)
            if n >= ENOUGH or (n and window == WINDOWS[-1]):
                return n / max(1.0, max(ago for ago, _ in found))
        return 0.0

    def seconds_left(self, loads: Sequence[Load]) -> float | None:
        """Return how long it takes until *loads* are done; None where that cannot be told."""
        together = [load for load in loads if load.is_shared]
        longest = 0.0
        for group in [together, *([load] for load in loads if not load.is_shared)]:
            rate, left = self.rate([load.stage for load in group]), sum(load.left for load in group)
            if left and rate:
                longest = max(longest, left / rate)
            elif any(load.here for load in group):  # it waits there, and none comes through
                return None
        return longest or None

    def series(self, stage: int, step: int, count: int) -> list[int]:
        """Return how many tasks were done at *stage* in each of the last *count* times *step* seconds, oldest first."""
        now, counts = int(time.monotonic()), [0] * count
        if stage in self._flows:
            for each in self._flows[stage].since(now - step * count + 1):
                counts[-1 - (now - each.at) // step] += each.done
        return counts

    def _of(self, stage: int) -> Flow:
        flow = self._flows.get(stage)
        if flow is None:
            flow = self._flows[stage] = Flow()
        return flow
