"""What a project must do, in plain Python: its rules as one would tell them to a friend, without the engine's code.

Times are those of the clock that the test drives. Nothing is counted here: whatever can be told from jobs and tasks
is looked up in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

QUEUED, WAITING, BLOCKED, LEASED = "queued", "waiting", "blocked", "leased"
SUCCEEDED, FAILED, CANCELLED, RETURNED = "succeeded", "failed", "cancelled", "returned"
OPEN = "open"
BADLY = (FAILED, CANCELLED)
LOST_WORKERS = 10  #: with so many a task fails
CRASHES = 2  #: forgiven


@dataclass(frozen=True)
class Stage:
    """One step, as it was declared."""

    name: str
    kind: Literal["lease", "function"] = "lease"
    shape: Literal["map", "expand", "gather"] = "map"
    votes: int = 1
    generations: int = 1
    retries: int = 0
    priority: int = 0
    credit: Literal["task", "unit"] = "task"
    lease_seconds: float = 50.0
    timeout: float | None = None
    back_off: float = 20.0
    back_off_limit: float = 100.0
    on_failed_part: Literal["fail", "skip", "wait"] = "fail"


@dataclass(eq=False)
class Holder:
    """Somebody with a task in hand: an outside worker with a token, or a slot with a unit."""

    worker: str
    contributor: str
    voter: str
    stage: Stage  #: as it was when the task was handed out
    token: str = ""  #: a slot has none
    unit: int = 0  #: that a slot runs
    since: float = 0.0
    until: float = 0.0  #: by the monotonic clock
    is_unwanted: bool = False  #: a slot was asked to stop

    def renew(self, now: float) -> None:
        limit = self.since + self.stage.timeout if self.stage.timeout is not None else float("inf")
        self.until = min(now + self.stage.lease_seconds, limit)


@dataclass(eq=False)
class Task:
    """A job at a stage, in one generation."""

    job: Job
    stage: str
    state: str = QUEUED
    generation: int = 0
    origin: Task | None = None  #: whose output is its input
    input: Any = None
    output: Any = None
    retries: int = 0
    priority: int = 0
    attempt: int = 0
    errors: int = 0
    vanished: int = 0
    crashes: int = 0
    voters: list[str] = field(default_factory=list)
    due: float | None = None  #: by the clock on the wall, while it waits
    holder: Holder | None = None
    said: tuple[str, str] | None = None  #: token and word that have brought it where it is
    earned: tuple[str, int] | None = None
    parts: list[Job] | None = None  #: that it gathers
    is_open: bool = False  #: more of them are being added
    is_collected: bool = False  #: all of them were in

    def value(self) -> Any:
        """What it is given."""
        if self.parts is not None:
            return [part.task.output for part in self.parts if part.state == SUCCEEDED]
        return self.input if self.origin is None else self.origin.output


@dataclass(eq=False)
class Job:
    """What travels through the stages."""

    id: int
    submitter: str
    priority: int = 0
    key: str | None = None
    state: str = OPEN
    parent: Job | None = None
    gather: Task | None = None  #: that waits for it as one of its parts
    tasks: list[Task] = field(default_factory=list)

    @property
    def task(self) -> Task:
        """Where it is, or where it ended."""
        return self.tasks[-1]

    @property
    def above(self) -> Job | None:
        """The job that gave up because of this one, one of its parts."""
        whole = self.gather.job if self.gather is not None else None
        if whole is None or whole.state not in BADLY or whole.task.parts is None or whole.task.is_collected:
            return None
        return whole if self in whole.task.parts else None


class Model:
    """One project."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)
        self.is_paused = True
        self.paused: set[str] = set()
        self.jobs: dict[int, Job] = {}
        self.jobs_before = 0  #: the highest id that another project has
        self.tokens: list[str] = []  #: of all leases that there ever were
        self.words: dict[str, str] = {}  #: what was said of a lease and accepted, by its token

    # ---- what can be seen ------------------------------------------------------------------

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def tasks(self) -> list[Task]:
        return [task for job in self.jobs.values() for task in job.tasks]

    @property
    def open_jobs(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state == OPEN]

    def leased(self) -> dict[str, Task]:
        """What outside workers hold, by token."""
        return {task.holder.token: task for task in self.tasks if task.holder is not None and task.holder.token}

    def ready(self, stage: str, voter: str) -> list[Task]:
        """What may be handed to *voter* at *stage*."""
        if self.is_paused or stage in self.paused:
            return []
        queued = (task for task in self.tasks if task.stage == stage and task.state == QUEUED)
        return [task for task in queued if voter not in task.voters]

    def counts(self) -> Counter[tuple[str, str]]:
        """Tasks by stage and state."""
        return Counter((task.stage, task.state) for task in self.tasks)

    def leaderboard(self) -> Counter[str]:
        earned = Counter[str]()
        for task in self.tasks:
            if task.earned is not None:
                earned[task.earned[0]] += task.earned[1]
        return +earned

    # ---- in ----------------------------------------------------------------------------------

    def add(
        self,
        values: Sequence[Any],
        submitter: str,
        *,
        keys: Sequence[str] | None = None,
        priority: int = 0,
        due: float | None = None,
        root: Job | None = None,
        is_last: bool = True,
    ) -> list[Job]:
        """Make a job of each value whose key is new, and before them the one that gathers them all."""
        collector = self._closing(0)
        known = {job.key for job in self.jobs.values()} - {None}
        has_new = keys is None or not known.issuperset(keys)
        if collector is not None and root is None and values and has_new:
            root = self._new_job(submitter, priority)
            self._open(root, collector.name, BLOCKED).parts = []
        jobs = []
        for place, value in enumerate(values):
            key = keys[place] if keys is not None else None
            if key is None or key not in known:
                known.add(key)
                job = self._new_job(submitter, priority, key=key, above=root and root.tasks[0])
                task = self._open(job, self.stages[0].name, QUEUED if due is None else WAITING, input=value)
                task.due = due
                jobs.append(job)
        if root is not None:
            root.tasks[0].is_open = not is_last
            self._collect(root.tasks[0])
            if root.tasks[0].state in BADLY:
                self._cut(root.tasks[0])
        return jobs

    def declare(self, stages: Sequence[Stage]) -> None:
        """Change the options of stages: for what nobody has in hand."""
        changed = {stage.name for stage in stages if stage not in self.stages}
        self.stages = list(stages)
        for task in self.tasks:
            if task.stage in changed and task.state in (QUEUED, WAITING, BLOCKED):
                task.retries = self.stage(task.stage).retries
                task.priority = task.job.priority + self.stage(task.stage).priority
                self._collect(task)

    def _new_job(self, submitter: str, priority: int, *, key: str | None = None, above: Task | None = None) -> Job:
        parent = above.job if above is not None else None
        job = Job(max(self.jobs, default=self.jobs_before) + 1, submitter, priority, key, parent=parent, gather=above)
        self.jobs[job.id] = job
        if above is not None:
            assert above.parts is not None
            above.parts.append(job)
        return job

    def _open(self, job: Job, stage: str, state: str = QUEUED, **facts: Any) -> Task:
        declared = self.stage(stage)
        task = Task(
            job, stage, state, retries=declared.retries, priority=job.priority + declared.priority, **facts
        )  # fmt: skip
        job.tasks.append(task)
        return task

    # ---- what becomes of a task that somebody has in hand ------------------------------------

    def hand(self, task: Task, holder: Holder) -> None:
        """Give *task* to *holder*."""
        task.state, task.holder, task.said = LEASED, holder, None
        if holder.token:
            self.tokens.append(holder.token)
        task.attempt += 1

    def hand_too_late(self, task: Task, holder: Holder) -> bool:
        """Give *task* to a slot that was quicker than whoever cancels what nobody waits for any more."""
        if task.state != CANCELLED or task.job.above is None:
            return False
        task.job.state = OPEN
        self.hand(task, holder)
        holder.is_unwanted = True
        return True

    def _take(self, task: Task, word: str) -> Holder:
        holder = task.holder
        assert holder is not None
        task.holder, task.said = None, None
        if holder.token and word:
            task.said = (holder.token, word)
            self.words[holder.token] = word
        return holder

    def succeed(self, task: Task, output: Any, units: int = 1, parts: Sequence[Any] | None = None) -> None:
        """Have its holder be done with it."""
        has_next = self._next(task.stage) is not None or parts is not None
        if task.holder is not None and task.holder.is_unwanted and has_next:
            self._drop(task)
            return
        holder = self._take(task, "complete")
        task.earned = (holder.contributor, 1 if holder.stage.credit == "task" else units)
        task.state, task.output = SUCCEEDED, output
        self._go_on(task, parts)

    def err(self, task: Task) -> None:
        """Have the code fail with it."""
        holder = self._take(task, "fail")
        if holder.is_unwanted:
            self._end(task, CANCELLED)
            return
        task.errors += 1
        if task.errors > task.retries:
            self._end(task, FAILED)
        else:
            stage = self.stage(task.stage) if not holder.token else holder.stage
            task.state = WAITING
            task.due = self.wall() + min(stage.back_off_limit, stage.back_off * 2 ** (task.errors - 1))

    def wall(self) -> float:
        """The clock on the wall; given by the test."""
        raise NotImplementedError

    def set_wall(self, seconds: float) -> None:
        """Have the clock on the wall set: who waits for another try waits as long as before."""
        for task in self.tasks:
            if task.state == WAITING and task.errors and task.due is not None:
                task.due += seconds

    def flag(self, task: Task) -> None:
        """Have its holder say that its input is bad."""
        holder = self._take(task, "flag")
        if holder.is_unwanted:
            self._end(task, CANCELLED)
            return
        task.voters.append(holder.voter)
        stage = self.stage(task.stage) if not holder.token else holder.stage
        if len(set(task.voters)) < stage.votes:
            task.state = QUEUED
        elif task.origin is None or task.generation >= stage.generations:
            if task.origin is not None:
                task.origin.earned = None
            self._end(task, FAILED)
        else:
            self._send_back(task, task.origin)

    def _send_back(self, task: Task, origin: Task) -> None:
        task.state = origin.state = RETURNED
        origin.earned = None
        again = self._open(
            task.job, origin.stage, generation=task.generation + 1, origin=origin.origin, input=origin.input
        )
        again.parts, again.is_collected = origin.parts, origin.is_collected

    def put_back(self, task: Task, *, word: str = "") -> None:
        """Have its holder give it back."""
        holder = self._take(task, word)
        if holder.is_unwanted:
            self._end(task, CANCELLED)
        else:
            task.state = QUEUED

    def lose(self, task: Task) -> None:
        """Have its holder disappear."""
        is_wanted = task.holder is None or not task.holder.is_unwanted
        task.vanished += is_wanted
        if task.vanished < LOST_WORKERS or not is_wanted:
            self.put_back(task)
        else:
            self._take(task, "")
            self._end(task, FAILED)

    def crash(self, task: Task) -> None:
        """Have the process of its holder end."""
        holder = self._take(task, "")
        task.crashes += 1
        if holder.is_unwanted:
            self._end(task, CANCELLED)
        elif task.crashes > CRASHES:
            self._end(task, FAILED)
        else:
            task.state = QUEUED

    # ---- where a job goes on -----------------------------------------------------------------

    def _next(self, name: str) -> Stage | None:
        """The stage that a job goes on to; a part ends where it is gathered."""
        place = self.stages.index(self.stage(name)) + 1
        following = self.stages[place] if place < len(self.stages) else None
        return following if following is not None and following.shape != "gather" else None

    def _closing(self, place: int) -> Stage | None:
        """The gather that belongs to an expand before *place*, or to none if that is the beginning."""
        depth = 0
        for stage in self.stages[place:]:
            depth += {"map": 0, "expand": 1, "gather": -1}[stage.shape]
            if depth < 0:
                return stage
        return None

    def _go_on(self, task: Task, parts: Sequence[Any] | None) -> None:
        following = self._next(task.stage)
        if parts is not None:
            assert following is not None
            place = self.stages.index(following)
            gather = self._closing(place)
            waiting = None
            if gather is not None:
                waiting = self._open(task.job, gather.name, BLOCKED, generation=task.generation)
                waiting.parts = []
            for value in parts:
                part = self._new_job(task.job.submitter, task.job.priority, above=waiting)
                part.parent = task.job
                self._open(part, following.name, input=value)
            if gather is None:
                self._end(task, SUCCEEDED)
        elif following is None:
            self._end(task, SUCCEEDED)
        else:
            self._open(task.job, following.name, generation=task.generation, origin=task)

    def _end(self, task: Task, state: str) -> None:
        """End *task* with its job, and tell where it is waited for."""
        was_blocked = task.state == BLOCKED
        task.state = task.job.state = state
        gather = task.job.gather
        if gather is not None and gather.state == BLOCKED:
            if state != SUCCEEDED and self.stage(gather.stage).on_failed_part == "fail":
                self._end(gather, FAILED)
            else:
                self._collect(gather)
        if was_blocked:
            self._cut(task)

    def _collect(self, gather: Task) -> None:
        if gather.state != BLOCKED or gather.parts is None or gather.is_open:
            return
        does_skip = self.stage(gather.stage).on_failed_part == "skip"
        if all(part.state == SUCCEEDED or (does_skip and part.state in BADLY) for part in gather.parts):
            gather.state, gather.is_collected = QUEUED, True

    # ---- cancel, and another try -------------------------------------------------------------

    def cancel(self, job: Job) -> None:
        """Have nobody want *job* any more: it ends, but for one that a slot runs, which has to be stopped first."""
        if job.state != OPEN:
            return
        if job.task.holder is not None and not job.task.holder.token:
            job.task.holder.is_unwanted = True
        else:
            self._drop(job.task)

    def _drop(self, task: Task) -> None:
        task.holder = task.said = None
        self._end(task, CANCELLED)

    def _cut(self, gather: Task) -> None:
        """Cancel what is open of the parts of a *gather* that has ended without them."""
        if gather.parts is not None and not gather.is_collected:
            for part in gather.parts:
                self.cancel(part)

    def cancel_all(self) -> None:
        """Cancel every job: those that wait before those that wait for them."""
        for job in reversed(self.open_jobs):
            if job.state == OPEN and job.task.state == BLOCKED:
                job.task.state = job.state = CANCELLED
        for job in self.open_jobs:
            self.cancel(job)

    def retry(self, job: Job) -> int:
        """Queue *job* again where it ended badly, or the job that gave up with it; count those that go on."""
        before = len(self.open_jobs)
        while job.state in BADLY and job.above is not None:
            job = job.above
        if job.state in BADLY:
            self._reopen(job)
        return len(self.open_jobs) - before

    def _reopen(self, job: Job) -> None:
        task, job.state = job.task, OPEN
        task.errors = task.vanished = task.crashes = 0
        task.voters, task.output = [], None
        if task.parts is None or task.is_collected:
            task.state = QUEUED
            return
        task.state = BLOCKED
        for part in task.parts:
            if part.state in BADLY:
                self._reopen(part)
            elif part.task.holder is not None:
                part.task.holder.is_unwanted = False
        self._collect(task)

    def edit(self, job: Job, value: Any) -> bool:
        """Give *job* another input; False where that is refused."""
        task, ended = job.task, job.state != OPEN
        if task.parts is not None or task.state not in (QUEUED, WAITING, *BADLY):
            return False
        task.state, task.due = RETURNED, None
        self._open(job, task.stage, generation=task.generation, input=value)
        job.state = OPEN
        if ended and job.above is not None:
            self.retry(job.above)
        return True

    # ---- time, and the end of the engine -----------------------------------------------------

    def pass_by(self, monotonic: float, wall: float) -> None:
        """Do what is due by now."""
        for task in self.tasks:
            if task.holder is not None and task.holder.token and task.holder.until <= monotonic:
                self.lose(task)
            elif task.state == WAITING and task.due is not None and task.due <= wall:
                task.state, task.due = QUEUED, None

    def take_over(self, monotonic: float, *, was_killed: bool) -> None:
        """Begin anew with what a file says: leases have their whole time again, slots have lost their work."""
        for task in self.tasks:
            holder = task.holder
            if holder is not None and holder.token:
                holder.stage, holder.since = self.stage(task.stage), monotonic
                holder.renew(monotonic)
            elif holder is not None and was_killed:
                holder.is_unwanted = False  # that was known to nobody else
                self.lose(task)
            elif holder is not None:
                self.put_back(task)
        for task in self.tasks:
            if task.state in BADLY:
                self._cut(task)
