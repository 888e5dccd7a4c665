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


class WorkerUnfit(ClusterError):
    """A Dask worker cannot run our tasks."""

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(worker, reason)
        self.worker, self.reason = worker, reason

    def __str__(self) -> str:
        return f"Dask worker {self.worker} cannot be used: {self.reason}"
