"""The life of a batch: many calls under one handle, without a row for each."""

from __future__ import annotations

import asyncio
import logging
import struct
from itertools import accumulate, groupby

import msgspec

from ..blobs import ROW_LIMIT, is_reference
from ..cluster import ClusterGone, Slot, WorkerGone
from ..codec import failure_from, pack, pack_failure, unpack
from ..errors import BlobError, DcengineError, InvalidOption, NoMatchingWorker
from ..jobs import BatchInfo, Chunk, How, State, Task
from ..options import check
from ..runner.units import Ending, Unit, UnitReport
from ..store import now
from ..store.batching import AcceptChunk, AddStray, CancelItems, ReopenBatch, Reopened
from ..store.names import CALL, FUNCTIONS
from ..store.submitting import AddBatch
from ..verbs import BatchStatus, BatchSubmission
from .dispatch import Decided, to_the_end
from .outcomes import Outcome, after_run, after_vanishing, failed, released
from .running import Running, Work, tasks_of
from .submissions import check_size
from .tasks import Tasks, referred_to
from .values import check_itself, is_apart, left_on
from .waiting import OpenBatch

logger = logging.getLogger(__name__)


class Batches(Tasks):
    """Submits, runs, cancels and reopens batches."""

    # ---- verbs -----------------------------------------------------------------------------

    @to_the_end
    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        """Store the calls of one map; they are durable when this returns."""
        options = submission.options
        check(options)
        counts = _counts(submission)
        for block in submission.blocks:
            check_size("a block of inputs", len(block))
        self._remember(submission.function)
        size = sum(map(len, submission.blocks)) + len(submission.function.code)
        blocks = [
            await self._values.keep(_bare(block, count)) for block, count in zip(submission.blocks, counts, strict=True)
        ]
        submission = msgspec.structs.replace(submission, blocks=blocks)
        added = await self._store.submit(AddBatch(FUNCTIONS, CALL, submission, counts, now()), size)
        if not added.is_new:
            return await self.batch(added.id)
        info = BatchInfo(
            id=added.id, stage=CALL, need=added.need, tags=options.tags, first_job=added.number, count=submission.count,
            priority=options.priority, retries=options.retries, timeout=options.timeout,
            function=submission.function.digest, name=submission.function.name, submitter=added.submitter,
            not_before=options.not_before, how=options.how,
        )  # fmt: skip
        if not submission.count:
            return await self.batch(added.id)
        batch = self._open_batch(info, counts)
        if submission.origin:
            self._batch_origins.note(submission.origin, added.id, self._feed.batches)
        batch.put(0, submission.count)
        self._hungry.set()
        missing = await self._missing(options.tags)
        if missing is not None and options.on_no_match == "fail":
            await self._fail_batch(batch, NoMatchingWorker(options.tags, missing))
            return await self.batch(added.id)
        others = await self._other_versions(options.tags, submission.packages) if missing is None else []
        return msgspec.structs.replace(await self.batch(added.id), warning=missing, other_versions=others)

    @to_the_end
    async def cancel_batch(self, id: int) -> BatchStatus:
        """Cancel what has not ended of batch *id*; running items are interrupted."""
        batch = self._feed.batches.get(id)
        if batch is not None:
            batch.is_cancelling = True
            await self._cancel_items(batch, batch.take_all())
            self._cancel_running(lambda running: isinstance(running.work, Chunk) and running.work.batch == id)
            for state in (State.QUEUED, State.WAITING, State.LEASED):
                for task in await self._store.reads.tasks(state, batch=id):
                    await self.cancel(task.job)
        return await self.batch(id)

    @to_the_end
    async def retry_batch(self, id: int) -> BatchStatus:
        """Queue the failed and cancelled items of batch *id* again."""
        await self._store.reads.batch(id)
        again: Reopened | None = await self._write(ReopenBatch(id, now()))
        if again is not None:
            batch = self._feed.batches.get(id) or await self._load_batch(id)
            batch.failed = batch.cancelled = 0
            batch.is_cancelling = False
            batch.unwanted.clear()
            self._unwanted.difference_update(again.jobs)
            for first, count in again.runs:
                batch.put(first, count)
            for job in (*again.jobs, *again.calls):
                self._ends.forget(job)
            source = self._feed.tasks(again.stage, again.need, batch.tags, again.submitter)
            source.add(again.priority, len(again.jobs), function=batch.info.function, is_next=True)
            self._hungry.set()
        return await self.batch(id)

    # ---- the life of a chunk ---------------------------------------------------------------

    async def run_chunk(self, chunk: Chunk, batch: OpenBatch, slot: Slot, *, second: Running | None = None) -> int:
        """Take the items of *chunk* through *slot* to their ends; return how many of them this run answered for.

        *second* is given where this is a second run of them.
        """
        running = second or Running(chunk, slot)
        try:
            report = await self._call(running)
        except Decided:
            return 0
        except DcengineError as error:
            chunk = _items_of(running)
            await self._chunk_failed(chunk, batch, slot, error)
        else:
            chunk = _items_of(running)
            await self._end_items(chunk, batch, slot, report)
        return chunk.count

    async def _end_items(self, chunk: Chunk, batch: OpenBatch, slot: Slot, report: UnitReport) -> None:
        """Store what became of the items of *chunk*: in the *report* of its unit they come first."""
        endings, values = [Ending(code) for code in report.endings[: chunk.count]], unpack(report.values)
        at = chunk.first
        for ending, items in groupby(endings):
            count = len(list(items))
            part = values[at - chunk.first : at - chunk.first + count]
            if ending is Ending.SUCCEEDED:
                await self._accept_or_err(batch, at, part, slot)
            elif ending is Ending.INTERRUPTED and any(part) and (batch.is_cancelling or at in batch.unwanted):
                await self._end_badly(batch, at, ending, part, slot)  # it took force, which is to be told
            elif ending in (Ending.NOT_RUN, Ending.INTERRUPTED):
                await self._put_back(batch, at, count)
            else:
                await self._end_badly(batch, at, ending, part, slot)
            at += count
        self._tell(batch, chunk)

    async def _accept_or_err(self, batch: OpenBatch, first: int, values: list[bytes], slot: Slot) -> None:
        """Accept results; what is too big for the file and cannot be put beside it counts as an error of its calls."""
        try:
            await self._accept(batch, first, values, slot)
        except BlobError as lost:
            failure = pack_failure(failure_from(lost))
            await self._end_badly(batch, first, Ending.RAISED, [failure] * len(values), slot)

    async def _accept(self, batch: OpenBatch, first: int, values: list[bytes], slot: Slot) -> None:
        """Accept results; each that is elsewhere by itself."""
        at = first
        for apart, some in groupby(values, key=is_apart):
            together = list(some)
            for part in [[value] for value in together] if apart else [together]:
                await self._accept_together(batch, at, part, slot)
                at += len(part)

    async def _accept_together(self, batch: OpenBatch, first: int, values: list[bytes], slot: Slot) -> None:
        count, first_job = len(values), batch.info.first_job + first
        chunk = Chunk(batch=batch.info.id, first=first, count=count, first_job=first_job)
        await self._transcripts.end(range(first_job, first_job + count))
        if is_apart(values[0]):
            is_left = batch.info.how & How.REMOTE
            data = left_on(slot.worker.name, values[0]) if is_left else await self._kept(values[0])
        else:
            data = await self._kept(pack(values))
        accepted = AcceptChunk(batch.info.stage, chunk, data, slot.worker.name, slot.worker.contributor, now())
        self._take_note(await self._write(accepted))
        self._tallies.accept(batch.info.stage, count)
        self._tally(batch.info.id, State.SUCCEEDED, count)

    async def _put_back(self, batch: OpenBatch, first: int, count: int) -> None:
        """Queue items that did not end again, but for those that nobody wants any more."""
        if batch.is_cancelling:
            await self._cancel_items(batch, [(first, count)])
            return
        unwanted = [index for index in range(first, first + count) if index in batch.unwanted]
        batch.put(first, count)
        for index in unwanted:
            batch.drop(index)
            batch.unwanted.discard(index)
        await self._cancel_items(batch, [(index, 1) for index in unwanted])
        self._hungry.set()

    async def _break_off(self, work: Work, reason: str | None = None) -> None:
        """Queue *work*, which a slot was given, again, but for what nobody wants any more."""
        if not isinstance(work, Chunk):
            outcomes = [self._unless_unwanted(task, released(task, reason)) for task in tasks_of(work)]
            await asyncio.gather(*map(self._move, tasks_of(work), outcomes))
        elif (batch := self._feed.batches.get(work.batch)) is not None:
            await self._put_back(batch, work.first, work.count)

    async def _end_badly(self, batch: OpenBatch, first: int, ending: Ending, values: list[bytes], slot: Slot) -> None:
        """Give the items that erred or crashed rows of their own, to be retried or failed."""
        outcomes = {}
        for index, value in enumerate(values, first):
            task = await self._task_of(batch, index)
            unwanted = batch.is_cancelling or index in batch.unwanted
            outcomes[index] = after_run(task, ending, value, unwanted=unwanted, worker=slot.worker.name)
            batch.unwanted.discard(index)
        await self._add_strays(batch, outcomes, slot)

    async def _chunk_failed(self, chunk: Chunk, batch: OpenBatch, slot: Slot, error: DcengineError) -> None:
        """Store what becomes of the items of *chunk*, of which there is no report because of *error*."""
        if isinstance(error, ClusterGone):
            await self._put_back(batch, chunk.first, chunk.count)
            self._tell(batch, chunk)
        elif isinstance(error, WorkerGone):
            await self._chunk_vanished(chunk, batch, error.worker)
        else:
            failure = failure_from(error)
            await self._add_strays(
                batch, {n: failed(await self._task_of(batch, n), failure) for n in chunk.indexes}, slot
            )

    async def _chunk_vanished(self, chunk: Chunk, batch: OpenBatch, worker: str) -> None:
        """Queue the items of a chunk whose worker disappeared; count it for a chunk of one, it may be the cause."""
        if chunk.count > 1 or batch.is_cancelling or chunk.first in batch.unwanted:
            await self._put_back(batch, chunk.first, chunk.count)
            batch.pace.start_over()  # smaller chunks until it is known which item it was
        else:
            task = await self._task_of(batch, chunk.first)
            await self._add_strays(batch, {chunk.first: after_vanishing(task, worker)}, None)
        self._tell(batch, chunk)

    async def _add_strays(self, batch: OpenBatch, outcomes: dict[int, Outcome], slot: Slot | None) -> None:
        worker = slot.worker.name if slot is not None else None
        at = now()
        stored = await asyncio.gather(*(
            self._write(
                AddStray(
                    outcome.task, index, outcome.kind, at, worker=worker, output=outcome.output, reason=outcome.reason,
                    not_before=at + int(outcome.delay * 1e6) if outcome.task.state is State.WAITING else None,
                )
            )
            for index, outcome in outcomes.items()
        ))  # fmt: skip
        for outcome, consequences in zip(outcomes.values(), stored, strict=True):
            self._take_note(consequences)
            await self._moved(outcome, ends_job=outcome.task.state.is_final)

    async def _cancel_items(self, batch: OpenBatch, runs: list[tuple[int, int]]) -> None:
        if not runs:
            return
        self._take_note(await self._write(CancelItems(batch.info.stage, batch.info.id, runs, now())))
        self._tally(batch.info.id, State.CANCELLED, sum(count for _, count in runs))
        for first, count in runs:
            self._tell(
                batch, Chunk(batch=batch.info.id, first=first, count=count, first_job=batch.info.first_job + first)
            )

    async def _cancel_item(self, job: int) -> None:
        """Cancel an item without rows of its own."""
        batch = self._feed.batch_of(job)
        if batch is None:
            return
        index = job - batch.info.first_job
        if batch.drop(index):
            await self._cancel_items(batch, [(index, 1)])
            return
        batch.unwanted.add(index)
        for running in self._running.values():
            if isinstance(running.work, Chunk) and running.has(job):
                self._own(self._stop_call(running, job, self._cluster.cancel))

    def _is_chunk_unwanted(self, chunk: Chunk) -> bool:
        batch = self._feed.batches.get(chunk.batch)
        return batch is not None and (batch.is_cancelling or not batch.unwanted.isdisjoint(chunk.indexes))

    async def _fail_batch(self, batch: OpenBatch, error: NoMatchingWorker) -> None:
        failure = failure_from(error)
        outcomes = {}
        for first, count in batch.take_all():
            for index in range(first, first + count):
                outcomes[index] = failed(await self._task_of(batch, index), failure)
        await self._add_strays(batch, outcomes, None)

    # ---- what is known of a batch ----------------------------------------------------------

    def _open_batch(self, info: BatchInfo, counts: list[int]) -> OpenBatch:
        starts = list(accumulate([0, *counts[:-1]]))
        batch = self._feed.batches[info.id] = OpenBatch(info, starts, self._feed.pace(info.function))
        self._feed.mention(info.tags)
        return batch

    async def _reopen_batches(self) -> None:
        """Take up the batches that an ended engine left open."""
        for id in await self._store.reads.open_batches():
            batch = await self._load_batch(id)
            taken = sorted([*await self._store.reads.ended_runs(batch.info.id), *await self._stray_runs(batch)])
            for first, count in reversed(_gaps(taken, batch.info.count)):
                batch.put(first, count)

    async def _stray_runs(self, batch: OpenBatch) -> list[tuple[int, int]]:
        return [(job - batch.info.first_job, 1) for job in await self._store.reads.stray_jobs(batch.info.id)]

    async def _load_batch(self, id: int) -> OpenBatch:
        info = await self._store.reads.batch_info(id)
        batch = self._open_batch(info, [count for _, count in await self._store.reads.blocks(id)])
        stored = await self._store.reads.batch(id)
        batch.succeeded, batch.failed, batch.cancelled = stored.succeeded, stored.failed, stored.cancelled
        return batch

    def _tell(self, batch: OpenBatch, chunk: Chunk) -> None:
        jobs = range(chunk.first_job, chunk.first_job + chunk.count)
        self._bus.publish(("batch", batch.info.id), *(("job", job) for job in jobs))

    async def _task_of(self, batch: OpenBatch, index: int) -> Task:
        """Return item *index* of *batch* as the task it would be if it had a row: leased for the first time."""
        info = batch.info
        return Task(
            id=info.first_job + index, job=info.first_job + index, stage=info.stage, batch=info.id, state=State.LEASED,
            attempt=1, retries=info.retries, timeout=info.timeout, priority=info.priority, tags=info.tags,
            function=info.function, input=(await self._inputs(batch, index, 1))[0], submitter=info.submitter,
            how=info.how,
        )  # fmt: skip

    async def _inputs(self, batch: OpenBatch, first: int, count: int) -> list[bytes]:
        """Return the packed arguments of items that lie in one block, for a large one a reference to them."""
        if batch.block is None or not batch.block[0] <= first < batch.block[0] + len(batch.block[1]):
            start, count_there, data = await self._store.reads.block(batch.info.id, first)
            is_bare = count_there == 1 and await self._values.is_bare(data)
            batch.block = (start, [data] if is_bare else unpack(await self._values.get(data)))
        start, values = batch.block
        return values[first - start : first - start + count]

    async def _unit_of_chunk(self, chunk: Chunk) -> Unit:
        batch = self._feed.batches[chunk.batch]
        function = await self._function(batch.info.function)
        inputs = await self._inputs(batch, chunk.first, chunk.count)
        items = [await self._values.sent(data) if is_reference(data) else data for data in inputs]
        return Unit(
            id=next(self._units), function=function.digest, name=function.name, code=function.code,
            items=pack(items), count=chunk.count, values=referred_to(function.code, items),
            stays=bool(batch.info.how & How.REMOTE), timeout=batch.info.timeout, grace=self._settings.grace,
            output_limit=self._settings.output_limit,
            is_shared=bool(batch.info.how & How.SHARED),
        )  # fmt: skip


def _items_of(running: Running) -> Chunk:
    """Return the items that *running* answers for."""
    assert isinstance(running.work, Chunk)
    return running.work


def _counts(submission: BatchSubmission) -> list[int]:
    """Return the number of items in each block; raises `InvalidOption` if they are not what was announced."""
    try:
        blocks = [unpack(block) for block in submission.blocks]
    except (ValueError, struct.error) as error:
        raise InvalidOption("blocks", "unreadable", f"packed values: {error}") from error
    for values in blocks:
        for value in values:
            check_itself("an item", value)
    counts = list(map(len, blocks))
    if sum(counts) != submission.count or submission.count < 0:
        raise InvalidOption("count", str(submission.count), f"the {sum(counts)} items in the blocks")
    return counts


def _bare(block: bytes, count: int) -> bytes:
    """Return what is kept of a *block* with so many inputs: of a large one alone, itself, so that it can be mapped."""
    return unpack(block)[0] if count == 1 and len(block) > 2 * ROW_LIMIT else block


def _gaps(taken: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Return the (first, count) runs below *count* that the sorted runs *taken* leave out."""
    gaps, at = [], 0
    for first, size in [*taken, (count, 0)]:
        if first > at:
            gaps.append((at, first - at))
        at = max(at, first + size)
    return gaps
