"""Projects: named rows of stages that jobs travel through, as their authors fill and watch them."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from . import api, times
from .calls import submitter
from .cautions import NoMatchWarning, warn_of_versions
from .declaring import Pipeline
from .ends import error_of, value_of
from .errors import DcengineError, InvalidOption, ProjectBlocked, ProjectPaused, ResultNotReady
from .handles import POLL_SECONDS, JobHandle
from .items import Block, Keys, blocks, numbers_of, with_last
from .jobs import JobState, gathered, gathers_all
from .lists import DeadLetters, JobList, Leaderboard, dead_letters
from .options import Duration, Moment
from .verbs import (
    AddedJobs,
    Deletion,
    ItemsSubmission,
    JobResult,
    JobStatus,
    ProjectStatus,
    Span,
    StageOutput,
    StageStatus,
    Standing,
)

PAGE = 1000  #: jobs in one answer
LOOK_SECONDS = 2.0  #: between two looks at a project that may come to a stop on its way


class Project(Pipeline):
    """A named row of stages; every item that is added becomes a job that travels through them.

    ```python
    project = dcengine.Project("photos")

    @project.stage(tags="gpu", retries=2)
    def describe(photo): ...

    @project.stage
    def index(description): ...

    project.add(photos)
    print(project.run().results())
    ```

    The output of a stage is the input of the next one. Without stages of its own it is the project of that name
    which the engine has already, with everything but declaring to be done to it, from any process.
    """

    def __repr__(self) -> str:
        stages = f" with the stages {', '.join(self._steps)}" if self._steps else ""
        return f"<dcengine project {self.name!r}{stages}>"

    def declare(self) -> ProjectStatus:
        """Make the engine's stages those declared here, as `add` and `run` do; without any here, the engine's stay."""
        if not self._steps:
            return self.status()
        link = api.current()
        status: ProjectStatus = link.call("declare_project", self.spec())
        warn_of_versions(link.told, self.name, status.other_versions)
        return status

    # ---- work ------------------------------------------------------------------------------

    def add(
        self,
        items: Iterable[Any],
        *,
        priority: int = 0,
        not_before: Moment | None = None,
        keys: Keys | None = None,
        keep: Duration | None = None,
    ) -> Sequence[int]:
        """Store a job for each of *items* at the first stage; return their numbers within the project.

        They are durable when this returns, and begin at once if the project runs. The numbers are a range, unless
        somebody else added jobs meanwhile. Items are taken and stored in blocks of up to 4,096: with one that cannot
        be stored its block is lost, and the blocks before it stay. Where a gather waits for all that was added,
        nothing stays.

        Args:
            priority: higher runs earlier.
            not_before: when they may begin: a datetime, Unix seconds, a timedelta from now.
            keys: a text for each item, or a function that makes one of an item; a key that the project knows
                already makes no second job.
            keep: how long after its end a job's values are kept, in seconds or as a timedelta; None: for ever.
        """
        whole = ItemsSubmission(
            project=self.name, blocks=[], count=0, priority=_whole_number("priority", priority),
            not_before=None if not_before is None else times.moment("not_before", not_before),
            keep=None if keep is None else times.seconds("keep", keep), submitter=submitter(),
        )  # fmt: skip
        status = self.declare()
        packed = blocks(items, keys, as_json=status.stages[0].kind == "lease")
        if gathers_all([stage.shape for stage in status.stages]):
            return numbers_of(self._add_parts(whole, packed))
        return numbers_of([self._add(whole, block) for block in packed])

    def _add(self, whole: ItemsSubmission, block: Block, *, root: int | None = None, is_last: bool = True) -> AddedJobs:
        added: AddedJobs = self._ask(
            "add_jobs",
            msgspec.structs.replace(
                whole, blocks=[block.data], count=block.size, keys=block.keys, root=root, is_last=is_last,
                request=uuid.uuid4().hex,
            ),
        )  # fmt: skip
        return added

    def _add_parts(self, whole: ItemsSubmission, packed: Iterable[Block]) -> list[AddedJobs]:
        """Store all of *packed* as parts of one job; without the last of them it would wait for ever."""
        parts: list[AddedJobs] = []
        try:
            for block, is_last in with_last(packed):
                root = parts[-1].root if parts else None
                parts.append(self._add(whole, block, root=root, is_last=is_last))
        except BaseException:
            if parts and parts[-1].root is not None:
                self._give_up(parts[-1].root)
            raise
        return parts

    def _give_up(self, root: int) -> None:
        try:
            self._ask("cancel", root)
        except DcengineError:
            pass  # what went wrong before is what the caller needs to hear

    def run(self) -> Project:
        """Let the jobs go on their way, those that are added later too; return this project, to be waited for."""
        self.declare()
        status: ProjectStatus = self._ask("run_project", self.name)
        if status.warning is not None:
            warnings.warn(f"project {self.name!r} waits: {status.warning}", NoMatchWarning, stacklevel=2)
        return self

    def pause(self, stage: str | None = None) -> ProjectStatus:
        """Hand no more tasks of the project, or of one stage, out; what runs goes on to its end."""
        status: ProjectStatus = self._ask("pause_project", self.name, stage=stage)
        return status

    def resume(self, stage: str | None = None) -> ProjectStatus:
        """Let the tasks of the project, or of one stage, be handed out again."""
        status: ProjectStatus = self._ask("run_project", self.name, stage=stage)
        return status

    def cancel(self) -> int:
        """Cancel every job that has not ended; return how many that were."""
        return int(self._ask("cancel_project", self.name))

    def retry(self, stage: str | None = None, *, cancelled: bool = False) -> int:
        """Run the failed jobs again where they failed, or those that failed at *stage*; return how many.

        With *cancelled* those that were cancelled too.
        """
        return int(self._ask("retry_project", self.name, stage=stage, cancelled=cancelled))

    def delete(self, *, confirm: bool = False) -> Deletion:
        """Return what would go with the project; with *confirm* it goes: jobs, values, credit."""
        gone: Deletion = self._ask("delete_project" if confirm else "deletion", self.name)
        return gone

    # ---- how it stands ---------------------------------------------------------------------

    def status(self) -> ProjectStatus:
        """Return the project as it stands."""
        status: ProjectStatus = self._ask("project", self.name)
        return status

    @property
    def progress(self) -> ProjectStatus:
        """How many jobs are at which stage, done, failed."""
        return self.status()

    def done(self) -> bool:
        """Tell whether every job has ended."""
        return not self.status().open

    def wait(self, timeout: float | None = None) -> ProjectStatus:
        """Wait until every job has ended; return how they did.

        Raises `ResultNotReady` after *timeout* seconds, and where waiting would take for ever `ProjectPaused`,
        or `ProjectBlocked` for a gather that waits until failed parts are run again.
        """
        return self._wait(None, timeout)

    def _wait(self, stage: str | None, timeout: float | None) -> ProjectStatus:
        """Wait until every job has left *stage*, None for the last one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        status = self.status()
        may_stop = any(each.shape == "gather" or each.is_paused for each in status.stages)
        longest = LOOK_SECONDS if may_stop else POLL_SECONDS
        while status.open_until(stage):
            self._check_moves(status, stage)
            left = longest if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise ResultNotReady(f"project {self.name!r}", timeout or 0.0)
            status = self._ask("project", self.name, stage=stage, wait=min(left, longest))
        return status

    def _check_moves(self, status: ProjectStatus, stage: str | None) -> None:
        """Raise what keeps every job that has still to leave *stage* where it is, if something does."""
        if status.is_paused:
            raise ProjectPaused(self.name, status.open)
        names = [each.name for each in status.stages]
        ahead = status.stages[: None if stage is None else names.index(stage) + 1]
        if any(_moves(each) for each in ahead):
            return
        paused = [each.name for each in ahead if each.is_paused and _waits(each)]
        if paused:
            raise ProjectPaused(self.name, status.open, paused[0])
        self._check_parts(status)

    def _check_parts(self, status: ProjectStatus) -> None:
        """Raise `ProjectBlocked` if a gather waits for a part that has failed."""
        are_open: dict[int, bool] = {}
        for failed in self._pages("failed_jobs", self.name) if status.failed else ():
            if failed.parent is None:
                continue
            if failed.parent not in are_open:
                are_open[failed.parent] = not self.job(failed.parent).status().is_final
            if are_open[failed.parent]:
                (letter,) = dead_letters([failed])
                raise ProjectBlocked(self.name, letter.number, letter.stage, letter.reason)

    # ---- what came of it -------------------------------------------------------------------

    def results(self, timeout: float | None = None) -> list[Any]:
        """Wait until every job has ended; return what the last stage made of each, in order of their numbers.

        Parts that a gather took, and jobs that went on as parts only, have no results of their own.
        Raises the error of the first job without a result, and what `wait` raises.
        """
        status = self.wait(timeout)
        ends = {output.number: output for output in self._outputs(status.stages[-1].name)}
        if all(stage.shape == "map" for stage in status.stages):
            numbers: Iterable[int] = range(1, status.total + 1)
        else:
            self._raise_first(status)
            numbers = sorted(ends)
        return [_value(ends[number]) if number in ends else self.job(number).result() for number in numbers]

    def _raise_first(self, status: ProjectStatus) -> None:
        """Raise the error of the first job that failed or was cancelled, but for parts: those their gather answers for.

        One that fails with a part has failed itself; for one that skips a part, nothing is wrong.
        """
        waits = dict(zip((s.name for s in status.stages), gathered([s.shape for s in status.stages]), strict=True))

        def is_whole(job: StageOutput | JobStatus) -> bool:
            return job.parent is None or not waits.get(job.stage, True)

        failed = self._pages("failed_jobs", self.name) if status.failed else ()
        cancelled = self._each("cancelled") if status.cancelled else ()
        first = [
            next((end.number for end in failed if is_whole(end)), None),
            min((job.number for job in cancelled if is_whole(job)), default=None),
        ]
        for number in sorted(number for number in first if number is not None):
            self.job(number).result()

    def outputs(self, stage: str | None = None, timeout: float | None = None) -> dict[int, Any]:
        """Wait until every job has left *stage*, by default the last one; return its outputs by the jobs' numbers.

        Jobs that failed or were cancelled on their way there are left out. Raises what `wait` raises.
        """
        status = self.status()
        name = stage or status.stages[-1].name
        if name not in [each.name for each in status.stages]:
            self._ask("outputs", self.name, name, limit=1)  # a stage of old has outputs too, and no status
        else:
            self._wait(name, timeout)
        return {output.number: _value(output) for output in self._outputs(name) if output.state == "succeeded"}

    def each_output(self, stage: str | None = None) -> Iterator[tuple[int, Any]]:
        """Yield what *stage*, by default the last one, has made so far, with the job's number, one after another."""
        name = stage or self.status().stages[-1].name
        return ((output.number, _value(output)) for output in self._outputs(name) if output.state == "succeeded")

    @property
    def failures(self) -> dict[int, BaseException]:
        """The errors of the jobs that failed so far, at whatever stage, by number."""
        pages = self._pages("failed_jobs", self.name)
        return {failed.number: error_of(failed.job, JobResult(failed.state, failed.data)) for failed in pages}

    def failed(self, stage: str | None = None) -> DeadLetters:
        """Return the jobs that failed so far and stay so until somebody runs them again, with their reasons as text."""
        if stage is not None:
            self._ask("outputs", self.name, stage, limit=1)  # it raises `NotFound` for a stage that there is not
        pages = self._pages("failed_jobs", self.name)
        return dead_letters(end for end in pages if stage in (None, end.stage))

    def job(self, number: int) -> JobHandle:
        """Return the handle of one job; raises `NotFound`."""
        link = api.current()
        return JobHandle(link, link.call("find_job", self.name, number))

    def jobs(self, state: str | None = None, limit: int = 50) -> JobList:
        """Return its newest jobs, all or those in *state*: open, succeeded, failed or cancelled."""
        if state is not None and state not in (known := [each.text for each in JobState]):
            raise InvalidOption("state", repr(state)[:100], ", ".join(known))
        most = max(0, _whole_number("limit", limit))
        return JobList(islice(self._each(state, page=min(most, PAGE)), most), project=self.name)

    def leaderboard(self, span: Span = "all") -> Leaderboard:
        """Return who did how many of its tasks, most first: of all time, or of the last month, week or day."""
        return api.leaderboard(self.name, span=span)

    def standing(self, nickname: str, span: Span = "all") -> Standing:
        """Return one contributor's place; raises `NotFound` for a nickname without credit."""
        api.check_span(span)
        place: Standing = self._ask("standing", self.name, nickname, span=span)
        return place

    # ---- the engine ------------------------------------------------------------------------

    def _outputs(self, stage: str) -> Iterator[StageOutput]:
        return self._pages("outputs", self.name, stage)

    def _pages(self, verb: str, *arguments: str) -> Iterator[StageOutput]:
        """Yield all that *verb* has to say, page by page."""
        after = 0
        while page := self._ask(verb, *arguments, after=after):
            yield from page
            after = page[-1].number

    def _each(self, state: str | None, page: int = PAGE) -> Iterator[JobStatus]:
        """Yield the jobs in *state*, the newest first."""
        before: int | None = None
        while found := self._ask("jobs", project=self.name, state=state, before=before, limit=page):
            yield from found
            before = found[-1].id

    def _ask(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return api.current().call(verb, *args, **kwargs)


def _moves(stage: StageStatus) -> bool:
    """Tell whether a task of *stage* is in a worker's hands, or may come there."""
    return bool(stage.counts.get("leased")) or (not stage.is_paused and _waits(stage))


def _waits(stage: StageStatus) -> bool:
    return bool(stage.counts.get("queued") or stage.counts.get("waiting"))


def _value(output: StageOutput) -> Any:
    return value_of(output.job, JobResult(output.state, output.data))


def _whole_number(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidOption(option, repr(value)[:100], "a whole number")
    return value
