"""What an engine double answers about projects, and what it says to outside workers."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec.structs import replace

from dcengine import codec
from dcengine.errors import EngineClosed, NotFound
from dcengine.verbs import (
    AddedJobs,
    BatchSubmission,
    Completion,
    Deletion,
    Heartbeat,
    ImportRecord,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    ProjectSpec,
    ProjectStatus,
    StageOutput,
    StageStatus,
    Submission,
    TaskAnswer,
    TaskFailure,
    TaskFlag,
)


class Asked:
    """Notes what it is asked, and answers at once, later, or with an error."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.submissions: list[Submission | BatchSubmission | ItemsSubmission] = []
        self.closed = False
        self.failing: Exception | None = None  #: raised by the next verb
        self.questions: list[str] = []
        self._changed = asyncio.Condition()

    def _asked(self, verb: str) -> None:
        self.questions.append(verb)
        if self.closed:
            raise EngineClosed("double.db")
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, condition: object, seconds: float) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(condition), seconds)  # type: ignore[arg-type]
            except asyncio.TimeoutError:
                return


class ProjectDouble(Asked):
    """Answers the verbs of projects and of outside workers from dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.project_statuses: dict[str, ProjectStatus] = {}
        self.stage_outputs: dict[str, list[StageOutput]] = {}  #: by project and stage: "photos/crop"
        self.imports: dict[str, ImportRecord] = {}  #: by project and name: "photos/list.json"
        self.free: list[LeasedTask] = []  #: tasks that outside workers may have
        self.leased: dict[str, LeasedTask] = {}  #: those that they have, by token
        self.spoken_for: list[str | None] = []  #: the one project whose tasks they may speak of, each time
        self.said: list[LeaseRequest | Heartbeat | Completion | TaskFailure | TaskFlag | str] = []  #: by them

    # ---- projects --------------------------------------------------------------------------

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        self._asked("declare_project")
        stages = [
            StageStatus(
                name=stage.name,
                tags=stage.tags,
                counts={},
                title=stage.title,
                kind=stage.kind,
                shape=stage.shape,
                is_paused=stage.is_paused,
            )
            for stage in spec.stages
        ]
        self.project_statuses[spec.name] = ProjectStatus(name=spec.name, is_paused=True, stages=stages)
        return self.project_statuses[spec.name]

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        self._asked("add_jobs")
        before = await self.project(submission.project)
        if submission.request not in self.requests:
            self.requests[submission.request or ""] = before.total + 1
            self.submissions.append(submission)
            counts = {"queued": before.open + submission.count}
            stages = [replace(before.stages[0], counts=counts), *before.stages[1:]]
            self.project_statuses[before.name] = replace(before, stages=stages, open=counts["queued"])
        number = self.requests[submission.request or ""]
        return AddedJobs(100 + number, number, submission.count)

    async def run_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        self._asked("run_project")
        return await self._set_paused(name, stage, False)

    async def pause_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        self._asked("pause_project")
        return await self._set_paused(name, stage, True)

    async def _set_paused(self, name: str, stage: str | None, is_paused: bool) -> ProjectStatus:
        status = await self.project(name)
        if stage is None:
            status = replace(status, is_paused=is_paused)
        elif stage not in [each.name for each in status.stages]:
            raise NotFound("stage", f"{name}/{stage}")
        else:
            stages = [replace(each, is_paused=is_paused) if each.name == stage else each for each in status.stages]
            status = replace(status, stages=stages)
        self.project_statuses[name] = status
        return status

    async def cancel_project(self, name: str) -> int:
        self._asked("cancel_project")
        status = await self.project(name)
        self.project_statuses[name] = replace(status, open=0, cancelled=status.cancelled + status.open)
        return status.open

    async def retry_project(self, name: str, *, stage: str | None = None, cancelled: bool = False) -> int:
        self._asked("retry_project")
        status = await self.project(name)
        retried = status.failed + (status.cancelled if cancelled else 0)
        left = 0 if cancelled else status.cancelled
        self.project_statuses[name] = replace(status, open=status.open + retried, failed=0, cancelled=left)
        return retried

    async def deletion(self, name: str) -> Deletion:
        self._asked("deletion")
        status = await self.project(name)
        return Deletion(project=name, jobs=status.total, open=status.open, running=0, contributors=2)

    async def delete_project(self, name: str) -> Deletion:
        self._asked("delete_project")
        deleted = await self.deletion(name)
        del self.project_statuses[name]
        return deleted

    async def imported(self, project: str, name: str) -> ImportRecord | None:
        self._asked("imported")
        await self.project(project)
        return self.imports.get(f"{project}/{name}")

    async def end_project(self, name: str, *values: object) -> None:
        """End every job of project *name*, as its last stage would with *values*."""
        status = self.project_statuses[name]
        stages = [replace(stage, counts={"succeeded": status.open}) for stage in status.stages]
        self.project_statuses[name] = replace(status, stages=stages, open=0, succeeded=status.open)
        self.stage_outputs[f"{name}/{stages[-1].name}"] = [
            StageOutput(100 + number, number, "succeeded", codec.dumps(value)) for number, value in enumerate(values, 1)
        ]
        await self._notify()

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        self._asked("project")
        if name not in self.project_statuses:
            raise NotFound("project", name)
        await self._wait(lambda: not self.project_statuses[name].open_until(stage), wait)
        return self.project_statuses[name]

    async def projects(self) -> list[ProjectStatus]:
        self._asked("projects")
        return list(self.project_statuses.values())

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        self._asked("outputs")
        status = self.project_statuses.get(project)
        if status is not None and stage not in [each.name for each in status.stages]:
            raise NotFound("stage", f"{stage!r} of project {project!r}")
        found = self.stage_outputs.get(f"{project}/{stage}", [])
        return [output for output in found if output.number > after][:limit]

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        self._asked("failed_jobs")
        found = [output for outputs in self.stage_outputs.values() for output in outputs if output.state == "failed"]
        return [output for output in found if output.number > after][:limit]

    # ---- outside workers -------------------------------------------------------------------

    async def offer(self, *inputs: bytes) -> None:
        """Let outside workers have a task for each of *inputs*, which are JSON texts."""
        first = len(self.free) + len(self.leased) + 1
        for id, text in enumerate(inputs, first):
            task = LeasedTask(
                task=id,
                job=id,
                number=id,
                token=f"token {id}",
                deadline=600.0,
                lease_seconds=600.0,
                input=msgspec.Raw(text),
            )
            self.free.append(task)
        await self._notify()

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        self._asked("lease")
        self.said.append(request)
        await self._wait(lambda: bool(self.free), request.wait)
        given, self.free = self.free[: request.n], self.free[request.n :]
        self.leased.update({task.token: task for task in given})
        return given

    async def heartbeat(self, beats: list[Heartbeat], *, project: str | None = None) -> list[TaskAnswer]:
        self._asked("heartbeat")
        self.spoken_for.append(project)
        return [replace(self._answer(beat.token, beat), deadline=1200.0) for beat in beats]

    async def complete(self, completions: list[Completion], *, project: str | None = None) -> list[TaskAnswer]:
        self._asked("complete")
        self.spoken_for.append(project)
        return [self._answer(completion.token, completion) for completion in completions]

    async def fail(self, failures: list[TaskFailure], *, project: str | None = None) -> list[TaskAnswer]:
        self._asked("fail")
        self.spoken_for.append(project)
        return [self._answer(failure.token, failure) for failure in failures]

    async def flag(self, flags: list[TaskFlag], *, project: str | None = None) -> list[TaskAnswer]:
        self._asked("flag")
        self.spoken_for.append(project)
        return [self._answer(flag.token, flag) for flag in flags]

    async def release(self, tokens: list[str], *, project: str | None = None) -> list[TaskAnswer]:
        self._asked("release")
        self.spoken_for.append(project)
        answers = [self._answer(token, token) for token in tokens]
        self.free += [self.leased.pop(token) for token in tokens if token in self.leased]
        return answers

    def _answer(self, token: str, said: Heartbeat | Completion | TaskFailure | TaskFlag | str) -> TaskAnswer:
        self.said.append(said)
        if token not in self.leased:
            return TaskAnswer(token=token, is_accepted=False, problem="nobody holds a task by this token")
        return TaskAnswer(token=token, is_accepted=True)
