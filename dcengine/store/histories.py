"""Questions about what became of one job: each stage in each generation, with what went wrong there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..codec import unpack
from ..events import Kind
from ..jobs import State
from ..verbs import Flag, HistoryEntry, Try
from .names import FIRST_LATER_TASK
from .standing_reads import StandingReads

PARTS_LIMIT, TRIES_LIMIT = 1000, 1000  #: in one entry; in one history, the newest
LOOKED_AT = 20_000  #: events among which the end of a run is looked for
BEFORE_ITS_END = 2_000_000  #: microseconds: a commit's events are as old as the first of its operations
ValueOf = Callable[[bytes], Awaitable[bytes]]
WITH_OUTPUT = (State.SUCCEEDED, State.FAILED, State.CANCELLED)  #: a task that ended so and has none has expired

SELECT_TASKS = f"""
SELECT task.id, stage.name, stage.shape, task.generation, task.state, task.attempt, task.worker, contributor.nickname,
    task.finished, CASE WHEN task.origin IS NULL THEN payload.input ELSE coalesce(origin.output, x'') END,
    payload.output, gather.source
FROM task
JOIN stage ON stage.id = task.stage
JOIN payload ON payload.task = task.id
LEFT JOIN payload AS origin ON origin.task = task.origin
LEFT JOIN contributor ON contributor.id = task.contributor
LEFT JOIN gather ON gather.task = task.id
WHERE task.id = ?1 OR task.job = ?1 AND task.id >= {FIRST_LATER_TASK}
ORDER BY task.id
"""
# The kinds stand here as in the index, or SQLite would not find that. A function that was given back without a reason
# had not begun: the engine itself had it run elsewhere.
SELECT_TRIES = f"""
SELECT task, attempt, worker, kind, detail, at, seconds
FROM event
WHERE job = ? AND (kind BETWEEN 5 AND 7 OR kind BETWEEN 10 AND 12) AND NOT (
    kind = {Kind.RELEASED:d} AND detail IS NULL
    AND EXISTS (
        SELECT 1 FROM task JOIN stage ON stage.id = task.stage WHERE task.id = event.task AND stage.kind = 'function'
    )
)
ORDER BY seq DESC
LIMIT ?
"""
# Events have no index by task. They come in the order of time, though: so the place to look from is found by halves.
IS_BEFORE = """
coalesce((SELECT at < ?1 FROM event WHERE seq <= (low + high) / 2 ORDER BY seq DESC LIMIT 1), TRUE)
"""
SELECT_SECONDS = f"""
WITH RECURSIVE look (low, high) AS (
    SELECT (SELECT min(seq) - 1 FROM event), (SELECT max(seq) FROM event)
    UNION ALL
    SELECT iif({IS_BEFORE}, (low + high) / 2, low), iif({IS_BEFORE}, high, (low + high) / 2)
    FROM look
    WHERE high - low > 1
)
SELECT seconds
FROM event
WHERE seq BETWEEN (SELECT max(low) FROM look) AND (SELECT max(low) FROM look) + {LOOKED_AT}
    AND task = ?2 AND kind = {Kind.SUCCEEDED:d}
ORDER BY seq DESC
LIMIT 1
"""
SELECT_FLAGS = """
SELECT task, voter, reason, worker, at
FROM flag
WHERE task IN (SELECT value FROM json_each(?))
ORDER BY at, voter
"""
SELECT_GATHERED = """
SELECT number
FROM job
WHERE gather = ?
ORDER BY id
LIMIT ?
"""
SELECT_LOOSE_PARTS = """
SELECT number
FROM job
WHERE parent = ? AND gather IS NULL
ORDER BY id
LIMIT ?
"""
# An expand and the gather that waits for its parts come into being together.
SELECT_GATHER_AFTER = f"""
SELECT min(task.id)
FROM task
JOIN gather ON gather.task = task.id
WHERE task.job = ? AND task.id > ? AND task.id >= {FIRST_LATER_TASK}
"""
SELECT_EARNER = """
SELECT contributor.nickname
FROM chunk
JOIN credit ON credit.chunk = chunk.id AND credit.void = 0
JOIN contributor ON contributor.id = credit.contributor
WHERE chunk.batch = ? AND chunk.first = ?
"""


class HistoryReads(StandingReads):
    """Answers questions about the past of a job too."""

    async def history(self, id: int, value_of: ValueOf) -> list[HistoryEntry]:
        """Return what each stage made of job *id*, in the order in which it came there; raises `NotFound`.

        *value_of* gets values that lie outside the file.
        """
        rows = await self._all(SELECT_TASKS, id)
        if not rows:
            return [await self._item_entry(id, value_of)]
        tasks = [row[0] for row in rows]
        tries, flags = await self._tries(id, tasks), await self._flags(tasks)
        entries = [
            msgspec.structs.replace(
                _entry(row, parts=await self._parts(id, row), tries=tries[row[0]], flags=flags[row[0]]),
                seconds=await self._seconds(row),
            )
            for row in rows
        ]
        return [await _with_values(entry, value_of) for entry in entries]

    async def _seconds(self, row: Any) -> float | None:
        """Return how long the run took by which a task succeeded; None where the events do not say so any more."""
        task, state, finished = row[0], row[4], row[8]
        if finished is None or state not in (State.SUCCEEDED, State.RETURNED):
            return None
        found = await self._one(SELECT_SECONDS, finished - BEFORE_ITS_END, task)
        return found[0] if found else None

    async def _parts(self, job: int, row: Any) -> list[int]:
        """Return the numbers of the jobs that a task has made, or waits for."""
        task, shape, state, source = row[0], row[2], row[4], row[-1]
        if shape == "expand" and state == State.SUCCEEDED:
            (source,) = await self._one(SELECT_GATHER_AFTER, job, task)
            if source is None:
                return [number for (number,) in await self._all(SELECT_LOOSE_PARTS, job, PARTS_LIMIT)]
        if source is None:
            return []
        return [number for (number,) in await self._all(SELECT_GATHERED, source, PARTS_LIMIT)]

    async def _tries(self, job: int, tasks: list[int]) -> defaultdict[int, list[Try]]:
        """Return what went wrong with each of *tasks*; where an old file does not say with which, with the first."""
        tries: defaultdict[int, list[Try]] = defaultdict(list)
        rows = await self._all(SELECT_TRIES, job, TRIES_LIMIT)
        for task, attempt, worker, kind, reason, at, seconds in reversed(rows):
            tries[task or tasks[0]].append(
                Try(
                    attempt=attempt or 0, worker=worker, what=Kind(kind).name.lower(), reason=reason or "",
                    at=at / 1e6, seconds=seconds,
                )
            )  # fmt: skip
        return tries

    async def _flags(self, tasks: list[int]) -> defaultdict[int, list[Flag]]:
        flags: defaultdict[int, list[Flag]] = defaultdict(list)
        for task, voter, reason, worker, at in await self._all(SELECT_FLAGS, json.dumps(tasks)):
            flags[task].append(Flag(voter=voter, reason=reason, worker=worker, at=at / 1e6))
        return flags

    async def _item_entry(self, id: int, value_of: ValueOf) -> HistoryEntry:
        """Return the one entry of an item of a batch that has no rows of its own."""
        status, batch = await self.job(id), await self._batch_of(id)
        index = id - (await self.batch(batch)).first_job
        chunk, output, contributor = await self._chunk_of(batch, index), None, None
        if chunk is not None:
            first, data = chunk[0], chunk[-1]
            output = unpack(await value_of(data))[index - first] if data else b""
            earner = await self._one(SELECT_EARNER, batch, first)
            contributor = earner[0] if earner else None
        return HistoryEntry(
            task=id, stage="call", generation=0, state=status.task_state, attempt=status.attempt,
            worker=status.worker, contributor=contributor, finished=status.finished,
            input=await self._item_input(batch, index, value_of), output=output,
        )  # fmt: skip

    async def _item_input(self, batch: int, index: int, value_of: ValueOf) -> bytes:
        row = await self._one(
            "SELECT first, data FROM block WHERE batch = ? AND first <= ? ORDER BY first DESC LIMIT 1", batch, index
        )
        return b"" if row is None else unpack(await value_of(row[1]))[index - row[0]]


async def _with_values(entry: HistoryEntry, value_of: ValueOf) -> HistoryEntry:
    input = None if entry.input is None else await value_of(entry.input)
    output = None if entry.output is None else await value_of(entry.output)
    return msgspec.structs.replace(entry, input=input, output=output)


def _entry(row: Any, *, parts: list[int], tries: list[Try], flags: list[Flag]) -> HistoryEntry:
    task, stage, _, generation, state, attempt, worker, contributor, finished, input, output, source = row
    if output is None and state in WITH_OUTPUT:
        output = b""
    return HistoryEntry(
        task=task, stage=stage, generation=generation, state=State(state).name.lower(), attempt=attempt, worker=worker,
        contributor=contributor, finished=None if finished is None else finished / 1e6,
        input=None if source is not None else input, output=output, parts=parts, tries=tries, flags=flags,
    )  # fmt: skip
