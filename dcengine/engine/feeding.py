"""What goes to which slot next: priorities, turns, and how many tiny calls make one chunk. No I/O."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable

from .. import tags
from ..jobs import BatchInfo, Chunk, State, Worker

TARGET_SECONDS = 0.1  #: what a chunk of tiny calls should take
GROWTH = 8  #: a chunk has at most so many times the items of the largest before it
CHUNKS_LEFT = 4  #: chunks per slot that should remain, so that all slots end together
DEPTH = 3  #: units a slot may hold while its calls are short: one runs, the others hide the way
FLAGGED_TURN = 4  #: one turn in so many, flagged tasks go before the others
USAGE_HALF_LIFE = 60.0  #: seconds after which what a submitter has had counts half
TURN_SECONDS = 0.01  #: what a turn counts for before it is known how long it took
RATE_WINDOW = 5.0  #: seconds over which a rate is measured


class Pace:
    """How long one call of a function takes, learned from its runs."""

    def __init__(self) -> None:
        self.seconds: float | None = None  #: per call; None before the first has ended
        self._largest = 0

    def learn(self, calls: int, seconds: float) -> None:
        """Take in that *calls* calls took *seconds*."""
        each = max(seconds / calls, 1e-6)
        self.seconds = each if self.seconds is None else 0.5 * self.seconds + 0.5 * each
        self._largest = max(self._largest, calls)

    def start_over(self) -> None:
        """Go back to single calls, and grow again from there."""
        self.seconds, self._largest = None, 1

    def chunk(self, remaining: int, slots: int) -> int:
        """Return how many of *remaining* calls should go to one of *slots* slots at once."""
        if self.seconds is None:
            return 1
        wanted = min(TARGET_SECONDS / self.seconds, self._largest * GROWTH, remaining / (CHUNKS_LEFT * max(slots, 1)))
        return max(1, int(wanted))


class TaskSource:
    """One submitter's queued tasks of one stage that need the same tags; the tasks themselves stay in the store."""

    def __init__(self, stage: int, need: int, tags: str, submitter: int) -> None:
        self.stage, self.need, self.tags, self.submitter = stage, need, tags, submitter
        self.last_turn = 0
        self.added = 0  #: ever: who looks at the store can tell whether something came meanwhile
        self._waiting: Counter[int] = Counter()

    @property
    def priority(self) -> int | None:
        """The highest priority waiting here; None when nothing waits."""
        return max(self._waiting, default=None)

    @property
    def size(self) -> int:
        return self._waiting.total()

    def add(self, priority: int, n: int = 1) -> None:
        """Note that *n* tasks of *priority* are queued."""
        self._waiting[priority] += n
        self.added += n

    def take(self, n: int) -> int:
        """Note that up to *n* tasks are about to be leased; return how many there are."""
        taken = 0
        while taken < n and self._waiting:
            top = max(self._waiting)
            now = min(n - taken, self._waiting[top])
            taken += now
            self._waiting[top] -= now
            if not self._waiting[top]:
                del self._waiting[top]
        return taken

    def has_none(self, added: int) -> None:
        """Note that the store had none left, looked at when *added* had been added; others were cancelled, say."""
        if self.added == added:
            self._waiting.clear()


class FlaggedSource:
    """Queued tasks of one stage whose input somebody has flagged: for those who have not."""

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

    def take(self, slots: int) -> Chunk | None:
        """Take the next chunk for one of *slots* slots; None when nothing waits."""
        if not self._runs:
            return None
        first, left = self._runs.popleft()
        size = min(
            self.pace.chunk(left + sum(count for _, count in self._runs), slots), left, self._block_end(first) - first
        )
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


class Usage:
    """How much each submitter has had of the slots lately, in seconds that fade away."""

    def __init__(self) -> None:
        self._used: dict[int, tuple[float, float]] = {}

    def charge(self, submitter: int, seconds: float) -> None:
        """Note that *submitter* has had so many *seconds* of a slot."""
        now = time.monotonic()
        self._used[submitter] = (self._faded(submitter, now) + seconds, now)

    def of(self, submitter: int) -> float:
        """Return what *submitter* has had lately."""
        return self._faded(submitter, time.monotonic())

    def _faded(self, submitter: int, now: float) -> float:
        used, at = self._used.get(submitter, (0.0, now))
        return used * math.pow(2.0, (at - now) / USAGE_HALF_LIFE)


class Feed:
    """All sources, and whose turn it is."""

    def __init__(self) -> None:
        self.batches: dict[int, OpenBatch] = {}
        self.paused: set[int] = set()  #: stages whose tasks are not handed out
        self.outside: set[int] = set()  #: stages whose tasks are leased by outside workers
        self.usage = Usage()
        self._flagged: dict[tuple[int, str], FlaggedSource] = {}
        self._tasks: dict[tuple[int, str, int], TaskSource] = {}
        self._paces: dict[bytes, Pace] = {}
        self._turn = self._flagged_turn = 0

    def tasks(self, stage: int, need: int, tags: str, submitter: int) -> TaskSource:
        """Return the source of queued tasks of *stage* with this need from this submitter."""
        source = self._tasks.get((stage, tags, submitter))
        if source is None:
            source = self._tasks[stage, tags, submitter] = TaskSource(stage, need, tags, submitter)
        return source

    def flagged(self, stage: int, need: int, tags: str) -> FlaggedSource:
        """Return the source of flagged tasks of *stage* with this need."""
        source = self._flagged.get((stage, tags))
        if source is None:
            source = self._flagged[stage, tags] = FlaggedSource(stage, need, tags)
        return source

    def count(self, queued: Iterable[tuple[int, int, str, int, int, int, int]]) -> None:
        """Note what is queued: (stage, need, tags, submitter, priority, whether flagged, n)."""
        for stage, need, expression, submitter, priority, is_flagged, n in queued:
            if is_flagged:
                self.flagged(stage, need, expression).add(n)
            else:
                self.tasks(stage, need, expression, submitter).add(priority, n)

    def forget(self, stages: set[int]) -> None:
        """Forget what was known to wait at *stages*."""
        self._tasks = {key: source for key, source in self._tasks.items() if source.stage not in stages}
        self._flagged = {key: source for key, source in self._flagged.items() if source.stage not in stages}

    def known(self, stage: int, tags: str, submitter: int) -> TaskSource | None:
        """Return the source of tasks of *stage* that need *tags*, None where there has been no such task yet."""
        return self._tasks.get((stage, tags, submitter))

    def batch_of(self, job: int) -> OpenBatch | None:
        """Return the open batch that *job* is an item of."""
        for batch in self.batches.values():
            if 0 <= job - batch.info.first_job < batch.info.count:
                return batch
        return None

    def pace(self, function: bytes) -> Pace:
        """Return what is known of the pace of *function*."""
        if len(self._paces) > 10_000:
            self._paces.clear()
        return self._paces.setdefault(function, Pace())

    def sources(self) -> list[Source]:
        """Return the sources for Dask's workers with something waiting."""
        tasks = (source for source in self._tasks.values() if self._is_fed(source.stage))
        both: list[TaskSource | OpenBatch] = [*tasks, *self.batches.values()]
        flagged = [source for source in self._flagged.values() if source.size and self._is_fed(source.stage)]
        return [*(source for source in both if source.priority is not None), *flagged]

    def choose(self, worker: Worker) -> Source | None:
        """Return the source that *worker* should be fed from.

        Highest priority first, then who has had least of the slots lately, then by turns. Flagged tasks come last, but
        for every `FLAGGED_TURN`-th turn: what is sent back must not wait for the end of all work.
        """
        flagged = next((source for source in self._flagged.values() if self._is_flagged_for(source, worker)), None)
        if flagged is not None and self.is_flagged_turn():
            return flagged
        return self._next(source for source in self.sources() if fits(source.tags, worker)) or flagged

    def is_flagged_turn(self) -> bool:
        """Tell whether flagged tasks go first this time; called when there are some."""
        self._flagged_turn = (self._flagged_turn + 1) % FLAGGED_TURN
        return not self._flagged_turn

    def choose_at(self, stage: int) -> TaskSource | None:
        """Return the source at *stage* that an outside worker should be handed tasks from."""
        if stage in self.paused:
            return None
        sources = (source for source in self._tasks.values() if source.stage == stage and source.priority is not None)
        chosen = self._next(sources)
        return chosen if isinstance(chosen, TaskSource) else None

    def submitters_at(self, stage: int) -> int:
        """Return how many submitters have tasks waiting at *stage*, at least one."""
        waiting = [source for source in self._tasks.values() if source.stage == stage and source.priority is not None]
        return max(1, len(waiting))

    def flagged_at(self, stage: int, voter: str) -> FlaggedSource | None:
        """Return the flagged tasks at *stage* that *voter* may be handed."""
        if stage in self.paused:
            return None
        sources = (source for source in self._flagged.values() if source.stage == stage and source.is_for(voter))
        return next(sources, None)

    def _is_flagged_for(self, source: FlaggedSource, worker: Worker) -> bool:
        is_for = self._is_fed(source.stage) and source.is_for(worker.contributor)
        return is_for and fits(source.tags, worker)

    def _is_fed(self, stage: int) -> bool:
        return stage not in self.paused and stage not in self.outside

    def _next(self, sources: Iterable[Source]) -> TaskSource | OpenBatch | None:
        waiting = [source for source in sources if not isinstance(source, FlaggedSource)]
        if not waiting:
            return None
        chosen = min(
            waiting,
            key=lambda source: (-(source.priority or 0), self.usage.of(source.submitter), source.last_turn),
        )
        self._turn += 1
        chosen.last_turn = self._turn
        self.usage.charge(chosen.submitter, TURN_SECONDS)
        return chosen


def fits(expression: str, worker: Worker) -> bool:
    """Return whether *worker* can be used and has what *expression* asks for."""
    return worker.unfit is None and (not expression or tags.parse(expression).matches(worker.tags))


def nearest(expression: str, workers: list[Worker]) -> str:
    """Return in a sentence who has what *expression* asks for, or what the nearest lacks."""
    fit = {worker.name: worker.tags for worker in workers if worker.unfit is None}
    unfit = [f"{worker.name} cannot be used: {worker.unfit}" for worker in workers if worker.unfit is not None]
    return "; ".join([str(tags.explain(tags.parse(expression), fit)), *unfit])
