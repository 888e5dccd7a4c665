"""Run functions and staged jobs on tagged workers, and keep them in one file that survives everything.

Names are loaded when first used, so that ``import dcengine`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import workloads
    from .api import (
        batch,
        connect,
        end_session,
        explain,
        job,
        leaderboard,
        list_jobs,
        map,
        put,
        reference,
        sessions,
        submit,
        tag_worker,
        use_db,
        workers,
    )
    from .batches import BatchHandle
    from .cautions import NoMatchWarning, VersionWarning
    from .embed import EmbeddedEngine as Engine
    from .errors import (
        AccessDenied,
        BackupFailed,
        BlobCorrupt,
        BlobError,
        BlobMissing,
        BlobPlaceFailed,
        BodyTooSlow,
        ClusterError,
        ClusterFailed,
        ContributorBanned,
        DatabaseCorrupt,
        DatabaseForeign,
        DatabaseLinked,
        DatabaseLocked,
        DatabaseMoved,
        DatabaseOwned,
        DatabaseTooNew,
        DcengineError,
        DependencyFailed,
        DevicesHidden,
        DevicesShared,
        DiskFull,
        EngineBusy,
        EngineClosed,
        EngineError,
        EngineUnreachable,
        ExecutorShut,
        FileHeld,
        IdlenessUnknown,
        ImportChanged,
        InputRejected,
        InsecureAddress,
        InvalidInput,
        InvalidOption,
        InvalidPattern,
        InvalidSource,
        InvalidTags,
        InvalidTransition,
        JobCancelled,
        LeaseLimitReached,
        MissingPackage,
        NetworkFileSystem,
        NoMatchingWorker,
        NotEditable,
        NotFound,
        NothingExpanded,
        NotIterable,
        NotJson,
        NotPicklable,
        OwnershipLost,
        PartFailed,
        PayloadTooLarge,
        PortInUse,
        ProjectBlocked,
        ProjectInUse,
        ProjectPaused,
        RemoteError,
        ResultExpired,
        ResultLost,
        ResultNotReady,
        SchedulerUnreachable,
        SessionLost,
        StageRetired,
        StaleLease,
        StoreBroken,
        StoreError,
        TaskCrashed,
        TaskError,
        TaskTimeout,
        TooManyParts,
        TooManyRequests,
        TooManySessions,
        ValueGone,
        WorkerFull,
        WorkerUnfit,
        WorkerVanished,
        WorkloadBroken,
    )
    from .executor import Executor, JobFuture
    from .functions import function
    from .handles import JobHandle
    from .modules import ModuleChanged
    from .projects import Project
    from .runner.progress import progress, track
    from .values import Reference
    from .verbs import (
        BatchStatus,
        EngineStatus,
        JobStatus,
        LeaderboardRow,
        Progress,
        ProjectStatus,
        SessionStatus,
        WorkerStatus,
    )
    from .waiting import as_completed, gather, wait
    from .worker import AsyncWorker, Worker

__all__ = [
    "AccessDenied",
    "AsyncWorker",
    "BackupFailed",
    "BatchHandle",
    "BatchStatus",
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
    "Engine",
    "EngineBusy",
    "EngineClosed",
    "EngineError",
    "EngineStatus",
    "EngineUnreachable",
    "Executor",
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
    "JobFuture",
    "JobHandle",
    "JobStatus",
    "LeaderboardRow",
    "LeaseLimitReached",
    "MissingPackage",
    "ModuleChanged",
    "NetworkFileSystem",
    "NoMatchWarning",
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
    "Progress",
    "Project",
    "ProjectBlocked",
    "ProjectInUse",
    "ProjectPaused",
    "ProjectStatus",
    "Reference",
    "RemoteError",
    "ResultExpired",
    "ResultLost",
    "ResultNotReady",
    "SchedulerUnreachable",
    "SessionLost",
    "SessionStatus",
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
    "VersionWarning",
    "Worker",
    "WorkerFull",
    "WorkerStatus",
    "WorkerUnfit",
    "WorkerVanished",
    "WorkloadBroken",
    "__version__",
    "as_completed",
    "batch",
    "connect",
    "end_session",
    "explain",
    "function",
    "gather",
    "job",
    "leaderboard",
    "list_jobs",
    "map",
    "progress",
    "put",
    "reference",
    "sessions",
    "submit",
    "tag_worker",
    "track",
    "use_db",
    "wait",
    "workers",
    "workloads",
]

_HOMES = {
    "NoMatchWarning": ".cautions:NoMatchWarning",
    "VersionWarning": ".cautions:VersionWarning",
    "ModuleChanged": ".modules:ModuleChanged",
    "tag_worker": ".api:tag_worker",
    "AsyncWorker": ".worker:AsyncWorker",
    "Worker": ".worker:Worker",
    "Engine": ".embed:EmbeddedEngine",
    "Executor": ".executor:Executor",
    "function": ".functions:function",
    "JobFuture": ".executor:JobFuture",
    "JobHandle": ".handles:JobHandle",
    "BatchHandle": ".batches:BatchHandle",
    "Project": ".projects:Project",
    "Reference": ".values:Reference",
    "progress": ".runner.progress:progress",
    "track": ".runner.progress:track",
    "workloads": ".workloads:",
    **{
        name: f".api:{name}"
        for name in (
            "batch",
            "connect",
            "end_session",
            "explain",
            "job",
            "leaderboard",
            "list_jobs",
            "map",
            "put",
            "reference",
            "sessions",
            "submit",
            "use_db",
            "workers",
        )
    },
    **{name: f".waiting:{name}" for name in ("as_completed", "gather", "wait")},
    **{
        name: f".verbs:{name}"
        for name in (
            "BatchStatus",
            "EngineStatus",
            "JobStatus",
            "LeaderboardRow",
            "Progress",
            "ProjectStatus",
            "SessionStatus",
            "WorkerStatus",
        )
    },
}  #: where each name lives, a module by itself; all others of `__all__` are errors


def load_ipython_extension(ip: Any) -> None:
    """Give IPython *ip* our magics and views; IPython calls this for ``%load_ext dcengine``."""
    import dcengine_magics  # the one import that goes up

    dcengine_magics.load_ipython_extension(ip)


def unload_ipython_extension(ip: Any) -> None:
    """Take them away again; IPython calls this for ``%unload_ext dcengine``."""
    import dcengine_magics

    dcengine_magics.unload_ipython_extension(ip)


def __getattr__(name: str) -> Any:
    """Import the module of a public *name*; called once for each, since it is kept."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES.get(name, f".errors:{name}").partition(":")
    home = import_module(module, __name__)
    value = getattr(home, attribute) if attribute else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
