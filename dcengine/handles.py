"""Handles: what `submit` and `map` give back. They hold an id and ask the engine; nothing is lost with them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, overload

from .codec import pack_json, pack_value
from .ends import error_of, value_of
from .errors import InvalidOption, ResultNotReady
from .histories import History, StageRecord
from .references import is_collecting, key_of_job, reduced
from .verbs import (
    HistoryEntry,
    JobResult,
    JobStatus,
    Line,
    Progress,
    ProjectStatus,
    StageOutput,
    Transcript,
)
from .watching import end_of

POLL_SECONDS = 20.0  #: the longest single wait; an interrupt of the caller is noticed at once all the same


class Link(Protocol):
    """The way to an engine from a thread that may block."""

    @property
    def file(self) -> str:
        """What the engine's file is called, wherever it lies; asked for once."""
        ...

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Ask for the verb of that name (see `verbs.Verbs`) and wait for the answer."""
        ...

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Ask for the verb of that name; the future ends with the answer."""
        ...


class JobHandle:
    """One job. Made by `dcengine.submit`, found again by `dcengine.job(id)` from any process."""

    def __init__(self, link: Link, id: int, *, index: int | None = None, result: JobResult | None = None) -> None:
        self.id = id
        self.index = index  #: the item's place in its batch, if it came from one
        self._link = link
        self._result = result

    def __repr__(self) -> str:
        return f"<dcengine job {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Stand for the result among the arguments of a call; elsewhere for a handle that finds the job again."""
        if is_collecting():
            return reduced(key_of_job(self.id, self._link.file))
        return JobHandle, (self._link, self.id), {"index": self.index}

    def result(self, timeout: float | None = None) -> Any:
        """Return what the function returned; raise what it raised, its remote traceback attached.

        Raises `ResultNotReady` if it has not ended after *timeout* seconds, `JobCancelled` if it was cancelled,
        `ResultExpired` if its values were kept for a set time only.
        """
        return value_of(self.id, self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, None if it returned; waits like `result`."""
        end = self._wait(timeout)
        return None if end.state == "succeeded" else error_of(self.id, end)

    def done(self) -> bool:
        """Tell whether the job has ended, in whatever way."""
        return self._look() is not None

    def cancel(self) -> bool:
        """Cancel the job, interrupting it if it runs; return False if it had ended."""
        if self.done():
            return False
        self._link.call("cancel", self.id)
        return True

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running code, which may catch it and go on; cancel a job that waits."""
        self._link.call("interrupt", self.id)

    def kill(self) -> None:
        """Cancel the job; if it runs, end its process at once."""
        self._link.call("kill", self.id)

    def tell(self, message: bytes) -> bool:
        """Hand *message* to the running code, where widgets of a remote cell listen; return False if none runs."""
        return bool(self._link.call("tell", self.id, message))

    def status(self) -> JobStatus:
        """Return the job as it stands."""
        status: JobStatus = self._link.call("job", self.id)
        return status

    @property
    def progress(self) -> Progress:
        """The last the function said with `dcengine.progress`; nothing done of an unknown total before that."""
        return self.status().progress or Progress()

    @property
    def output(self) -> Output:
        """What the function prints; ``str()`` of it is the text so far."""
        return Output(self._link, self.id)

    def follow(self) -> Iterator[Line]:
        """Yield what is said while the job runs, from its first line to its last, each as it comes."""
        last = 0
        while True:
            said = self.transcript(after=last, wait=POLL_SECONDS)
            yield from said.lines
            if said.is_complete:
                return
            last = said.lines[-1].number if said.lines else last

    def transcript(self, after: int = 0, wait: float = 0.0) -> Transcript:
        """Return what was said after line *after*; wait up to *wait* seconds for the first line or the end."""
        said: Transcript = self._link.call("transcript", self.id, after=after, wait=wait)
        return said

    def why(self) -> str:
        """Return why the job is not running, in a sentence."""
        return str(self._link.call("why", self.id))

    # ---- in a project ----------------------------------------------------------------------

    def history(self) -> History:
        """Return what each stage made of the job in each generation, in the order in which it came there."""
        entries: list[HistoryEntry] = self._link.call("history", self.id)
        return History(self.id, [StageRecord(self.id, entry, self._gathered) for entry in entries])

    def retry(self) -> bool:
        """Run the job again where it failed or was cancelled; return False if it was neither.

        With a part of a job that has failed for it that job goes on too.
        """
        again = bool(self._link.call("retry", [self.id]))
        self._result = None
        return again

    def edit(self, value: Any) -> None:
        """Give the job another input at the stage where it is or ended, and queue it there.

        Raises `NotEditable` for one that runs, waits for its parts, or succeeded.
        """
        status = self.status()
        check_editable(status)
        stages = {stage.name: stage.kind for stage in self._project(status.project).stages}
        pack = pack_json if stages.get(status.stage) == "lease" else pack_value
        self._link.call("edit", self.id, pack(value, what="the input"))
        self._result = None

    @property
    def parent(self) -> JobHandle | None:
        """The job that this one is a part of."""
        parent = self.status().parent
        return None if parent is None else JobHandle(self._link, parent)

    @property
    def parts(self) -> Parts:
        """The jobs that are parts of this one: those made last, the first 1,000 of them."""
        numbers = [record.parts for record in self.history() if record.parts]
        return Parts(self._link, self.status().project, numbers[-1] if numbers else [])

    def _gathered(self, record: StageRecord) -> list[Any]:
        """Return what the parts of *record*, a gather, had come to before it."""
        project = self.status().project
        stages = [stage.name for stage in self._project(project).stages]
        if not record.parts or record.stage not in stages[1:]:
            return []
        before = stages[stages.index(record.stage) - 1]
        outputs: dict[int, StageOutput] = {}
        after = min(record.parts) - 1
        while after < max(record.parts) and (page := self._link.call("outputs", project, before, after=after)):
            outputs.update((output.number, output) for output in page)
            after = page[-1].number
        ends = [outputs[number] for number in record.parts if number in outputs]
        return [value_of(end.job, JobResult(end.state, end.data)) for end in ends if end.state == "succeeded"]

    def _project(self, name: str) -> ProjectStatus:
        status: ProjectStatus = self._link.call("project", name)
        return status

    # ---- its end ---------------------------------------------------------------------------

    def _look(self) -> JobResult | None:
        if self._result is None:
            self._result = self._link.call("result", self.id)
        return self._result

    def _wait(self, timeout: float | None) -> JobResult:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._result is None:
            left = POLL_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            self._result = self._link.call("result", self.id, wait=min(left, POLL_SECONDS))
            if self._result is None and deadline is not None and time.monotonic() >= deadline:
                raise ResultNotReady(f"job {self.id}", timeout or 0.0)
        return self._result

    def __await__(self) -> Generator[Any, None, Any]:
        return self._async_result().__await__()

    async def _async_result(self) -> Any:
        if self._result is None:
            self._result = await end_of(self._link, self.id)
        return value_of(self.id, self._result)


class Parts(Sequence[JobHandle]):
    """Handles of the jobs that are parts of another, each found when it is taken."""

    def __init__(self, link: Link, project: str, numbers: Sequence[int]) -> None:
        self.numbers = numbers  #: within the project
        self._link, self._project = link, project

    def __repr__(self) -> str:
        return f"<{len(self.numbers):,} parts>"

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> JobHandle: ...
    @overload
    def __getitem__(self, place: slice) -> Parts: ...
    def __getitem__(self, place: int | slice) -> JobHandle | Parts:
        if isinstance(place, slice):
            return Parts(self._link, self._project, self.numbers[place])
        return JobHandle(self._link, self._link.call("find_job", self._project, self.numbers[place]))


class Output:
    """The text a job prints."""

    def __init__(self, link: Link, job: int) -> None:
        self._link, self._job = link, job

    def __str__(self) -> str:
        return str(self._link.call("output", self._job))

    def __repr__(self) -> str:
        return f"<output of job {self._job}>"


def check_editable(status: JobStatus) -> None:
    """Refuse a job whose input is no value at a stage."""
    if status.project == "functions":
        raise InvalidOption("a call of a function", "edited", "another call: submit it with other arguments")
