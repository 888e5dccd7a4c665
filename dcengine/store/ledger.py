"""The rows that go with every change: events, counters, credit and the tally of batches."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..events import Kind
from ..jobs import JobState, State
from .names import FUNCTIONS, Names
from .outbox import OF_JOBS, Happened, Hooks, post_jobs, post_project, post_stages
from .rows import execute_rows
from .standings import add_credit, void_credit

INSERT_EVENT = """
INSERT INTO event (
    at, kind, job, task, stage, state, batch, units, attempt, worker, contributor, credit, seconds, detail
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_CREDIT = """
INSERT INTO credit (project, contributor, task, chunk, units, at)
VALUES (?, ?, ?, ?, ?, ?)
"""
# Only the last chunk that begins before the end of this one can reach into it: those that are there do not overlap.
INSERT_CHUNK = """
INSERT INTO chunk (batch, first, count, state, worker, data, finished)
WITH ended (batch, first, count, state, worker, data, finished) AS (VALUES (?, ?, ?, ?, ?, ?, ?))
SELECT *
FROM ended
WHERE ended.first >= coalesce(
    (
        SELECT chunk.first + chunk.count
        FROM chunk
        WHERE chunk.batch = ended.batch AND chunk.first < ended.first + ended.count
        ORDER BY chunk.first DESC
        LIMIT 1
    ),
    0
)
"""
ADD_TO_COUNTER = """
UPDATE counter
SET n = n + ?
WHERE stage = ? AND state = ?
"""
ADD_TO_JOB_COUNTER = """
UPDATE job_counter
SET n = n + ?
WHERE project = ? AND state = ?
"""
TALLY_BATCH = """
UPDATE batch
SET succeeded = succeeded + ?, failed = failed + ?, cancelled = cancelled + ?
WHERE id = ?
"""
CLOSE_BATCH = f"""
UPDATE batch
SET finished = ?,
    expires = ? + keep,
    state = CASE
        WHEN failed > 0 THEN {JobState.FAILED:d}
        WHEN cancelled > 0 THEN {JobState.CANCELLED:d}
        ELSE {JobState.SUCCEEDED:d}
    END
WHERE id = ? AND state = {JobState.OPEN:d} AND succeeded + failed + cancelled = count
"""
TAKE_BACK = """
UPDATE credit
SET void = 1
WHERE task = ? AND void = 0
RETURNING project, contributor, units, at
"""


class Ledger:
    """Collects what one group of operations changes besides its own rows, and writes it at the end."""

    def __init__(self, connection: sqlite3.Connection, names: Names, at: int) -> None:
        self._connection = connection
        self._names = names
        self.at = at
        self._events: list[tuple[Any, ...]] = []
        self._credits: list[tuple[object, ...]] = []
        self._moves: Counter[tuple[int, int | None, int]] = Counter()
        self._job_moves: Counter[tuple[int, int | None, int]] = Counter()
        self._standings: Counter[tuple[int, int]] = Counter()
        self._tallies: Counter[tuple[int, State]] = Counter()

    def event(
        self,
        kind: Kind,
        *,
        job: int | None = None,
        task: int | None = None,
        stage: int | None = None,
        state: State | None = None,
        batch: int | None = None,
        units: int = 1,
        attempt: int | None = None,
        worker: str | None = None,
        contributor: int | None = None,
        credit: int | None = None,
        seconds: float | None = None,
        detail: str | None = None,
    ) -> None:
        """Note that something happened; *state* is where it left *units* tasks, the first of them *task*."""
        self._events.append(
            (
                self.at, int(kind), job, task, stage, None if state is None else int(state), batch, units, attempt,
                worker, contributor, credit, seconds, detail,
            )
        )  # fmt: skip

    def count(self, stage: int, *, before: State | None, after: State, n: int = 1) -> None:
        """Move *n* tasks of *stage* from one counter to another; None where they are new."""
        self._moves[stage, before, after] += n

    def count_jobs(self, project: int, *, before: JobState | None, after: JobState, n: int = 1) -> None:
        """Move *n* jobs of *project* from one counter to another; None where they are new."""
        if project != FUNCTIONS:
            self._job_moves[project, before, after] += n

    def credit(
        self, project: int, nickname: str, *, task: int | None = None, chunk: int | None = None, units: int = 1
    ) -> int:
        """Give *nickname* its credit for one accepted task, or for the items of one chunk; return its id."""
        contributor = self._names.contributor(self._connection, nickname)
        self._credits.append((project, contributor, task, chunk, units))
        self._standings[project, contributor] += units
        return contributor

    def take_back(self, task: int) -> tuple[int | None, int | None]:
        """Void the credit for *task*; return who had it, and how much of it is gone, below zero."""
        row = self._connection.execute(TAKE_BACK, (task,)).fetchone()
        if row is None:
            return None, None
        project, contributor, units, earned_at = row
        void_credit(self._connection, project, contributor, units, earned_at)
        return contributor, -units

    def close_items(self, batch: int, *, first: int, count: int, state: State, data: bytes, worker: str | None) -> int:
        """Store the end of consecutive items of *batch*, none of which has ended before; return the chunk's id."""
        cursor = self._connection.execute(INSERT_CHUNK, (batch, first, count, int(state), worker, data, self.at))
        if not cursor.rowcount:
            last = first + count - 1
            raise sqlite3.IntegrityError(f"of items {first} to {last} of batch {batch} some have ended already")
        self._tallies[batch, state] += count
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def write(self) -> None:
        """Write all that was collected."""
        execute_rows(self._connection, INSERT_EVENT, self._events)
        if self._credits:
            counts_at = add_credit(self._connection, self._standings, self.at)
            execute_rows(self._connection, INSERT_CREDIT, [(*credit, counts_at) for credit in self._credits])
        if self._moves:
            self._connection.executemany(ADD_TO_COUNTER, _changes(self._moves))
        if self._job_moves:
            self._connection.executemany(ADD_TO_JOB_COUNTER, _changes(self._job_moves))
        for batch in {batch for batch, _ in self._tallies}:
            tally = [self._tallies[batch, state] for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)]
            self._connection.execute(TALLY_BATCH, (*tally, batch))
            self._connection.execute(CLOSE_BATCH, (self.at, self.at, batch))
        if hooks := self._names.hooks(self._connection):
            self._post(hooks)

    def _post(self, hooks: Hooks) -> None:
        """Have webhooks be told what was written."""
        happened: dict[int, list[Happened]] = {}
        for _, kind, job, _, stage, _, _, _, attempt, worker, _, _, _, detail in self._events:
            if kind in OF_JOBS and job is not None and stage is not None:
                event = Happened(kind, job, stage, attempt, worker, detail)
                happened.setdefault(self._names.project_of(self._connection, stage), []).append(event)
        changed = {self._names.project_of(self._connection, stage) for stage, _, _ in self._moves}
        for project in hooks.keys() & (changed | happened.keys() | {of for of, _, _ in self._job_moves}):
            post_jobs(self._connection, hooks[project], happened.get(project, []), self.at)
            post_stages(self._connection, hooks[project], project, self._moves, self.at)
            post_project(self._connection, hooks[project], project, self._job_moves, self.at)


def _changes(moves: Mapping[tuple[int, int | None, int], int]) -> list[tuple[int, int, int]]:
    """Return what is added to each counter, as (n, whose, state), if so many moved from state to state."""
    counts: Counter[tuple[int, int]] = Counter()
    for (of, before, after), n in moves.items():
        counts[of, after] += n
        if before is not None:
            counts[of, before] -= n
    return [(n, of, int(state)) for (of, state), n in counts.items() if n]
