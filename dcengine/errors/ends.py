"""What became of a job, and what waiting for it ran into."""

from __future__ import annotations

from datetime import datetime

from .base import DcengineError


class TaskError(DcengineError):
    """A job ended without a result."""


class RemoteError(TaskError):
    """The function raised an exception that could not be brought here: its class is not known, or it is huge."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message} (raised on the worker; the exception itself could not be brought here)"


class TaskTimeout(TaskError, TimeoutError):
    """The function ran longer than its time-out."""

    def __init__(self, seconds: float, how: str) -> None:
        super().__init__(seconds, how)
        self.seconds, self.how = seconds, how

    def __str__(self) -> str:
        return f"ran longer than its time-out of {self.seconds:g} s and was {self.how}; a longer one gives it more"


class TaskCrashed(TaskError):
    """The process that ran the function ended under it."""

    def __init__(self, cause: str, times: int) -> None:
        super().__init__(cause, times)
        self.cause, self.times = cause, times

    def __str__(self) -> str:
        tried = "" if self.times <= 1 else f" ({self.times} runs ended so)"
        return f"the process that ran the function {self.cause}{tried}"


class WorkerVanished(TaskError):
    """Worker after worker disappeared while it held the task."""

    def __init__(self, times: int, last: str) -> None:
        super().__init__(times, last)
        self.times, self.last = times, last

    def __str__(self) -> str:
        return (
            f"{self.times} workers vanished while they held the task, the last was {self.last}; "
            "see what ended them, then retry the job"
        )


class JobCancelled(TaskError):
    """The job was cancelled."""

    def __init__(self, job: int, how: str = "") -> None:
        super().__init__(job, how)
        self.job, self.how = job, how

    def __str__(self) -> str:
        return f"job {self.job} was cancelled" + (f": {self.how}" if self.how else "")


class NoMatchingWorker(TaskError):
    """No worker has the tags that the job needs, and it was not to wait for one."""

    def __init__(self, tags: str, explanation: str) -> None:
        super().__init__(tags, explanation)
        self.tags, self.explanation = tags, explanation

    def __str__(self) -> str:
        return (
            f"no worker matches {self.tags!r}: {self.explanation}; "
            'bring one with `dcengine join`, or submit with on_no_match="wait"'
        )


class MissingPackage(TaskError, ImportError):
    """The worker lacks a module that the function or an argument imports."""

    def __init__(self, module: str, worker: str, needed_by: str) -> None:
        super().__init__(module, worker, needed_by)
        self.module, self.worker, self.needed_by = module, worker, needed_by

    def __str__(self) -> str:
        return (
            f"worker {self.worker} has no module {self.module!r}, which {self.needed_by} imports; "
            f"install it in the worker's environment, or ask for a worker that has it"
        )


class SessionLost(TaskError):
    """The process of a session has ended, and with it all that was kept there; the call was not made."""

    def __init__(self, name: str, worker: str, what: str, at: float) -> None:
        super().__init__(name, worker, what, at)
        self.name, self.worker = name, worker
        self.what, self.at = what, at  #: what became of the process, and when: Unix seconds

    def __str__(self) -> str:
        return (
            f"session {self.name!r} is lost: its process on worker {self.worker} {self.what} "
            f"({datetime.fromtimestamp(self.at):%Y-%m-%d %H:%M:%S}), and with it all that was kept there. Nothing was "
            "run now. The next call with this name begins it anew, empty: first repeat the calls that made what is "
            "needed"
        )


class PartFailed(TaskError):
    """A gather waited for a part that failed."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number, self.reason = number, reason

    def __str__(self) -> str:
        return (
            f"part number {self.number} did not succeed: {self.reason}; retry this job to run what is missing again, "
            "or declare the gather with on_failed_part='skip' or 'wait'"
        )


class DependencyFailed(TaskError):
    """A job whose result was to be an argument did not succeed, so the call was not made."""

    def __init__(self, job: int, argument: int, cause: int, name: str, reason: str, batch: int | None) -> None:
        super().__init__(job, argument, cause, name, reason, batch)
        self.job, self.argument = job, argument
        self.cause, self.name, self.reason, self.batch = cause, name, reason, batch

    def __str__(self) -> str:
        named = f"job {self.cause} ({self.name})" if self.name else f"job {self.cause}"
        by_way_of = "" if self.cause == self.argument else f"job {self.argument} was not run either: "
        way_out = f"retry job {self.job} to run what is missing again"
        if self.batch is not None:
            way_out = f"retry_failed() of batch {self.batch} runs it again, and what is missing after it"
        return f"argument of job {self.job}: {by_way_of}{named} {self.reason}; {way_out}"


class InputRejected(TaskError):
    """Voters flagged the input of a task, and its job cannot be sent back (any more)."""

    def __init__(self, stage: str, problem: str, votes: list[str]) -> None:
        super().__init__(stage, problem, votes)
        self.stage, self.problem, self.votes = stage, problem, votes

    def __str__(self) -> str:
        return f"its input was flagged at stage {self.stage!r}, and {self.problem}: {'; '.join(self.votes)}"


class ResultNotReady(DcengineError, TimeoutError):
    """The caller's waiting time is over; the job goes on."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(what, seconds)
        self.what, self.seconds = what, seconds

    def __str__(self) -> str:
        return f"{self.what} has no result after {self.seconds:g} s; it goes on, ask again or see why()"


class ResultLost(DcengineError):
    """A result that was to stay on its worker is there no more."""

    def __init__(self, worker: str, what: str) -> None:
        super().__init__(worker, what)
        self.worker, self.what = worker, what

    def __str__(self) -> str:
        return (
            f'the result was left on worker {self.worker} (keep="remote"), which {self.what}; submit the call again, '
            "without that option for a result that outlives its worker"
        )


class ResultExpired(DcengineError):
    """The job has ended, and what it returned was kept for a set time only."""

    def __init__(self, job: int) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return (
            f"the values of job {self.job} were kept for a set time after its end, and are gone; "
            "submit it again, with a longer keep=, or None for ever"
        )


class ProjectPaused(DcengineError):
    """The project or a stage of it is paused, so that what was waited for would never come."""

    def __init__(self, project: str, open: int, stage: str = "") -> None:
        super().__init__(project, open, stage)
        self.project, self.open, self.stage = project, open, stage

    def __str__(self) -> str:
        if self.stage:
            paused = f"stage {self.stage!r} of project {self.project!r}"
            return f"{paused} is paused with {self.open:,} open job(s); resume({self.stage!r}) lets them go on"
        return f"project {self.project!r} is paused with {self.open:,} open job(s); run() lets them go on"


class ProjectBlocked(DcengineError):
    """A gather waits until a failed part is run again, so that what was waited for would never come."""

    def __init__(self, project: str, number: int, stage: str, reason: str) -> None:
        super().__init__(project, number, stage, reason)
        self.project, self.number, self.stage, self.reason = project, number, stage, reason

    def __str__(self) -> str:
        return (
            f"project {self.project!r} waits for failed parts, such as job {self.number} at stage {self.stage!r}: "
            f"{self.reason}; retry() runs them again, job({self.number}).edit(value) gives one another input, "
            "cancel() gives up"
        )


class InvalidInput(Exception):
    """Raise it in a stage's function to say that its input is bad: its job goes back to the stage that made it.

    Nothing is wrong with the function then, so it is not run again with the same input. In a function that was
    submitted by itself it is an exception like others: whoever asks for the result meets it.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
