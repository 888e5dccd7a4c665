"""The operation that writes down what happened beside jobs: workers and kernels that come and go."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..events import Kind
from .ledger import Ledger
from .names import Names


class Noted(NamedTuple):
    """Something that moves no task."""

    kind: Kind
    worker: str | None = None
    stage: int | None = None  #: at which that worker is, if it leases
    detail: str | None = None


@dataclass(slots=True)
class Note:
    """Write down what *happened*."""

    rank: ClassVar[int] = 4
    happened: list[Noted]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Note]) -> list[Any]:
        for operation in operations:
            ledger = Ledger(connection, names, operation.at)
            for each in operation.happened:
                ledger.event(each.kind, worker=each.worker, stage=each.stage, units=0, detail=each.detail)
            ledger.write()
        return [True] * len(operations)
