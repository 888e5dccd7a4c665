"""Every error a caller can meet, as one tree.

DcengineError
├── what the caller handed in
│   ├── InvalidTags            a tag expression that does not parse
│   ├── InvalidOption          an option or setting with an impossible value
│   ├── NotPicklable           an argument, function or result that cannot travel
│   ├── PayloadTooLarge        a value above what one row may hold
│   ├── NotFound               no job, batch, project ... of this id
│   ├── ProjectInUse           other stages for a project with open jobs
│   └── InvalidTransition      a move the state table does not allow
├── TaskError: what became of a job
│   ├── RemoteError            an exception that could not be rebuilt here
│   ├── TaskTimeout            ran longer than its time-out
│   ├── TaskCrashed            its process ended: signal, exit code, out of memory
│   ├── WorkerVanished         worker after worker disappeared under it
│   ├── JobCancelled           somebody cancelled it
│   ├── NoMatchingWorker       nobody has its tags, and it was not to wait
│   └── MissingPackage         the worker lacks a module that the function imports
├── ResultNotReady             the caller's own waiting time is over
├── ProjectPaused              waiting would take for ever: nothing of it is handed out
├── EngineError: the engine itself
│   ├── EngineUnreachable      nobody answers at that address
│   ├── EngineClosed           it was stopped in this process
│   ├── EngineBusy             its inbox is full; try again later
│   ├── PortInUse              another program listens there
│   ├── InsecureAddress        an open address without TLS
│   └── AccessDenied           token missing, wrong, or of a lesser role
├── StoreError: the file
│   ├── DatabaseOwned          another living engine writes it
│   ├── DatabaseCorrupt        SQLite cannot read it
│   ├── DatabaseForeign        a good file, but not one of ours
│   ├── DatabaseTooNew         written by a later version
│   ├── NetworkFileSystem      SQLite's locks cannot be trusted there
│   ├── DiskFull               no room; nothing was half-stored
│   ├── StaleLease             the task has a new holder (the fence)
│   ├── OwnershipLost          another engine took the file over
│   └── StoreBroken            a write failed in a way that forbids going on
└── ClusterError: the workers
    ├── SchedulerUnreachable   no Dask scheduler answers there
    ├── ClusterFailed          scheduler or workers did not start
    └── WorkerUnfit            a Dask worker without dcengine, or with another version

Errors cross process borders by pickle and by JSON: each hands its facts to
``super().__init__`` in the order of its parameters, and makes its message from them.
"""

from __future__ import annotations

import os
from typing import Any


class DcengineError(Exception):
    """The base of all errors raised by dcengine."""

    def facts(self) -> list[Any]:
        """Return the arguments that rebuild this error elsewhere."""
        return list(self.args)


def rebuild(name: str, facts: list[Any]) -> DcengineError:
    """Return the error called *name* made from *facts*; an unknown name becomes an `EngineError`."""
    kind = globals().get(name)
    if isinstance(kind, type) and issubclass(kind, DcengineError):
        return kind(*facts)
    return EngineError(f"{name}: {', '.join(map(str, facts))}")


# ---- what the caller handed in -------------------------------------------------------------


class InvalidTags(DcengineError, ValueError):
    """A tag expression does not parse."""

    def __init__(self, expression: str, position: int, problem: str) -> None:
        super().__init__(expression, position, problem)
        self.expression, self.position, self.problem = expression, position, problem

    def __str__(self) -> str:
        return (
            f"{self.problem} at character {self.position + 1} of the tag expression {self.expression!r}; "
            "an expression looks like 'gpu.memory>=16GiB & cuda>=12 & !preemptible | site==lab'"
        )


class InvalidOption(DcengineError, ValueError):
    """An option or setting has a value it cannot have."""

    def __init__(self, option: str, value: str, expected: str) -> None:
        super().__init__(option, value, expected)
        self.option, self.value, self.expected = option, value, expected

    def __str__(self) -> str:
        return f"{self.option} cannot be {self.value}; expected {self.expected}"


class NotPicklable(DcengineError, TypeError):
    """A value cannot travel to a worker or back."""

    def __init__(self, what: str, kind: str, reason: str) -> None:
        super().__init__(what, kind, reason)
        self.what, self.kind, self.reason = what, kind, reason

    def __str__(self) -> str:
        return (
            f"{self.what} (of type {self.kind}) cannot be pickled, so it cannot travel: {self.reason}. "
            "Create it inside the function, or pass the data it is made from"
        )


class PayloadTooLarge(DcengineError, ValueError):
    """A value is larger than one row may hold."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, size, limit)
        self.what, self.size, self.limit = what, size, limit

    def __str__(self) -> str:
        return (
            f"{self.what} is {self.size:,} bytes, the limit is {self.limit:,}; "
            "write it to a file that the workers can read and pass the path"
        )


class NotFound(DcengineError, LookupError):
    """There is no such thing in this engine's file."""

    def __init__(self, kind: str, id: int | str) -> None:
        super().__init__(kind, id)
        self.kind, self.id = kind, id

    def __str__(self) -> str:
        way_out = "`dcengine jobs` lists what there is"
        if self.kind == "project":
            way_out = "a new project needs a stage, a function decorated with @project.stage, before all else"
        return f"no {self.kind} {self.id} in this engine's file; {way_out}"


class ProjectInUse(DcengineError):
    """A project with open jobs cannot get other stages, or the same in another order."""

    def __init__(self, project: str, stages: str, open: int) -> None:
        super().__init__(project, stages, open)
        self.project, self.stages, self.open = project, stages, open

    def __str__(self) -> str:
        return (
            f"project {self.project!r} has the stages {self.stages} and {self.open:,} open job(s) on their "
            "way through them; declare these stages in this order, wait for its jobs or cancel them, "
            "or take another name"
        )


class InvalidTransition(DcengineError):
    """A task cannot move from its state to the one asked for."""

    def __init__(self, task: int, before: str, after: str) -> None:
        super().__init__(task, before, after)
        self.task, self.before, self.after = task, before, after

    def __str__(self) -> str:
        return f"task {self.task} is {self.before} and cannot become {self.after}"


# ---- what became of a job ------------------------------------------------------------------


class TaskError(DcengineError):
    """A job ended without a result."""


class RemoteError(TaskError):
    """The function raised an exception that could not be rebuilt in this process."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message} (raised on the worker; its class could not be rebuilt here)"


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

    def __init__(self, job: int) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"job {self.job} was cancelled"


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


class ResultNotReady(DcengineError, TimeoutError):
    """The caller's waiting time is over; the job goes on."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(what, seconds)
        self.what, self.seconds = what, seconds

    def __str__(self) -> str:
        return f"{self.what} has no result after {self.seconds:g} s; it goes on, ask again or see why()"


class ProjectPaused(DcengineError):
    """The project is paused, so that what was waited for would never come."""

    def __init__(self, project: str, open: int) -> None:
        super().__init__(project, open)
        self.project, self.open = project, open

    def __str__(self) -> str:
        return f"project {self.project!r} is paused with {self.open:,} open job(s); run() lets them go on"


# ---- the engine ----------------------------------------------------------------------------


class EngineError(DcengineError):
    """The engine itself is in trouble."""


class EngineUnreachable(EngineError, ConnectionError):
    """Nobody answers at the engine's address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"no engine answers at {self.url}: {self.reason}; `dcengine doctor` looks for the cause"


class EngineClosed(EngineError):
    """The engine was stopped, or has not been started."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return f"no engine runs for {self.db} here: it was closed, or not started yet; jobs are kept, start it to go on"


class EngineBusy(EngineError):
    """The engine's inbox is full."""

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.waiting:,} operations wait to be written; try again in a second"


class PortInUse(EngineError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.host, self.port = host, port

    def __str__(self) -> str:
        return (
            f"port {self.port} of {self.host} is in use by another program; choose one with --port, 0 finds a free one"
        )


class InsecureAddress(EngineError):
    """The engine was asked to listen beyond this machine without TLS."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host

    def __str__(self) -> str:
        return (
            f"listening on {self.host} without TLS would show tokens to the network; stay on 127.0.0.1 behind a "
            "TLS proxy or an SSH tunnel, or say --insecure if you trust every machine on it"
        )


class AccessDenied(EngineError, PermissionError):
    """The token is missing, wrong, or its role is not enough."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; the URL that `dcengine serve` printed carries a token (?token=...)"


# ---- the file ------------------------------------------------------------------------------


class StoreError(DcengineError):
    """The database file cannot be used."""


class DatabaseOwned(StoreError):
    """Another living engine writes this file."""

    def __init__(self, db: str, pid: int, url: str) -> None:
        super().__init__(db, pid, url)
        self.db, self.pid, self.url = db, pid, url

    def __str__(self) -> str:
        if self.pid == os.getpid():
            return (
                f"{self.db} is in use by an engine that this process ({self.pid}) has started; "
                "go on with that one, or close() it first"
            )
        return (
            f"{self.db} is in use by the engine of process {self.pid} at {self.url or 'an address not yet known'}; "
            "use dcengine.submit() and `dcengine` without --db to work through it, stop that process, "
            "or choose another file"
        )


class DatabaseCorrupt(StoreError):
    """SQLite cannot read the file."""

    def __init__(self, db: str, reason: str) -> None:
        super().__init__(db, reason)
        self.db, self.reason = db, reason

    def __str__(self) -> str:
        return (
            f"{self.db} is damaged ({self.reason}); it was left as it is. "
            f"Restore a backup, or save what can be read: sqlite3 {self.db} .recover"
        )


class DatabaseForeign(StoreError):
    """The file belongs to another program."""

    def __init__(self, db: str, what: str) -> None:
        super().__init__(db, what)
        self.db, self.what = db, what

    def __str__(self) -> str:
        return f"{self.db} is {self.what}, not a dcengine database; it was left as it is. Choose another file"


class DatabaseTooNew(StoreError):
    """The file was written by a later version of dcengine."""

    def __init__(self, db: str, found: int, known: int) -> None:
        super().__init__(db, found, known)
        self.db, self.found, self.known = db, found, known

    def __str__(self) -> str:
        return (
            f"{self.db} has schema {self.found}, this dcengine knows up to {self.known}; it was left as it is. "
            "Upgrade dcengine: pip install --upgrade dcengine"
        )


class NetworkFileSystem(StoreError):
    """The file lies where SQLite's locks cannot be trusted."""

    def __init__(self, db: str, kind: str) -> None:
        super().__init__(db, kind)
        self.db, self.kind = db, kind

    def __str__(self) -> str:
        return (
            f"{self.db} lies on a network file system ({self.kind}), where two engines could damage it; "
            "put the file on a local disk and reach it from elsewhere through `dcengine serve`"
        )


class DiskFull(StoreError):
    """There is no room on the disk."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return f"the disk of {self.db} is full: nothing was stored; free some space and try again, no restart is needed"


class StaleLease(StoreError):
    """The task has a new holder, or has ended: this report comes too late."""

    def __init__(self, task: int, attempt: int) -> None:
        super().__init__(task, attempt)
        self.task, self.attempt = task, attempt

    def __str__(self) -> str:
        return f"attempt {self.attempt} of task {self.task} is no longer current; its report was refused"


class OwnershipLost(StoreError):
    """Another engine took the file over."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return (
            f"another engine took over {self.db}; this one has stopped writing. Attach to the new one or close it first"
        )


class StoreBroken(StoreError):
    """A write failed in a way that forbids going on."""

    def __init__(self, db: str, reason: str) -> None:
        super().__init__(db, reason)
        self.db, self.reason = db, reason

    def __str__(self) -> str:
        return (
            f"writing to {self.db} failed ({self.reason}); nothing more is accepted. "
            "Check the disk, then restart the engine"
        )


# ---- the workers ---------------------------------------------------------------------------


class ClusterError(DcengineError):
    """The workers are in trouble."""


class SchedulerUnreachable(ClusterError, ConnectionError):
    """No Dask scheduler answers at the address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address, self.reason = address, reason

    def __str__(self) -> str:
        return f"no Dask scheduler answers at {self.address}: {self.reason}; start it, or correct --scheduler"


class ClusterFailed(ClusterError):
    """The scheduler or its workers did not start."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what, self.reason = what, reason

    def __str__(self) -> str:
        return f"{self.what} did not start: {self.reason}; `dcengine doctor` checks the installation"


class WorkerUnfit(ClusterError):
    """A Dask worker cannot run our tasks."""

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(worker, reason)
        self.worker, self.reason = worker, reason

    def __str__(self) -> str:
        return f"Dask worker {self.worker} cannot be used: {self.reason}"
