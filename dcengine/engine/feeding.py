"""What goes to which slot next: priorities, then turns. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from .. import tags
from ..jobs import Worker
from ..tags import explain
from ..verbs import Explanation, WorkerVerdict
from .paces import CHUNKS_LEFT, TARGET_SECONDS, Pace
from .waiting import FlaggedSource, OpenBatch, Source, TaskSource

DEPTH = 3  #: units a slot may hold while its calls are short: one runs, the others hide the way
FLAGGED_TURN = 4  #: one turn in so many, flagged tasks go before the others
USAGE_HALF_LIFE = 60.0  #: seconds after which what a submitter has had counts half
TURN_SECONDS = 0.01  #: what a turn counts for before it is known how long it took
EMPTY_KNOWN = 100  #: sources in which nothing waits, until those are forgotten


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
        self.mentioned: set[str] = set()  #: names in what was ever needed that workers are asked for only on demand
        self._flagged: dict[tuple[int, str], FlaggedSource] = {}
        self._tasks: dict[tuple[int, str, int], TaskSource] = {}
        self._paces: dict[bytes, Pace] = {}
        self._next_look = EMPTY_KNOWN
        self._turn = self._flagged_turn = 0

    def tasks(self, stage: int, need: int, tags: str, submitter: int) -> TaskSource:
        """Return the source of queued tasks of *stage* with this need from this submitter."""
        source = self._tasks.get((stage, tags, submitter))
        if source is None:
            self._forget_empty()
            source = self._tasks[stage, tags, submitter] = TaskSource(stage, need, tags, submitter)
            self.mention(tags)
        return source

    def _forget_empty(self) -> None:
        """Forget the sources that nothing waits in, once there are many: each session has one of its own."""
        if len(self._tasks) >= self._next_look:
            self._tasks = {key: source for key, source in self._tasks.items() if source.priority is not None}
            self._next_look = EMPTY_KNOWN + 2 * len(self._tasks)

    def flagged(self, stage: int, need: int, tags: str) -> FlaggedSource:
        """Return the source of flagged tasks of *stage* with this need."""
        source = self._flagged.get((stage, tags))
        if source is None:
            source = self._flagged[stage, tags] = FlaggedSource(stage, need, tags)
            self.mention(tags)
        return source

    def mention(self, expression: str) -> None:
        """Note that something needs what *expression* says."""
        self.mentioned |= tags.looked_up(expression)

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
        """Return the source of tasks of *stage* that need *tags*, None where there has been no such task lately."""
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

    def short_ahead(self, source: TaskSource, slots: int, worker: str) -> int:
        """Return how many of the tasks that *source* has next should run together on one of *slots* slots of *worker*.

        They may call several functions, all known to be short; what is not known ends the row. One at least.
        """
        number, left = 0, TARGET_SECONDS
        for function, count in source.functions():
            pace = self._paces.get(function) if function is not None else None
            each = pace.seconds_on(worker) if pace is not None else None
            if pace is None or each is None:
                break
            now = min(count, int(left / each), pace.chunk(source.size, slots, worker))
            number, left = number + now, left - now * each
            if now < count:
                break
        return max(1, min(number, source.size // (CHUNKS_LEFT * max(slots, 1))))

    def is_empty(self) -> bool:
        """Tell whether nothing waits for Dask's workers."""
        return not self.batches and not any(
            source.size and self._is_fed(source.stage)
            for sources in (self._tasks, self._flagged)
            for source in sources.values()
        )

    def sources(self) -> list[Source]:
        """Return the sources for Dask's workers with something waiting."""
        tasks = (source for source in self._tasks.values() if self._is_fed(source.stage))
        both: list[TaskSource | OpenBatch] = [*tasks, *self.batches.values()]
        flagged = [source for source in self._flagged.values() if source.size and self._is_fed(source.stage)]
        return [*(source for source in both if source.priority is not None), *flagged]

    def choose(
        self,
        worker: Worker,
        admits: Callable[[str], bool] = lambda needed: True,
        spares: Callable[[Source], bool] = lambda source: False,
    ) -> Source | None:
        """Return the source that *worker* should be fed from, the first whose need *admits* is content with.

        Highest priority first, then who has had least of the slots lately, then by turns. Flagged tasks come last, but
        for every `FLAGGED_TURN`-th turn: what is sent back must not wait for the end of all work. What *spares* tells
        of is left to other workers.
        """
        flagged = next((source for source in self._flagged.values() if self._is_flagged_for(source, worker)), None)
        if flagged is not None and spares(flagged):
            flagged = None
        if flagged is not None and self.is_flagged_turn() and admits(flagged.tags):
            return flagged
        fitting = (source for source in self.sources() if fits(source.tags, worker) and not spares(source))
        chosen = self._next(fitting, admits)
        return chosen or (flagged if flagged is not None and admits(flagged.tags) else None)

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

    def _next(
        self, sources: Iterable[Source], admits: Callable[[str], bool] = lambda needed: True
    ) -> TaskSource | OpenBatch | None:
        waiting = [source for source in sources if not isinstance(source, FlaggedSource)]
        waiting.sort(key=lambda source: (-(source.priority or 0), self.usage.of(source.submitter), source.last_turn))
        chosen = next((source for source in waiting if admits(source.tags)), None)
        if chosen is None:
            return None
        self._turn += 1
        chosen.last_turn = self._turn
        self.usage.charge(chosen.submitter, TURN_SECONDS)
        return chosen


def fits(expression: str, worker: Worker) -> bool:
    """Return whether *worker* can be used and has what *expression* asks for."""
    if worker.unfit is not None:
        return False
    return not expression or (tags.parse(expression).matches(worker.tags) and knows(expression, worker))


def knows(expression: str, worker: Worker) -> bool:
    """Tell whether *worker* was asked for all that *expression* mentions: what is not known yet is not absent."""
    return tags.looked_up(expression) <= worker.asked


def explained(expression: str, workers: Iterable[Worker]) -> Explanation:
    """Return who has what *expression* asks for, and what the others lack."""
    by_name = sorted(workers, key=lambda worker: worker.name)
    problems = {worker.name: problem for worker in by_name if (problem := _ruled_out(expression, worker))}
    offers = {worker.name: worker.tags for worker in by_name if worker.name not in problems}
    found = explain(tags.parse(expression), offers)
    verdicts = [WorkerVerdict(name=name, lacking=clauses) for name, clauses in found.clauses.items()]
    verdicts += [WorkerVerdict(name=name, lacking=[], problem=problem) for name, problem in problems.items()]
    sentence = "; ".join([str(found), *(f"{name} {problem}" for name, problem in problems.items())])
    return Explanation(sentence=sentence, workers=sorted(verdicts, key=lambda verdict: verdict.name))


def _ruled_out(expression: str, worker: Worker) -> str | None:
    """Return why *worker* is out of the question for *expression*, whatever it has."""
    if worker.unfit is not None:
        return f"cannot be used: {worker.unfit}"
    unknown = ", ".join(sorted(tags.looked_up(expression) - worker.asked))
    return f"has not said yet whether it has {unknown}" if unknown else None
