"""Questions about projects."""

from __future__ import annotations

import uuid

import msgspec

from ..connection import Connection, Query, Question
from ..errors import InvalidOption, NotFound
from ..jobs import check_name
from ..verbs import (
    AddedJobs,
    Deletion,
    ImportRecord,
    ItemsSubmission,
    ProjectSpec,
    ProjectStatus,
    Span,
    StageOutput,
    Throughput,
)
from .jobs import Cancelled, Retried

_encode = msgspec.msgpack.Encoder().encode
_decode_outputs = msgspec.msgpack.Decoder(list[StageOutput]).decode


class _Found(msgspec.Struct):
    id: int


class AboutProjects(Connection):
    """Asks about projects, and for them."""

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        return self._value(ProjectStatus, await self._ask("POST", "v1/projects", body=_encode(spec)))

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        path = f"{path_of(submission.project)}/jobs"
        return self._value(AddedJobs, await self._ask("POST", path, body=_encode(submission)))

    async def run_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        return await self._post(ProjectStatus, f"{path_of(name)}/run", {"stage": stage})

    async def pause_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        return await self._post(ProjectStatus, f"{path_of(name)}/pause", {"stage": stage})

    async def cancel_project(self, name: str) -> int:
        return (await self._post(Cancelled, f"{path_of(name)}/cancel")).cancelled

    async def retry_project(self, name: str, *, stage: str | None = None, cancelled: bool = False) -> int:
        query = {"stage": stage, "cancelled": "true" if cancelled else None}
        return (await self._post(Retried, f"{path_of(name)}/retry", query)).retried

    async def deletion(self, name: str) -> Deletion:
        return await self._get(Deletion, f"{path_of(name)}/deletion")

    async def delete_project(self, name: str) -> Deletion:
        """Delete project *name*; one that is gone when asked again was deleted by the first question."""
        there_was = await self.deletion(name)
        try:
            return self._value(Deletion, await self._answer(Question("DELETE", path_of(name)).once()))
        except NotFound:
            return there_was

    async def imported(self, project: str, name: str) -> ImportRecord | None:
        answer = await self._ask("GET", f"{path_of(project)}/imports", {"name": name})
        return None if answer.status == 204 else self._value(ImportRecord, answer)

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        status: ProjectStatus | None = None

        async def ask(piece: float) -> ProjectStatus | None:
            nonlocal status
            status = await self._get(ProjectStatus, path_of(name), {"stage": stage, "wait": piece})
            return None if status.open_until(stage) else status

        found = await self._until(ask, wait) or status
        assert found is not None  # it was asked for once at least
        return found

    async def projects(self) -> list[ProjectStatus]:
        return await self._get(list[ProjectStatus], "v1/projects")

    async def throughput(self, project: str, *, span: Span = "day") -> Throughput:
        return await self._get(Throughput, f"{path_of(project)}/throughput", {"span": span})

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        return await self._outputs(f"{path_of(project)}/outputs", {"stage": stage, "after": after, "limit": limit})

    async def newest_outputs(self, project: str, *, stage: str | None = None, limit: int = 12) -> list[StageOutput]:
        return await self._outputs(f"{path_of(project)}/newest-outputs", {"stage": stage, "limit": limit})

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        return await self._outputs(f"{path_of(project)}/failed-jobs", {"after": after, "limit": limit})

    async def _outputs(self, path: str, query: Query) -> list[StageOutput]:
        return self._unpacked(_decode_outputs, await self._ask("GET", path, query))

    async def find_job(self, project: str, number: int) -> int:
        return (await self._get(_Found, f"{path_of(project)}/jobs/{number}")).id


def path_of(project: str, stage: str | None = None) -> str:
    """Return the address of *project*, or of one stage of it.

    Raises `NotFound` for what cannot be the name of one: it would lead to another address.
    """
    for kind, name in (("project", project), ("stage", stage)):
        try:
            if name is not None:
                check_name(f"the {kind}'s name", name)
        except InvalidOption:
            raise NotFound(kind, ascii(name)[:100]) from None
    return f"v1/projects/{project}" if stage is None else f"v1/projects/{project}/stages/{stage}"
