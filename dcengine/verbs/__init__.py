"""What an engine can be asked, in this process or over HTTP, and what it answers.

`Verbs` is implemented by the engine itself and by the HTTP client; handles and the command line
talk to either. Values stay packed bytes here: nothing in this package unpickles.
Times are Unix seconds (float); durations are seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Protocol

from ..buffered import Piece
from .access import Grant, NewToken, TokenRole, TokenSpec, TokenStatus
from .cluster import (
    EngineStatus,
    Explanation,
    JoinTicket,
    LeaderboardRow,
    OtherVersions,
    SessionStatus,
    Span,
    WorkerStatus,
    WorkerVerdict,
)
from .contributors import BanDone, ContributorStatus
from .functions import BatchSubmission, Function, OnNoMatch, Options, Submission
from .jobs import (
    BatchStatus,
    FailedItem,
    Flag,
    HistoryEntry,
    JobResult,
    JobStatus,
    Line,
    Progress,
    Report,
    Transcript,
    Try,
)
from .leases import Completion, Heartbeat, LeasedTask, LeaseRequest, TaskAnswer, TaskFailure, TaskFlag
from .outsiders import OutsideWorker, Registered, Registration
from .projects import (
    AddedJobs,
    Deletion,
    ImportRecord,
    ImportStep,
    ItemsSubmission,
    ProjectSpec,
    ProjectStatus,
    StageOutput,
    StageSpec,
    StageStatus,
    Standing,
)
from .upkeep import BackupDone, VacuumDone
from .values import StoredValue

__all__ = [
    "AddedJobs",
    "BackupDone",
    "BanDone",
    "BatchStatus",
    "BatchSubmission",
    "Completion",
    "ContributorStatus",
    "Deletion",
    "EngineStatus",
    "Explanation",
    "FailedItem",
    "Flag",
    "Function",
    "Grant",
    "Heartbeat",
    "HistoryEntry",
    "ImportRecord",
    "ImportStep",
    "ItemsSubmission",
    "JobResult",
    "JobStatus",
    "JoinTicket",
    "LeaderboardRow",
    "LeaseRequest",
    "LeasedTask",
    "Line",
    "NewToken",
    "OnNoMatch",
    "Options",
    "OtherVersions",
    "OutsideWorker",
    "Progress",
    "ProjectSpec",
    "ProjectStatus",
    "Registered",
    "Registration",
    "Report",
    "SessionStatus",
    "Span",
    "StageOutput",
    "StageSpec",
    "StageStatus",
    "Standing",
    "StoredValue",
    "Submission",
    "TaskAnswer",
    "TaskFailure",
    "TaskFlag",
    "TokenRole",
    "TokenSpec",
    "TokenStatus",
    "Transcript",
    "Try",
    "VacuumDone",
    "Verbs",
    "WorkerStatus",
    "WorkerVerdict",
]


class Verbs(Protocol):
    """The questions. Every one may raise `NotFound` for an unknown id."""

    async def submit(self, submission: Submission) -> JobStatus:
        """Store a call, which then runs as soon as a worker that matches it is free."""
        ...

    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        """Store the calls of one map."""
        ...

    async def job(self, id: int) -> JobStatus:
        """Return the job as it stands."""
        ...

    async def jobs(
        self, *, state: str | None = None, project: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[JobStatus]:
        """Return jobs that are no items of a batch, newest first, those with an id below *before*."""
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

    async def batch(self, id: int) -> BatchStatus:
        """Return the batch as it stands."""
        ...

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        """Return batches, newest first, those with an id below *before*."""
        ...

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        """Return accepted reports with a cursor above *after*; wait up to *wait* seconds for the first."""
        ...

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        """Return the first failed items of batch *id*, in order of their items, without their payload."""
        ...

    async def cancel_batch(self, id: int) -> BatchStatus:
        """Cancel the items that have not ended."""
        ...

    async def retry_batch(self, id: int) -> BatchStatus:
        """Queue the failed and cancelled items again."""
        ...

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

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        """Hand tasks of a lease stage to an outside worker; none if there are none after its waiting time."""
        ...

    # *project*: the only one whose tasks the caller may speak of. Over HTTP its token says that, not the client.
    async def heartbeat(self, beats: list[Heartbeat], *, project: str | None = None) -> list[TaskAnswer]:
        """Renew leases, and say how far their tasks are; an answer may tell to stop."""
        ...

    async def complete(self, completions: list[Completion], *, project: str | None = None) -> list[TaskAnswer]:
        """Hand in what tasks came to."""
        ...

    async def fail(self, failures: list[TaskFailure], *, project: str | None = None) -> list[TaskAnswer]:
        """Say that tasks could not be done; they are tried again as their stage says."""
        ...

    async def flag(self, flags: list[TaskFlag], *, project: str | None = None) -> list[TaskAnswer]:
        """Say that the inputs of tasks are bad; enough voters send a job back."""
        ...

    async def release(self, tokens: list[str], *, project: str | None = None) -> list[TaskAnswer]:
        """Put tasks back that a worker will not do; that counts against nobody."""
        ...

    async def register_worker(self, registration: Registration) -> Registered:
        """Give a worker an identity at one lease stage: a name, and a secret that it shows from then on.

        For protocols whose workers are known by nothing else. It is forgotten once it is silent for longer than the
        stage lets it; an engine that is started anew knows it still.
        """
        ...

    async def registered_worker(self, secret: str) -> OutsideWorker:
        """Return the worker that shows this *secret*, with the tokens of its leases: a sign of life, which renews them.

        Raises `NotFound` for one that has left, or was silent for too long.
        """
        ...

    async def lease_as(
        self, secret: str, *, n: int = 1, wait: float = 0.0, is_volunteer: bool = False, grant: int | None = None
    ) -> list[LeasedTask]:
        """Hand tasks to the worker that shows this *secret*, at its stage and under its name.

        Like *is_volunteer* and *grant* of `LeaseRequest`, those here are said by whoever lets it in.
        """
        ...

    async def held_tasks(self, secret: str) -> list[LeasedTask]:
        """Return once more what the worker that shows this *secret* holds."""
        ...

    async def leave_worker(self, secret: str) -> bool:
        """Put back what the worker that shows this *secret* holds, and forget it; False if nobody knows it."""
        ...

    async def say_progress(self, secret: str, text: str) -> bool:
        """Keep what the worker that shows this *secret* says of what it does; False if nobody knows it."""
        ...

    async def outside_workers(self, project: str | None = None) -> list[OutsideWorker]:
        """Return the outside workers, of *project* alone if it is given, that were heard of lately."""
        ...

    async def put_value(self, pieces: AsyncIterable[Piece], *, keep: float | None = None) -> StoredValue:
        """Keep the packed value that comes in *pieces*, for calls to refer to; *keep* seconds, None for ever."""
        ...

    async def value(self, digest: str) -> StoredValue:
        """Return what is known of a value that was put."""
        ...

    async def read_value(self, digest: str, *, at: int, size: int) -> bytes:
        """Return *size* bytes of a packed value that was put, from byte *at* on."""
        ...

    async def delete_value(self, digest: str) -> bool:
        """Keep a value no longer; return False if it was not kept."""
        ...

    async def create_token(self, spec: TokenSpec) -> NewToken:
        """Make a token. Its secret is in the answer, and nowhere else from then on."""
        ...

    async def tokens(self) -> list[TokenStatus]:
        """Return every token, also those that are good no more, the newest first."""
        ...

    async def revoke_token(self, id: int) -> TokenStatus:
        """Have token *id* be good for nothing from now on; revoked twice, it stays as it is."""
        ...

    async def ban_contributor(self, nickname: str, *, since: float | None = None) -> BanDone:
        """Take nothing from *nickname* any more, and have what it did since a time, or ever, done again.

        Said twice, it finds the less to do. It returns once all of that is queued again, which may take a while.
        """
        ...

    async def unban_contributor(self, nickname: str) -> ContributorStatus:
        """Welcome *nickname* again; what was voided stays so, and its tokens stay revoked."""
        ...

    async def banned_contributors(self) -> list[ContributorStatus]:
        """Return who is banned, the newest first."""
        ...

    async def workers(self) -> list[WorkerStatus]:
        """Return the Dask workers as they are now."""
        ...

    async def explain(self, tags: str) -> Explanation:
        """Return which workers match *tags*, and what the others lack."""
        ...

    async def tag_worker(self, name: str, tags: str) -> WorkerStatus:
        """Give worker *name* these tags of its owner's making, in place of those it had; what it finds by itself stays.

        Jobs that wait are matched anew. Raises `NotFound`, `InvalidTags`, `WorkerUnfit`.
        """
        ...

    async def sessions(self) -> list[SessionStatus]:
        """Return the sessions that live, and the lost ones of which nobody was told yet."""
        ...

    async def end_session(self, name: str) -> bool:
        """End a session and what runs in it; return False if there is none. What still waits for it fails."""
        ...

    async def leaderboard(
        self, project: str = "functions", *, span: Span = "all", limit: int = 1000
    ) -> list[LeaderboardRow]:
        """Return who earned how much in *span*, most first. Spans end with the current hour."""
        ...

    async def standing(self, project: str, nickname: str, *, span: Span = "all") -> Standing:
        """Return one contributor's place; raises `NotFound` for a nickname without credit."""
        ...

    async def status(self) -> EngineStatus:
        """Return the engine as it stands: its workers, and how many tasks are in which state."""
        ...

    async def join_ticket(self) -> JoinTicket:
        """Return what a machine needs to bring a Dask worker."""
        ...

    async def backup(self, path: str) -> BackupDone:
        """Copy the file to the new file *path* on the engine's machine, as it stands, while work goes on."""
        ...

    async def vacuum(self) -> VacuumDone:
        """Give the space of what was deleted back to the disk; nothing is written meanwhile."""
        ...
