"""Projects as they are declared, filled, watched and put away."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..jobs import (
    BACK_OFF,
    BACK_OFF_LIMIT,
    CRASH_RETRIES,
    GENERATIONS,
    LEASE_SECONDS,
    LEASE_VOTES,
    CreditBy,
    How,
    OnFailedPart,
    Shape,
    StageKind,
)
from ..plain import clean, table
from .cluster import OtherVersions
from .contributors import Span
from .functions import Function

ENDED = frozenset({"succeeded", "failed", "cancelled", "returned"})  #: states of tasks that move no more


class StageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a project, as its author declares it."""

    name: str
    title: str = ""  #: for people, where it is not the name
    kind: StageKind = "function"
    shape: Shape = "map"
    #: Takes one value, the output of the stage before, a gather a list of them; returns the next one's input, an
    #: expand an iterable of them. None for a lease stage.
    function: Function | None = None
    tags: str = ""  #: tag expression; empty matches every worker
    retries: int = 0  #: n allows n + 1 runs
    crash_retries: int = CRASH_RETRIES
    timeout: float | None = None  #: seconds one run may take; for a lease stage, however often it is renewed
    priority: int = 0  #: of its tasks, above that of their jobs; higher runs earlier
    #: How long an outside worker may keep a task without a word; None: as the protocol says, or 600.
    lease_seconds: float | None = None
    back_off: float = BACK_OFF  #: seconds before the second run, at most; doubled with each error
    back_off_limit: float = BACK_OFF_LIMIT  #: seconds between two runs, at most
    #: Distinct voters that send a job back; None: 1 for a function, 3 for a lease stage, or what the protocol says.
    votes: int | None = None
    generations: int = GENERATIONS  #: times that this stage may send a job back before it fails
    credit: CreditBy = "task"
    on_failed_part: OnFailedPart = "fail"  #: for a gather
    speculative: bool = False  #: as in `Options`
    isolate: bool = True  #: as in `Options`
    packages: dict[str, str] = {}  #: as in `Submission`
    is_paused: bool = False  #: only when the stage is new

    @property
    def how(self) -> int:
        """The bits of `How` that the store keeps."""
        return (How.SPECULATIVE if self.speculative else 0) | (0 if self.isolate else How.SHARED)

    @property
    def lease_time(self) -> float:
        """How long an outside worker may keep a task without a word, in seconds."""
        return LEASE_SECONDS if self.lease_seconds is None else self.lease_seconds

    @property
    def votes_needed(self) -> int:
        """How many distinct voters send a job back from here."""
        return self.votes if self.votes is not None else LEASE_VOTES if self.kind == "lease" else 1


class ProjectSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A project as its author declares it."""

    name: str
    stages: list[StageSpec]  #: in order
    submitter: str = ""
    protocol: str = ""  #: what old clients speak at ``/p/NAME/``, such as "distcompute"
    is_open: bool = False  #: anybody may lease its tasks, without a token
    #: Of a project that exists, what is not named here stays as it is: its other stages, protocol, openness. New
    #: stages come behind those that there are.
    is_partial: bool = False


class ImportStep(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of which import some items are."""

    name: str  #: of the import, within the project
    offset: int  #: items of it before these
    before: bytes  #: digest of the items before these; empty at the start
    after: bytes  #: digest of the items including these


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How far an import has come."""

    items: int
    digest: bytes
    updated: float  #: Unix seconds
    root: int | None = None  #: the job whose parts the items are, where a gather waits for them


class ItemsSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """Items to send through a project, one job for each.

    Where a gather waits for what is added, all items of one `add` are parts of one job, its root: the first
    submission makes it, the others name it, and the last says that it is the last.
    """

    project: str
    blocks: list[bytes]  #: packed values in order, each block packed by `codec.pack`
    count: int
    keys: list[str] | None = None  #: one for each item; a key that the project knows already makes no new job
    priority: int = 0
    not_before: float | None = None  #: Unix seconds
    keep: float | None = None  #: seconds after their end that their values are kept; None for ever
    root: int | None = None  #: the job whose parts they are, as told by the submission before
    is_last: bool = True  #: no more parts of the same root will come
    imported: ImportStep | None = None
    request: str | None = None  #: idempotency key, as in `Submission`
    submitter: str = ""


class AddedJobs(msgspec.Struct, frozen=True):
    """The jobs made of some items: consecutive ids, consecutive numbers within the project.

    With keys that were known already there are fewer than items.
    """

    first_id: int
    first_number: int
    count: int
    root: int | None = None  #: the job whose parts they are
    known: int = 0  #: items that were there already: by their keys, or by an import


class StageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a project as people see it."""

    name: str
    tags: str
    counts: dict[str, int]  #: task state -> number of tasks at this stage, states without any left out
    title: str = ""
    kind: StageKind = "function"
    shape: Shape = "map"
    is_paused: bool = False

    @property
    def label(self) -> str:
        """What people call it: its name, and its title if that is another."""
        return f"{self.name} ({self.title})" if self.title not in ("", self.name) else self.name

    @property
    def what(self) -> str:
        """Who does it and how, in a word."""
        kind = self.kind if self.shape == "map" else self.shape
        return f"{kind}, paused" if self.is_paused else kind

    @property
    def here(self) -> int:
        """How many tasks run there, or could do so once it is their turn."""
        return sum(self.counts.get(state, 0) for state in ("queued", "waiting", "leased"))

    @property
    def said(self) -> str:
        """How many of its tasks are in which state, in words."""
        return ", ".join(f"{number:,} {state}" for state, number in self.counts.items() if number)


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A project as people see it. A part of a job is a job too."""

    name: str
    is_paused: bool  #: its tasks are not handed out
    stages: list[StageStatus]  #: in order
    open: int = 0  #: jobs by what became of them
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    protocol: str = ""  #: as in `ProjectSpec`
    is_open: bool = False  #: as in `ProjectSpec`
    workers: list[str] = []  #: that run its tasks now
    rate: float = 0.0  #: tasks that end in a second, lately; 0 while it is paused
    #: Seconds until all its jobs have ended, if each stage goes on as fast as lately; None where nothing is left, a
    #: stage is paused, or nothing comes through one. What an expand will make is not known before.
    eta: float | None = None
    warning: str | None = None  #: what its author should know now: nobody has the tags of a stage, say
    other_versions: list[OtherVersions] = []  #: the same when it was declared: packages that its functions use

    def __repr__(self) -> str:
        state = "paused" if self.is_paused else "runs" if self.open else "idle"
        ended = f"{self.done:,} of {self.total:,} job(s) have ended"
        lines = [", ".join([f"project {clean(self.name, 80)} ({state}): {ended}", *self._lost()])]
        rows = [(clean(stage.label, 60), stage.what, stage.said) for stage in self.stages]
        lines += table(("", "", ""), rows).splitlines()[1:]
        return "\n".join(lines if self.warning is None else [*lines, clean(self.warning)])

    def _lost(self) -> list[str]:
        lost = (("failed", self.failed), ("cancelled", self.cancelled))
        return [f"{number:,} {state}" for state, number in lost if number]

    @property
    def done(self) -> int:
        """How many jobs have ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def total(self) -> int:
        """How many jobs were ever added."""
        return self.open + self.done

    @property
    def tasks_left(self) -> int:
        """How many tasks the open jobs still need: one at the stage where each is, and at each one behind it."""
        stages = len(self.stages)
        return sum(
            n * (stages - place)
            for place, stage in enumerate(self.stages)
            for state, n in stage.counts.items()
            if state not in ENDED
        )

    def open_until(self, stage: str | None) -> int:
        """Return how many jobs have not left *stage* yet; None stands for the last one."""
        if stage is None:
            return self.open
        names = [each.name for each in self.stages]
        until = names.index(stage) + 1 if stage in names else 0
        return sum(n for each in self.stages[:until] for state, n in each.counts.items() if state not in ENDED)


class StageOutput(msgspec.Struct, frozen=True):
    """How one job left one stage."""

    job: int
    number: int  #: the job's, within its project
    state: str  #: succeeded or failed
    data: bytes  #: a packed value, or a packed `codec.Failure`
    stage: str = ""
    parent: int | None = None  #: number of the job whose part this one is
    head: bytes = b""  #: how a value begins that is too large to be here; *data* is empty then
    size: int = 0  #: bytes of that value


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What goes, or went, with a project."""

    project: str
    jobs: int
    open: int  #: of them
    running: int  #: of those
    contributors: int  #: whose credit goes with it

    def __repr__(self) -> str:
        jobs = f"{self.jobs:,} job(s), {self.open:,} of them open and {self.running:,} running"
        return f"<project {self.project!r}: {jobs}, and the credit of {self.contributors:,} contributor(s)>"


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """How much came through a project, and when."""

    at: float  #: Unix seconds: where all series end
    credit: list[int]  #: given in each hour by the clock, the oldest first; the last hour is not over
    stages: dict[
        str, list[int]
    ]  #: tasks accepted at each stage in each half minute of the last hour, since the engine began


class ProjectVerbs(Protocol):
    """Questions about projects."""

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        """Create a project, paused, or bring the stages of an existing one up to date."""
        ...

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        """Send items through a project, one job for each."""
        ...

    async def run_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        """Let the tasks of the project, or of one stage, be handed out."""
        ...

    async def pause_project(self, name: str, *, stage: str | None = None) -> ProjectStatus:
        """Hand no more tasks of the project, or of one stage, out; what runs goes on."""
        ...

    async def cancel_project(self, name: str) -> int:
        """Cancel every open job of the project; return how many that were."""
        ...

    async def retry_project(self, name: str, *, stage: str | None = None, cancelled: bool = False) -> int:
        """Queue the failed jobs of the project again, or those that failed at *stage*; the cancelled ones on demand."""
        ...

    async def deletion(self, name: str) -> Deletion:
        """Return what `delete_project` would delete."""
        ...

    async def delete_project(self, name: str) -> Deletion:
        """Delete the project with its jobs, their values and its credit; what runs is cancelled.

        Its name is free at once; its rows go bit by bit.
        """
        ...

    async def imported(self, project: str, name: str) -> ImportRecord | None:
        """Return how far the import called *name* has come, None if it has not begun."""
        ...

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        """Return the project as it stands.

        With *wait*, once no job of it is open, or has still to leave *stage*, or so many seconds are over.
        """
        ...

    async def projects(self) -> list[ProjectStatus]:
        """Return all projects as they stand."""
        ...

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return how jobs left *stage*, by number: those above number *after*, a page at a time."""
        ...

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        """Return the jobs that failed, at whatever stage, by number: those above number *after*, a page at a time."""
        ...

    async def find_job(self, project: str, number: int) -> int:
        """Return the id of the job that has *number* in *project*."""
        ...

    async def throughput(self, project: str, *, span: Span = "day") -> Throughput:
        """Return how much came through *project*: the hours of *span* ("all": 30 days), and the last hour."""
        ...

    async def newest_outputs(self, project: str, *, stage: str | None = None, limit: int = 12) -> list[StageOutput]:
        """Return what the newest jobs that succeeded at *stage* came to there, or at the last that has let any go.

        Of values above 16 MiB only the beginning is there; those that stay on workers are left out.
        """
        ...
