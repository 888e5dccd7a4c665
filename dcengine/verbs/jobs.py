"""How single jobs and batches stand, what they said, and what came of them."""

from __future__ import annotations

import msgspec

from .cluster import OtherVersions


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
    submitter: str = ""  #: who brought it, as user@host
    rate: float = 0.0  #: items per second, over the last seconds
    workers: list[str] = []
    warning: str | None = None
    other_versions: list[OtherVersions] = []

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
    parts: list[int] = []  #: numbers of the jobs that this stage made of it, or that it waits for: the first 1,000
    tries: list[Try] = []  #: what went wrong before, oldest first
    flags: list[Flag] = []
