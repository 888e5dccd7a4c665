"""Projects: named rows of stages that jobs travel through, as their authors write and watch them."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple, TypeVar, overload

from . import api
from .codec import loads, name_of, pack_function, pack_value
from .errors import InvalidOption, ProjectPaused, ResultNotReady
from .handles import POLL_SECONDS, JobHandle, error_of
from .jobs import check_name
from .lists import Leaderboard
from .verbs import (
    AddedJobs,
    ItemsSubmission,
    JobResult,
    Options,
    ProjectSpec,
    ProjectStatus,
    StageOutput,
    StageSpec,
)

F = TypeVar("F", bound=Callable[[Any], Any])


class _Step(NamedTuple):
    """A stage as it was decorated; its function is packed when it is declared, with what it refers to by then."""

    function: Callable[[Any], Any]
    options: Options


class Project:
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
    which the engine has already, with everything but `stage` to be done to it, from any process.
    """

    def __init__(self, name: str) -> None:
        check_name("the project's name", name)
        self.name = name
        self._steps: dict[str, _Step] = {}

    def __repr__(self) -> str:
        stages = f" with the stages {', '.join(self._steps)}" if self._steps else ""
        return f"<dcengine project {self.name!r}{stages}>"

    # ---- stages ----------------------------------------------------------------------------

    @overload
    def stage(self, function: F, /) -> F: ...
    @overload
    def stage(
        self, /, *, tags: str = "", retries: int = 0, timeout: float | None = None, name: str | None = None
    ) -> Callable[[F], F]: ...
    def stage(
        self,
        function: Any = None,
        /,
        *,
        tags: str = "",
        retries: int = 0,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Any:
        """Declare the decorated function of one value as the next stage; it stays callable as it is.

        A stage of the same *name*, by default that of the function, is replaced where it stands. The options
        are those of `dcengine.submit`, for each task of the stage.
        """
        options = api.options(tags, retries, timeout, 0, "wait")

        def declare(function: F) -> F:
            if not callable(function):
                raise InvalidOption("a stage", repr(function), "a function of one value")
            own_name = str(getattr(function, "__name__", name_of(function)))
            if name is None and own_name == "<lambda>":  # a second one would silently take the place of the first
                raise InvalidOption("the name of a stage that is a lambda", "missing", "name='...'")
            self._steps[own_name if name is None else name] = _Step(function, options)
            return function

        return declare if function is None else declare(function)

    def _declare(self) -> None:
        """Make the engine's stages those declared here; without any here, the engine's stay."""
        if self._steps:
            stages = [
                StageSpec(name=name, function=pack_function(step.function), options=step.options)
                for name, step in self._steps.items()
            ]
            self._ask("declare_project", ProjectSpec(name=self.name, stages=stages, submitter=api.submitter()))
        else:
            self._known()

    # ---- work ------------------------------------------------------------------------------

    def add(self, items: Iterable[Any]) -> Sequence[int]:
        """Store a job for each of *items* at the first stage; return their numbers within the project.

        They are durable when this returns, and begin at once if the project runs. The numbers are a range, unless
        somebody else added jobs meanwhile. Items are taken and stored in blocks of up to 4,096: with one that cannot
        be stored its block is lost, and the blocks before it stay.
        """
        self._declare()
        packed = (pack_value(item, what=f"item {place}") for place, item in enumerate(items, 1))
        parts = [self._add(block, count) for block, count in api.blocks_of(packed)]
        numbers = [range(part.first_number, part.first_number + part.count) for part in parts]
        if all(before.stop == after.start for before, after in pairwise(numbers)):
            return range(numbers[0].start, numbers[-1].stop) if numbers else range(0)
        return [*chain(*numbers)]

    def _add(self, block: bytes, count: int) -> AddedJobs:
        submission = ItemsSubmission(
            project=self.name, blocks=[block], count=count, request=uuid.uuid4().hex, submitter=api.submitter()
        )
        added: AddedJobs = self._ask("add_jobs", submission)
        return added

    def run(self) -> Project:
        """Let the jobs go on their way, those that are added later too; return this project, to be waited for."""
        self._declare()
        status: ProjectStatus = self._ask("run_project", self.name)
        if status.warning is not None:
            warnings.warn(f"project {self.name!r} waits: {status.warning}", api.NoMatchWarning, stacklevel=2)
        return self

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

        Raises `ResultNotReady` after *timeout* seconds, and `ProjectPaused` where waiting would take for ever.
        """
        return self._wait(None, timeout)

    def _wait(self, stage: str | None, timeout: float | None) -> ProjectStatus:
        """Wait until every job has left *stage*, None for the last one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        status = self.status()
        while status.open_until(stage):
            if status.is_paused:
                raise ProjectPaused(self.name, status.open)
            left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise ResultNotReady(f"project {self.name!r}", timeout or 0.0)
            status = self._ask("project", self.name, stage=stage, wait=min(left, POLL_SECONDS))
        return status

    # ---- what came of it -------------------------------------------------------------------

    def results(self, timeout: float | None = None) -> list[Any]:
        """Wait until every job has ended; return what the last stage made of each, in order of their numbers.

        Raises the error of the first job without a result, and what `wait` raises.
        """
        status = self.wait(timeout)
        ends = {output.number: output for output in self._outputs(status.stages[-1].name)}
        return [
            loads(ends[number].data) if number in ends and ends[number].state == "succeeded" else self._result(number)
            for number in range(1, status.total + 1)
        ]

    def _result(self, number: int) -> Any:
        """Return the result of a job that did not succeed at the last stage, or raise its error.

        There is one where the last stage was another when it ended.
        """
        return self.job(number).result()

    def outputs(self, stage: str | None = None, timeout: float | None = None) -> dict[int, Any]:
        """Wait until every job has left *stage*, by default the last one; return its outputs by the jobs' numbers.

        Jobs that failed or were cancelled on their way there are left out. Raises what `wait` raises.
        """
        status = self._known(stage)
        name = stage or status.stages[-1].name
        self._wait(name, timeout)
        return {output.number: loads(output.data) for output in self._outputs(name) if output.state == "succeeded"}

    @property
    def failures(self) -> dict[int, BaseException]:
        """The errors of the jobs that failed so far, at whatever stage, by number."""
        pages = self._pages("failed_jobs", self.name)
        return {failed.number: error_of(failed.job, JobResult(failed.state, failed.data)) for failed in pages}

    def job(self, number: int) -> JobHandle:
        """Return the handle of one job; raises `NotFound`."""
        link = api.current()
        return JobHandle(link, link.call("find_job", self.name, number))

    def leaderboard(self) -> Leaderboard:
        """Return who did how many of its tasks, most first."""
        return api.leaderboard(self.name)

    def _outputs(self, stage: str) -> Iterator[StageOutput]:
        return self._pages("outputs", self.name, stage)

    def _pages(self, verb: str, *arguments: str) -> Iterator[StageOutput]:
        """Yield all that *verb* has to say, page by page."""
        after = 0
        while page := self._ask(verb, *arguments, after=after):
            yield from page
            after = page[-1].number

    # ---- the engine ------------------------------------------------------------------------

    def _known(self, stage: str | None = None) -> ProjectStatus:
        """Return the project as it stands; raises `NotFound` for an unknown one, or an unknown *stage*."""
        status = self.status()
        if stage is not None:
            self._ask("outputs", self.name, stage, limit=1)  # a stage of old has outputs too, and no status
        return status

    def _ask(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return api.current().call(verb, *args, **kwargs)
