"""How single jobs stand, what they said, and what came of them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from .cluster import OtherVersions
from .functions import Submission


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
    generation: int = 0  #: grows when a later stage sends the job back
    flags: int = 0  #: voters who said that the input of this generation is bad
    parent: int | None = None  #: the job whose part this is
    submitter: str = ""  #: who brought it, as user@host
    key: str | None = None  #: unique within its project
    stage: str = ""  #: where it is, or where it ended
    tags: str = ""
    priority: int = 0
    worker: str | None = None
    created: float = 0.0
    finished: float | None = None
    progress: Progress | None = None
    reason: str | None = None  #: why it failed, in a sentence
    warning: str | None = None  #: what its submitter should know now: nobody matches, say
    other_versions: list[OtherVersions] = []  #: the same: packages that its function uses

    @property
    def is_final(self) -> bool:
        return self.state != "open"


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs somebody looks for; what is empty does not matter."""

    project: str = ""
    stage: str = ""  #: where they are now, or ended
    state: str = ""  #: open, succeeded, failed, cancelled
    submitter: str = ""
    worker: str = ""  #: who has them, or had them last
    #: In the name of their function, their key or tags, whatever the case; a number: theirs, or their id.
    text: str = ""


class JobPage(msgspec.Struct, frozen=True):
    """Some of the jobs that somebody looks for, newest first."""

    jobs: list[JobStatus]
    before: int | None  #: ask for those before this one; None where that was all


class JobResult(msgspec.Struct, frozen=True):
    """The end of a job, still packed."""

    state: str  #: succeeded, failed, cancelled, expired; missing, in an answer about many, for one that does not exist
    data: bytes  #: a packed value, or a packed `codec.Failure`; nothing once it has expired


class Line(msgspec.Struct, frozen=True):
    """Something that was said while a job ran."""

    number: int  #: grows from line to line, over all runs of the job and all lives of its engine
    kind: str  #: stdout, stderr, note (the engine's own), or a rich kind: display, update, clear, result, error, comm
    text: str  #: as printed; JSON for the rich kinds, as `runner.live.LiveChannel.show` took it


class Transcript(msgspec.Struct, frozen=True):
    """Consecutive lines of one job."""

    lines: list[Line]
    is_complete: bool = False  #: the job has ended, and no line follows these


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a task that did not succeed, or the moment from which what it made counts no more (returned)."""

    attempt: int
    worker: str | None
    what: str  #: retried, failed, released, recovered, flagged, returned
    reason: str
    at: float  #: Unix seconds, of its end
    seconds: float | None = None  #: that it took, where that is known


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A voter's word that the input of a task is bad."""

    voter: str
    reason: str
    worker: str | None
    at: float


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one stage, in one generation: what went in, who did what, what came out."""

    task: int
    stage: str
    generation: int
    state: str  #: queued, waiting, blocked, leased, succeeded, failed, cancelled, returned
    attempt: int
    worker: str | None
    contributor: str | None
    finished: float | None
    input: bytes | None  #: a packed value; None for a gather, whose input are the outputs of its parts
    output: (
        bytes | None
    )  #: a packed value, for a failed or cancelled task a packed `codec.Failure`; None before its end
    seconds: float | None = None  #: that the run took which succeeded, where that is known
    parts: list[int] = []  #: numbers of the jobs that this stage made of it, or that it waits for: the first 1,000
    tries: list[Try] = []  #: what went wrong before, oldest first
    flags: list[Flag] = []


class JobVerbs(Protocol):
    """Questions about jobs."""

    async def submit(self, submission: Submission) -> JobStatus:
        """Store a call, which then runs as soon as a worker that matches it is free."""
        ...

    async def job(self, id: int) -> JobStatus:
        """Return the job as it stands."""
        ...

    async def jobs(
        self, *, state: str | None = None, project: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[JobStatus]:
        """Return jobs that are no items of a batch, newest first, those with an id below *before*."""
        ...

    async def find_jobs(self, wanted: JobFilter, *, before: int | None = None, limit: int = 50) -> JobPage:
        """Return the jobs *wanted* that are no items of a batch, newest first, those with an id below *before*.

        A page may hold few of them, or none: so many jobs are looked at for one, and no more.
        """
        ...

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        """Return the job's end, after at most *wait* seconds; None while it is open."""
        ...

    async def ends(self, ids: list[int], *, wait: float = 0.0) -> dict[int, JobResult]:
        """Return the ends of those of jobs *ids* that have ended; wait up to *wait* seconds for the first.

        So many as fit into one answer: ask for the rest again.
        """
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

    async def history(self, id: int) -> list[HistoryEntry]:
        """Return what each stage made of job *id* in each generation, in the order in which it came there."""
        ...

    async def retry(self, ids: list[int]) -> int:
        """Queue failed and cancelled jobs again where they ended; return how many that were.

        With a part of a job that has failed for it, that job goes on too, with all its parts that did not succeed.
        """
        ...

    async def prioritize(self, ids: list[int], priority: int) -> int:
        """Have open jobs, no items of batches, run earlier (above 0) or later; return how many those were.

        The priority of their stage is added. What runs goes on, parts and items of batches keep theirs.
        """
        ...

    async def edit(self, id: int, input: bytes) -> JobStatus:
        """Give job *id* another input, a packed value, at the stage where it is or ended, and queue it there.

        Raises `NotEditable` for one that runs, waits for its parts, or succeeded.
        """
        ...

    async def interrupt(self, id: int) -> JobStatus:
        """Raise KeyboardInterrupt in the running code, which may catch it and go on; cancel a job that waits."""
        ...

    async def kill(self, id: int) -> JobStatus:
        """Cancel the job; if it runs, end its process at once."""
        ...

    async def tell(self, id: int, message: bytes) -> bool:
        """Hand *message* to the running code of the job, where a front end's word to a widget goes; False if none runs.

        What it means is between whoever sends it and what listens there; without a listener nobody hears it.
        Raises `PayloadTooLarge` above 32 MiB.
        """
        ...

    async def cancel(self, id: int) -> JobStatus:
        """Cancel the job; code that runs gets a moment to stop."""
        ...

    async def cancel_unfinished(self) -> int:
        """Cancel every open job and batch; return how many jobs that were, items included."""
        ...
