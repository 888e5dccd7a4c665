"""Questions about single jobs."""

from __future__ import annotations

import uuid

import msgspec

from ..connection import Connection, Question
from ..verbs import HistoryEntry, JobFilter, JobPage, JobResult, JobStatus, Submission, Transcript

STATE_HEADER = "X-Dcengine-State"
RETRIED_AT_ONCE = 1000  #: jobs in one request
WAITED_FOR_AT_ONCE = 10_000  #: jobs in one request

_encode = msgspec.msgpack.Encoder().encode
_decode_ends = msgspec.msgpack.Decoder(dict[int, JobResult]).decode
_decode_history = msgspec.msgpack.Decoder(list[HistoryEntry]).decode


class Cancelled(msgspec.Struct):
    """How many jobs that were."""

    cancelled: int


class Retried(msgspec.Struct):
    """How many jobs that were."""

    retried: int


class Changed(msgspec.Struct):
    """How many jobs that were."""

    changed: int


class WasTold(msgspec.Struct):
    """Whether the running code's process has it."""

    told: bool


class AboutJobs(Connection):
    """Asks about jobs, and for them."""

    async def submit(self, submission: Submission) -> JobStatus:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        return self._value(JobStatus, await self._ask("POST", "v1/jobs", body=_encode(submission)))

    async def job(self, id: int) -> JobStatus:
        return await self._get(JobStatus, f"v1/jobs/{id}")

    async def jobs(
        self, *, state: str | None = None, project: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[JobStatus]:
        query = {"state": state, "project": project, "before": before, "limit": limit}
        return await self._get(list[JobStatus], "v1/jobs", query)

    async def find_jobs(self, wanted: JobFilter, *, before: int | None = None, limit: int = 50) -> JobPage:
        query = {name: text or None for name, text in msgspec.structs.asdict(wanted).items()}
        return await self._get(JobPage, "v1/jobs/found", {**query, "before": before, "limit": limit})

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        async def ask(piece: float) -> JobResult | None:
            answer = await self._ask("GET", f"v1/jobs/{id}/result", {"wait": piece})
            if answer.status == 204:
                return None
            if STATE_HEADER not in answer.headers:
                raise self._not_ours(answer)
            return JobResult(answer.headers[STATE_HEADER], answer.body)

        return await self._until(ask, wait)

    async def ends(self, ids: list[int], *, wait: float = 0.0) -> dict[int, JobResult]:
        question = Question("POST", "v1/jobs/ends").with_json(ids)

        async def ask(piece: float) -> dict[int, JobResult] | None:
            answer = await self._answer(question._replace(query={"wait": piece}, wait=piece))
            return self._unpacked(_decode_ends, answer) or None

        return await self._until(ask, wait) or {}

    async def output(self, id: int) -> str:
        return await self._text(f"v1/jobs/{id}/output")

    async def transcript(self, id: int, *, after: int = 0, wait: float = 0.0) -> Transcript:
        async def ask(piece: float) -> Transcript | None:
            said = await self._get(Transcript, f"v1/jobs/{id}/transcript", {"after": after, "wait": piece})
            return said if said.lines or said.is_complete else None

        return await self._until(ask, wait) or Transcript([])

    async def why(self, id: int) -> str:
        return await self._text(f"v1/jobs/{id}/why")

    async def history(self, id: int) -> list[HistoryEntry]:
        return self._unpacked(_decode_history, await self._ask("GET", f"v1/jobs/{id}/history"))

    async def retry(self, ids: list[int]) -> int:
        retried = 0
        for start in range(0, len(ids), RETRIED_AT_ONCE):
            some = ids[start : start + RETRIED_AT_ONCE]
            retried += (await self._post(Retried, "v1/jobs/retry", value=some)).retried
        return retried

    async def prioritize(self, ids: list[int], priority: int) -> int:
        changed = 0
        for start in range(0, len(ids), RETRIED_AT_ONCE):
            wanted = {"jobs": ids[start : start + RETRIED_AT_ONCE], "priority": priority}
            changed += (await self._post(Changed, "v1/jobs/priority", value=wanted)).changed
        return changed

    async def edit(self, id: int, input: bytes) -> JobStatus:
        question = Question("POST", f"v1/jobs/{id}/edit", body=input, content_type="application/octet-stream")
        return self._value(JobStatus, await self._answer(question.once()))

    async def interrupt(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/interrupt")

    async def kill(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/kill")

    async def tell(self, id: int, message: bytes) -> bool:
        question = Question("POST", f"v1/jobs/{id}/tell", body=message, content_type="application/octet-stream")
        return self._value(WasTold, await self._answer(question.once())).told

    async def cancel(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/cancel")

    async def cancel_unfinished(self) -> int:
        return (await self._post(Cancelled, "v1/jobs/cancel-unfinished")).cancelled
