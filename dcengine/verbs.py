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

    async def why(self, id: int) -> str:
        """Return why the job is not running, in a sentence or two."""
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

    async def cancel_batch(self, id: int) -> BatchStatus: ...
    async def retry_batch(self, id: int) -> BatchStatus:
        """Queue the failed and cancelled items again."""
        ...

    async def workers(self) -> list[WorkerStatus]: ...
    async def explain(self, tags: str) -> str:
        """Return which workers match *tags*, or what the nearest one lacks."""
        ...

    async def leaderboard(self, project: str = "functions") -> list[LeaderboardRow]: ...
    async def status(self) -> EngineStatus: ...
    async def join_ticket(self) -> JoinTicket: ...
