"""Every error a caller can meet, as one tree.

DcengineError
├── what the caller handed in
│   ├── InvalidTags            a tag expression that does not parse
│   ├── InvalidOption          an option or setting with an impossible value
│   ├── DevicesShared          a part of a worker's devices, for a call without a process of its own
│   ├── NotPicklable           an argument, function or result that cannot travel
│   ├── NotJson                a value that outside workers cannot be given
│   ├── NotIterable            what an expand returned has no items
│   ├── NothingExpanded        it has none now
│   ├── TooManyParts           or too many
│   ├── PayloadTooLarge        a value above what one row may hold
│   ├── BodyTooSlow            a request whose body did not come in time
│   ├── NotFound               no job, batch, project ... of this id
│   ├── ProjectInUse           other stages for a project with open jobs
│   ├── StageRetired           another try at a stage that the project has no more
│   ├── InvalidSource          a file to import that is not what it should be
│   ├── InvalidPattern         a brace pattern that does not parse
│   ├── ImportChanged          an import that goes on with other items than it began with
│   ├── WorkloadBroken         a workload that is installed, and cannot be used
│   └── InvalidTransition      a move the state table does not allow
│       └── NotEditable        another input for a job that cannot get one
├── TaskError: what became of a job
│   ├── RemoteError            an exception that could not be rebuilt here
│   ├── TaskTimeout            ran longer than its time-out
│   ├── TaskCrashed            its process ended: signal, exit code, out of memory
│   ├── WorkerVanished         worker after worker disappeared under it
│   ├── JobCancelled           somebody cancelled it
│   ├── NoMatchingWorker       nobody has its tags, and it was not to wait
│   ├── MissingPackage         the worker lacks a module that the function imports
│   ├── SessionLost            the process ended in which a session kept its state
│   ├── PartFailed             a gather waited for a part that failed
│   ├── DependencyFailed       a job did not succeed whose result was an argument
│   └── InputRejected          voters flagged its input, and it cannot be sent back (any more)
├── ResultNotReady             the caller's own waiting time is over
├── ExecutorShut               a call for an executor after its shutdown
├── IdlenessUnknown            nothing here tells whether the machine's owner uses it
├── ResultExpired              it was kept for a set time, which is over
├── ProjectPaused              waiting would take for ever: nothing of it is handed out
├── ProjectBlocked             the same: a gather waits until failed parts are run again
├── EngineError: the engine itself
│   ├── EngineUnreachable      nobody answers at that address
│   ├── EngineClosed           it was stopped in this process
│   ├── EngineBusy             its inbox is full; try again later
│   ├── PortInUse              another program listens there
│   ├── InsecureAddress        an open address without TLS
│   ├── AccessDenied           token missing, wrong, or not for this
│   ├── ContributorBanned      nothing is given to it, and nothing taken from it
│   ├── LeaseLimitReached      so many tasks in its hands, no more at once
│   └── TooManyRequests        from one address, without a token
├── StoreError: the file
│   ├── DatabaseOwned          another living engine writes it
│   ├── DatabaseCorrupt        SQLite cannot read it
│   ├── DatabaseForeign        a good file, but not one of ours
│   ├── DatabaseTooNew         written by a later version
│   ├── NetworkFileSystem      SQLite's locks cannot be trusted there
│   ├── DiskFull               no room; nothing was half-stored
│   ├── DatabaseLocked         another program holds its lock
│   ├── FileHeld               somebody reads an old state of it for too long
│   ├── StaleLease             the task has a new holder (the fence)
│   ├── DatabaseLinked         it has several names
│   ├── OwnershipLost          another engine took the file over
│   │   └── DatabaseMoved      it is no longer where it was
│   ├── BackupFailed           no copy could be made there
│   └── StoreBroken            a write failed in a way that forbids going on
├── BlobError: a value outside the file
│   ├── BlobMissing            it is not where it was put
│   ├── ValueGone              one that was put for calls to refer to is there no more
│   ├── BlobCorrupt            it is not what was put there
│   └── BlobPlaceFailed        no permission, no such bucket, no way there
└── ClusterError: the workers
    ├── SchedulerUnreachable   no Dask scheduler answers there
    ├── ClusterFailed          scheduler or workers did not start
    ├── DevicesHidden          a worker does not see all the devices that its tags promise
    ├── TooManySessions        on one worker
    ├── WorkerFull             no room on a worker for what a call refers to
    └── WorkerUnfit            a Dask worker without dcengine, or with another version

InvalidInput stands beside the tree: it is nothing that went wrong with us, but what a function says of its input.

Errors cross process borders by pickle and by JSON: each hands its facts to
``super().__init__`` in the order of its parameters, and makes its message from them.
"""

from __future__ import annotations

from typing import Any

from .base import DcengineError
from .ends import (
    DependencyFailed,
    InputRejected,
    InvalidInput,
    JobCancelled,
    MissingPackage,
    NoMatchingWorker,
    PartFailed,
    ProjectBlocked,
    ProjectPaused,
    RemoteError,
    ResultExpired,
    ResultLost,
    ResultNotReady,
    SessionLost,
    TaskCrashed,
    TaskError,
    TaskTimeout,
    WorkerVanished,
)
from .file import (
    BackupFailed,
    BlobCorrupt,
    BlobError,
    BlobMissing,
    BlobPlaceFailed,
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseLinked,
    DatabaseLocked,
    DatabaseMoved,
    DatabaseOwned,
    DatabaseTooNew,
    DiskFull,
    FileHeld,
    NetworkFileSystem,
    OwnershipLost,
    StaleLease,
    StoreBroken,
    StoreError,
    ValueGone,
)
from .given import (
    BodyTooSlow,
    DevicesShared,
    ImportChanged,
    InvalidOption,
    InvalidPattern,
    InvalidSource,
    InvalidTags,
    InvalidTransition,
    NotEditable,
    NotFound,
    NothingExpanded,
    NotIterable,
    NotJson,
    NotPicklable,
    PayloadTooLarge,
    ProjectInUse,
    StageRetired,
    TooManyParts,
    WorkloadBroken,
)
from .running import (
    AccessDenied,
    ContributorBanned,
    EngineBusy,
    EngineClosed,
    EngineError,
    EngineUnreachable,
    ExecutorShut,
    IdlenessUnknown,
    InsecureAddress,
    LeaseLimitReached,
    PortInUse,
    TooManyRequests,
)
from .workers import (
    ClusterError,
    ClusterFailed,
    DevicesHidden,
    SchedulerUnreachable,
    TooManySessions,
    WorkerFull,
    WorkerUnfit,
)

__all__ = [
    "AccessDenied",
    "BackupFailed",
    "BlobCorrupt",
    "BlobError",
    "BlobMissing",
    "BlobPlaceFailed",
    "BodyTooSlow",
    "ClusterError",
    "ClusterFailed",
    "ContributorBanned",
    "DatabaseCorrupt",
    "DatabaseForeign",
    "DatabaseLinked",
    "DatabaseLocked",
    "DatabaseMoved",
    "DatabaseOwned",
    "DatabaseTooNew",
    "DcengineError",
    "DependencyFailed",
    "DevicesHidden",
    "DevicesShared",
    "DiskFull",
    "EngineBusy",
    "EngineClosed",
    "EngineError",
    "EngineUnreachable",
    "ExecutorShut",
    "FileHeld",
    "IdlenessUnknown",
    "ImportChanged",
    "InputRejected",
    "InsecureAddress",
    "InvalidInput",
    "InvalidOption",
    "InvalidPattern",
    "InvalidSource",
    "InvalidTags",
    "InvalidTransition",
    "JobCancelled",
    "LeaseLimitReached",
    "MissingPackage",
    "NetworkFileSystem",
    "NoMatchingWorker",
    "NotEditable",
    "NotFound",
    "NotIterable",
    "NotJson",
    "NotPicklable",
    "NothingExpanded",
    "OwnershipLost",
    "PartFailed",
    "PayloadTooLarge",
    "PortInUse",
    "ProjectBlocked",
    "ProjectInUse",
    "ProjectPaused",
    "RemoteError",
    "ResultExpired",
    "ResultLost",
    "ResultNotReady",
    "SchedulerUnreachable",
    "SessionLost",
    "StageRetired",
    "StaleLease",
    "StoreBroken",
    "StoreError",
    "TaskCrashed",
    "TaskError",
    "TaskTimeout",
    "TooManyParts",
    "TooManyRequests",
    "TooManySessions",
    "ValueGone",
    "WorkerFull",
    "WorkerUnfit",
    "WorkerVanished",
    "WorkloadBroken",
]

for _name in __all__:  # people meet them here, and so do pickles
    globals()[_name].__module__ = __name__


def rebuild(name: str, facts: list[Any]) -> DcengineError:
    """Return the error called *name* made from *facts*; an unknown name becomes an `EngineError`."""
    kind = globals().get(name)
    if isinstance(kind, type) and issubclass(kind, DcengineError):
        return kind(*facts)
    return EngineError(f"{name}: {', '.join(map(str, facts))}")
