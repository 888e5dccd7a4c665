"""The workers."""

from __future__ import annotations

from .base import DcengineError


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


class WorkerFull(ClusterError):
    """A worker has no room for the values that a call refers to."""

    def __init__(self, worker: str, problem: str) -> None:
        super().__init__(worker, problem)
        self.worker, self.problem = worker, problem

    def __str__(self) -> str:
        return (
            f"worker {self.worker} has no room for the values that the call refers to: {self.problem}; free some space "
            "there, or raise the setting worker_values"
        )


class TooManySessions(ClusterError):
    """A worker keeps as many sessions as it may."""

    def __init__(self, worker: str, limit: int) -> None:
        super().__init__(worker, limit)
        self.worker, self.limit = worker, limit

    def __str__(self) -> str:
        return (
            f"worker {self.worker} keeps {self.limit} sessions already, which is the limit; end one that is needed no "
            "longer with dcengine.end_session(name), dcengine.sessions() lists them"
        )


class DevicesHidden(ClusterError):
    """A worker's tags promise more devices than its environment shows."""

    def __init__(self, kind: str, place: int, variable: str, shown: str) -> None:
        super().__init__(kind, place, variable, shown)
        self.kind, self.place, self.variable, self.shown = kind, place, variable, shown

    def __str__(self) -> str:
        return (
            f"the worker was to lend its {self.kind} number {self.place}, counted from 0, but was itself started with "
            f"{self.variable}={self.shown!r}; correct that, or its tag {self.kind}.count"
        )


class WorkerUnfit(ClusterError):
    """A Dask worker cannot run our tasks."""

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(worker, reason)
        self.worker, self.reason = worker, reason

    def __str__(self) -> str:
        return f"Dask worker {self.worker} cannot be used: {self.reason}"
