"""Questions about what happened."""

from __future__ import annotations

from typing import Any

from ..events import Kind
from ..jobs import State
from ..verbs import Event
from .banning import BanReads

SELECT_EVENTS = f"""
SELECT event.seq, event.at, event.kind, coalesce(project.name, iif(event.kind = {Kind.DELETED:d}, event.detail, '')),
    stage.name, event.job, job.number, event.batch, event.task, event.units, event.state, event.attempt, event.worker,
    contributor.nickname, event.credit, event.seconds, event.detail
FROM event
LEFT JOIN job ON job.id = event.job
LEFT JOIN batch ON batch.id = event.batch
LEFT JOIN stage ON stage.id = coalesce(event.stage, batch.stage)
LEFT JOIN project ON project.id = coalesce(stage.project, job.project)
LEFT JOIN contributor ON contributor.id = event.contributor
WHERE event.seq > ?
ORDER BY event.seq
LIMIT ?
"""
# By the newest events alone: there is no index by time, and where there are more within an hour they tell enough.
ENDS_LOOKED_AT = 200_000
SELECT_ENDED = f"""
SELECT coalesce(event.stage, batch.stage) AS at_stage, event.at / 1000000 AS second,
    sum(event.units * (event.kind = {Kind.SUCCEEDED:d})), sum(event.units * (event.kind = {Kind.FAILED:d}))
FROM event
LEFT JOIN batch ON batch.id = event.batch
WHERE event.seq > (SELECT max(seq) FROM event) - {ENDS_LOOKED_AT} AND event.at >= ?
    AND event.kind IN ({Kind.SUCCEEDED:d}, {Kind.FAILED:d})
GROUP BY at_stage, second
HAVING at_stage IS NOT NULL
ORDER BY second
"""


class EventReads(BanReads):
    """Answers what happened too."""

    async def newest_event(self) -> int:
        """Return the number of the newest event, 0 where there is none."""
        (seq,) = await self._one("SELECT coalesce(max(seq), 0) FROM event")
        return int(seq)

    async def last_event_at(self) -> float:
        """Return when something last happened, in Unix seconds; 0 where nothing has."""
        row = await self._one("SELECT at FROM event ORDER BY seq DESC LIMIT 1")
        return row[0] / 1e6 if row else 0.0

    async def ended_since(self, at: float) -> list[tuple[int, int, int, int]]:
        """Return what ended from *at* on as (stage, second, how many well, how many badly), oldest first."""
        return [tuple(row) for row in await self._all(SELECT_ENDED, int(at * 1e6))]

    async def events(self, *, after: int, limit: int) -> list[Event]:
        """Return the first events after number *after*, oldest first."""
        return [_event(row) for row in await self._all(SELECT_EVENTS, after, limit)]


def _event(row: Any) -> Event:
    (seq, at, kind, project, stage, job, number, batch, task, units, state, *rest) = row
    attempt, worker, contributor, credit, seconds, detail = rest
    return Event(
        seq=seq, at=at / 1e6, kind=Kind(kind).name.lower(), project=project, stage=stage or "", job=job,
        number=number, batch=batch, task=task, units=units, state="" if state is None else State(state).name.lower(),
        attempt=attempt, worker=worker, contributor=contributor, credit=credit, seconds=seconds, detail=detail,
    )  # fmt: skip
