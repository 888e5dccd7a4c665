"""Jobs whose results are arguments of calls: which those are, what came of them, and why a call waits for one."""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path

from ..blobs import is_reference
from ..cluster import ClusterSettings
from ..codec import keys_in, unpack
from ..errors import InvalidOption, NotFound, ResultExpired
from ..references import file_of, job_of
from ..verbs import JobStatus, Submission
from .values import is_apart, is_left
from .workers import Workers

LAST_JOB = (1 << 63) - 1  #: ids above are no ids
TAKEN_LIMIT = 10_000  #: jobs whose results one call may take
INLINE_LIMIT, INLINE_BYTES = 64 << 10, 1 << 20  #: of one result that travels with the call, and of all of them
CHUNKS_KEPT, CHUNK_BYTES = 8, 4 << 20  #: chunks of a batch kept at hand: who takes one item often takes the next
WALK_LIMIT = 100  #: jobs that are looked at to say what the last in a chain waits for


class Dependencies(Workers):
    """Knows what calls take of other jobs."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._chunks: OrderedDict[int, list[bytes]] = OrderedDict()  #: results of items by the first one's job

    async def _jobs_taken(self, submission: Submission) -> list[int]:
        """Return the jobs whose results the call takes, in its arguments or inside its function.

        Raises `InvalidOption` for one of another file, or too many.
        """
        try:
            keys = dict.fromkeys([*keys_in(submission.input), *keys_in(submission.function.code)])
        except (ValueError, struct.error) as error:
            raise InvalidOption("the arguments", "unreadable", f"a packed call: {error}") from error
        files = {file_of(key): job for key in keys if (job := job_of(key)) is not None}
        if not files:
            return []
        own = await self._store.reads.store_id()
        if foreign := [job for file, job in files.items() if file != own]:
            expected = "a job of the engine that is asked; give the other's result itself: handle.result()"
            raise InvalidOption("an argument", f"job {foreign[0]} of another database", expected)
        jobs = [job for key in keys if (job := job_of(key)) is not None]
        if max(jobs) > LAST_JOB:
            raise NotFound("job", max(jobs))
        if len(jobs) > TAKEN_LIMIT:
            raise InvalidOption(
                "a call", f"one that takes the results of {len(jobs):,} jobs", f"at most {TAKEN_LIMIT:,} of them"
            )
        return jobs

    # ---- what came of them -----------------------------------------------------------------

    async def _output_of(self, job: int) -> bytes:
        """Return what *job*, which has succeeded, has come to, as it is stored: perhaps what stands for it.

        Raises `NotFound` where there is no such result (any more), `ResultExpired` if it was kept for a set time.
        """
        known = self._ends.get(job)
        if known is not None and known.state == "succeeded":
            return known.data
        for first, values in self._chunks.items():
            if first <= job < first + len(values):
                return values[job - first]
        end = await self._store.reads.end(job)
        if end is None or end.state != "succeeded":
            raise NotFound("result of job", job)
        if end.data is None:
            raise ResultExpired(job)
        if end.place is None or is_left(end.data) or (end.of == 1 and await self._values.is_bare(end.data)):
            return end.data
        frame = await self._values.get(end.data)
        values = unpack(frame)
        if len(frame) <= CHUNK_BYTES:
            self._chunks[job - end.place] = values
            if len(self._chunks) > CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        return values[end.place]

    async def _results_along(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """Return those results of jobs among *keys* that are small enough to travel with the call itself."""
        along: dict[bytes, bytes] = {}
        left = INLINE_BYTES
        for key in keys:
            job = job_of(key)
            if job is None or not left:
                continue
            try:
                data = await self._output_of(job)
            except (NotFound, ResultExpired):
                continue  # whoever brings the values says so
            if len(data) <= min(INLINE_LIMIT, left) and not is_reference(data) and not is_apart(data):
                along[key] = data
                left -= len(data)
        return along

    # ---- why a call waits ------------------------------------------------------------------

    async def _why_taking(self, status: JobStatus) -> str | None:
        """Return what the blocked call *status* waits for, None if that is no argument."""
        job, left, of = await self._store.reads.waits_for(status.id)
        if job is None:
            return None
        first = await self._how_it_stands(job)
        if left == 1:
            return f"job {status.id} waits for {first}"
        return f"job {status.id} waits for {left:,} of the {of:,} jobs whose results it takes, such as {first}"

    async def _how_it_stands(self, job: int) -> str:
        """Return what keeps *job*, which others wait for; in a chain of such, what keeps the first of them."""
        status = first = await self.job(job)
        for _ in range(WALK_LIMIT):
            before = (await self._store.reads.waits_for(first.id))[0] if first.task_state == "blocked" else None
            if before is None:
                break
            first = await self.job(before)
        if first is status:
            return f"{_named(status)}, which {_standing(status)}"
        return f"{_named(status)}, which waits in the end for {_named(first)}, which {_standing(first)}"


def _named(status: JobStatus) -> str:
    name = str(status.id) if status.project == "functions" else f"{status.project}/{status.number}"
    return f"job {name} ({status.name})" if status.name else f"job {name}"


def _standing(status: JobStatus) -> str:
    """Return how an open job stands, to be read after "which"."""
    if status.task_state == "leased":
        return f"is running on {status.worker}"
    if status.task_state == "waiting":
        return f"waits before its next try, after {status.errors} error(s)" if status.errors else "waits for its time"
    if status.task_state == "blocked":
        return "waits for others"
    return f"is {status.task_state}"
