"""Why a job is not running: an answer for everything that can keep it."""

from __future__ import annotations

import time
from datetime import datetime

from ..jobs import Stage, Task, Worker
from ..store.reads import AHEAD_LIMIT
from ..verbs import JobStatus
from .dependencies import Dependencies
from .feeding import fits


class Reasons(Dependencies):
    """Answers the question why."""

    async def why(self, id: int) -> str:
        """Return why job *id* is not running, or that it is."""
        status = await self.job(id)
        name = _name(status)
        if status.is_final:
            ended = "was cancelled" if status.state == "cancelled" else f"has {status.state}"
            return f"job {name} {ended}" + (f": {status.reason}" if status.reason else "")
        if status.task_state == "leased":
            running = self._holder_of(status)
            since = f" for {time.monotonic() - running.since:.1f} s" if running else ""
            return f"job {name} is running on {status.worker}{since}"
        if status.task_state == "waiting":
            return await self._why_waiting(status)
        if status.task_state == "blocked":
            return await self._why_blocked(status)
        return await self._why_queued(status)

    async def _why_waiting(self, status: JobStatus) -> str:
        due = await self._store.reads.not_before(status.id)
        when = f" until {_moment(due / 1e6)}" if due else ""
        if not status.errors:
            return f"job {_name(status)} waits{when}: it is not to run before"
        return f"job {_name(status)} waits{when} before its next try, after {status.errors} error(s)"

    async def _why_blocked(self, status: JobStatus) -> str:
        taking = await self._why_taking(status)
        if taking is not None:
            return taking
        left, parts, is_open = await self._store.reads.blocking_parts(status.id)
        if is_open:
            return f"job {_name(status)} waits for its parts at stage {status.stage!r}: {parts}, and more to be added"
        lost = await self._store.reads.lost_parts(status.id)
        failed = f"; {lost} of them failed or were cancelled, retry them to go on" if lost else ""
        return f"job {_name(status)} waits for {left} of its {parts} parts at stage {status.stage!r}{failed}"

    async def _why_queued(self, status: JobStatus) -> str:
        task = await self._store.reads.task(status.id)
        stage = self._stages.get(task.stage) if task is not None else None
        held = self._why_held(status, stage)
        if held is not None:
            return held
        if task is not None and stage is not None and stage.kind == "lease":
            return await self._why_not_leased(status, task, stage)
        if session := self._why_in_session(status):
            return session
        await self._answered(status.tags)
        workers = list(self._cluster.workers.values())
        fitting = [worker for worker in workers if fits(status.tags, worker)]
        if not fitting:
            hint = "" if self._cluster.settled else " (workers are still joining)"
            return f"job {_name(status)} waits for a worker: {self._nearest(status.tags)}{hint}"
        if task is not None and stage is not None and task.flags:
            voters = {vote.voter for vote in await self._store.reads.votes(task.id)}
            if all(worker.contributor in voters for worker in fitting):
                return _needs_others(status, task, stage, voters)
        if lacking := self._devices.shortage(status.tags, fitting):
            return f"job {_name(status)} waits for {lacking}"
        if before := self._devices.claimed(status.tags, fitting):
            return f"job {_name(status)} waits for devices that are kept for what needs {before!r} and comes before it"
        aside = self._set_aside(status, task, fitting)
        free = [worker.name for worker in fitting if worker.name not in aside]
        spared = "".join(f"; {worker} is set aside for it: {reason}" for worker, reason in aside.items())
        ahead = await self._ahead(task)
        return (
            f"job {_name(status)} is queued {ahead}that need the same tags; {len(free)} worker(s) match "
            f"({', '.join(free[:5])}) and have no free slot at the moment{spared}"
        )

    def _set_aside(self, status: JobStatus, task: Task | None, fitting: list[Worker]) -> dict[str, str]:
        """Return which of the *fitting* workers are set aside for a job, and why."""
        batch = self._feed.batches.get(status.batch or 0)
        function = task.function if task is not None else batch.info.function if batch is not None else b""
        subject = (self._stages.project_of(task.stage) if task is not None else None) or function
        names = {worker.name for worker in fitting}
        spared = {name: self._conduct.spares(subject, name, names - {name}) for name in sorted(names)}
        return {name: reason for name, reason in spared.items() if reason is not None}

    def _why_held(self, status: JobStatus, stage: Stage | None) -> str | None:
        """Return what holds the job back, if its project or its stage does not run."""
        if self._stages.is_paused(status.project):
            return f"job {_name(status)} waits because project {status.project!r} is paused; run() lets it go on"
        if stage is not None and stage.is_paused:
            return f"job {_name(status)} waits because stage {stage.name!r} of {status.project!r} is paused; resume it"
        batch = self._feed.batches.get(status.batch or 0)
        if batch is not None and batch.is_early and batch.info.not_before is not None:
            return f"job {_name(status)} waits until {_moment(batch.info.not_before)}: it is not to run before"
        return None

    async def _why_not_leased(self, status: JobStatus, task: Task, stage: Stage) -> str:
        seen = self._last_seen_at(stage.id)
        asked = "nobody has asked for one yet" if seen is None else f"the last worker asked {_ago(seen)}"
        if task.flags:
            voters = {vote.voter for vote in await self._store.reads.votes(task.id)}
            return f"{_needs_others(status, task, stage, voters)}; {asked}"
        ahead = await self._ahead(task)
        needs = f" with {stage.tags!r}" if stage.tags else ""
        return f"job {_name(status)} is queued {ahead}for outside workers of stage {stage.name!r}{needs}; {asked}"

    def _why_in_session(self, status: JobStatus) -> str | None:
        """Return what keeps a job that is to run in a session which lives."""
        return None

    def _last_seen_at(self, stage: int) -> float | None:
        """Return when an outside worker last asked for tasks of *stage*, by the monotonic clock."""
        return None

    async def _ahead(self, task: Task | None) -> str:
        ahead = await self._store.reads.ahead_of(task) if task is not None else 0
        more = "more than " if ahead >= AHEAD_LIMIT else ""
        return f"behind {more}{ahead:,} other{'s' if ahead > 1 else ''} " if ahead else "first of those "


def _needs_others(status: JobStatus, task: Task, stage: Stage, voters: set[str]) -> str:
    named = ", ".join(sorted(voters)[:5])
    return (
        f"job {_name(status)} was flagged {task.flags} of {stage.votes} times (by {named}) and needs other workers: "
        "who has flagged it is not handed it again"
    )


def _name(status: JobStatus) -> str:
    """Return what people call a job: its id, or its place in its project, which is taken wherever an id is."""
    return str(status.id) if status.project == "functions" else f"{status.project}/{status.number}"


def _moment(at: float) -> str:
    """Return the Unix time *at* for people: the day too, where it is not today."""
    moment = datetime.fromtimestamp(at)
    return f"{moment:%H:%M:%S}" if moment.date() == datetime.now().date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def _ago(since: float) -> str:
    return f"{time.monotonic() - since:,.0f} s ago"
