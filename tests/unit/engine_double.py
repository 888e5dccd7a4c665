"""An engine in memory: it keeps what is submitted, and a test plays the worker by ending jobs."""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace

from dcengine import codec
from dcengine.errors import EngineClosed, InvalidTags, NotFound
from dcengine.server import Role
from dcengine.verbs import (
    BatchStatus,
    BatchSubmission,
    EngineStatus,
    Function,
    JobResult,
    JobStatus,
    JoinTicket,
    LeaderboardRow,
    Report,
    Submission,
    WorkerStatus,
)


class Tokens:
    """Knows one token for each role: ``view-token`` and so on."""

    def role_of(self, token: str) -> Role | None:
        return {f"{role.value}-token": role for role in Role}.get(token)


class EngineDouble:
    """Answers every verb from dictionaries; nothing runs until `finish` says how it ended."""

    def __init__(self) -> None:
        self.statuses: dict[int, JobStatus] = {}
        self.results: dict[int, JobResult] = {}
        self.outputs: dict[int, str] = {}
        self.batch_statuses: dict[int, BatchStatus] = {}
        self.batch_reports: dict[int, list[Report]] = {}
        self.requests: dict[str, int] = {}
        self.submissions: list[Submission | BatchSubmission] = []
        self.fleet: list[WorkerStatus] = []
        self.closed = False
        self.failing: Exception | None = None  #: raised by the next verb
        self.questions: list[str] = []
        self._changed = asyncio.Condition()

    # ---- what a worker would do ------------------------------------------------------------

    async def finish(self, id: int, value: object) -> None:
        """End job *id* with *value*."""
        await self.end(id, "succeeded", codec.dumps(value))

    async def end(self, id: int, state: str, data: bytes) -> None:
        self.results[id] = JobResult(state, data)
        self.statuses[id] = replace(self.statuses[id], state=state, task_state=state, finished=time.time())
        await self._notify()

    async def report(self, batch: int, state: str, *values: object) -> None:
        """Accept the next items of *batch*."""
        reports = self.batch_reports[batch]
        first = sum(report.count for report in reports)
        data = codec.pack([codec.dumps(value) for value in values])
        reports.append(Report(len(reports) + 1, first, len(values), state, data))
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # ---- jobs ------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> JobStatus:
        self._asked("submit")
        if "(" in submission.options.tags:
            raise InvalidTags(submission.options.tags, 0, "a parenthesis that is not closed")
        if submission.request in self.requests:
            return self.statuses[self.requests[submission.request]]
        id = len(self.statuses) + 1
        self.submissions.append(submission)
        self.requests[submission.request or f"none {id}"] = id
        self.statuses[id] = JobStatus(
            id=id,
            project="functions",
            number=id,
            name=submission.function.name,
            state="open",
            task_state="queued",
            tags=submission.options.tags,
            priority=submission.options.priority,
            created=time.time(),
        )
        return self.statuses[id]

    async def job(self, id: int) -> JobStatus:
        self._asked("job")
        return self._known(id)

    async def jobs(self, *, state: str | None = None, before: int | None = None, limit: int = 50) -> list[JobStatus]:
        self._asked("jobs")
        found = [job for job in self.statuses.values() if state in (None, job.state)]
        return sorted((job for job in found if before is None or job.id < before), key=lambda job: -job.id)[:limit]

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        self._asked("result")
        self._known(id)
        await self._wait(lambda: id in self.results, wait)
        return self.results.get(id)

    async def output(self, id: int) -> str:
        self._asked("output")
        self._known(id)
        return self.outputs.get(id, "")

    async def why(self, id: int) -> str:
        self._asked("why")
        return f"job {id} is {self._known(id).task_state}: no worker is free"

    async def cancel(self, id: int) -> JobStatus:
        self._asked("cancel")
        if not self._known(id).is_final:
            await self.end(id, "cancelled", b"")
        return self.statuses[id]

    async def cancel_unfinished(self) -> int:
        self._asked("cancel_unfinished")
        unfinished = [job.id for job in self.statuses.values() if not job.is_final]
        for id in unfinished:
            await self.cancel(id)
        return len(unfinished)

    # ---- batches ---------------------------------------------------------------------------

    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        self._asked("submit_batch")
        if submission.request in self.requests:
            return self.batch_statuses[self.requests[submission.request]]
        id = len(self.batch_statuses) + 1
        self.submissions.append(submission)
        self.requests[submission.request or f"none {id}"] = id
        self.batch_reports[id] = []
        self.batch_statuses[id] = BatchStatus(
            id=id, project="functions", name=submission.function.name, state="open", count=submission.count
        )
        return self.batch_statuses[id]

    async def batch(self, id: int) -> BatchStatus:
        self._asked("batch")
        if id not in self.batch_statuses:
            raise NotFound("batch", id)
        return self.batch_statuses[id]

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        self._asked("batches")
        return [batch for batch in reversed(self.batch_statuses.values()) if before is None or batch.id < before][
            :limit
        ]

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        self._asked("reports")
        await self.batch(id)
        await self._wait(lambda: len(self.batch_reports[id]) > after, wait)
        return self.batch_reports[id][after:]

    async def cancel_batch(self, id: int) -> BatchStatus:
        self._asked("cancel_batch")
        self.batch_statuses[id] = replace(await self.batch(id), state="cancelled")
        return self.batch_statuses[id]

    async def retry_batch(self, id: int) -> BatchStatus:
        self._asked("retry_batch")
        self.batch_statuses[id] = replace(await self.batch(id), state="open")
        return self.batch_statuses[id]

    # ---- the engine and its workers --------------------------------------------------------

    async def workers(self) -> list[WorkerStatus]:
        self._asked("workers")
        return self.fleet

    async def explain(self, tags: str) -> str:
        self._asked("explain")
        return f"no worker matches {tags}"

    async def leaderboard(self, project: str = "functions") -> list[LeaderboardRow]:
        self._asked("leaderboard")
        return [LeaderboardRow("alice", 3, 0.75), LeaderboardRow("bob", 1, 0.25)]

    async def status(self) -> EngineStatus:
        self._asked("status")
        return EngineStatus(
            version="0.1.0",
            db="double.db",
            url="http://127.0.0.1:1",
            pid=1,
            started=1.0,
            scheduler=None,
            workers=len(self.fleet),
            slots=0,
            counts={"queued": 1},
        )

    async def join_ticket(self) -> JoinTicket:
        self._asked("join_ticket")
        return JoinTicket("tls://127.0.0.1:1", "ca", "certificate", "key", "0.1.0")

    # ---- inside ----------------------------------------------------------------------------

    def _asked(self, verb: str) -> None:
        self.questions.append(verb)
        if self.closed:
            raise EngineClosed("double.db")
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error

    def _known(self, id: int) -> JobStatus:
        if id not in self.statuses:
            raise NotFound("job", id)
        return self.statuses[id]

    async def _wait(self, condition: object, seconds: float) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(condition), seconds)  # type: ignore[arg-type]
            except asyncio.TimeoutError:
                return


def submission_of(function: object = abs, *args: object, **options: object) -> Submission:
    """Return a call of *function* as it is submitted."""
    return Submission(function=codec.pack_function(function), input=codec.pack_call(args, {}), **options)  # type: ignore[arg-type]


def batch_of(function: Function, count: int) -> BatchSubmission:
    """Return a map of *function* over the numbers below *count*."""
    block = codec.pack([codec.pack_call((number,), {}) for number in range(count)])
    return BatchSubmission(function=function, blocks=[block], count=count)
