"""Results kept for a set time: what went in, what came out and what was printed goes; that it happened stays."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..events import Kind
from ..jobs import JobState, State
from .ledger import Ledger
from .names import FIRST_LATER_TASK, Names

POSTPONED = 60_000_000  #: microseconds, at least, until what an open job still takes is looked at again

# Whether an open call takes the result of a job between the first given and before the second.
IS_TAKEN = f"""EXISTS (
    SELECT 1
    FROM dependency
    JOIN task ON task.id = dependency.task
    WHERE dependency.job >= {{first}} AND dependency.job < {{end}} AND task.state < {State.SUCCEEDED:d}
)"""
# A part goes after the job whose part it is: a gather may still read it, or read it again.
SELECT_JOBS = f"""
SELECT job.id,
    CASE
        WHEN whole.state = {JobState.OPEN:d} OR {IS_TAKEN.format(first="job.id", end="job.id + 1")}
            THEN :at + max(job.keep, {POSTPONED})
        ELSE whole.expires
    END
FROM job
LEFT JOIN job AS whole ON whole.id = job.parent
WHERE job.expires <= :at
ORDER BY job.expires, job.id
LIMIT :limit
"""
EMPTY_PAYLOADS = """
UPDATE payload
SET input = x'', output = NULL
WHERE task IN (SELECT value FROM json_each(?))
"""
EMPTY_LATER_PAYLOADS = f"""
UPDATE payload
SET input = x'', output = NULL
WHERE task IN (
    SELECT id FROM task WHERE job IN (SELECT value FROM json_each(?)) AND id >= {FIRST_LATER_TASK}
)
"""
FORGET_OUTPUT = """
DELETE FROM output
WHERE job IN (SELECT value FROM json_each(?))
"""
#: What an ended batch holds, some rows at a time; an item with rows of its own has its task under the job's id.
EMPTY_BATCH = (
    """
DELETE FROM block
WHERE batch = :batch AND first IN (SELECT first FROM block WHERE batch = :batch LIMIT :limit)
""",
    """
UPDATE chunk
SET data = x''
WHERE id IN (SELECT id FROM chunk WHERE batch = :batch AND length(data) > 0 LIMIT :limit)
""",
    """
UPDATE payload
SET input = x'', output = NULL
WHERE task IN (
    SELECT task
    FROM payload
    WHERE task >= :first AND task < :end AND (length(input) > 0 OR output IS NOT NULL)
    LIMIT :limit
)
""",
    """
DELETE FROM output
WHERE (job, number) IN (SELECT job, number FROM output WHERE job >= :first AND job < :end LIMIT :limit)
""",
)


@dataclass(slots=True)
class Expired:
    """What went."""

    jobs: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    is_all: bool = True  #: nothing else is due


@dataclass(slots=True)
class ExpireValues:
    """Remove the values of jobs and batches whose time is over, some of them; the result is `Expired`."""

    rank: ClassVar[int] = 5
    at: int
    limit: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[ExpireValues]) -> list[Any]:
        results = []
        for operation in operations:
            ledger, expired = Ledger(connection, names, operation.at), Expired()
            operation._expire_jobs(connection, ledger, expired)
            operation._expire_batch(connection, ledger, expired)
            ledger.write()
            results.append(expired)
        return results

    def _expire_jobs(self, connection: sqlite3.Connection, ledger: Ledger, expired: Expired) -> None:
        due = connection.execute(SELECT_JOBS, {"at": self.at, "limit": self.limit}).fetchall()
        connection.executemany("UPDATE job SET expires = ? WHERE id = ?", [(until, id) for id, until in due])
        expired.jobs = [id for id, until in due if until is None]
        for statement in (EMPTY_PAYLOADS, EMPTY_LATER_PAYLOADS, FORGET_OUTPUT):  # a job's first task has its id
            connection.execute(statement, (json.dumps(expired.jobs),))
        for job in expired.jobs:
            ledger.event(Kind.EXPIRED, job=job)
        is_over = [until is not None and until <= self.at for _, until in due]  # with the job whose parts they are
        expired.is_all = len(due) < self.limit and not any(is_over)

    def _expire_batch(self, connection: sqlite3.Connection, ledger: Ledger, expired: Expired) -> None:
        """Empty the batch that is due first, or go on with it."""
        row = connection.execute(
            "SELECT id, first_job, count FROM batch WHERE expires <= ? ORDER BY expires LIMIT 1", (self.at,)
        ).fetchone()
        if row is None:
            return
        expired.is_all = False
        batch, first, count = row
        if connection.execute(f"SELECT {IS_TAKEN.format(first='?', end='?')}", (first, first + count)).fetchone()[0]:
            connection.execute("UPDATE batch SET expires = ? WHERE id = ?", (self.at + POSTPONED, batch))
            return
        values = {"batch": batch, "first": first, "end": first + count, "limit": self.limit}
        if any(connection.execute(statement, values).rowcount for statement in EMPTY_BATCH):
            return
        connection.execute("UPDATE batch SET expires = NULL WHERE id = ?", (batch,))
        ledger.event(Kind.EXPIRED, batch=batch, units=count)
        expired.batches.append(batch)
