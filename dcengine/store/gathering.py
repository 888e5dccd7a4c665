"""Gathers and the parts that they wait for: counted down, given up with, counted anew."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ..codec import failure_from, pack_failure
from ..errors import PartFailed
from ..events import Kind
from ..jobs import JobState, State
from .handing import Consequences, Ended, Queued
from .ledger import Ledger

SELECT_GATHER = """
SELECT task.job, task.stage, task.state, task.attempt, stage.on_failed_part, stage.project
FROM gather
JOIN task ON task.id = gather.task
JOIN stage ON stage.id = task.stage
WHERE gather.task = ?
"""
FAIL_GATHER = f"""
UPDATE task
SET state = {State.FAILED:d}, finished = ?
WHERE id = ?
"""
FAIL_JOB = f"""
UPDATE job
SET state = {JobState.FAILED:d}, finished = ?, expires = ? + keep
WHERE id = ?
"""
SELECT_ENDED_PARTS = """
SELECT gather, id, number, state
FROM job
WHERE id IN (SELECT value FROM json_each(?)) AND gather IS NOT NULL
"""


class Part(NamedTuple):
    """A job that has ended, where a gather waits for it."""

    job: int
    number: int
    state: int

    @property
    def is_lost(self) -> bool:
        return self.state != JobState.SUCCEEDED


def settle(
    connection: sqlite3.Connection, ledger: Ledger, ends: Sequence[tuple[int, str | None, Consequences]]
) -> None:
    """Count the jobs that have ended, given with the reason, down where a gather waits for them."""
    told = {job: (reason, consequences) for job, reason, consequences in ends}
    open_ends = list(told)
    while open_ends:
        rows = connection.execute(SELECT_ENDED_PARTS, (json.dumps(open_ends),)).fetchall()
        of_gather: defaultdict[int, list[Part]] = defaultdict(list)
        for gather, *part in rows:
            of_gather[gather].append(Part(*part))
        open_ends = []
        for gather, parts in of_gather.items():
            last = next((part for part in reversed(parts) if part.is_lost), parts[0])
            reason, consequences = told[last.job]
            failed = _settle_one(connection, ledger, gather, parts, reason, consequences)
            if failed is not None:
                told[failed.job] = (failed.reason, consequences)
                open_ends.append(failed.job)


def _settle_one(
    connection: sqlite3.Connection,
    ledger: Ledger,
    gather: int,
    parts: Sequence[Part],
    reason: str | None,
    consequences: Consequences,
) -> Ended | None:
    """Count *parts* down at one *gather*; return the job that waits there, if it has failed with one of them."""
    job, stage, state, attempt, on_failed_part, project = connection.execute(SELECT_GATHER, (gather,)).fetchone()
    if state != State.BLOCKED:
        return None  # it has ended, or gone on without them
    lost = [part.number for part in parts if part.is_lost]
    if not lost or on_failed_part != "fail":
        counted = len(parts) if on_failed_part == "skip" else len(parts) - len(lost)
        count_down(connection, ledger, gather, counted, consequences)
        return None
    error = failure_from(PartFailed(lost[0], reason or "cancelled"))
    ended = Ended(job, JobState.FAILED, pack_failure(error), error.sentence)
    connection.execute(FAIL_GATHER, (ledger.at, gather))
    connection.execute("UPDATE payload SET output = ? WHERE task = ?", (ended.output, gather))
    connection.execute(FAIL_JOB, (ledger.at, ledger.at, job))
    connection.execute("UPDATE gather SET is_cut = 1 WHERE task = ?", (gather,))
    ledger.event(
        Kind.FAILED, job=job, task=gather, stage=stage, state=State.FAILED, attempt=attempt, detail=ended.reason
    )
    ledger.count(stage, before=State.BLOCKED, after=State.FAILED)
    ledger.count_jobs(project, before=JobState.OPEN, after=JobState.FAILED)
    consequences.ended.append(ended)
    consequences.cut.append(gather)
    return ended


def count_down(
    connection: sqlite3.Connection, ledger: Ledger, gather: int, parts: int, consequences: Consequences
) -> None:
    """Note that so many *parts* of *gather* are in; with the last of them it is queued."""
    connection.execute("UPDATE gather SET left = left - ? WHERE task = ?", (parts, gather))
    row = connection.execute(
        f"UPDATE task SET state = {State.QUEUED:d}"
        f" WHERE id = ? AND state = {State.BLOCKED:d} AND EXISTS"
        " (SELECT 1 FROM gather WHERE gather.task = task.id AND left = 0 AND is_open = 0)"
        " RETURNING job, stage, submitter, priority",
        (gather,),
    ).fetchone()
    if row is not None:
        job, stage, submitter, priority = row
        ledger.event(Kind.GATHERED, job=job, task=gather, stage=stage, state=State.QUEUED)
        ledger.count(stage, before=State.BLOCKED, after=State.QUEUED)
        consequences.queued.append(Queued(stage, submitter, priority))
