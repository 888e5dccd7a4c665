"""What a cluster is told, and what it shows of itself: plain data."""

from __future__ import annotations

import msgspec

from ..errors import ClusterError
from ..jobs import Worker


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which workers there are to be."""

    workers: int = 0  #: one-slot workers to start here; with 0 others can still join
    worker_tags: list[str] = []  #: tags of the i-th worker, "gpu,site=lab"; cycled when there are fewer than workers
    scheduler: str | None = None  #: address of a Dask scheduler that somebody else started
    processes: bool = True  #: False: scheduler, workers and calls all inside this process
    host: str = "127.0.0.1"  #: where our own scheduler listens
    share: float = 0.5  #: of the slots of somebody else's cluster that we may take
    pilot_idle: float = 30.0  #: seconds without work after which somebody else's slot is given back
    lease: float = 30.0  #: seconds that a worker may be silent before it is given up
    grace: float = 1.0  #: seconds that code has to stop before its process is killed
    output_limit: int = 16 << 20  #: bytes of what one call prints that are kept
    session_idle: float = 3600.0  #: seconds without use after which a session is ended
    values_limit: int = 8 << 30  #: bytes of values that a worker keeps for this engine

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else started the scheduler."""
        return self.scheduler is not None

    @property
    def starts_processes(self) -> bool:
        """Whether scheduler and workers are processes of our own."""
        return self.processes and not self.is_foreign

    def tags_of(self, index: int) -> str:
        """Return the tags of the *index*-th worker, counted from 0."""
        return self.worker_tags[index % len(self.worker_tags)] if self.worker_tags else ""


class Slot:
    """One ready place to run units, as the engine sees it."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker = worker
        self.number = number
        self.in_flight = 0  #: units sent and not yet reported

    def __repr__(self) -> str:
        return f"<Slot {self.worker.name}/{self.number}, {self.in_flight} in flight>"


class WorkerGone(ClusterError):
    """A worker disappeared with units in flight; the engine runs them elsewhere."""

    def __init__(self, worker: str) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"worker {self.worker} disappeared"


class ClusterGone(WorkerGone):
    """The whole cluster is gone, the worker with it: nothing that ran there can be to blame."""

    def __str__(self) -> str:
        return f"the cluster of worker {self.worker} was lost"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker that we started or that joined us says about itself."""

    tags: str = ""  #: as its owner wrote them
    nickname: str = ""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The key pair that all parts of one cluster share, as PEM text."""

    ca: str
    certificate: str
    key: str
