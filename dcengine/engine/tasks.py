"""The life of a task: read `Tasks.run` first, from the lease to the end."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import abstractmethod
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..blobs import ROW_LIMIT
from ..cluster import ClusterGone, ClusterSettings, Slot, WorkerGone
from ..codec import failure_from, keys_in, pack, pack_failure, unpack, unpack_failure
from ..errors import BlobError, DcengineError, NoMatchingWorker, StaleLease
from ..jobs import Bundle, Chunk, How, Stage, State, Task, Vote
from ..options import check
from ..references import REFERRING
from ..runner.live import SHOW_LIMIT
from ..runner.units import Ending, Gives, Takes, Unit
from ..store import now
from ..store.handing import Consequences
from ..store.moving import Move
from ..store.names import CALL, FUNCTIONS
from ..store.submitting import Added, AddJob
from ..verbs import Function, JobStatus, Submission
from .dispatch import Decided, learned, to_the_end
from .outcomes import Outcome, after_error, after_flag, after_run, after_vanishing, cancelled, failed
from .running import Running, Work, tasks_of
from .sessions import Sessions
from .stages import Following
from .submissions import check_size
from .values import check_value, left_on

logger = logging.getLogger(__name__)

CODE_CACHE = 256  #: functions whose code is kept in memory
TOLD_LIMIT = 20  #: votes that a failure names, the newest
UNITS_LIMIT = 1_000_000_000  #: of credit for one task


class Storing(NamedTuple):
    """A move on its way into the file."""

    move: Move
    outcome: Outcome
    stored: asyncio.Future[Consequences]
    deadline: float  #: by the monotonic clock, until which a full disk is asked again


class Tasks(Sessions):
    """Submits, runs and cancels single jobs."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._functions: dict[bytes, Function] = {}
        self._submitters: dict[str, int] = {}  #: ids of those who have submitted something

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

    async def run(self, task: Task, slot: Slot, *, second: Running | None = None) -> None:
        """Take one leased *task* through *slot* to its end; *second* is given where this is a second run of it."""
        try:
            report = await self._call(second or Running(task, slot))
        except Decided:  # its other run is the one that counts
            return
        except ClusterGone as gone:
            await self._break_off(task, str(gone))
        except WorkerGone as gone:
            await self._move(task, self._unless_unwanted(task, after_vanishing(task, gone.worker)))
        except DcengineError as error:
            await self._move(task, failed(task, failure_from(error)), slot)
        else:
            ending, (value,) = Ending(report.endings[0]), unpack(report.values)
            await self._end(task, ending, value, slot, report.seconds)

    async def run_together(self, bundle: Bundle, slot: Slot) -> None:
        """Take the leased tasks of *bundle*, all of them short, through *slot* to their ends."""
        running = Running(bundle, slot)
        try:
            report = await self._call(running)
        except Decided:
            return
        except (WorkerGone, DcengineError) as error:
            self._feed.pace(bundle.tasks[0].function).start_over()  # one by one, until it is known which of them it was
            await self._break_off(running.work, str(error))
        else:
            endings, values = map(Ending, report.endings), unpack(report.values)
            each = report.seconds / len(bundle.tasks)
            await asyncio.gather(*(
                self._end(task, ending, value, slot, each)
                for task, ending, value in zip(running.tasks, endings, values, strict=False)  # the others have some
            ))  # fmt: skip

    def _unless_unwanted(self, task: Task, outcome: Outcome) -> Outcome:
        """Return *outcome* for a run that was broken off, or that *task* is cancelled if somebody wanted that."""
        return cancelled(task) if task.job in self._unwanted else outcome

    async def _end(self, task: Task, ending: Ending, value: bytes, slot: Slot, seconds: float) -> None:
        """Store what became of *task*, whose run has ended so."""
        if ending is Ending.SUCCEEDED and task.how & How.REMOTE:
            value = left_on(slot.worker.name, value)
        outcome = await self._outcome(task, ending, value, slot)
        await self._move(task, outcome, slot, units=self._units_of(task), seconds=seconds)

    async def _outcome(self, task: Task, ending: Ending, value: bytes, slot: Slot) -> Outcome:
        """Return what becomes of *task*, whose run has ended so."""
        stage = self._stages.get(task.stage)
        unwanted, interrupted = task.job in self._unwanted, task.job in self._interrupted
        if ending is Ending.FLAGGED and stage is not None and not unwanted and not interrupted:
            return await self._flagged(task, stage, Vote(slot.worker.contributor, unpack_failure(value).message))
        return after_run(
            task, ending, value, unwanted=unwanted, interrupted=interrupted, stage=stage,
            following=self._stages.after(task.stage), worker=slot.worker.name,
        )  # fmt: skip

    async def _flagged(self, task: Task, stage: Stage, vote: Vote) -> Outcome:
        """Return what becomes of *task* after another *vote* on its input."""
        earlier = [flag.voter for flag in await self._store.reads.votes(task.id)]
        votes = await self._store.reads.votes_of(task.job)
        told = [f"generation {generation}: {flag.voter}: {flag.reason}" for generation, flag in votes]
        return after_flag(task, stage, vote, earlier, told[-TOLD_LIMIT:])

    def _units_of(self, task: Task) -> int:
        """Return what *task* counts for: one, or what it has reported to have done."""
        stage, progress = self._stages.get(task.stage), self._transcripts.progress(task.job)
        if stage is None or stage.credit == "task" or progress is None or not math.isfinite(progress.done):
            return 1
        return max(0, min(int(progress.done), UNITS_LIMIT))

    async def _move(
        self,
        before: Task,
        outcome: Outcome,
        slot: Slot | None = None,
        *,
        units: int = 1,
        seconds: float | None = None,
    ) -> None:
        """Store what became of a task, then tell those who wait; a move from where it no longer is, is dropped."""
        move = Move(before, outcome.task, outcome.kind, now(), reason=outcome.reason, units=units, seconds=seconds)
        if slot is not None:
            move.worker, move.contributor = slot.worker.name, slot.worker.contributor
        try:
            await self._follow(await self._hand_in(move, outcome))
        except StaleLease as stale:
            logger.info("%s", stale)
        except BlobError as lost:  # its output is too big for the file and cannot be put beside it
            failure = pack_failure(failure_from(lost))
            await self._move(before, after_error(before, failure, stage=self._stages.get(before.stage)), slot)

    async def _hand_in(self, move: Move, outcome: Outcome, patience: float = math.inf) -> Storing:
        """Complete *move* by what *outcome* says, and have it stored; `_follow` waits for that.

        A full disk is waited for with *patience*, in seconds.
        """
        deadline = time.monotonic() + patience
        if outcome.task.state is State.WAITING:
            move.not_before = move.at + int(outcome.delay * 1_000_000)
        if outcome.following.stage is not None:  # the next stage starts its progress anew
            await self._transcripts.end(range(outcome.task.job, outcome.task.job + 1))
        move.opens, move.gather = outcome.following
        move.vote = outcome.vote
        move.output = outcome.output
        if outcome.task.state is State.SUCCEEDED and outcome.output is not None:
            move.output = await self._kept(outcome.output, patience)
        if outcome.parts is not None:
            move.parts = [await self._kept(part, patience) for part in outcome.parts]
        return Storing(move, outcome, self._store.apply(move), deadline)

    async def _follow(self, storing: Storing) -> None:
        """Wait until a move is stored, and draw its consequences; raises `StaleLease`."""
        move = storing.move
        consequences: Consequences = await self._written(storing.stored, move, storing.deadline)
        self._take_note(consequences)
        await self._moved(msgspec.structs.replace(storing.outcome, output=move.output), ends_job=move.ends_job)

    async def _unit_of(self, work: Work) -> Unit:
        if isinstance(work, Chunk):
            return await self._unit_of_chunk(work)
        tasks = tasks_of(work)
        function, stage = await self._function(tasks[0].function), self._stages.get(tasks[0].stage)
        takes, gives = _travel(stage, self._stages.after(tasks[0].stage))
        items = [await self._input_of(task, takes) for task in tasks]
        keys = referred_to(function.code, items, takes)
        along = await self._results_along(keys) if keys else {}
        return Unit(
            id=next(self._units), function=function.digest, name=function.name, code=function.code,
            items=pack(items), count=len(tasks), values=[key for key in keys if key not in along], along=along,
            stays=bool(tasks[0].how & How.REMOTE),
            timeout=tasks[0].timeout, grace=self._settings.grace, takes=takes, gives=gives,
            output_limit=self._settings.output_limit,
            is_shared=bool(tasks[0].how & How.SHARED),
        )  # fmt: skip

    async def _input_of(self, task: Task, takes: Takes) -> bytes:
        """Return what the function of *task* is called with, packed: for a gather the outputs of all parts."""
        if takes != "parts":
            return await self._values.sent(task.input)
        outputs = await self._store.reads.part_outputs(task.id)
        frame = pack([await self._values.sent(output) for output in outputs])
        check_size(f"the outputs of the {len(outputs)} parts of job {task.job} together", len(frame))
        return frame

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
        check(submission.options)
        if submission.options.session is not None:
            submission = self._in_session(submission)
        options = submission.options
        size = len(submission.input) + len(submission.function.code)
        check_size("the function with its arguments", size)
        check_value("the arguments", submission.input)
        takes = await self._jobs_taken(submission)
        self._remember(submission.function)
        if len(submission.input) > ROW_LIMIT:
            submission = msgspec.structs.replace(submission, input=await self._values.keep(submission.input))
        at = now()
        stored: asyncio.Future[Added] = self._store.submit(AddJob(FUNCTIONS, CALL, submission, at, takes), size)
        is_offered = options.not_before is None and not takes and self._offer(CALL, submission)
        added = await learned(stored, lambda added: self._added(submission, added, at, is_offered=is_offered))
        if not added.is_new or (takes and self._ends.get(added.id)):  # what it takes may have failed before
            return await self.job(added.id)
        status = JobStatus(
            id=added.id, project="functions", number=added.number, name=submission.function.name, state="open",
            task_state=added.state.name.lower(), tags=options.tags, priority=options.priority, created=at / 1e6,
        )  # fmt: skip
        missing = await self._missing(options.tags)
        if missing is None:
            others = await self._other_versions(options.tags, submission.packages) if submission.packages else []
            return msgspec.structs.replace(status, other_versions=others) if others else status
        if options.on_no_match == "fail":
            return await self._fail_unmatched(added.id, NoMatchingWorker(options.tags, missing))
        return msgspec.structs.replace(status, warning=missing)

    def _added(self, submission: Submission, added: Added, at: int, *, is_offered: bool) -> None:
        """Learn of a call that was stored *at* a time."""
        if not added.is_new:
            return
        options = submission.options
        self._submitters[submission.submitter] = added.submitter
        self._open.add(added.id)
        if submission.origin:
            self._job_origins.note(submission.origin, added.id, self._open)
        if added.consequences is not None:
            self._take_note(added.consequences)
        if added.state is State.WAITING:
            self._own(self._wake_after((options.not_before or 0.0) - at / 1e6))
        elif added.state is State.QUEUED and not is_offered:
            source = self._feed.tasks(CALL, added.need, options.tags, added.submitter)
            source.add(options.priority, function=submission.function.digest)
            self._hungry.set()

    def _offer(self, stage: int, submission: Submission) -> bool:
        """Offer a task that is being stored to the slots, so that its lease shares the commit if one is free.

        Return False for tags or a submitter that no task had before. A lease that finds nothing, because the task
        was not stored after all, does no harm.
        """
        submitter = self._submitters.get(submission.submitter)
        source = None if submitter is None else self._feed.known(stage, submission.options.tags, submitter)
        if source is None:
            return False
        source.add(submission.options.priority, function=submission.function.digest)
        if not self._is_closing and any(not self._held[slot] for slot in self._cluster.slots):
            self._feed_once()
        else:
            self._hungry.set()
        return True

    async def _fail_unmatched(self, job: int, error: NoMatchingWorker) -> JobStatus:
        task = await self._store.reads.task(job)
        if task is not None and task.state in (State.QUEUED, State.BLOCKED):
            await self._move(task, failed(task, failure_from(error)))
        return await self.job(job)

    # ---- cancel ----------------------------------------------------------------------------

    @to_the_end
    async def cancel(self, id: int) -> JobStatus:
        """Cancel job *id*: a waiting one at once, a running one by interrupting it; an ended one stays as it is."""
        status = await self.job(id)
        while not status.is_final and not self._is_cancelling(id):
            task = await self._store.reads.task(id)
            if task is None:
                await self._cancel_item(id)
            elif task.state is State.LEASED and not task.token:  # who leased it over HTTP hears it with the next word
                self._unwanted.add(id)
                for running in self._runs_of(id):
                    self._own(self._stop_call(running, id, self._cluster.cancel))
            elif not task.state.is_final:  # else it has ended since its job was looked at
                await self._move(task, cancelled(task))  # refused if it was leased just now: looked at again
            status = await self.job(id)
        if status.is_final:  # perhaps it ended by itself meanwhile: its next life must not be cancelled for that
            self._unwanted.discard(id)
        return status

    async def interrupt(self, id: int) -> JobStatus:
        """Raise KeyboardInterrupt in the code of job *id*, which may catch it; cancel a job whose code does not run."""
        runs = self._runs_of(id)
        self._interrupted.update([id] if runs else [])
        for running in runs:
            await self._stop_call(running, id, self._cluster.interrupt)
        if not any(running.has(id) for running in runs):
            self._interrupted.discard(id)
            return await self.cancel(id)
        return await self.job(id)

    async def kill(self, id: int) -> JobStatus:
        """Cancel job *id*; if its code runs, end the process at once."""
        runs = self._runs_of(id)
        self._unwanted.update([id] if runs else [])
        for running in runs:
            await self._stop_call(running, id, self._cluster.kill)
        return await self.cancel(id)

    async def tell(self, id: int, message: bytes) -> bool:
        """Hand *message* to the running code of job *id*; return whether its process has it."""
        check_size("the message", len(message), SHOW_LIMIT)
        await self.job(id)
        for running in list(self._running.values()):
            item = running.item_of(id)
            if item is not None and running.first is None:  # what a second run shows, nobody has seen yet
                return await self._cluster.tell(running.unit, running.slot, item, message)
        return False

    def _runs_of(self, job: int) -> list[Running]:
        """Return the runs of *job*, two if it is run a second time; none for an item of a batch without its own row."""
        return [run for run in self._running.values() if any(task.job == job for task in run.tasks)]

    def _is_unwanted(self, work: Work) -> bool:
        if isinstance(work, Chunk):
            return self._is_chunk_unwanted(work)
        return any(task.job in self._unwanted for task in tasks_of(work))

    def _is_cancelling(self, job: int) -> bool:
        batch = self._feed.batch_of(job)
        return job in self._unwanted or (batch is not None and job - batch.info.first_job in batch.unwanted)


def referred_to(code: bytes, items: list[bytes], takes: Takes = "call") -> list[bytes]:
    """Return the keys of all that calls with these *items* refer to, each once."""
    values = items if takes != "parts" else [part for item in items for part in unpack(item)]
    found = dict.fromkeys(keys_in(code))
    for value in values:
        if value[:1] == REFERRING:
            found.update(dict.fromkeys(keys_in(value)))
    return list(found)


def _travel(stage: Stage | None, following: Following) -> tuple[Takes, Gives]:
    """Return what the function of *stage* takes and gives: JSON for outside workers, a frame for parts."""
    if stage is None:
        return "call", "value"
    takes: Takes = "parts" if stage.shape == "gather" else "value"
    is_outside = following.stage is not None and following.stage.kind == "lease"
    if stage.shape == "expand":
        return takes, "json parts" if is_outside else "parts"
    return takes, "json" if is_outside else "value"
