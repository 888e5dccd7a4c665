"""Projects: jobs that travel through stages. How one goes from stage to stage is part of the life of a task."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..codec import unpack
from ..errors import InvalidOption
from ..jobs import Project, Task, check_name
from ..store import Operation, now
from ..store.projects import AddProjectJobs, Declared, DeclareProject, RunProject
from ..verbs import AddedJobs, ItemsSubmission, ProjectSpec, ProjectStatus, StageOutput
from .batches import Batches
from .feeding import fits
from .submissions import check, check_size

LOOK_SECONDS = 0.05  #: between two looks at a project that somebody waits for
PAGE_LIMIT = 1000  #: outputs in one answer


class Projects(Batches):
    """Declares projects, lets them run, takes in their jobs and says how they stand."""

    # ---- verbs -----------------------------------------------------------------------------

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        """Store a project and its stages; a new one is paused. It is durable when this returns.

        Raises `InvalidOption`, `InvalidTags`, `PayloadTooLarge`, and `ProjectInUse` for other stages than those
        that open jobs travel through; nothing is stored then.
        """
        _check(spec)
        for stage in spec.stages:
            self._remember(stage.function)
        size = sum(len(stage.function.code) for stage in spec.stages)
        await self._submit(DeclareProject(spec, now()), size, self._declared)
        return await self.project(spec.name)

    async def run_project(self, name: str) -> ProjectStatus:
        """Let the tasks of project *name* be handed out."""
        await self._submit(RunProject(name), 0, self._learn)
        for stage in self._stages.of(name):
            await self._missing(stage.tags)
        return await self.project(name)

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        """Store a job for each item of *submission*; they are durable when this returns."""
        values = _values(submission)
        for value in values:
            check_size("an item", len(value))
        operation = AddProjectJobs(submission, values, now())
        added, _ = await self._submit(operation, sum(map(len, values)), lambda done: self._added(submission, *done))
        return added  # type: ignore[no-any-return]

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        """Return project *name* as it stands; see `verbs.Verbs.project` for what *wait* waits for."""
        deadline = time.monotonic() + wait
        while True:
            news = self._bus.news(("project", name))
            status = await self._store.reads.project(name)
            left = deadline - time.monotonic()
            if not status.open_until(stage) or left <= 0 or self._is_closing:
                news.cancel()
                return self._with_workers(status)
            await asyncio.wait([news], timeout=left)
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))

    async def projects(self) -> list[ProjectStatus]:
        """Return every project, newest first."""
        return [self._with_workers(status) for status in await self._store.reads.projects()]

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return how jobs with a number above *after* left *stage*, in order, a page at a time."""
        return await self._store.reads.outputs(project, stage, after=after, limit=max(1, min(limit, PAGE_LIMIT)))

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return the failed jobs of *project* with a number above *after*, in order, a page at a time."""
        await self._store.reads.project(project)  # raises for an unknown one
        return await self._store.reads.failed_jobs(project, after=after, limit=max(1, min(limit, PAGE_LIMIT)))

    async def find_job(self, project: str, number: int) -> int:
        """Return the id of the job that has *number* in *project*."""
        return await self._store.reads.find_job(project, number)

    # ---- what was stored -------------------------------------------------------------------

    async def _submit(self, operation: Operation, size: int, then: Callable[[Any], None]) -> Any:
        """Hand in *operation*; once it is durable, *then* learns its result, even if the caller has gone away."""
        stored = self._store.submit(operation, size)
        stored.add_done_callback(lambda done: None if done.cancelled() or done.exception() else then(done.result()))
        return await asyncio.shield(stored)

    def _declared(self, declared: Declared) -> None:
        self._feed.recount(declared.changed, declared.queued)
        self._learn(declared.project)

    def _added(self, submission: ItemsSubmission, added: AddedJobs, is_new: bool) -> None:
        if is_new and added.count:
            first = self._stages.first(submission.project)
            self._feed.tasks(first.id, first.need, first.tags).add(first.priority, added.count)
            self._hungry.set()
            self._bus.publish(("project", submission.project))

    def _learn(self, project: Project) -> None:
        self._stages.learn(project)
        stages = {stage.id for stage in project.stages}
        if project.is_paused:
            self._feed.paused |= stages
        else:
            self._feed.paused -= stages
        self._hungry.set()
        self._bus.publish(("project", project.name))

    async def _load_projects(self) -> None:
        """Learn what projects there are."""
        for project in await self._store.reads.stored_projects():
            self._learn(project)

    # ---- how they stand --------------------------------------------------------------------

    def _with_workers(self, status: ProjectStatus) -> ProjectStatus:
        """Return *status* with who runs its tasks, and with what keeps them from being run."""
        names = {
            running.slot.worker.name
            for running in self._running.values()
            if isinstance(running.work, Task) and self._stages.project_of(running.work.stage) == status.name
        }
        return msgspec.structs.replace(status, workers=sorted(names), warning=self._project_warning(status))

    def _project_warning(self, status: ProjectStatus) -> str | None:
        """Return which stage has nobody to run it, and what the nearest worker lacks."""
        if status.is_paused or not status.open or not self._cluster.settled:
            return None
        for stage in status.stages:
            if stage.tags and not any(fits(stage.tags, worker) for worker in self._cluster.workers.values()):
                return f"nobody can run stage {stage.name!r}: {self._nearest(stage.tags)}"
        return None


def _check(spec: ProjectSpec) -> None:
    """Raise `InvalidOption` or another error for a project that cannot be declared."""
    check_name("the project's name", spec.name)
    if spec.name == "functions":
        raise InvalidOption("the project's name", repr(spec.name), "another one: this is the built-in project")
    if not spec.stages:
        raise InvalidOption("stages", "missing", "at least one: decorate a function with @project.stage")
    for name in _twice(stage.name for stage in spec.stages):
        raise InvalidOption("the stage's name", repr(name), "one that no other stage of the project has")
    for stage in spec.stages:
        check_name("the stage's name", stage.name)
        check(stage.options)
        check_size(f"the function of stage {stage.name!r}", len(stage.function.code))
        if stage.options.on_no_match != "wait":
            raise InvalidOption("on_no_match", repr(stage.options.on_no_match), "'wait': the tasks of stages wait")


def _twice(names: Iterator[str]) -> Iterator[str]:
    """Yield the names that came before."""
    seen = set[str]()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _values(submission: ItemsSubmission) -> list[bytes]:
    """Return the packed items; raises `InvalidOption` if they are not what was announced."""
    try:
        values = [value for block in submission.blocks for value in unpack(block)]
    except (ValueError, struct.error) as error:
        raise InvalidOption("blocks", "unreadable", f"packed values: {error}") from error
    if len(values) != submission.count:
        raise InvalidOption("count", str(submission.count), f"the {len(values)} items in the blocks")
    return values
