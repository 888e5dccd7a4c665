"""What an engine can be asked, in this process or over HTTP, and what it answers.

`Verbs` is implemented by the engine itself and by the HTTP client; handles and the command line
talk to either. Values stay packed bytes here: nothing in this module unpickles.
Times are Unix seconds (float); durations are seconds.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

OnNoMatch = Literal["wait", "fail"]


class Function(msgspec.Struct, frozen=True):
    """A function ready to travel."""

    digest: bytes  #: sha256 of *code*
    name: str  #: for people: module and qualified name
    code: bytes  #: cloudpickle of the callable


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is to be run."""

    tags: str = ""  #: tag expression; empty matches every worker
    retries: int = 0  #: n allows n + 1 runs
    crash_retries: int = 2  #: the same for runs whose process ended under them; single calls only
    timeout: float | None = None
    priority: int = 0  #: higher runs earlier
    on_no_match: OnNoMatch = "wait"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One call to store and run."""

    function: Function
    input: bytes  #: packed ``(args, kwargs)``
    options: Options = Options()
    key: str | None = None  #: the same key gives the same job
    request: str | None = None  #: idempotency key: a repeated request gets the same answer
    submitter: str = ""


class StageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a project, as its author declares it."""

    name: str
    function: Function  #: takes one value, the output of the stage before; returns the next one's input
    options: Options = Options()


class ProjectSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A project as its author declares it."""

    name: str
    stages: list[StageSpec]  #: in order
    submitter: str = ""


class ItemsSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """Items to send through a project, one job for each."""

    project: str
    blocks: list[bytes]  #: pickled values in order, each block packed by `codec.pack`
    count: int
    request: str | None = None  #: idempotency key, as in `Submission`
    submitter: str = ""


class BatchSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one map to store and run."""

    function: Function
    blocks: list[bytes]  #: inputs in order, each block packed by `codec.pack`
    count: int
    options: Options = Options()
    request: str | None = None
    submitter: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far a running function says it is."""

    done: float = 0
    total: float | None = None
    text: str = ""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job as people see it."""

    id: int
    project: str
    number: int
    name: str
    state: str  #: open, succeeded, failed, cancelled
    task_state: str  #: queued, waiting, blocked, leased, succeeded, failed, cancelled
    batch: int | None = None
    attempt: int = 0
    errors: int = 0
    stage: str = ""  #: where it is, or where it ended
    tags: str = ""
    priority: int = 0
    worker: str | None = None
    created: float = 0.0
    finished: float | None = None
    progress: Progress | None = None
    reason: str | None = None  #: why it failed, in a sentence
    warning: str | None = None  #: what its submitter should know now: nobody matches, say

    @property
    def is_final(self) -> bool:
        return self.state != "open"


class JobResult(msgspec.Struct, frozen=True):
    """The end of a job, still packed."""

    state: str  #: succeeded, failed, cancelled
    data: bytes  #: a packed value, or a packed `codec.Failure`


class Line(msgspec.Struct, frozen=True):
    """Something that was said while a job ran."""

    number: int  #: grows from line to line, over all runs of the job and all lives of its engine
    kind: str  #: stdout, stderr, note (the engine's own), or a rich kind: display, update, clear, result, error
    text: str  #: as printed; JSON for the rich kinds, as `runner.live.LiveChannel.show` took it


class Transcript(msgspec.Struct, frozen=True):
    """Consecutive lines of one job."""

    lines: list[Line]
    is_complete: bool = False  #: the job has ended, and no line follows these


class FailedItem(msgspec.Struct, frozen=True):
    """An item of a batch that failed."""

    index: int
    job: int
    reason: str  #: in one line


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as people see it."""

    id: int
    project: str
    name: str
    state: str  #: open, succeeded, failed (some items failed), cancelled
    count: int
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    first_job: int = 0
    tags: str = ""
    priority: int = 0
    created: float = 0.0
    finished: float | None = None
    rate: float = 0.0  #: items per second, over the last seconds
    workers: list[str] = []
    warning: str | None = None

    @property
    def is_final(self) -> bool:
        return self.state != "open"

    @property
    def done(self) -> int:
        """How many items have ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def total(self) -> int:
        """How many items there are, by the name that `Progress` has for it."""
        return self.count


class Report(msgspec.Struct, frozen=True):
    """Consecutive items of a batch that ended alike, in the order they were accepted."""

    cursor: int  #: ask for reports after this one
    first: int
    count: int
    state: str  #: succeeded, failed, cancelled
    data: bytes  #: packed by `codec.pack`: a value, or a `codec.Failure`, per item


class StageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a project as people see it."""

    name: str
    tags: str
    counts: dict[str, int]  #: task state -> number of tasks at this stage, states without any left out


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A project as people see it."""

    name: str
    is_paused: bool  #: its tasks are not handed out
    stages: list[StageStatus]  #: in order
    open: int = 0  #: jobs by what became of them
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    workers: list[str] = []  #: that run its tasks now
    warning: str | None = None  #: what its author should know now: nobody has the tags of a stage, say

    @property
    def done(self) -> int:
        """How many jobs have ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def total(self) -> int:
        """How many jobs were ever added."""
        return self.open + self.done

    def open_until(self, stage: str | None) -> int:
        """Return how many jobs have not left *stage* yet; None stands for the last one."""
        names = [each.name for each in self.stages]
        until = names.index(stage) + 1 if stage in names else 0 if stage is not None else len(names)
        ended = ("succeeded", "failed", "cancelled")
        return sum(n for each in self.stages[:until] for state, n in each.counts.items() if state not in ended)


class AddedJobs(msgspec.Struct, frozen=True):
    """The jobs made of some items: consecutive ids, consecutive numbers within the project."""

    first_id: int
    first_number: int
    count: int


class StageOutput(msgspec.Struct, frozen=True):
    """How one job left one stage."""

    job: int
    number: int  #: the job's, within its project
    state: str  #: succeeded or failed
    data: bytes  #: a pickled value, or a packed `codec.Failure`


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as people see it."""

    name: str
    address: str
    contributor: str
    state: str  #: ready, starting, unfit
    slots: int
    busy: int
    tags: dict[str, str | None]
    reason: str | None = None
    running: list[int] = []  #: job ids (the first of each chunk)


class LeaderboardRow(msgspec.Struct, frozen=True):
    """A contributor's credit in one project."""

    nickname: str
    tasks: int  #: accepted tasks; each item of a map counts as one
    share: float  #: of all accepted tasks, 0 to 1


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The engine as people see it."""

    version: str
    db: str
    url: str
    pid: int
    started: float
    scheduler: str | None
    workers: int
    slots: int
    counts: dict[str, int]  #: task state -> number, items of batches included
    open_batches: int = 0


class JoinTicket(msgspec.Struct, frozen=True):
    """What a machine needs to bring a Dask worker."""

    scheduler: str
    ca: str | None  #: PEM; None when the scheduler speaks plain TCP
    certificate: str | None
    key: str | None
    version: str  #: dcengine's, to be equal on both sides


class Verbs(Protocol):
    """The questions. Every one may raise `NotFound` for an unknown id."""

    async def submit(self, submission: Submission) -> JobStatus: ...
    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus: ...

    async def job(self, id: int) -> JobStatus: ...
    async def jobs(self, *, state: str | None = None, before: int | None = None, limit: int = 50) -> list[JobStatus]:
        """Return single jobs, newest first, those with an id below *before*."""
        ...

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        """Return the job's end, after at most *wait* seconds; None while it is open."""
        ...

    async def output(self, id: int) -> str:
        """Return what the job printed so far."""
        ...

    async def transcript(self, id: int, *, after: int = 0, wait: float = 0.0) -> Transcript:
        """Return what was said after line *after*; wait up to *wait* seconds for the first line or the end."""
        ...

    async def why(self, id: int) -> str:
        """Return why the job is not running, in a sentence or two."""
        ...

    async def interrupt(self, id: int) -> JobStatus:
        """Raise KeyboardInterrupt in the running code, which may catch it and go on; cancel a job that waits."""
        ...

    async def kill(self, id: int) -> JobStatus:
        """Cancel the job; if it runs, end its process at once."""
        ...

    async def cancel(self, id: int) -> JobStatus: ...
    async def cancel_unfinished(self) -> int:
        """Cancel every open job and batch; return how many jobs that were, items included."""
        ...

    async def batch(self, id: int) -> BatchStatus: ...
    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]: ...
    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        """Return accepted reports with a cursor above *after*; wait up to *wait* seconds for the first."""
        ...

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        """Return the first failed items of batch *id*, in order of their items, without their payload."""
        ...

    async def cancel_batch(self, id: int) -> BatchStatus: ...
    async def retry_batch(self, id: int) -> BatchStatus:
        """Queue the failed and cancelled items again."""
        ...

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        """Create a project, paused, or bring the stages of an existing one up to date."""
        ...

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs: ...
    async def run_project(self, name: str) -> ProjectStatus:
        """Let the project's tasks be handed out."""
        ...

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        """Return the project as it stands.

        With *wait*, once no job of it is open, or has still to leave *stage*, or so many seconds are over.
        """
        ...

    async def projects(self) -> list[ProjectStatus]: ...
    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return how jobs left *stage*, by number: those above number *after*, a page at a time."""
        ...

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return the jobs that failed, at whatever stage, by number: those above number *after*, a page at a time."""
        ...

    async def find_job(self, project: str, number: int) -> int:
        """Return the id of the job that has *number* in *project*."""
        ...

    async def workers(self) -> list[WorkerStatus]: ...
    async def explain(self, tags: str) -> str:
        """Return which workers match *tags*, or what the nearest one lacks."""
        ...

    async def leaderboard(self, project: str = "functions") -> list[LeaderboardRow]: ...
    async def status(self) -> EngineStatus: ...
    async def join_ticket(self) -> JoinTicket: ...
