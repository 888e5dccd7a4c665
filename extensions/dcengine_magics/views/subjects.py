"""What views look at: batches, jobs, lists; each says how to look and how it is shown. Larger ones have modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dcengine.batches import BatchHandle
from dcengine.handles import JobHandle, Link
from dcengine.lists import Explained, JobList, Leaderboard, Sentence, WorkerList
from dcengine.verbs import (
    BatchStatus,
    EngineStatus,
    FailedItem,
    JobStatus,
    LeaderboardRow,
    ProjectStatus,
    WorkerStatus,
)
from dcengine.workloads import Run

from . import rendering, wording
from .board import BoardSubject
from .browser import Browser
from .past import JobPast, PastSubject
from .sights import Sight, Subject, ask

SAMPLE = 200  #: failed items that are read to find the reasons
IDLE_LOOKS = 2  #: without anything running, after which a table stays as it is


class BatchSubject:
    """A batch and the reasons of its failures."""

    def __init__(self, batch: BatchHandle) -> None:
        self.cancel: Callable[[], object] | None = batch.cancel
        self._link, self._id = batch._link, batch.id
        self._failed: Sequence[FailedItem] = ()
        self._failures = 0  #: when they were last read

    def look(self, patience: float) -> Sight:
        status: BatchStatus = ask(self._link, "batch", self._id, patience=patience)
        if status.failed != self._failures:
            self._failed = ask(self._link, "failures", self._id, limit=SAMPLE, patience=patience)
            self._failures = status.failed
        html, text = rendering.batch_html(status, self._failed), wording.batch_text(status, self._failed)
        return Sight(html, text, status.is_final)


class JobSubject:
    """A job, and why it does not run."""

    def __init__(self, job: JobHandle) -> None:
        self.cancel: Callable[[], object] | None = job.cancel
        self._link, self._id = job._link, job.id

    def look(self, patience: float) -> Sight:
        status: JobStatus = ask(self._link, "job", self._id, patience=patience)
        waits = not status.is_final and status.task_state != "leased"
        why = str(ask(self._link, "why", self._id, patience=patience)) if waits else ""
        return Sight(rendering.job_html(status, why), wording.job_text(status, why), status.is_final)


class LeaderboardSubject:
    """A leaderboard, asked for again while there is work on its project; else as it stood."""

    cancel: Callable[[], object] | None = None

    def __init__(self, board: Leaderboard) -> None:
        self._board = board
        self._rest = Rest()

    def look(self, patience: float) -> Sight:
        link, project = self._board.link, self._board.project
        if link is not None and self._rest.note(self._is_busy(link, patience)):
            span = self._board.span
            rows: list[LeaderboardRow] = ask(link, "leaderboard", project, span=span, patience=patience)
            self._board = Leaderboard(rows, project, link, span)
        return Sight(
            rendering.leaderboard_html(self._board, project, self._board.span), repr(self._board), self._rest.is_over
        )

    def _is_busy(self, link: Link, patience: float) -> bool:
        if self._board.project == "functions":
            return _is_running(link, patience)
        status: ProjectStatus = ask(link, "project", self._board.project, patience=patience)
        return any(stage.counts.get("leased") for stage in status.stages)


class WorkersSubject:
    """The workers of an engine, asked for again while one of them starts or is at work; else as they stood."""

    cancel: Callable[[], object] | None = None

    def __init__(self, workers: WorkerList) -> None:
        self._workers = workers
        self._rest = Rest()

    def look(self, patience: float) -> Sight:
        link = self._workers.link
        if link is not None and self._rest.note(self._is_busy(link, patience)):
            rows: list[WorkerStatus] = ask(link, "workers", patience=patience)
            self._workers = WorkerList(rows, link)
        return Sight(rendering.workers_html(self._workers), repr(self._workers), self._rest.is_over)

    def _is_busy(self, link: Link, patience: float) -> bool:
        return any(worker.state == "starting" for worker in self._workers) or _is_running(link, patience)


class StillSubject:
    """An answer as it was when that was asked: jobs, or which workers match a tag expression."""

    cancel: Callable[[], object] | None = None

    def __init__(self, html: str, text: str) -> None:
        self._sight = Sight(html, text, is_over=True)

    def look(self, patience: float) -> Sight:
        return self._sight


class Rest:
    """Tells a pause between two pieces of work from the end of it."""

    def __init__(self) -> None:
        self._idle_looks = IDLE_LOOKS  #: at rest until work is seen

    @property
    def is_over(self) -> bool:
        return self._idle_looks >= IDLE_LOOKS

    def note(self, is_busy: bool) -> bool:
        """Take note of whether there was work; return whether another look at its effects is worth it."""
        was_over = self.is_over
        self._idle_looks = 0 if is_busy else self._idle_looks + 1
        return not (was_over and self.is_over)


def subject_of(thing: Any) -> Subject:
    """Return *thing* as something to look at."""
    if isinstance(thing, BatchHandle):
        return BatchSubject(thing)
    if isinstance(thing, JobHandle):
        return JobSubject(thing)
    if isinstance(thing, Leaderboard):
        return LeaderboardSubject(thing)
    if isinstance(thing, WorkerList):
        return WorkersSubject(thing)
    if isinstance(thing, Explained):
        return StillSubject(rendering.explanation_html(thing), repr(thing))
    if isinstance(thing, JobPast):
        return PastSubject(thing.handle._link, thing.handle.id)
    if isinstance(thing, JobList) and thing.link is not None:
        return Browser(thing)
    if isinstance(thing, JobList):
        return StillSubject(rendering.jobs_html(thing), repr(thing))
    if isinstance(thing, Sentence):
        return StillSubject(rendering.sentence_html(thing), repr(thing))
    from dcengine import api  # a project belongs to whichever engine is in use

    project = thing.project if isinstance(thing, Run) else thing
    return BoardSubject(api.current(), project.name, repr(thing))


def _is_running(link: Link, patience: float) -> bool:
    status: EngineStatus = ask(link, "status", patience=patience)
    return bool(status.counts.get("leased"))
