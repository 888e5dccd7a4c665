"""The engine's verbs over HTTP: what a process that does not own the engine talks through."""

from __future__ import annotations

import uuid

import msgspec

from .connection import Connection, Query
from .verbs import (
    AddedJobs,
    BatchStatus,
    BatchSubmission,
    EngineStatus,
    FailedItem,
    ItemsSubmission,
    JobResult,
    JobStatus,
    JoinTicket,
    LeaderboardRow,
    ProjectSpec,
    ProjectStatus,
    Report,
    StageOutput,
    Submission,
    Transcript,
    WorkerStatus,
)

STATE_HEADER = "X-Dcengine-State"

_encode = msgspec.msgpack.Encoder().encode
_decode_reports = msgspec.msgpack.Decoder(list[Report]).decode
_decode_outputs = msgspec.msgpack.Decoder(list[StageOutput]).decode


class _Count(msgspec.Struct):
    cancelled: int


class _Found(msgspec.Struct):
    id: int


class Client(Connection):
    """Asks for the verbs; a repeated submission never becomes a second job."""

    # ---- jobs ----------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> JobStatus:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        return self._value(JobStatus, await self._ask("POST", "v1/jobs", body=_encode(submission)))

    async def job(self, id: int) -> JobStatus:
        return await self._get(JobStatus, f"v1/jobs/{id}")

    async def jobs(self, *, state: str | None = None, before: int | None = None, limit: int = 50) -> list[JobStatus]:
        return await self._get(list[JobStatus], "v1/jobs", {"state": state, "before": before, "limit": limit})

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        async def ask(piece: float) -> JobResult | None:
            answer = await self._ask("GET", f"v1/jobs/{id}/result", {"wait": piece})
            if answer.status == 204:
                return None
            if STATE_HEADER not in answer.headers:
                raise self._not_ours(answer)
            return JobResult(answer.headers[STATE_HEADER], answer.body)

        return await self._until(ask, wait)

    async def output(self, id: int) -> str:
        return await self._text(f"v1/jobs/{id}/output")

    async def transcript(self, id: int, *, after: int = 0, wait: float = 0.0) -> Transcript:
        async def ask(piece: float) -> Transcript | None:
            said = await self._get(Transcript, f"v1/jobs/{id}/transcript", {"after": after, "wait": piece})
            return said if said.lines or said.is_complete else None

        return await self._until(ask, wait) or Transcript([])

    async def why(self, id: int) -> str:
        return await self._text(f"v1/jobs/{id}/why")

    async def interrupt(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/interrupt")

    async def kill(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/kill")

    async def cancel(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/cancel")

    async def cancel_unfinished(self) -> int:
        return (await self._post(_Count, "v1/jobs/cancel-unfinished")).cancelled

    # ---- batches -------------------------------------------------------------------------------

    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        return self._value(BatchStatus, await self._ask("POST", "v1/batches", body=_encode(submission)))

    async def batch(self, id: int) -> BatchStatus:
        return await self._get(BatchStatus, f"v1/batches/{id}")

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        return await self._get(list[BatchStatus], "v1/batches", {"before": before, "limit": limit})

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        async def ask(piece: float) -> list[Report] | None:
            answer = await self._ask("GET", f"v1/batches/{id}/reports", {"after": after, "wait": piece})
            try:
                return _decode_reports(answer.body) or None
            except msgspec.DecodeError:
                raise self._not_ours(answer) from None

        return await self._until(ask, wait) or []

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        return await self._get(list[FailedItem], f"v1/batches/{id}/failures", {"limit": limit})

    async def cancel_batch(self, id: int) -> BatchStatus:
        return await self._post(BatchStatus, f"v1/batches/{id}/cancel")

    async def retry_batch(self, id: int) -> BatchStatus:
        return await self._post(BatchStatus, f"v1/batches/{id}/retry")

    # ---- projects ------------------------------------------------------------------------------

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        return self._value(ProjectStatus, await self._ask("POST", "v1/projects", body=_encode(spec)))

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        path = f"{_path_of(submission.project)}/jobs"
        return self._value(AddedJobs, await self._ask("POST", path, body=_encode(submission)))

    async def run_project(self, name: str) -> ProjectStatus:
        return await self._post(ProjectStatus, f"{_path_of(name)}/run")

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        status: ProjectStatus | None = None

        async def ask(piece: float) -> ProjectStatus | None:
            nonlocal status
            status = await self._get(ProjectStatus, _path_of(name), {"stage": stage, "wait": piece})
            return None if status.open_until(stage) else status

        found = await self._until(ask, wait) or status
        assert found is not None  # it was asked for once at least
        return found

    async def projects(self) -> list[ProjectStatus]:
        return await self._get(list[ProjectStatus], "v1/projects")

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        return await self._outputs(f"{_path_of(project)}/outputs", {"stage": stage, "after": after, "limit": limit})

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        return await self._outputs(f"{_path_of(project)}/failed-jobs", {"after": after, "limit": limit})

    async def _outputs(self, path: str, query: Query) -> list[StageOutput]:
        answer = await self._ask("GET", path, query)
        try:
            return _decode_outputs(answer.body)
        except msgspec.DecodeError:
            raise self._not_ours(answer) from None

    async def find_job(self, project: str, number: int) -> int:
        return (await self._get(_Found, f"{_path_of(project)}/jobs/{number}")).id

    # ---- the engine and its workers ------------------------------------------------------------

    async def workers(self) -> list[WorkerStatus]:
        return await self._get(list[WorkerStatus], "v1/workers")

    async def explain(self, tags: str) -> str:
        return await self._text("v1/explain", {"tags": tags})

    async def leaderboard(self, project: str = "functions") -> list[LeaderboardRow]:
        return await self._get(list[LeaderboardRow], "v1/leaderboard", {"project": project})

    async def status(self) -> EngineStatus:
        return await self._get(EngineStatus, "v1/status")

    async def join_ticket(self) -> JoinTicket:
        return await self._get(JoinTicket, "v1/cluster")


def _path_of(project: str) -> str:
    return f"v1/projects/{project}"
