"""An engine in memory: it keeps what is submitted, and a test plays the worker by ending jobs."""

from __future__ import annotations

import time

from msgspec.structs import replace

from dcengine import codec
from dcengine.errors import InvalidTags, InvalidTransition, NotFound
from dcengine.server import Role
from dcengine.tags import parse_offer
from dcengine.verbs import (
    BackupDone,
    BatchStatus,
    BatchSubmission,
    EngineStatus,
    Explanation,
    FailedItem,
    Function,
    Grant,
    HistoryEntry,
    ItemsSubmission,
    JobResult,
    JobStatus,
    JoinTicket,
    LeaderboardRow,
    Line,
    ProjectSpec,
    Report,
    SessionStatus,
    Span,
    StageSpec,
    Standing,
    Submission,
    Transcript,
    VacuumDone,
    WorkerStatus,
    WorkerVerdict,
)
from tests.unit.project_double import ProjectDouble


class Tokens:
    """Knows one token for each role: ``view-token`` and so on, and which projects are open."""

    def __init__(self, *open_projects: str) -> None:
        self.open_projects = open_projects
        self.leases: dict[str, str] = {}  #: the project of each lease token

    def grant_of(self, token: str) -> Grant | None:
        grants = {f"{role.value}-token": Grant(role=role.value) for role in Role}
        return grants.get(token)

    def is_open(self, project: str | None = None) -> bool:
        return bool(self.open_projects) if project is None else project in self.open_projects

    def project_of_lease(self, lease: str) -> str | None:
        return self.leases.get(lease)


class EngineDouble(ProjectDouble):
    """Answers every verb from dictionaries; nothing runs until `finish` says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[int, JobStatus] = {}
        self.results: dict[int, JobResult] = {}
        self.printed: dict[int, str] = {}
        self.inputs: dict[int, bytes] = {}  #: those that jobs were given instead of their own
        self.histories: dict[int, list[HistoryEntry]] = {}
        self.batch_statuses: dict[int, BatchStatus] = {}
        self.batch_reports: dict[int, list[Report]] = {}
        self.fleet: list[WorkerStatus] = []

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

    async def jobs(
        self, *, state: str | None = None, project: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[JobStatus]:
        self._asked("jobs")
        found = [job for job in self.statuses.values() if state in (None, job.state) and project in (None, job.project)]
        return sorted((job for job in found if before is None or job.id < before), key=lambda job: -job.id)[:limit]

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        self._asked("result")
        self._known(id)
        await self._wait(lambda: id in self.results, wait)
        return self.results.get(id)

    async def ends(self, ids: list[int], *, wait: float = 0.0) -> dict[int, JobResult]:
        self._asked("ends")
        missing = {id: JobResult("missing", b"") for id in ids if id not in self.statuses}
        await self._wait(lambda: bool(missing) or not self.results.keys().isdisjoint(ids), wait)
        return missing | {id: self.results[id] for id in ids if id in self.results}

    async def output(self, id: int) -> str:
        self._asked("output")
        self._known(id)
        return self.printed.get(id, "")

    async def transcript(self, id: int, *, after: int = 0, wait: float = 0.0) -> Transcript:
        self._asked("transcript")
        self._known(id)
        await self._wait(lambda: id in self.results, wait)
        text = self.printed.get(id, "")
        return Transcript([Line(1, "stdout", text)] if text and not after else [], id in self.results)

    async def interrupt(self, id: int) -> JobStatus:
        self._asked("interrupt")
        return await self.cancel(id)

    async def kill(self, id: int) -> JobStatus:
        self._asked("kill")
        return await self.cancel(id)

    async def tell(self, id: int, message: bytes) -> bool:
        self._asked("tell")
        return not self._known(id).is_final

    async def why(self, id: int) -> str:
        self._asked("why")
        return f"job {id} is {self._known(id).task_state}: no worker is free"

    async def history(self, id: int) -> list[HistoryEntry]:
        self._asked("history")
        self._known(id)
        return self.histories.get(id, [])

    async def retry(self, ids: list[int]) -> int:
        self._asked("retry")
        ended = {id for id in ids if self._known(id).state in ("failed", "cancelled")}
        for id in ended:
            self._reopen(id)
        return len(ended)

    async def edit(self, id: int, input: bytes) -> JobStatus:
        self._asked("edit")
        if self._known(id).state == "succeeded":
            raise InvalidTransition(id, "SUCCEEDED", "QUEUED")
        self.inputs[id] = input
        return self._reopen(id)

    def _reopen(self, id: int) -> JobStatus:
        self.results.pop(id, None)
        self.statuses[id] = replace(self.statuses[id], state="open", task_state="queued", finished=None)
        return self.statuses[id]

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

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        self._asked("failures")
        await self.batch(id)
        failed = [report for report in self.batch_reports[id] if report.state == "failed"]
        return [FailedItem(report.first, report.first + 1, "ValueError: no") for report in failed][:limit]

    async def cancel_batch(self, id: int) -> BatchStatus:
        self._asked("cancel_batch")
        self.batch_statuses[id] = replace(await self.batch(id), state="cancelled")
        return self.batch_statuses[id]

    async def retry_batch(self, id: int) -> BatchStatus:
        self._asked("retry_batch")
        self.batch_statuses[id] = replace(await self.batch(id), state="open")
        return self.batch_statuses[id]

    async def find_job(self, project: str, number: int) -> int:
        self._asked("find_job")
        for job in self.statuses.values():
            if (job.project, job.number) == (project, number):
                return job.id
        raise NotFound("job", f"{project}/{number}")

    def _known(self, id: int) -> JobStatus:
        if id not in self.statuses:
            raise NotFound("job", id)
        return self.statuses[id]

    # ---- the engine and its workers --------------------------------------------------------

    async def workers(self, *, tags: str = "", name: str | None = None) -> list[WorkerStatus]:
        self._asked("workers")
        return [worker for worker in self.fleet if name in (None, worker.name)]

    async def explain(self, tags: str) -> Explanation:
        self._asked("explain")
        verdicts = [WorkerVerdict(name=worker.name, lacking=[tags]) for worker in self.fleet]
        return Explanation(sentence=f"no worker matches {tags}", workers=verdicts)

    async def tag_worker(self, name: str, tags: str) -> WorkerStatus:
        self._asked("tag_worker")
        return replace(self.fleet[0], name=name, tags=parse_offer(tags))

    async def sessions(self) -> list[SessionStatus]:
        self._asked("sessions")
        return []

    async def end_session(self, name: str) -> bool:
        self._asked("end_session")
        return False

    async def leaderboard(
        self, project: str = "functions", *, span: Span = "all", limit: int = 1000
    ) -> list[LeaderboardRow]:
        self._asked("leaderboard")
        return [LeaderboardRow("alice", 3, 0.75, 1), LeaderboardRow("bob", 1, 0.25, 2)][:limit]

    async def standing(self, project: str, nickname: str, *, span: Span = "all") -> Standing:
        self._asked("standing")
        for row in await self.leaderboard(project, span=span):
            if row.nickname == nickname:
                return Standing(nickname, row.rank, row.tasks, 2)
        raise NotFound("contributor", nickname)

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

    async def backup(self, path: str) -> BackupDone:
        self._asked("backup")
        return BackupDone(path=path, bytes=4096, blobs=0, seconds=0.5)

    async def vacuum(self) -> VacuumDone:
        self._asked("vacuum")
        return VacuumDone(before=8192, after=4096, blobs=0, blob_bytes=0, seconds=0.5)


def submission_of(function: object = abs, *args: object, **options: object) -> Submission:
    """Return a call of *function* as it is submitted."""
    return Submission(function=codec.pack_function(function), input=codec.pack_call(args, {}), **options)  # type: ignore[arg-type]


def batch_of(function: Function, count: int) -> BatchSubmission:
    """Return a map of *function* over the numbers below *count*."""
    block = codec.pack([codec.pack_call((number,), {}) for number in range(count)])
    return BatchSubmission(function=function, blocks=[block], count=count)


def project_of(name: str, *stages: str) -> ProjectSpec:
    """Return a project whose *stages* all compute `abs`."""
    function = codec.pack_function(abs)
    return ProjectSpec(name=name, stages=[StageSpec(name=stage, function=function) for stage in stages])


def items_of(project: str, *values: object) -> ItemsSubmission:
    """Return *values* as they are added to *project*."""
    block = codec.pack([codec.dumps(value) for value in values])
    return ItemsSubmission(project=project, blocks=[block], count=len(values))
