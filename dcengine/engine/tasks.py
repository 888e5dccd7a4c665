"""The life of a task: read `Tasks.run` first, from the lease to the end."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from pathlib import Path

import msgspec

from ..cluster import ClusterSettings, Slot, WorkerGone
from ..codec import failure_from, pack, unpack
from ..errors import DcengineError, NoMatchingWorker, StaleLease
from ..jobs import Chunk, Stage, State, Task
from ..runner.units import Ending, Unit
from ..store import now
from ..store.moving import Move
from ..store.submitting import Added, AddJob
from ..verbs import Function, JobResult, JobStatus, Options, Submission
from .dispatch import Dispatch
from .feeding import fits
from .outcomes import Outcome, after_run, after_vanishing, cancelled, failed
from .questions import Running
from .submissions import CALL, FUNCTIONS, check, check_size

logger = logging.getLogger(__name__)

CODE_CACHE = 256  #: functions whose code is kept in memory


class Tasks(Dispatch):
    """Submits, runs and cancels single jobs."""

    def __init__(self, db: Path, settings: ClusterSettings) -> None:
        super().__init__(db, settings)
        self._functions: dict[bytes, Function] = {}
        self._unwanted: set[int] = set()  #: jobs cancelled while they ran
        self._interrupted: set[int] = set()  #: jobs interrupted while they ran

    @abstractmethod
    async def _unit_of_chunk(self, chunk: Chunk) -> Unit:
        """Return what a slot is given to do the items of *chunk*."""

    @abstractmethod
    def _is_chunk_unwanted(self, chunk: Chunk) -> bool:
        """Tell whether an item of *chunk* was cancelled meanwhile."""

    @abstractmethod
    async def _cancel_item(self, job: int) -> None:
        """Cancel an item of a batch that has no row of its own."""

    # ---- from the lease to the end ---------------------------------------------------------

    async def run(self, task: Task, slot: Slot) -> None:
        """Take one leased *task* through *slot* to its end."""
        try:
            report = await self._call(task, slot)
        except WorkerGone as gone:
            await self._move(task, after_vanishing(task, gone.worker))
        except DcengineError as error:
            await self._move(task, failed(task, failure_from(error)), slot)
        else:
            ending, (value,) = Ending(report.endings[0]), unpack(report.values)
            outcome = after_run(
                task, ending, value, unwanted=task.job in self._unwanted, interrupted=task.job in self._interrupted,
                following=self._stages.after(task.stage),
            )  # fmt: skip
            await self._move(task, outcome, slot)

    async def _move(self, before: Task, outcome: Outcome, slot: Slot | None = None) -> None:
        """Store what became of a task, then tell those who wait; a move from where it no longer is, is dropped."""
        move = Move(before, outcome.task, outcome.kind, now(), output=outcome.output, reason=outcome.reason)
        if slot is not None:
            move.worker, move.contributor = slot.worker.name, slot.worker.contributor
        if outcome.task.state is State.WAITING:
            move.not_before = now() + int(outcome.delay * 1_000_000)
        if outcome.opens is not None:
            move.opens = outcome.opens
            await self._transcripts.end(range(before.job, before.job + 1))  # the next stage starts its progress anew
        try:
            await self._write(move)
        except StaleLease as stale:
            logger.info("%s", stale)
        else:
            await self._moved(outcome)

    async def _moved(self, outcome: Outcome) -> None:
        """Draw the consequences of a stored move."""
        task = outcome.task
        if not task.state.is_final and outcome.reason:
            self._transcripts.note(task.job, f"{outcome.reason}; it runs again")
        logger.info("job %d: %s%s", task.job, task.state.name.lower(), f" ({outcome.reason})" if outcome.reason else "")
        if outcome.opens is not None:
            self._go_on(task, self._stages.now(outcome.opens))
        elif task.state.is_final:
            self._open.discard(task.job)
            self._unwanted.discard(task.job)
            self._interrupted.discard(task.job)
            self._ends.keep(task.job, JobResult(task.state.name.lower(), outcome.output or b""))
            await self._transcripts.end(range(task.job, task.job + 1))
            if task.batch is not None:
                self._tally(task.batch, task.state, 1)
        elif task.state is State.QUEUED and not self._is_closing:
            need = await self._store.reads.need(task.tags)
            self._feed.tasks(task.stage, need, task.tags).add(task.priority)
            self._hungry.set()
        elif task.state is State.WAITING:
            self._own(self._wake_after(outcome.delay))
        self._bus.publish(("job", task.job), ("batch", task.batch), ("project", self._stages.project_of(task.stage)))

    def _go_on(self, done: Task, stage: Stage) -> None:
        """Take note that the job of the *done* task waits at its next stage."""
        self._interrupted.discard(done.job)
        if done.job in self._unwanted:  # cancelled while its output was on the way into the file
            self._unwanted.discard(done.job)
            self._own(self.cancel(done.job))
        else:
            self._feed.tasks(stage.id, stage.need, stage.tags).add(done.priority)
            self._hungry.set()

    async def _wake_after(self, delay: float) -> None:
        await asyncio.sleep(delay + 0.001)
        await self._wake_due()

    async def _unit_of(self, work: Task | Chunk) -> Unit:
        if isinstance(work, Chunk):
            return await self._unit_of_chunk(work)
        function = await self._function(work.function)
        return Unit(
            id=next(self._units), function=function.digest, name=function.name, code=function.code,
            items=pack([work.input]), count=1, timeout=work.timeout, takes_value=work.stage != CALL,
        )  # fmt: skip

    async def _function(self, digest: bytes) -> Function:
        function = self._functions.get(digest)
        if function is None:
            function = await self._store.reads.function(digest)
            self._remember(function)
        return function

    def _remember(self, function: Function) -> None:
        """Keep the code of *function* at hand, instead of that of the one kept longest."""
        self._functions[function.digest] = function
        if len(self._functions) > CODE_CACHE:
            del self._functions[next(iter(self._functions))]

    # ---- submit ----------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> JobStatus:
        """Store one call; it is durable when this returns.

        Raises `InvalidTags`, `InvalidOption`, `PayloadTooLarge`, `EngineBusy` or a `StoreError`;
        nothing is stored then.
        """
        options = submission.options
        check(options)
        size = len(submission.input) + len(submission.function.code)
        check_size("the function with its arguments", size)
        self._remember(submission.function)
        at = now()
        stored = self._store.submit(AddJob(FUNCTIONS, CALL, submission, at), size)
        is_offered = self._offer(CALL, options)
        added: Added = await stored
        if not added.is_new:
            return await self.job(added.id)
        self._open.add(added.id)
        if not is_offered:
            self._feed.tasks(CALL, added.need, options.tags).add(options.priority)
            self._hungry.set()
        status = JobStatus(
            id=added.id, project="functions", number=added.number, name=submission.function.name, state="open",
            task_state="queued", tags=options.tags, priority=options.priority, created=at / 1e6,
        )  # fmt: skip
        missing = await self._missing(options.tags)
        if missing is None:
            return status
        if options.on_no_match == "fail":
            return await self._fail_unmatched(added.id, NoMatchingWorker(options.tags, missing))
        return msgspec.structs.replace(status, warning=missing)

    def _offer(self, stage: int, options: Options) -> bool:
        """Offer a task that is being stored to the slots, so that its lease shares the commit if one is free.

        Return False for tags that no task had before. A lease that finds nothing, because the task was not stored
        after all, does no harm.
        """
        source = self._feed.known(stage, options.tags)
        if source is None:
            return False
        source.add(options.priority)
        if not self._is_closing and any(not self._held[slot] for slot in self._cluster.slots):
            self._feed_once()
        else:
            self._hungry.set()
        return True

    async def _missing(self, expression: str) -> str | None:
        """Return what the nearest worker lacks if none matches, once the first had time to join."""
        if not expression:
            return None

        def somebody_fits() -> bool:
            return any(fits(expression, worker) for worker in self._cluster.workers.values())

        await self._joined(somebody_fits)
        return None if somebody_fits() else self._nearest(expression)

    async def _fail_unmatched(self, job: int, error: NoMatchingWorker) -> JobStatus:
        task = await self._store.reads.task(job)
        if task is not None and task.state is State.QUEUED:
            await self._move(task, failed(task, failure_from(error)))
        return await self.job(job)

    # ---- cancel ----------------------------------------------------------------------------

    async def cancel(self, id: int) -> JobStatus:
        """Cancel job *id*: a waiting one at once, a running one by interrupting it; an ended one stays as it is."""
        status = await self.job(id)
        while not status.is_final and not self._is_cancelling(id):
            task = await self._store.reads.task(id)
            if task is None:
                await self._cancel_item(id)
            elif task.state is State.LEASED:
                self._unwanted.add(id)
                self._cancel_running(lambda running: isinstance(running.work, Task) and running.work.job == id)
            else:
                await self._move(task, cancelled(task))  # refused if it was leased just now: looked at again
            status = await self.job(id)
        if status.is_final:  # perhaps it ended by itself meanwhile: its next life must not be cancelled for that
            self._unwanted.discard(id)
        return status

    async def interrupt(self, id: int) -> JobStatus:
        """Raise KeyboardInterrupt in the code of job *id*, which may catch it; cancel a job whose code does not run."""
        running = self._run_of(id)
        if running is None:
            return await self.cancel(id)
        self._interrupted.add(id)
        await self._cluster.interrupt(running.unit, running.slot)
        return await self.job(id)

    async def kill(self, id: int) -> JobStatus:
        """Cancel job *id*; if its code runs, end the process at once."""
        running = self._run_of(id)
        if running is not None:
            self._unwanted.add(id)
            await self._cluster.kill(running.unit, running.slot)
        return await self.cancel(id)

    def _run_of(self, job: int) -> Running | None:
        """Return the run of a single *job*; items of a batch have none of their own."""
        runs = (run for run in self._running.values() if isinstance(run.work, Task) and run.work.job == job)
        return next(runs, None)

    def _is_unwanted(self, work: Task | Chunk) -> bool:
        return work.job in self._unwanted if isinstance(work, Task) else self._is_chunk_unwanted(work)

    def _is_cancelling(self, job: int) -> bool:
        batch = self._feed.batch_of(job)
        return job in self._unwanted or (batch is not None and job - batch.info.first_job in batch.unwanted)
