"""Projects: jobs that travel through stages. How one goes from stage to stage is part of the life of a task."""

from __future__ import annotations

import asyncio
import struct
import time

import msgspec

from ..codec import unpack
from ..errors import InvalidOption
from ..jobs import Project, State
from ..protocols import with_defaults
from ..store import now
from ..store.adding import AddProjectJobs, Brought
from ..store.cancelling import Cancelled, CancelWaiting
from ..store.names import CALL
from ..store.prioritizing import Prioritize, Prioritized
from ..store.projects import Declared, DeclareProject, HoldProject
from ..store.reopening import EditJob, Reopened, RetryJobs
from ..verbs import AddedJobs, ImportRecord, ItemsSubmission, JobStatus, ProjectSpec, ProjectStatus, StageOutput
from .aftermath import SLICE
from .batches import Batches
from .dispatch import to_the_end
from .feeding import fits
from .rates import Load
from .specs import check_items, check_project
from .values import check_value

LOOK_SECONDS = 0.05  #: between two looks at a project that somebody waits for
PAGE_LIMIT = 1000  #: outputs in one answer
PRIORITY_LIMIT = 1_000_000


class Projects(Batches):
    """Declares projects, lets them run, takes in their jobs and says how they stand."""

    # ---- verbs -----------------------------------------------------------------------------

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        """Store a project and its stages; a new one is paused. It is durable when this returns.

        Raises `InvalidOption`, also for a protocol that is not installed, `InvalidTags`, `PayloadTooLarge`, and
        `ProjectInUse` for other stages than those that open jobs travel through; nothing is stored then.
        """
        spec = with_defaults(spec)
        check_project(spec)
        functions = [stage.function for stage in spec.stages if stage.function is not None]
        for function in functions:
            self._remember(function)
        size = sum(len(function.code) for function in functions)
        await self._submit(DeclareProject(spec, now()), size, self._declared)
        others = [other for each in spec.stages for other in await self._other_versions(each.tags, each.packages)]
        return msgspec.structs.replace(await self.project(spec.name), other_versions=others)

    async def run_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        """Let the tasks of project *name*, or of one stage, be handed out."""
        await self._submit(HoldProject(name, stage, False, now()), 0, self._learn)
        for each in self._stages.of(name):
            if each.kind == "function":
                await self._missing(each.tags)
        return await self.project(name)

    async def pause_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        """Hand no more tasks of project *name*, or of one stage, out."""
        await self._submit(HoldProject(name, stage, True, now()), 0, self._learn)
        return await self.project(name)

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        """Store a job for each item of *submission*; they are durable when this returns."""
        values = _values(submission)
        stages = self._stages.of(submission.project)
        check_items(submission, values, is_outside=bool(stages) and stages[0].kind == "lease")
        for value in values:
            check_value("an item", value)
        kept = [await self._values.keep(value) for value in values]
        operation = AddProjectJobs(submission, kept, now())
        brought: Brought = await self._submit(operation, sum(map(len, kept)), self._brought)
        return brought.added

    async def imported(self, project: str, name: str) -> ImportRecord | None:
        """Return how far the import called *name* has come."""
        await self._store.reads.project(project)  # raises for an unknown one
        return await self._store.reads.imported(project, name)

    @to_the_end
    async def cancel_project(self, name: str) -> int:
        """Cancel every open job of project *name*; return how many those were."""
        status = await self.project(name)
        stages = [stage.id for stage in self._stages.of(name)]
        is_all = False
        while not is_all:
            done: Cancelled = await self._write(CancelWaiting(stages, SLICE, now()))
            is_all = done.is_all
            self._were_cancelled(done)
        for job in done.running:
            await self.cancel(job)
        return status.open

    async def retry_project(self, name: str, *, stage: str | None = None, cancelled: bool = False) -> int:
        """Queue the failed jobs of project *name* again, or those that failed at *stage*."""
        await self._store.reads.project(name)  # raises for an unknown one
        if stage is not None:
            await self._store.reads.outputs(name, stage, after=0, limit=1)  # raises for an unknown one
        again, after = 0, 0
        while jobs := await self._store.reads.ended_badly(name, stage=stage, cancelled=cancelled, after=after):
            again += await self.retry(jobs)
            after = jobs[-1]
        return again

    @to_the_end
    async def retry(self, ids: list[int]) -> int:
        """Queue failed and cancelled jobs again where they ended; return how many those were."""
        for id in ids:
            status = await self._store.reads.job(id)  # raises for an unknown one
            if status.batch is not None:
                raise InvalidOption("a job to retry", f"item {id} of batch {status.batch}", "the batch: retry that")
        again: Reopened = await self._write(RetryJobs(ids, now()))
        await self._reopened(again)
        return len(again.jobs)

    async def prioritize(self, ids: list[int], priority: int) -> int:
        """Have open jobs run earlier or later than others; return how many those were."""
        if not -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
            raise InvalidOption("priority", str(priority), f"a number from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}")
        done: Prioritized = await self._write(Prioritize(ids, priority, now()))
        # Where they were queued before, too many are expected now: who looks for those finds none left.
        for need, tags, submitter, of_call in done.calls:
            self._feed.tasks(CALL, need, tags, submitter).add(of_call)
        self._take_note(done.consequences)
        self._hungry.set()
        for id in ids:
            self._bus.publish(("job", id))
        return done.jobs

    @to_the_end
    async def edit(self, id: int, input: bytes) -> JobStatus:
        """Give job *id* another input where it is or ended, and queue it there."""
        check_value("the input", input)
        await self._reopened(await self._write(EditJob(id, await self._values.keep(input), now())))
        return await self.job(id)

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
            await self._bus.within(news, left)
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))

    async def projects(self) -> list[ProjectStatus]:
        """Return every project, newest first."""
        return [self._with_workers(status) for status in await self._store.reads.projects()]

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return how jobs with a number above *after* left *stage*, in order, a page at a time."""
        found = await self._store.reads.outputs(project, stage, after=after, limit=max(1, min(limit, PAGE_LIMIT)))
        return [msgspec.structs.replace(each, data=await self._values.get(each.data)) for each in found]

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return the failed jobs of *project* with a number above *after*, in order, a page at a time."""
        await self._store.reads.project(project)  # raises for an unknown one
        return await self._store.reads.failed_jobs(project, after=after, limit=max(1, min(limit, PAGE_LIMIT)))

    async def find_job(self, project: str, number: int) -> int:
        """Return the id of the job that has *number* in *project*."""
        return await self._store.reads.find_job(project, number)

    # ---- what was stored -------------------------------------------------------------------

    def _declared(self, declared: Declared) -> None:
        self._feed.forget(declared.changed)
        self._feed.count(declared.queued)
        self._learn(declared.project)

    def _brought(self, brought: Brought) -> None:
        stage, added = brought.stage, brought.added
        if stage is not None and added.count and not brought.is_waiting:
            source = self._feed.tasks(stage.id, stage.need, stage.tags, brought.submitter)
            source.add(brought.priority + stage.priority, added.count)
            self._hungry.set()
            self._bus.publish(("stage", stage.id), ("project", self._stages.project_of(stage.id)))
        self._take_note(brought.consequences)

    async def _reopened(self, again: Reopened) -> None:
        """Learn that jobs go on which had ended."""
        self._unwanted.difference_update(again.wanted)
        for job in again.jobs:
            self._ends.forget(job)
            self._unwanted.discard(job)
            task = await self._store.reads.task(job)
            if task is not None and task.stage == CALL and task.state is State.QUEUED:
                await self._queue_again(task)
        self._take_note(again.consequences)
        for job in again.jobs:
            self._bus.publish(("job", job))

    def _learn(self, project: Project) -> None:
        self._stages.learn(project)
        for stage in project.stages:
            is_held = project.is_paused or stage.is_paused
            (self._feed.paused.add if is_held else self._feed.paused.discard)(stage.id)
            (self._feed.outside.add if stage.kind == "lease" else self._feed.outside.discard)(stage.id)
            (self._tallies.flows.hold if is_held else self._tallies.flows.go_on)(stage.id)
            self._bus.publish(("stage", stage.id))
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
            if any(self._stages.project_of(task.stage) == status.name for task in running.tasks)
        }
        return msgspec.structs.replace(
            status, workers=sorted(names), warning=self._project_warning(status),
            rate=self._rate(status), eta=self._seconds_left(status),
        )  # fmt: skip

    def _rate(self, status: ProjectStatus) -> float:
        """Return how many tasks of a project come to their end in a second."""
        stages = [stage.id for stage in self._stages.of(status.name)]
        return 0.0 if status.is_paused else self._tallies.flows.rate(stages)

    def _seconds_left(self, status: ProjectStatus) -> float | None:
        """Return how long a project takes as it goes now; None where that cannot be told, or nothing is left."""
        ids = {stage.name: stage.id for stage in self._stages.of(status.name)}
        if status.is_paused or any(stage.is_paused and status.open_until(stage.name) for stage in status.stages):
            return None
        loads = [
            Load(ids[stage.name], stage.kind != "lease", status.open_until(stage.name), stage.here)
            for stage in status.stages
            if stage.name in ids
        ]
        return self._tallies.flows.seconds_left(loads)

    def _project_warning(self, status: ProjectStatus) -> str | None:
        """Return which stage has nobody to run it, and what the nearest worker lacks."""
        if status.is_paused or not status.open or not self._cluster.settled:
            return None
        for stage in status.stages:
            if stage.kind == "lease" or not stage.tags:
                continue
            if not any(fits(stage.tags, worker) for worker in self._cluster.workers.values()):
                return f"nobody can run stage {stage.name!r}: {self._nearest(stage.tags)}"
        return None


def _values(submission: ItemsSubmission) -> list[bytes]:
    """Return the packed items; raises `InvalidOption` if they are not what was announced."""
    try:
        values = [value for block in submission.blocks for value in unpack(block)]
    except (ValueError, struct.error) as error:
        raise InvalidOption("blocks", "unreadable", f"packed values: {error}") from error
    if len(values) != submission.count:
        raise InvalidOption("count", str(submission.count), f"the {len(values)} items in the blocks")
    return values
