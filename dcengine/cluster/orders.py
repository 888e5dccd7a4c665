"""What the engine tells its launcher and hears from it: one JSON line each."""

from __future__ import annotations

from typing import Literal

import msgspec

from .settings import Certificate, Identity


class WorkerOrders(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to start and to keep running."""

    name: str
    identity: Identity


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster to start."""

    host: str
    workers: list[WorkerOrders]
    directory: str  #: for the workers' files; removed at the end by whoever is left


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the scheduler or a worker."""

    kind: Literal["scheduler", "worker", "ended", "failed"]
    name: str
    pid: int = 0
    address: str = ""
    certificate: Certificate | None = None  #: of a scheduler, for whoever is to talk to it
    reason: str = ""
