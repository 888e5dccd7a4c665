"""Answers that are lists, equal to plain ones, and print as small tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from .codec import unpack_failure
from .handles import Link
from .plain import clean, table
from .tags import devices_offered
from .verbs import (
    BatchStatus,
    Explanation,
    JobFilter,
    JobPage,
    JobStatus,
    LeaderboardRow,
    SessionStatus,
    Span,
    StageOutput,
    WorkerStatus,
    WorkerVerdict,
)

FUNCTIONS = "functions"  #: the project of calls that belong to none
LONGEST = 50  #: rows that are printed
SENTENCE = 2000  #: characters of an explanation
SPANS: dict[Span, str] = {
    "all": " yet", "month": " of the last 30 days", "week": " of the last 7 days", "day": " of the last 24 hours",
}  # fmt: skip


class Leaderboard(list[LeaderboardRow]):
    """The contributors of one project, most credit first, as they stood when they were asked for."""

    def __init__(
        self,
        rows: Iterable[LeaderboardRow] = (),
        project: str = "functions",
        link: Link | None = None,
        span: Span = "all",
    ) -> None:
        super().__init__(rows)
        self.project = project
        self.span = span  #: over which credit is summed
        self.link = link  #: where to ask again; a copy in another process has none

    def __repr__(self) -> str:
        if not self:
            return f"no contributor of {clean(self.project)} has credit{SPANS[self.span]}"
        rows = [
            (str(row.rank or place), clean(row.nickname, 40), f"{row.tasks:,}", f"{row.share:.1%}")
            for place, row in enumerate(self[:LONGEST], 1)
        ]
        printed = table(("", "contributor", "credit", "share"), rows, numbers=("", "credit", "share"))
        return printed + _more(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Leaderboard, (list(self), self.project, None, self.span)


class WorkerList(list[WorkerStatus]):
    """The workers of an engine, as they stood when they were asked for."""

    def __init__(self, rows: Iterable[WorkerStatus] = (), link: Link | None = None) -> None:
        super().__init__(rows)
        self.link = link  #: where to ask again; a copy in another process has none

    def __repr__(self) -> str:
        if not self:
            return "no workers"
        rows = [
            (clean(row.name, 40), row.state, busy_text(row), clean(row.contributor, 40), tag_text(row))
            for row in self[:LONGEST]
        ]
        printed = table(("name", "state", "busy", "contributor", "tags"), rows) + _more(len(self))
        aside = [f"{clean(row.name, 40)} is {text}" for row in self[:LONGEST] for text in aside_texts(row)]
        return "\n".join([printed, *aside])

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerList, (list(self),)


class SessionList(list[SessionStatus]):
    """The sessions of an engine, as they stood when they were asked for."""

    def __repr__(self) -> str:
        if not self:
            return "no sessions"
        rows = [
            (one.name, clean(one.worker, 40), one.state, f"{one.idle:,.0f} s", clean(one.lost or "", 80))
            for one in self[:LONGEST]
        ]
        printed = table(("session", "worker", "state", "idle", "what became of it"), rows, numbers=("idle",))
        return printed + _more(len(self))


class Sentence(str):
    """What an engine says, as text; printed by itself it stands without quotation marks."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> Sentence:
        """Return *text* safe to show."""
        return cls(clean(text, SENTENCE))

    def __repr__(self) -> str:
        return str(self)


class Explained(str):
    """Which workers match a tag expression, in a sentence; printed by itself it goes on with a line for each."""

    __slots__ = ("workers",)
    workers: list[WorkerVerdict]  #: what each lacks, by name

    @classmethod
    def of(cls, explanation: Explanation) -> Explained:
        """Return *explanation* as a text."""
        explained = cls(clean(explanation.sentence, SENTENCE))
        explained.workers = explanation.workers
        return explained

    def __repr__(self) -> str:
        rows = [(clean(row.name, 40), clean(verdict_text(row), 200)) for row in self.workers[:LONGEST]]
        return "\n".join([self, table(("worker", "verdict"), rows) + _more(len(self.workers))] if rows else [self])

    def __reduce__(self) -> tuple[Any, ...]:
        return Explained.of, (Explanation(sentence=str(self), workers=self.workers),)


class JobList(list[JobStatus]):
    """Jobs as they stood when they were asked for, the newest first; with them batches, where all were asked for."""

    def __init__(
        self,
        rows: Iterable[JobStatus] = (),
        batches: Iterable[BatchStatus] = (),
        project: str | None = None,
        *,
        link: Link | None = None,
        wanted: JobFilter | None = None,
        before: int | None = None,
        older: int | None = None,
    ) -> None:
        super().__init__(rows)
        self.batches = list(batches)  #: the newest first; their items are no jobs of the list
        self.project = project  #: whose jobs they all are, so that their numbers tell them apart
        self.link = link  #: where to ask for others; a copy in another process has none
        self.wanted = wanted or JobFilter(project=project or "")  #: which jobs were asked for
        self.before = before  #: the list begins below this id; None: with the newest
        self.older = older  #: ask for those before this id; None where these are all

    def __repr__(self) -> str:
        if not self and not self.batches:
            return "no jobs"
        older = "" if self.older is None else f"\nolder ones: before={self.older}"
        return "\n\n".join(part for part in (self._batch_table(), self._job_table()) if part) + older

    def _batch_table(self) -> str:
        columns = ("batch", "function", "state", "done", "of", "failed", "submitted")
        rows = [
            (
                str(batch.id), clean(batch.name, 40), batch.state, f"{batch.done:,}", f"{batch.count:,}",
                str(batch.failed or ""), clock(batch.created),
            )
            for batch in self.batches[:LONGEST]
        ]  # fmt: skip
        return _filled(columns, rows, ("batch", "done", "of", "failed")) + _more(len(self.batches)) if rows else ""

    def _job_table(self) -> str:
        columns = ("job", self.subject, "state", "worker", "progress", "errors", "tags", "submitted", "reason")
        rows = [
            (
                job_name(job, self.project), clean(what_text(job), 40), state_text(job), clean(job.worker or "", 40),
                clean(progress_text(job), 60), str(job.errors or ""), clean(job.tags, 60),
                "" if self.project else clock(job.created), clean(job.reason or "", 80),
            )
            for job in self[:LONGEST]
        ]  # fmt: skip
        return _filled(columns, rows, ("job", "errors")) + _more(len(self)) if rows else ""

    @property
    def subject(self) -> str:
        """What stands beside the jobs: their functions, or the stages where they are."""
        kinds = {job.project == FUNCTIONS for job in self}
        return "what" if len(kinds) > 1 else "function" if True in kinds else "stage"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = partial(JobList, wanted=self.wanted, before=self.before, older=self.older)
        return kept, (list(self), self.batches, self.project)


class DeadLetter(msgspec.Struct, frozen=True):
    """A job that failed, until somebody runs it again."""

    number: int  #: the job's, within its project
    stage: str  #: where it failed
    reason: str  #: in one line
    id: int  #: what `dcengine.job` takes
    parent: int | None = None  #: number of the job whose part it is


class DeadLetters(list[DeadLetter]):
    """The failed jobs of one project, in order of their numbers."""

    def __repr__(self) -> str:
        if not self:
            return "no failed jobs"
        rows = [(str(letter.number), clean(letter.stage, 40), clean(letter.reason)) for letter in self[:LONGEST]]
        return table(("job", "stage", "reason"), rows, numbers=("job",)) + _more(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return DeadLetters, (list(self),)


def dead_letters(ends: Iterable[StageOutput]) -> DeadLetters:
    """Return the failed jobs of which *ends* tells; nothing is unpickled."""
    return DeadLetters(
        DeadLetter(end.number, end.stage, unpack_failure(end.data).sentence if end.data else "", end.job, end.parent)
        for end in ends
    )


def found_jobs(
    find: Callable[..., JobPage], wanted: JobFilter, before: int | None, limit: int
) -> tuple[list[JobStatus], int | None]:
    """Return *limit* jobs below *before*, and where older ones begin: *find* answers with fewer where few are meant."""
    jobs: list[JobStatus] = []
    while True:
        page = find(wanted, before=before, limit=limit - len(jobs))
        jobs += page.jobs
        before = page.before
        if before is None or len(jobs) >= limit:
            return jobs, before


def job_name(job: JobStatus, project: str | None = None) -> str:
    """Return by what *job* is found again: its id, or its place in its project; among those of *project* its number."""
    if project is not None:
        return str(job.number)
    return str(job.id) if job.project == FUNCTIONS else f"{clean(job.project, 40)}/{job.number}"


def what_text(job: JobStatus) -> str:
    """Return what *job* runs: a function, or the stage where it is."""
    return job.name if job.project == FUNCTIONS else job.stage


def state_text(job: JobStatus) -> str:
    """Return how *job* stands: how it ended, or what its task does."""
    return job.state if job.is_final else job.task_state


def progress_text(job: JobStatus) -> str:
    """Return how far *job* said that it is, while it runs."""
    progress = None if job.is_final else job.progress
    if progress is None:
        return ""
    share = f"{progress.done:g} of {progress.total:g}" if progress.total else f"{progress.done:g}"
    return f"{share} {progress.text}".rstrip()


def clock(moment: float) -> str:
    """Return *moment* as a clock here shows it, with the day if that is another one."""
    there, now = time.localtime(moment), time.localtime()
    return time.strftime("%H:%M:%S" if there[:3] == now[:3] else "%Y-%m-%d %H:%M", there)


def busy_text(worker: WorkerStatus) -> str:
    """Return what of *worker* is in use: its slots, and devices that it has lent."""
    return ", ".join([f"{worker.busy} of {worker.slots}", *devices_texts(worker)])


def devices_texts(worker: WorkerStatus) -> list[str]:
    """Return how many of which devices *worker* has lent."""
    return [f"{kind} {lent}/{devices_offered(worker.tags, kind)}" for kind, lent in worker.devices.items()]


def aside_texts(worker: WorkerStatus) -> list[str]:
    """Return for what *worker* is set aside, and why."""
    return [f"set aside for {clean(name, 40)}: {clean(reason)}" for name, reason in worker.set_aside.items()]


def verdict_text(verdict: WorkerVerdict) -> str:
    """Return what *verdict* says of its worker."""
    return verdict.problem or (f"lacks {', '.join(verdict.lacking)}" if verdict.lacking else "matches")


def tag_text(worker: WorkerStatus) -> str:
    """Return the tags of *worker* as people write them."""
    return ", ".join(tag if value is None else f"{tag}={value}" for tag, value in worker.tags.items())


def _more(count: int) -> str:
    return "" if count <= LONGEST else f"\nand {count - LONGEST:,} more"


def _filled(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> str:
    """Return a table of those columns in which something stands."""
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    return table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows], numbers=numbers)
