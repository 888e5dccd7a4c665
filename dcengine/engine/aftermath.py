"""What follows from a move once it is stored: who is told, what is queued, what is cancelled with it."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from pathlib import Path

from ..cluster import ClusterSettings
from ..jobs import State, Task
from ..store import now
from ..store.cancelling import Cancelled, CutParts
from ..store.handing import Consequences, Queued, Ready
from ..store.names import CALL
from ..verbs import JobResult, JobStatus
from .outcomes import Outcome
from .stragglers import Stragglers

logger = logging.getLogger(__name__)

SLICE = 2000  #: jobs cancelled in one transaction
WAKE_SECONDS = 5.0  #: a shorter wait has its own alarm


class Aftermath(Stragglers):
    """Draws the consequences of moves; what moves tasks is decided above."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)

    @abstractmethod
    def _taken_back(self, task: Task) -> None:
        """Take note that the outside worker which held *task* does so no longer."""

    @abstractmethod
    async def cancel(self, id: int) -> JobStatus:
        """Cancel job *id*."""

    def _take_note(self, consequences: Consequences) -> None:
        """Learn what else a move has moved, and tell those who wait for it."""
        for queued in consequences.queued:
            self._queue(queued)
        for ready in consequences.ready:
            self._queue_call(ready)
        for ended in consequences.ended:
            self._open.discard(ended.job)
            self._ends.keep(ended.job, JobResult(ended.state.text, ended.output))
            self._bus.publish(("job", ended.job))
        for gather in consequences.cut:
            self._own(self._cut(gather))

    def _queue(self, queued: Queued) -> None:
        """Note that tasks of a project can run now."""
        stage = self._stages.get(queued.stage)
        if stage is not None:
            self._feed.tasks(stage.id, stage.need, stage.tags, queued.submitter).add(queued.priority, queued.n)
            self._hungry.set()
            self._bus.publish(("stage", stage.id), ("project", self._stages.project_of(stage.id)))

    def _queue_call(self, ready: Ready) -> None:
        """Note that a call has all its arguments."""
        if ready.due is not None:
            self._own(self._wake_after((ready.due - now()) / 1e6))
        else:
            self._feed.tasks(CALL, ready.need, ready.tags, ready.submitter).add(ready.priority)
            self._hungry.set()

    async def _cut(self, gather: int) -> None:
        """Cancel what is open of the parts of *gather*, which has ended without them."""
        last, is_all = 0, False
        while not is_all:
            done: Cancelled = await self._write(CutParts(gather, last, SLICE, now()))
            last, is_all = done.last, done.is_all
            self._were_cancelled(done)
            for job in done.running:
                await self.cancel(job)

    def _were_cancelled(self, done: Cancelled) -> None:
        """Tell those who wait that jobs were cancelled, and go on with the parts of those that had any."""
        for job in done.jobs:
            self._open.discard(job)
            self._bus.publish(("job", job))
        self._take_note(done.consequences)

    async def _moved(self, outcome: Outcome, *, ends_job: bool) -> None:
        """Draw the consequences of a stored move for its own job."""
        task = outcome.task
        if task.token:
            self._taken_back(task)
        if not task.state.is_final and outcome.reason:
            self._transcripts.note(task.job, f"{outcome.reason}; it runs again")
        logger.info("job %d: %s%s", task.job, task.state.name.lower(), f" ({outcome.reason})" if outcome.reason else "")
        if task.state is State.SUCCEEDED:
            self._tallies.accept(task.stage)
        elif task.state is State.FAILED:
            self._tallies.flows.note_failed(task.stage)
        if not ends_job and task.state in (State.SUCCEEDED, State.RETURNED):
            self._interrupted.discard(task.job)
            if task.job in self._unwanted:  # cancelled while its output was on the way into the file
                self._unwanted.discard(task.job)
                await self.cancel(task.job)
        elif task.state.is_final:
            await self._transcripts.end(range(task.job, task.job + 1))  # who sees the end sees the last progress too
            self._open.discard(task.job)
            self._unwanted.discard(task.job)
            self._interrupted.discard(task.job)
            self._ends.keep(task.job, JobResult(task.state.name.lower(), outcome.output or b""))
            if task.batch is not None:
                self._tally(task.batch, task.state, 1)
        elif task.state is State.QUEUED and not self._is_closing:
            await self._queue_again(task)
        elif task.state is State.WAITING:
            self._own(self._wake_after(outcome.delay))
        self._bus.publish(("job", task.job), ("batch", task.batch), ("project", self._stages.project_of(task.stage)))

    async def _queue_again(self, task: Task) -> None:
        need = await self._store.reads.need(task.tags)
        if task.flags:
            self._feed.flagged(task.stage, need, task.tags).add()
        else:
            source = self._feed.tasks(task.stage, need, task.tags, task.submitter)
            source.add(task.priority, function=task.function, is_next=True)
        self._hungry.set()
        self._bus.publish(("stage", task.stage))

    async def _wake_after(self, delay: float) -> None:
        if delay < WAKE_SECONDS:  # later ones are found by the look that comes again and again
            await asyncio.sleep(delay + 0.001)
            await self._wake_due()
