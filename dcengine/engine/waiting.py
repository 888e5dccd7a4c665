"""What waits for a slot, by its source: tasks of one stage, flagged ones, items of a batch. No I/O."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

from ..jobs import BatchInfo, Chunk, State
from ..tags import session_of
from .paces import Pace

RATE_WINDOW = 5.0  #: seconds over which a rate is measured
RUNS_KNOWN = 10_000  #: of alike tasks in a row of which it is known what they call


class TaskSource:
    """One submitter's queued tasks of one stage that need the same tags; the tasks themselves stay in the store."""

    def __init__(self, stage: int, need: int, tags: str, submitter: int) -> None:
        self.stage, self.need, self.tags, self.submitter = stage, need, tags, submitter
        self.session = session_of(tags)  #: in which they run, one after the other
        self.last_turn = 0
        self.added = 0  #: ever: who looks at the store can tell whether something came meanwhile
        self._lines: dict[int, _Line] = {}  # by priority
        self._shunned_by: dict[str, float] = {}  # workers, and until when

    @property
    def priority(self) -> int | None:
        """The highest priority waiting here; None when nothing waits."""
        return max(self._lines, default=None)

    @property
    def size(self) -> int:
        return sum(line.size for line in self._lines.values())

    @property
    def next_function(self) -> bytes | None:
        """What the next task probably calls; None where that is not known."""
        return next((function for function, _ in self.functions()), None)

    def functions(self) -> Iterator[tuple[bytes | None, int]]:
        """Tell what the next tasks probably call, as (function, so many in a row); None where that is not known."""
        for priority in sorted(self._lines, reverse=True):
            yield from self._lines[priority].functions()

    def add(self, priority: int, n: int = 1, *, function: bytes | None = None, is_next: bool = False) -> None:
        """Note that *n* tasks of *priority* are queued; *is_next* for one that was before, and comes before others."""
        self._lines.setdefault(priority, _Line()).add(function, n, is_next=is_next)
        self.added += n

    def take(self, n: int) -> int:
        """Note that up to *n* tasks are about to be leased; return how many there are."""
        taken = 0
        while taken < n and self._lines:
            top = max(self._lines)
            taken += self._lines[top].take(n - taken)
            if not self._lines[top].size:
                del self._lines[top]
        return taken

    def has_none(self, added: int) -> None:
        """Note that the store had none left, looked at when *added* had been added; others were cancelled, say."""
        if self.added == added:
            self._lines.clear()

    def be_shunned_by(self, worker: str, seconds: float) -> None:
        """Let *worker* not be fed from here for so many *seconds*."""
        self._shunned_by[worker] = time.monotonic() + seconds

    def is_shunned_by(self, worker: str) -> bool:
        """Tell whether *worker* is not to be fed from here now."""
        return bool(self._shunned_by) and self._shunned_by.get(worker, 0.0) > time.monotonic()


class _Line:
    """What queued tasks of one priority call, in order as far as it is known: a guess, the store decides."""

    def __init__(self) -> None:
        self.size = 0
        self._runs: deque[tuple[bytes | None, int]] = deque()

    def functions(self) -> Iterator[tuple[bytes | None, int]]:
        yield from self._runs

    def add(self, function: bytes | None, n: int, *, is_next: bool) -> None:
        self.size += n
        if len(self._runs) >= RUNS_KNOWN:
            function = None
        end = 0 if is_next else -1
        if self._runs and self._runs[end][0] == function:
            self._runs[end] = (function, self._runs[end][1] + n)
        elif is_next:
            self._runs.appendleft((function, n))
        else:
            self._runs.append((function, n))

    def take(self, n: int) -> int:
        taken = 0
        while taken < n and self._runs:
            function, count = self._runs.popleft()
            now = min(n - taken, count)
            taken += now
            if now < count:
                self._runs.appendleft((function, count - now))
        self.size -= taken
        return taken


class FlaggedSource:
    """Queued tasks of one stage whose input somebody has flagged: for those who have not."""

    session = None

    def __init__(self, stage: int, need: int, tags: str) -> None:
        self.stage, self.need, self.tags = stage, need, tags
        self.size = 0
        self.added = 0  #: ever
        self.spent: set[str] = set()  #: voters who have flagged all that is left

    def add(self, n: int = 1) -> None:
        """Note that *n* more tasks are queued; they may be for anybody."""
        self.size += n
        self.added += n
        self.spent.clear()

    def is_for(self, voter: str) -> bool:
        """Tell whether a look may bring something for *voter*."""
        return self.size > 0 and voter not in self.spent

    def take(self, n: int) -> None:
        """Note that *n* tasks were leased."""
        self.size = max(0, self.size - n)

    def has_none_for(self, voter: str, added: int) -> None:
        """Note that all that is left was flagged by *voter*, looked at when *added* had been added."""
        if self.added == added:
            self.spent.add(voter)


class OpenBatch:
    """A batch with items left: which of them wait, how many ended how."""

    session = None

    def __init__(self, info: BatchInfo, block_starts: list[int], pace: Pace) -> None:
        self.info, self.tags, self.pace, self.submitter = info, info.tags, pace, info.submitter
        self.last_turn = 0
        self.succeeded = self.failed = self.cancelled = self.running = 0
        self.is_cancelling = False
        self.unwanted: set[int] = set()  #: indexes cancelled while they ran
        self.block: tuple[int, list[bytes]] | None = None  #: the inputs last read: first index, values
        self._starts = block_starts
        self._runs: deque[tuple[int, int]] = deque()
        self._pulse: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    @property
    def priority(self) -> int | None:
        return self.info.priority if self._runs and not self.is_early else None

    @property
    def is_early(self) -> bool:
        """Whether its time has not come yet."""
        return self.info.not_before is not None and self.info.not_before > time.time()

    @property
    def waiting(self) -> int:
        return sum(count for _, count in self._runs)

    @property
    def tally(self) -> str:
        return f"{self.succeeded} succeeded, {self.failed} failed, {self.cancelled} cancelled"

    @property
    def is_done(self) -> bool:
        return self.succeeded + self.failed + self.cancelled >= self.info.count

    def put(self, first: int, count: int) -> None:
        """Queue *count* items from *first* on, before the others."""
        self._runs.appendleft((first, count))

    def take(self, slots: int, worker: str = "", *, at_most: int | None = None) -> Chunk | None:
        """Take the next chunk, of *at_most* so many items, for one of *slots* slots; None when nothing waits."""
        if not self._runs:
            return None
        first, left = self._runs.popleft()
        size = min(
            self.pace.chunk(left + sum(count for _, count in self._runs), slots, worker), left,
            self._block_end(first) - first, at_most or left,
        )  # fmt: skip
        if size < left:
            self._runs.appendleft((first + size, left - size))
        return Chunk(batch=self.info.id, first=first, count=size, first_job=self.info.first_job + first)

    def take_all(self) -> list[tuple[int, int]]:
        """Take everything that waits, as (first, count) runs."""
        runs = list(self._runs)
        self._runs.clear()
        return runs

    def drop(self, index: int) -> bool:
        """Take item *index* out if it waits; return whether it did."""
        for place, (first, count) in enumerate(self._runs):
            if first <= index < first + count:
                parts = [(first, index - first), (index + 1, first + count - index - 1)]
                del self._runs[place]
                for part in reversed(parts):
                    if part[1]:
                        self._runs.insert(place, part)
                return True
        return False

    def end(self, state: State, items: int) -> None:
        """Note that *items* just ended in *state*."""
        if state is State.SUCCEEDED:
            self.succeeded += items
        elif state is State.FAILED:
            self.failed += items
        else:
            self.cancelled += items
        now = time.monotonic()
        self._pulse.append((now, items))
        while len(self._pulse) > 1 and now - self._pulse[0][0] > RATE_WINDOW:
            self._pulse.popleft()

    @property
    def rate(self) -> float:
        """Items per second over the last seconds."""
        first = self._pulse[0][0]
        items = sum(n for _, n in self._pulse) - self._pulse[0][1]
        return items / max(time.monotonic() - first, 1e-3)

    def _block_end(self, index: int) -> int:
        place = bisect_right(self._starts, index)
        return self._starts[place] if place < len(self._starts) else self.info.count


Source = TaskSource | OpenBatch | FlaggedSource
