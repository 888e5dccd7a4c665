"""The operation that has open jobs run earlier or later."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import NotFound
from ..events import Kind
from ..jobs import JobState, State
from .handing import Consequences, Queued
from .ledger import Ledger
from .names import CALL, CURRENT_TASK, Names

SELECT_JOB = f"""
SELECT job.state, task.id, task.state, task.flags, task.stage, task.need, need.tags, task.submitter, stage.priority
FROM job
JOIN project ON project.id = job.project AND project.is_deleted = 0
JOIN task ON task.id = {CURRENT_TASK}
JOIN stage ON stage.id = task.stage
JOIN need ON need.id = task.need
WHERE job.id = ? AND job.batch IS NULL
"""


@dataclass(slots=True)
class Prioritized:
    """How many jobs were open and have the priority now, and what can run where."""

    jobs: int = 0
    #: Of calls: need, tags, submitter and priority.
    calls: list[tuple[int, str, int, int]] = field(default_factory=list)
    consequences: Consequences = field(default_factory=Consequences)


@dataclass(slots=True)
class Prioritize:
    """Give open jobs a *priority*, to which that of their stage is added; the result is `Prioritized` or `NotFound`."""

    rank: ClassVar[int] = 1
    jobs: list[int]
    priority: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[Prioritize]) -> list[Any]:
        return [operation._do(connection, names) for operation in operations]

    def _do(self, connection: sqlite3.Connection, names: Names) -> Prioritized | NotFound:
        rows = [(id, connection.execute(SELECT_JOB, (id,)).fetchone()) for id in self.jobs]
        for id, row in rows:
            if row is None:
                return NotFound("job", id)
        result, ledger = Prioritized(), Ledger(connection, names, self.at)
        for id, row in rows:
            if row[0] == JobState.OPEN:
                self._give(connection, id, row, result)
                ledger.event(Kind.PRIORITIZED, job=id, stage=row[4], units=0, detail=str(self.priority))
        ledger.write()
        return result

    def _give(self, connection: sqlite3.Connection, id: int, row: Any, result: Prioritized) -> None:
        _, task, state, flags, stage, need, tags, submitter, of_stage = row
        priority = self.priority + of_stage
        connection.execute("UPDATE job SET priority = ? WHERE id = ?", (self.priority, id))
        connection.execute("UPDATE task SET priority = ? WHERE id = ?", (priority, task))
        result.jobs += 1
        if state != State.QUEUED or flags:
            return
        if stage == CALL:
            result.calls.append((need, tags, submitter, priority))
        else:
            result.consequences.queued.append(Queued(stage, submitter, priority))
