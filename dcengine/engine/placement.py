"""Who is given what: the slots and what they hold, what they may be fed from, and how workers are judged."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ..cluster import ClusterSettings, Slot
from ..codec import unpack, unpack_failure
from ..errors import OwnershipLost, StoreBroken, StoreError
from ..events import Kind
from ..jobs import Bundle, Chunk, State, Task, Worker
from ..runner.units import Ending, Live, UnitReport
from ..store import now
from ..store.noting import Note, Noted
from .conduct import Subject
from .devices import Look
from .feeding import DEPTH, fits
from .paces import TARGET_SECONDS
from .reasons import Reasons
from .running import Running, Work, bundles_of, tasks_of
from .session_places import SessionPlaces
from .waiting import OpenBatch, Source, TaskSource

logger = logging.getLogger(__name__)

BRISK_SECONDS = 0.25  #: behind a unit that should take less, a slot may hold more, to hide the way to it
BUNDLE_LIMIT = 250  #: tasks that run together
SHUN_SECONDS = 0.1  #: during which a worker is not handed again what it was given and may not do
JUDGED = (Ending.RAISED, Ending.TIMED_OUT, Ending.CRASHED)  #: ends that count against the worker


class Placement(Reasons):
    """Knows what slots hold and what they may be given; nothing here waits."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._noted: list[Noted] = []  #: to be written down
        self._known: set[str] = set()  #: workers of which it was noted that they came
        self._hungry = asyncio.Event()
        self._held: Counter[Slot] = Counter()  #: units on their way to, on, or from a slot
        self._on: defaultdict[Slot, dict[int, Running]] = defaultdict(dict)  #: those of them that were sent, in order
        self._sessions = SessionPlaces()
        self._units = itertools.count(1)
        self._unwanted: set[int] = set()  #: jobs cancelled while they ran
        self._interrupted: set[int] = set()  #: jobs interrupted while they ran
        self._chores: set[asyncio.Task[object]] = set()

    @abstractmethod
    def _lose_with_slots(self) -> None:
        """Give up the sessions whose slots are gone."""

    # ---- what slots hold -------------------------------------------------------------------

    def _room(self, slot: Slot) -> int:
        """Return how many more units *slot* may hold: one, or a few while those it has are known to be short."""
        held, sent = self._held[slot], self._on[slot]
        if not held:
            return 1
        if held >= DEPTH or len(sent) < held or self._devices.held_by(slot):
            return 0
        return DEPTH - held if all(map(self._is_brisk, sent.values())) else 0

    def _is_brisk(self, running: Running) -> bool:
        """Tell whether *running* should end soon: its function is known to be quick, and it is not late."""
        each = self._feed.pace(running.function).seconds_on(running.slot.worker.name)
        seconds = each * running.calls if each is not None else BRISK_SECONDS
        return max(seconds, time.monotonic() - running.since) < BRISK_SECONDS

    def _hold(self, slot: Slot, n: int, expression: str = "") -> None:
        """Count *n* units more for *slot*, and lend it the devices that *expression* asks for until it has none."""
        self._held[slot] += n
        self._devices.take(slot, expression)

    def _let_go(self, slot: Slot) -> None:
        self._held[slot] -= 1
        if not self._held[slot]:
            del self._held[slot]
            self._devices.give_back(slot)
        self._feed_more()

    def _feed_more(self) -> None:
        """Have slots fed, if anything waits for one."""
        if not self._feed.is_empty() or self._devices.has_claims:
            self._hungry.set()

    def _gathers(self, source: TaskSource) -> bool:
        """Tell whether tasks of *source* take what is read from the file: their last part may be in the same commit."""
        stage = self._stages.get(source.stage)
        return stage is not None and stage.shape == "gather"

    # ---- what a slot may be fed from --------------------------------------------------------

    def _choose(self, slot: Slot) -> Source | None:
        """Return the source that *slot* should be fed from."""
        look = Look(self._devices, slot, is_empty=not self._held[slot])
        admits = partial(self._sessions.admits, look.admits) if self._sessions.placed else look.admits
        return self._feed.choose(slot.worker, admits, lambda source: self._spares(source, slot.worker, slot))

    def _could_run(self, source: Source, worker: Worker) -> bool:
        """Tell whether *worker* has what *source* needs, and free devices for it, and is not set aside for it."""
        is_fit = fits(source.tags, worker) and self._devices.has_free(source.tags, worker)
        return is_fit and not self._spares(source, worker)

    def _spares(self, source: Source, worker: Worker, slot: Slot | None = None) -> bool:
        """Tell whether *worker*, or its *slot*, is given nothing of *source* at the moment, though it fits."""
        if source.session is not None and source.session in self._sessions.placed:
            return self._sessions.is_kept_from(source.session, worker.name, slot)
        if isinstance(source, TaskSource) and source.is_shunned_by(worker.name):
            return True
        subject = self._subject_at(source)
        return subject is not None and self._is_spared(subject, source.tags, worker.name)

    def _is_spared(self, subject: Subject, need: str, worker: str) -> bool:
        return self._conduct.is_anybody_aside(subject) and bool(
            self._conduct.spares(subject, worker, self._others(need, worker))
        )

    def _subject_at(self, source: Source) -> Subject | None:
        """Return what workers are judged by that do what *source* has next; None if that is not known."""
        if isinstance(source, OpenBatch):
            return source.info.function
        project = self._stages.project_of(source.stage)
        return source.next_function if project is None and isinstance(source, TaskSource) else project

    # ---- what runs together ----------------------------------------------------------------

    def _bundle_size(self, source: TaskSource, slots: int, worker: str) -> int:
        """Return how many tasks of *source* should run together on a slot of *worker*."""
        stage = self._stages.get(source.stage)
        if stage is None:
            return min(self._feed.short_ahead(source, slots, worker), BUNDLE_LIMIT)
        if stage.shape != "map":
            return 1
        return min(self._feed.pace(stage.function).chunk(source.size, slots, worker), BUNDLE_LIMIT)

    def _units_for(self, tasks: list[Task], slot: Slot, source: TaskSource) -> tuple[list[Bundle], list[Task]]:
        """Return units of *tasks* for *slot*, the short ones together, and the tasks that should go elsewhere.

        What is not known to be short has a unit of its own, and there is one such at most: nothing waits behind it.
        """
        worker = slot.worker.name
        tasks, spared = self._apart(tasks, source, worker, lambda task: self._is_kept_from(task, worker))
        bundles = [(bundle, self._is_short(bundle, worker)) for bundle in bundles_of(tasks)]
        short = [bundle for bundle, is_short in bundles if is_short]
        others = [task for bundle, is_short in bundles if not is_short for task in bundle.tasks]
        if not others or len(short) >= DEPTH:
            return short, [*others, *spared]
        return [*short, Bundle((others[0],))], [*others[1:], *spared]

    def _apart(
        self, tasks: list[Task], source: TaskSource, worker: str, is_spared: Callable[[Task], bool]
    ) -> tuple[list[Task], list[Task]]:
        """Return the *tasks* of *source* for *worker*, and those for others, whom it lets go first for a moment."""
        spared = [task for task in tasks if is_spared(task)]
        if not spared:
            return tasks, []
        seconds = SHUN_SECONDS * random.uniform(0.5, 1.5)  # two that refuse each other's do not meet again
        source.be_shunned_by(worker, seconds)
        asyncio.get_running_loop().call_later(seconds, self._feed_more)
        return [task for task in tasks if task not in spared], spared

    def _is_kept_from(self, task: Task, worker: str) -> bool:
        """Tell whether *worker* should not do *task* now, being set aside for it, or having failed at it."""
        is_spared = self._is_spared(self._subject_of(task), task.tags, worker)
        return is_spared or self._is_for_others(task, worker)

    def _is_for_others(self, task: Task, worker: str) -> bool:
        """Tell whether *task* failed on *worker*, and is left for a while to those on whom it did not."""
        others = partial(self._others, task.tags, worker)
        return self._conduct.leaves_to_others(task.job, self._subject_of(task), worker, others)

    def _is_short(self, bundle: Bundle, worker: str) -> bool:
        each = self._feed.pace(bundle.tasks[0].function).seconds_on(worker)
        return each is not None and each <= TARGET_SECONDS

    # ---- what work is ------------------------------------------------------------------------

    def _submitter_of(self, work: Work) -> int:
        if not isinstance(work, Chunk):
            return tasks_of(work)[0].submitter
        batch = self._feed.batches.get(work.batch)
        return batch.submitter if batch is not None else 0

    def _subject_of(self, work: Work) -> Subject:
        """Return what workers are judged by: the project, or the function of a call without one."""
        if isinstance(work, Chunk):
            batch = self._feed.batches.get(work.batch)
            return batch.info.function if batch is not None else b""
        task = tasks_of(work)[0]
        return self._stages.project_of(task.stage) or task.function

    def _need_of(self, work: Work) -> str:
        """Return the tag expression of *work*."""
        if not isinstance(work, Chunk):
            return tasks_of(work)[0].tags
        batch = self._feed.batches.get(work.batch)
        return batch.tags if batch is not None else ""

    def _others(self, need: str, worker: str) -> set[str]:
        """Return who could do what needs *need*, besides *worker*."""
        return {slot.worker.name for slot in self._cluster.slots if fits(need, slot.worker)} - {worker}

    # ---- what has ended ----------------------------------------------------------------------

    def _race_over(self, running: Running, endings: bytes | None) -> None:
        """Note that *running* has ended so; stop the other run of its last call if nobody needs that any more."""
        was_second, second = running.first is not None, running.second
        other = running.ended(endings)
        if other is not None and other.unit in self._running:
            self._own(self._cluster.cancel(other.unit, other.slot))
        if was_second and running.left:
            self._let_be_heard(running, "ended first")
        elif second is not None and second.left:
            self._let_be_heard(second, "goes on alone")

    def _let_be_heard(self, second: Running, why: str) -> None:
        """Pass on what a *second* run has said, now that it is the one that counts."""
        job = second.job_of(0)
        self._transcripts.note(job, f"the second run, on {second.slot.worker.name}, {why}; from here on it is heard")
        for live in second.unheard():
            self._transcripts.hear(job, live.kind, live.data)

    def _judge(self, running: Running, report: UnitReport, subject: Subject) -> None:
        """Learn from how the calls of *running* ended whether its worker can do what it is given."""
        worker, at, values = running.slot.worker.name, 0, list[bytes]()
        name = subject if isinstance(subject, str) else running.name
        for ending, same in groupby(report.endings[: running.left]):
            count = len(list(same))
            if ending == Ending.SUCCEEDED or ending in JUDGED:
                self._tallies.workers.note(worker, count)
            if ending == Ending.SUCCEEDED:
                self._conduct.succeeded(subject, worker, count, name=name)
            elif ending in JUDGED:
                values = values or unpack(report.values)
                for item in range(at, at + count):
                    self._blame(running, running.job_of(item), unpack_failure(values[item]).sentence, subject, name)
            at += count

    def _blame(self, running: Running, job: int, sentence: str, subject: Subject, name: str) -> None:
        """Count a failure against the worker of *running*, unless somebody asked for it."""
        if job in self._unwanted or job in self._interrupted:
            return
        worker = running.slot.worker.name
        others = self._others(self._need_of(running.work), worker)
        seconds = time.monotonic() - running.since
        reason = self._conduct.failed(subject, worker, job, sentence, others, name=name, seconds=seconds)
        if reason is not None:
            logger.warning("worker %s is set aside for %s: %s", worker, name, reason)
            self._transcripts.note(job, f"{worker} is set aside for {name}: {reason}")
            self._take_from(worker, subject)

    def _take_from(self, worker: str, subject: Subject) -> None:
        """Take back from *worker* what it has not begun of *subject*."""
        for slot, sent in self._on.items():
            if slot.worker.name == worker:
                for running in list(sent.values())[1:]:
                    if running.left and self._subject_of(running.work) == subject:
                        self._own(self._cluster.recall(running.unit, slot))

    def _tally(self, id: int, state: State, n: int) -> None:
        """Note that *n* items of batch *id* ended; a batch with none left is closed."""
        batch = self._feed.batches.get(id)
        if batch is not None:
            batch.end(state, n)
            if batch.is_done:
                del self._feed.batches[id]
                logger.info("batch %d ended: %s", id, batch.tally)

    # ---- what is heard -----------------------------------------------------------------------

    def _on_live(self, live: Live) -> None:
        running = self._running.get(live.unit)
        if running is None:
            return
        for heard in running.hear(live):
            self._transcripts.hear(running.job_of(heard.item), heard.kind, heard.data)
        self._bus.publish(("unit", live.unit))

    def _on_change(self) -> None:
        for slot in self._on.keys() - set(self._cluster.slots):
            if not self._on[slot]:
                del self._on[slot]
        self._devices.forget_claims()
        self._lose_with_slots()
        self._conduct.keep(self._cluster.workers)
        self._tallies.workers.keep(lambda worker: isinstance(worker, tuple) or worker in self._cluster.workers)
        self._note_workers()
        self._hungry.set()
        self._bus.publish("workers")

    # ---- what comes and goes -----------------------------------------------------------------

    def _note_workers(self) -> None:
        """Write down which workers have come, and which are gone."""
        there, known = set(self._cluster.workers), self._known
        self._known = there
        self._note(*(Noted(Kind.WORKER_CAME, worker) for worker in sorted(there - known)))
        self._note(*(Noted(Kind.WORKER_WENT, worker) for worker in sorted(known - there)))

    def _note(self, *happened: Noted) -> None:
        """Have it written down, soon, that this *happened*."""
        if happened and not self._is_closing:
            if not self._noted:
                self._own(self._write_noted())
            self._noted += happened

    async def _write_noted(self) -> None:
        happened, self._noted = self._noted, []
        try:
            await self._store.apply(Note(happened, now()))
        except StoreError as error:  # a full disk, say: nothing else depends on it
            logger.warning("of what came and went nothing was written: %s", error)

    # ---- chores -----------------------------------------------------------------------------

    def _cancel_running(self, is_meant: Callable[[Running], bool]) -> None:
        """Have the running work that *is_meant* stopped, without waiting for it: a worker may be slow to answer."""
        for running in self._running.values():
            if is_meant(running):
                self._own(self._cluster.cancel(running.unit, running.slot))

    def _own(self, chore: Coroutine[Any, Any, object]) -> None:
        """Run *chore*; it is cancelled when the engine closes, and its failure is logged."""
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[object]) -> None:
        self._chores.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (StoreBroken, OwnershipLost)):  # nothing can go on, which was said already
            logger.debug("%s", error)
        elif error is not None:
            logger.error("the engine stumbled", exc_info=error)
