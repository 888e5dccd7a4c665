"""What can be asked of an engine without moving anything."""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import get_args

import msgspec

from .._version import __version__
from ..cluster import Cluster, ClusterSettings
from ..codec import failure_from, pack, pack_failure, unpack
from ..errors import BlobError, InvalidOption, NotFound, ResultLost, StoreError
from ..events import Bus
from ..jobs import JobState, State
from ..runner.units import Live
from ..store import Store
from ..verbs import (
    BatchStatus,
    EngineStatus,
    FailedItem,
    HistoryEntry,
    JobFilter,
    JobPage,
    JobResult,
    JobStatus,
    JoinTicket,
    LeaderboardRow,
    Report,
    Span,
    Standing,
    Transcript,
)
from .conduct import Conduct
from .devices import Devices
from .feeding import Feed, explained, fits
from .origins import Origins
from .running import Running
from .stages import Stages
from .tallies import Tallies
from .transcripts import Transcripts
from .values import Values
from .waiting import OpenBatch

EVERYTHING = ""  #: stands for all projects together, but for calls
ENDS_LIMIT = 32 << 20  #: bytes of recent results kept in memory for those who wait for them
ENTRY_BYTES = 300  #: what keeping one takes beside its data
ANSWER_BYTES = 16 << 20  #: of results in one answer about many jobs
MANY, SECONDS_PER_WAIT = 100, 10e-6  #: jobs waited for together; from the first end to the answer then, for each job


class Ends:
    """The most recent results, so that those who wait for one need no read."""

    def __init__(self) -> None:
        self._results: OrderedDict[int, JobResult] = OrderedDict()
        self._bytes = 0

    def keep(self, job: int, result: JobResult) -> None:
        self.forget(job)
        self._results[job] = result
        self._bytes += len(result.data) + ENTRY_BYTES
        while self._bytes > ENDS_LIMIT:
            self.forget(next(iter(self._results)))

    def get(self, job: int) -> JobResult | None:
        return self._results.get(job)

    def forget(self, job: int) -> None:
        gone = self._results.pop(job, None)
        if gone is not None:
            self._bytes -= len(gone.data) + ENTRY_BYTES

    def clear(self) -> None:
        self._results.clear()
        self._bytes = 0


class Questions(ABC):
    """The reading half of `verbs.Verbs`, over the store and what the engine knows by heart."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        self.db = db
        self.url = ""  #: set by whoever serves this engine, like
        self.ports: dict[str, str] = {}  #: those for old protocols, where they are
        self._settings = settings
        self._store = Store(db)
        self._values = Values(
            self._store,
            blobs or f"{db}.blobs",
            settings.values_limit,
            carrier_of=lambda worker: self._cluster.carrier(worker),
            output_of=self._output_of,
        )
        self._cluster = Cluster(
            settings,
            engine_id=f"{os.getpid()}-{time.time_ns() % 10**9}",
            on_change=self._on_change,
            on_live=self._on_live,
            values=self._values,
        )
        self._feed = Feed()
        self._devices = Devices()
        self._conduct = Conduct()
        self._stages = Stages()
        self._bus = Bus()
        self._tallies = Tallies()
        self._ends = Ends()
        self._open: set[int] = set()  #: jobs known to be open, so that nobody reads to find out
        self._job_origins, self._batch_origins = Origins(), Origins()
        self._running: dict[int, Running] = {}
        self._is_closing = False
        self._transcripts = Transcripts(
            self._store, lambda job: self._bus.publish(("job", job)), limit=settings.output_limit
        )
        self._started = time.time()

    @abstractmethod
    def _on_change(self) -> None:
        """Take note that workers or slots have changed."""

    @abstractmethod
    async def _output_of(self, job: int) -> bytes:
        """Return what *job*, which has succeeded, has come to, as it is stored."""

    @abstractmethod
    def _on_live(self, live: Live) -> None:
        """Take in what a running call says."""

    # ---- jobs ------------------------------------------------------------------------------

    async def job(self, id: int) -> JobStatus:
        """Return job *id* as it stands."""
        said = self._transcripts.progress(id)  # before the file is read: what is saved meanwhile is forgotten here
        status = await self._store.reads.job(id)
        if status.is_final:
            return msgspec.structs.replace(status, progress=said or status.progress)
        running = self._holder_of(status)
        progress = self._transcripts.progress(id) or status.progress
        if running is None:
            return msgspec.structs.replace(status, progress=progress)
        return msgspec.structs.replace(status, task_state="leased", worker=running.slot.worker.name, progress=progress)

    def _holder_of(self, status: JobStatus) -> Running | None:
        """Return who runs the job *status*."""
        return next((running for running in self._running.values() if running.has(status.id)), None)

    async def jobs(
        self, *, state: str | None = None, project: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[JobStatus]:
        """Return jobs that belong to no batch, newest first."""
        _check_state(state)
        if project is not None:
            await self._store.reads.project_id(project)  # raises for an unknown one
        return await self._store.reads.jobs(state=state, project=project, before=before, limit=max(1, min(limit, 1000)))

    async def find_jobs(self, wanted: JobFilter, *, before: int | None = None, limit: int = 50) -> JobPage:
        """Return the jobs *wanted* that belong to no batch, newest first."""
        _check_state(wanted.state or None)
        if wanted.project:
            await self._store.reads.project_id(wanted.project)  # raises for an unknown one
        return await self._store.reads.find_jobs(wanted, before=before, limit=max(1, min(limit, 1000)))

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        """Return the end of job *id*; None if it is still open after *wait* seconds."""
        deadline = time.monotonic() + wait
        while True:
            news = self._bus.news(("job", id))
            found = self._ends.get(id)
            if found is None and id not in self._open:
                found = await self._stored_result(id)
            left = deadline - time.monotonic()
            if found is not None:
                news.cancel()
                return msgspec.structs.replace(found, data=await self._values.get(found.data))
            if left <= 0 or self._is_closing:
                news.cancel()
                return None
            await self._bus.within(news, left)

    async def ends(self, ids: list[int], *, wait: float = 0.0) -> dict[int, JobResult]:
        """Return the ends of those of jobs *ids* that have ended; wait up to *wait* seconds for the first."""
        deadline = time.monotonic() + wait
        while True:
            news = self._bus.news(*(("job", id) for id in ids))
            ended = await self._ended_among(ids)
            left = deadline - time.monotonic()
            if ended or left <= 0 or self._is_closing:
                news.cancel()
                return await self._ends_of(ended)
            await self._bus.within(news, left)
            if len(ids) >= MANY:  # to wait for them is dear, and one end seldom comes alone
                await asyncio.sleep(len(ids) * SECONDS_PER_WAIT)

    async def _ended_among(self, ids: list[int]) -> list[int]:
        """Return those of jobs *ids* that have ended, and those that do not exist."""
        known = [id for id in ids if self._ends.get(id) is not None]
        unknown = [id for id in ids if id not in self._open and self._ends.get(id) is None]
        return known + await self._store.reads.ended_among(unknown) if unknown else known

    async def _ends_of(self, ids: list[int]) -> dict[int, JobResult]:
        """Return how jobs *ids* ended, those first in the list, as many as one answer holds."""
        found: dict[int, JobResult] = {}
        size = 0
        for id in ids:
            try:
                end = await self.result(id)
            except NotFound:
                end = JobResult("missing", b"")
            except (ResultLost, BlobError) as lost:  # the others are there all the same
                end = JobResult("failed", pack_failure(failure_from(lost)))
            if end is not None:  # else it was opened again just now
                found[id] = end
                size += len(end.data) + ENTRY_BYTES
            if size > ANSWER_BYTES:
                break
        return found

    async def _stored_result(self, id: int) -> JobResult | None:
        end = await self._store.reads.end(id)
        if end is None:
            return None
        if end.data is None:
            return JobResult("expired", b"")
        if end.place is None:
            return JobResult(end.state, end.data)
        return JobResult(end.state, unpack(await self._values.frame(end.data, end.of))[end.place])

    async def has_work_of(self, origin: str) -> bool:
        """Tell whether a job or batch that *origin* sent to this engine has not ended."""
        return self._job_origins.has_open(origin, self._open) or self._batch_origins.has_open(
            origin, self._feed.batches
        )

    async def output(self, id: int) -> str:
        """Return what job *id* printed so far."""
        text = await self._store.reads.output(id)
        if not text:
            await self._store.reads.job(id)  # raises for an unknown id
        return text

    async def transcript(self, id: int, *, after: int = 0, wait: float = 0.0) -> Transcript:
        """Return what was said in job *id* after line *after*; wait for the first line, or the end."""
        deadline = time.monotonic() + wait
        while True:
            news = self._bus.news(("job", id))
            has_ended = await self._has_ended(id)  # before the lines are read, so that none can come after them
            lines, is_all = await self._store.reads.lines(id, after=after)
            left = deadline - time.monotonic()
            if lines or has_ended or left <= 0 or self._is_closing:
                news.cancel()
                return Transcript(lines, has_ended and is_all)
            await self._bus.within(news, left)

    async def _has_ended(self, id: int) -> bool:
        """Tell whether job *id* has ended; raises `NotFound`."""
        if self._ends.get(id) is not None:
            return True
        return id not in self._open and (await self._store.reads.job(id)).is_final

    def _nearest(self, expression: str) -> str:
        return explained(expression, self._cluster.workers.values()).sentence

    # ---- batches ---------------------------------------------------------------------------

    async def batch(self, id: int) -> BatchStatus:
        """Return batch *id* as it stands."""
        return self._with_live(await self._store.reads.batch(id))

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        """Return batches, newest first."""
        stored = await self._store.reads.batches(before=before, limit=max(1, min(limit, 1000)))
        return [self._with_live(status) for status in stored]

    def _with_live(self, status: BatchStatus) -> BatchStatus:
        batch = self._feed.batches.get(status.id)
        if batch is None:
            return status
        names = {r.slot.worker.name for r in self._running.values() if getattr(r.work, "batch", None) == status.id}
        return msgspec.structs.replace(
            status, running=batch.running, rate=batch.rate, workers=sorted(names), warning=self._batch_warning(batch)
        )

    def _batch_warning(self, batch: OpenBatch) -> str | None:
        if (
            not self._cluster.settled
            or batch.running
            or any(fits(batch.tags, w) for w in self._cluster.workers.values())
        ):
            return None
        return self._nearest(batch.tags)

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        """Return what was accepted for batch *id* after the cursor *after*; wait for the first up to *wait* seconds."""
        deadline = time.monotonic() + wait
        while True:
            news = self._bus.news(("batch", id))
            found = await self._store.reads.reports(id, after=after)
            left = deadline - time.monotonic()
            if found or left <= 0 or id not in self._feed.batches or self._is_closing:
                news.cancel()
                found = found or await self._last_reports(id, after)
                return [await self._with_values(report) for report in found]
            await self._bus.within(news, left)

    async def _with_values(self, report: Report) -> Report:
        """Return *report* with its values; of one that cannot be had, it says why."""
        try:
            return msgspec.structs.replace(report, data=await self._values.frame(report.data, report.count))
        except ResultLost as lost:
            return msgspec.structs.replace(report, state="failed", data=pack([pack_failure(failure_from(lost))]))

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        """Return the first failed items of batch *id*, in order of their items."""
        await self._store.reads.batch(id)  # raises for an unknown id
        return await self._store.reads.failures(id, limit=max(1, min(limit, 1000)))

    async def _last_reports(self, id: int, after: int) -> list[Report]:
        """Look once more: the batch may have ended between the look and the question whether it had."""
        await self._store.reads.batch(id)  # raises for an unknown id
        return await self._store.reads.reports(id, after=after)

    # ---- the engine ------------------------------------------------------------------------

    async def leaderboard(
        self, project: str = "functions", *, span: Span = "all", limit: int = 1000
    ) -> list[LeaderboardRow]:
        """Return the contributors of *project*, or of all, by what they have earned in *span*, most first."""
        span, limit = checked_span(span), max(1, min(limit, 1000))
        if project == EVERYTHING:
            return await self._store.reads.leaderboard_of_all(span=span, limit=limit)
        return await self._store.reads.leaderboard(project, span=span, limit=limit)

    async def standing(self, project: str, nickname: str, *, span: Span = "all") -> Standing:
        """Return one contributor's place."""
        if project == EVERYTHING:
            return await self._store.reads.standing_in_all(nickname, span=checked_span(span))
        return await self._store.reads.standing(project, nickname, span=checked_span(span))

    async def history(self, id: int) -> list[HistoryEntry]:
        """Return what each stage made of job *id* in each generation."""
        return await self._store.reads.history(id, self._values.get)

    async def status(self) -> EngineStatus:
        """Return the engine at a glance."""
        counts = await self._store.reads.counts()
        in_chunks = sum(batch.running for batch in self._feed.batches.values())
        counts["queued"] = max(0, counts["queued"] - in_chunks)
        counts["leased"] += in_chunks
        return EngineStatus(
            version=__version__, db=str(self.db), url=self.url, pid=os.getpid(), started=self._started,
            ports=self.ports,
            scheduler=self._cluster.address, workers=len(self._cluster.workers), slots=len(self._cluster.slots),
            counts=counts, open_batches=len(self._feed.batches), file=await self._store.reads.store_id(),
        )  # fmt: skip

    async def join_ticket(self) -> JoinTicket:
        """Return what a machine needs to bring a worker."""
        return self._cluster.ticket()

    @property
    def broken(self) -> StoreError | None:
        """Why this engine can only end: the file was taken over, or the disk failed."""
        return self._store.broken

    async def confirm_ownership(self) -> None:
        """Look whether the file is still this engine's; raises `OwnershipLost` if not, and is `broken` then."""
        await self._store.confirm_ownership()

    def end_waits(self) -> None:
        """Answer those who wait with what there is, and let nobody wait from now on."""
        self._is_closing = True
        self._bus.publish_all()

    async def unfinished(self) -> int:
        """Return how many jobs are unfinished, items of batches included."""
        counts = await self._store.reads.counts()
        return sum(n for state, n in counts.items() if not State[state.upper()].is_final)


def _check_state(state: str | None) -> None:
    """Raise `InvalidOption` for what is no state of a job."""
    states = [known.text for known in JobState]
    if state is not None and state not in states:
        raise InvalidOption("state", repr(state), f"one of {', '.join(states)}")


def checked_span(span: Span) -> Span:
    """Return *span*; raises `InvalidOption` for what is none."""
    if span not in get_args(Span):
        raise InvalidOption("span", repr(span), f"one of {', '.join(get_args(Span))}")
    return span
