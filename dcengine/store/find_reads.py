"""Jobs that somebody looks for, and why jobs have failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..codec import unpack_failure
from ..jobs import JobState
from ..verbs import JobFilter, JobPage
from .event_reads import EventReads
from .names import CURRENT_TASK
from .pages import NUMBER_BEFORE
from .reads import SELECT_JOB, job_status

#: Jobs for one page, however few of them are meant: the reader has others to answer. Fewer where they lie far apart in
#: the file, or each has to be asked for the task that it has come to.
LOOKED_AT, LOOKED_INTO = 25_000, 10_000
FAILED_AT_ONCE = 250  #: failed jobs read together
INDEXES = {"failed": "job_failed", "cancelled": "job_cancelled"}  #: of jobs in these states, by id

FOUND = SELECT_JOB.replace("FROM job\n", "FROM meant\nCROSS JOIN job ON job.id = meant.id\n", 1)
# CROSS JOIN keeps the order in which they are looked at, so that nothing is sorted: it ends once there are enough.
SELECT_FOUND = f"""
WITH
looked_at AS NOT MATERIALIZED ({{looked_at}}),
meant AS MATERIALIZED (
    SELECT job.id
    FROM looked_at
    CROSS JOIN job ON job.id = looked_at.id
    {{task}}
    WHERE {{conditions}}
    LIMIT ?
)
{FOUND}
ORDER BY job.id DESC
"""
JOIN_TASK = f"CROSS JOIN task ON task.id = {CURRENT_TASK}"
SELECT_FAILURES = f"""
SELECT job.id, project.name, stage.name, task.finished, payload.output, task.worker
FROM job
JOIN project ON project.id = job.project AND project.is_deleted = 0
JOIN task ON task.id = {CURRENT_TASK}
JOIN stage ON stage.id = task.stage
JOIN payload ON payload.task = task.id
WHERE job.state = {JobState.FAILED:d} AND job.id < ? AND job.batch IS NULL AND (? IS NULL OR project.name = ?)
ORDER BY job.id DESC
LIMIT {FAILED_AT_ONCE}
"""


class Condition(NamedTuple):
    """What jobs have to fulfil."""

    sql: str
    parameters: tuple[object, ...] = ()
    is_of_task: bool = False  #: it is the task that is asked, not the job


class FindReads(EventReads):
    """Finds jobs too."""

    async def find_jobs(
        self, wanted: JobFilter, *, before: int | None, limit: int, brought_with: int | None = None
    ) -> JobPage:
        """Return those *wanted* among the next jobs below *before* that belong to no batch, newest first.

        *brought_with* is the id of the token that was shown for them, 0 for none of its own.
        """
        async with self._page():
            conditions = [*_conditions(wanted), *_token_conditions(brought_with)]
            conditions += await self._text_conditions(wanted.text)
            needs_task = any(each.is_of_task for each in conditions)
            most = LOOKED_INTO if needs_task or wanted.state in INDEXES else LOOKED_AT
            looked_at, at = _looked_at(wanted, before)
            sql = SELECT_FOUND.format(
                looked_at=f"{looked_at} LIMIT {most}", task=JOIN_TASK if needs_task else "",
                conditions=" AND ".join(each.sql for each in conditions),
            )  # fmt: skip
            rows = await self._all(sql, *at, *(value for each in conditions for value in each.parameters), limit)
            found = [job_status(row) for row in rows]
            if len(found) == limit:
                return JobPage(found, found[-1].id)
            last = await self._one(f"{looked_at} LIMIT 1 OFFSET {most - 1}", *at)
            return JobPage(found, None if last is None else last[0])

    async def _text_conditions(self, text: str) -> list[Condition]:
        """Return what jobs that *text* means have to fulfil: it is in their key, function or tags, or a number."""
        if not text:
            return []
        ways = [Condition("instr(lower(coalesce(job.key, '')), lower(?)) > 0", (text,))]
        if text.isdecimal() and len(text) <= 18:
            ways.append(Condition("job.number = ? OR job.id = ?", (int(text), int(text))))
        for of_task in ("function.name", "need.tags"):  # they are few, and most texts are in none
            table, _, _ = of_task.partition(".")
            among = f"SELECT id FROM {table} WHERE instr(lower({of_task}), lower(?)) > 0"
            if await self._one(f"{among} LIMIT 1", text):
                ways.append(Condition(f"task.{table} IN ({among})", (text,), is_of_task=True))
        either = " OR ".join(each.sql for each in ways)
        parameters = tuple(value for each in ways for value in each.parameters)
        return [Condition(f"({either})", parameters, any(each.is_of_task for each in ways))]

    async def failed(self, project: str | None, *, before: int) -> list[tuple[int, str, str, float, str, str | None]]:
        """Return the next failed jobs below id *before*: (id, project, stage, when, why, worker), newest first."""
        async with self._page():
            rows = await self._all(SELECT_FAILURES, before, project, project)
        return [
            (id, project, stage, finished / 1e6, unpack_failure(output).sentence if output else "", worker)
            for id, project, stage, finished, output, worker in rows
        ]


def _looked_at(wanted: JobFilter, before: int | None) -> tuple[str, list[object]]:
    """Return what selects the ids of the jobs that are looked at, the newest first, and its parameters."""
    index = INDEXES.get(wanted.state)
    conditions, parameters, order = ["job.batch IS NULL", "job.id < ?"], list[object]([before or 1 << 62]), "id"
    if index:
        conditions.append(f"job.state = {JobState[wanted.state.upper()]:d}")
    elif wanted.project:  # by number, which has an index and grows with the id
        conditions += ["job.project = (SELECT id FROM project WHERE name = ?)", f"job.number < {NUMBER_BEFORE}"]
        parameters += [wanted.project, before, wanted.project]
        order = "number"
    jobs = f"job INDEXED BY {index}" if index else "job"
    return f"SELECT job.id FROM {jobs} WHERE {' AND '.join(conditions)} ORDER BY job.{order} DESC", parameters


def _conditions(wanted: JobFilter) -> Iterator[Condition]:
    yield Condition("job.project NOT IN (SELECT id FROM project WHERE is_deleted <> 0)")
    if wanted.state:
        yield Condition(f"job.state = {JobState[wanted.state.upper()]:d}")
    if wanted.project:
        yield Condition("job.project = (SELECT id FROM project WHERE name = ?)", (wanted.project,))
    if wanted.submitter:
        yield Condition("job.submitter = (SELECT id FROM submitter WHERE name = ?)", (wanted.submitter,))
    if wanted.stage:
        yield Condition("task.stage IN (SELECT id FROM stage WHERE name = ?)", (wanted.stage,), is_of_task=True)
    if wanted.worker:
        yield Condition("task.worker = ?", (wanted.worker,), is_of_task=True)


def _token_conditions(brought_with: int | None) -> Iterator[Condition]:
    if brought_with == 0:
        yield Condition("job.submitter NOT IN (SELECT id FROM submitter WHERE name GLOB '* (token [0-9]*)')")
    elif brought_with is not None:
        among = "SELECT id FROM submitter WHERE name GLOB ?"
        yield Condition(f"job.submitter IN ({among})", (f"* (token {brought_with})",))
