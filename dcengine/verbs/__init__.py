"""What an engine can be asked, in this process or over HTTP, and what it answers.

`Verbs` is implemented by the engine itself and by the HTTP client; handles and the command line
talk to either. Values stay packed bytes here: nothing in this package unpickles.
Times are Unix seconds (float); durations are seconds.
"""

from __future__ import annotations

from typing import Protocol

from .access import Grant, NewToken, TokenRole, TokenSpec, TokenStatus, TokenVerbs, brought_with
from .batches import BatchStatus, BatchVerbs, FailedItem, Report
from .cluster import (
    ClusterVerbs,
    EngineStatus,
    Explanation,
    JoinTicket,
    OtherVersions,
    SessionStatus,
    WorkerStatus,
    WorkerVerdict,
)
from .contributors import (
    BanDone,
    ContributorReport,
    ContributorStatus,
    ContributorVerbs,
    Earned,
    LeaderboardRow,
    ProjectCredit,
    Span,
    StageCredit,
    Standing,
)
from .events import Event, EventPage, EventVerbs
from .failures import FailureGroup, FailureGroups, FailureVerbs
from .functions import BatchSubmission, Function, OnNoMatch, Options, Submission
from .jobs import (
    Flag,
    HistoryEntry,
    JobFilter,
    JobPage,
    JobResult,
    JobStatus,
    JobVerbs,
    Line,
    Progress,
    Transcript,
    Try,
)
from .leases import Completion, Heartbeat, LeasedTask, LeaseRequest, LeaseVerbs, TaskAnswer, TaskFailure, TaskFlag
from .mine import HeldTask, Mine, MineVerbs
from .outsiders import OutsiderFilter, OutsiderPage, OutsiderVerbs, OutsideWorker, Registered, Registration
from .projects import (
    AddedJobs,
    Deletion,
    ImportRecord,
    ImportStep,
    ItemsSubmission,
    ProjectSpec,
    ProjectStatus,
    ProjectVerbs,
    StageOutput,
    StageSpec,
    StageStatus,
    Throughput,
)
from .upkeep import BackupDone, UpkeepVerbs, VacuumDone
from .values import StoredValue, ValueVerbs
from .webhooks import Delivery, NewWebhook, WebhookEvent, WebhookSpec, WebhookStatus, WebhookVerbs

__all__ = [
    "AddedJobs",
    "BackupDone",
    "BanDone",
    "BatchStatus",
    "BatchSubmission",
    "Completion",
    "ContributorReport",
    "ContributorStatus",
    "Deletion",
    "Delivery",
    "Earned",
    "EngineStatus",
    "Event",
    "EventPage",
    "Explanation",
    "FailedItem",
    "FailureGroup",
    "FailureGroups",
    "Flag",
    "Function",
    "Grant",
    "Heartbeat",
    "HeldTask",
    "HistoryEntry",
    "ImportRecord",
    "ImportStep",
    "ItemsSubmission",
    "JobFilter",
    "JobPage",
    "JobResult",
    "JobStatus",
    "JoinTicket",
    "LeaderboardRow",
    "LeaseRequest",
    "LeasedTask",
    "Line",
    "Mine",
    "NewToken",
    "NewWebhook",
    "OnNoMatch",
    "Options",
    "OtherVersions",
    "OutsideWorker",
    "OutsiderFilter",
    "OutsiderPage",
    "Progress",
    "ProjectCredit",
    "ProjectSpec",
    "ProjectStatus",
    "Registered",
    "Registration",
    "Report",
    "SessionStatus",
    "Span",
    "StageCredit",
    "StageOutput",
    "StageSpec",
    "StageStatus",
    "Standing",
    "StoredValue",
    "Submission",
    "TaskAnswer",
    "TaskFailure",
    "TaskFlag",
    "Throughput",
    "TokenRole",
    "TokenSpec",
    "TokenStatus",
    "Transcript",
    "Try",
    "VacuumDone",
    "Verbs",
    "WebhookEvent",
    "WebhookSpec",
    "WebhookStatus",
    "WorkerStatus",
    "WorkerVerdict",
    "brought_with",
]


class Verbs(
    JobVerbs,
    BatchVerbs,
    ProjectVerbs,
    LeaseVerbs,
    OutsiderVerbs,
    ValueVerbs,
    TokenVerbs,
    ContributorVerbs,
    MineVerbs,
    ClusterVerbs,
    UpkeepVerbs,
    EventVerbs,
    FailureVerbs,
    WebhookVerbs,
    Protocol,
):
    """The questions. Every one may raise `NotFound` for an unknown id."""
