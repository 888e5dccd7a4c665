"""The rows that go with every change: events, counters, credit and the tally of batches."""

from __future__ import annotations

import sqlite3
from collections import Counter

from ..events import Kind
from ..jobs import JobState, State
from .names import Names

INSERT_EVENT = """
INSERT INTO event (at, kind, job, batch, units, attempt, worker, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_CREDIT = """
INSERT INTO credit (project, contributor, task, chunk, units, at)
VALUES (?, ?, ?, ?, ?, ?)
"""
INSERT_CHUNK = """
INSERT INTO chunk (batch, first, count, state, worker, data, finished)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
ADD_TO_STANDING = """
INSERT INTO standing (project, contributor, units)
VALUES (?, ?, ?)
ON CONFLICT (project, contributor) DO UPDATE SET units = units + excluded.units
"""
TALLY_BATCH = """
UPDATE batch
SET succeeded = succeeded + ?, failed = failed + ?, cancelled = cancelled + ?
WHERE id = ?
"""
CLOSE_BATCH = f"""
UPDATE batch
SET finished = ?,
    state = CASE
        WHEN failed > 0 THEN {JobState.FAILED:d}
        WHEN cancelled > 0 THEN {JobState.CANCELLED:d}
        ELSE {JobState.SUCCEEDED:d}
    END
WHERE id = ? AND state = {JobState.OPEN:d} AND succeeded + failed + cancelled = count
"""


class Ledger:
    """Collects what one group of operations changes besides its own rows, and writes it at the end."""

    def __init__(self, connection: sqlite3.Connection, names: Names, at: int) -> None:
        self._connection = connection
        self._names = names
        self._at = at
        self._events: list[tuple[object, ...]] = []
        self._credits: list[tuple[object, ...]] = []
        self._counts: Counter[tuple[int, int]] = Counter()
        self._standings: Counter[tuple[int, int]] = Counter()
        self._tallies: Counter[tuple[int, State]] = Counter()

    def event(
        self,
        kind: Kind,
        *,
        job: int | None = None,
        batch: int | None = None,
        units: int = 1,
        attempt: int | None = None,
        worker: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Note that something happened."""
        self._events.append((self._at, int(kind), job, batch, units, attempt, worker, detail))

    def count(self, stage: int, *, before: State | None, after: State, n: int = 1) -> None:
        """Move *n* tasks of *stage* from one counter to another; None where they are new."""
        if before is not None:
            self._counts[stage, before] -= n
        self._counts[stage, after] += n

    def credit(
        self, project: int, nickname: str, *, task: int | None = None, chunk: int | None = None, units: int = 1
    ) -> None:
        """Give *nickname* its credit for one accepted task, or for the items of one chunk."""
        contributor = self._names.contributor(self._connection, nickname)
        self._credits.append((project, contributor, task, chunk, units, self._at))
        self._standings[project, contributor] += units

    def close_items(self, batch: int, *, first: int, count: int, state: State, data: bytes, worker: str | None) -> int:
        """Store the end of consecutive items of *batch*; return the chunk's id."""
        cursor = self._connection.execute(INSERT_CHUNK, (batch, first, count, int(state), worker, data, self._at))
        self._tallies[batch, state] += count
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def write(self) -> None:
        """Write all that was collected."""
        self._connection.executemany(INSERT_EVENT, self._events)
        if self._credits:
            self._connection.executemany(INSERT_CREDIT, self._credits)
            self._connection.executemany(ADD_TO_STANDING, [(*key, units) for key, units in self._standings.items()])
        changes = [(n, stage, int(state)) for (stage, state), n in self._counts.items() if n]
        self._connection.executemany("UPDATE counter SET n = n + ? WHERE stage = ? AND state = ?", changes)
        for batch in {batch for batch, _ in self._tallies}:
            tally = [self._tallies[batch, state] for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)]
            self._connection.execute(TALLY_BATCH, (*tally, batch))
            self._connection.execute(CLOSE_BATCH, (self._at, batch))
