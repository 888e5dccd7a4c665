"""Deleting a project: its name is free at once, its rows go slice by slice.

The rows of the project itself and of its stages stay, empty: what events say of them stays explained, and no id is
given away twice. The functions that only it has used go with the next `copying.vacuum`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InvalidOption, NotFound
from ..events import Kind
from ..jobs import JobState, State
from ..verbs import Deletion
from .depending import settle_calls_of_project
from .handing import Consequences
from .ledger import Ledger
from .names import FIRST_LATER_TASK, FUNCTIONS, Names
from .outbox import forget_deliveries

BEING_DELETED, GONE = 1, 2  #: values of `project.is_deleted`
SLICE_SECONDS = 0.02  #: for which one slice should hold the writer up
FIRST_LIMIT, LIMIT = 20, 5000  #: jobs in one slice: in the first one, and at most

SELECT_FIGURES = f"""
SELECT project.id,
    (SELECT coalesce(sum(n), 0) FROM job_counter WHERE job_counter.project = project.id),
    (SELECT coalesce(sum(n), 0) FROM job_counter WHERE job_counter.project = project.id AND state = {JobState.OPEN:d}),
    (
        SELECT coalesce(sum(n), 0)
        FROM stage
        JOIN counter ON counter.stage = stage.id
        WHERE stage.project = project.id AND counter.state = {State.LEASED:d}
    ),
    coalesce((SELECT units_contributors FROM standing_total WHERE standing_total.project = project.id), 0)
FROM project
WHERE project.name = ? AND project.is_deleted = 0
"""
# The newest first: so a part goes before the job whose part it is, and no part is ever without it.
SELECT_JOBS = "SELECT id FROM job WHERE project = ? ORDER BY number DESC LIMIT ?"
SELECT_TASKS = f"""
SELECT id FROM task WHERE id IN (SELECT value FROM json_each(?1))
UNION ALL
SELECT id FROM task WHERE job IN (SELECT value FROM json_each(?1)) AND id >= {FIRST_LATER_TASK}
"""
RAISE_FLOOR = """
UPDATE meta
SET value = max(value, ?)
WHERE key = ?
"""
DELETE_STANDINGS = """
DELETE FROM standing
WHERE project = ?1 AND contributor IN (SELECT contributor FROM standing WHERE project = ?1 LIMIT ?2)
"""
#: Tables of what outside workers of the project are known by, and of who is told of it: that goes at once.
KNOWN_BY = ("token", "worker", "webhook")
#: Tables to be gone through, since no index leads to the rows of one project: their keys, and which rows go.
SWEPT = {
    "earning": ("hour, project, contributor", "project = :project"),
    "credit": ("id", "project = :project"),
    # A request names its job; what it asked for is gone with it.
    "request": ("id", "job IS NOT NULL AND NOT EXISTS (SELECT 1 FROM job WHERE job.id = request.job)"),
}


def deletion_from(row: Sequence[int] | None, name: str) -> Deletion:
    """Return what goes with the project called *name*, by its row of `SELECT_FIGURES`.

    Raises `NotFound`, and `InvalidOption` for the built-in project.
    """
    if row is None:
        raise NotFound("project", name)
    id, jobs, open, running, contributors = row
    if id == FUNCTIONS:
        raise InvalidOption("the project's name", repr(name), "another one: the built-in project stays")
    return Deletion(project=name, jobs=jobs, open=open, running=running, contributors=contributors)


@dataclass(slots=True)
class MarkedDeleted:
    """A project whose rows are to be removed."""

    project: int
    stages: set[int]
    deletion: Deletion
    consequences: Consequences


@dataclass(slots=True)
class MarkDeleted:
    """Hide a project and free its name; the result is `MarkedDeleted`, or `NotFound` or `InvalidOption`."""

    rank: ClassVar[int] = 1
    name: str
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[MarkDeleted]) -> list[Any]:
        return [operation._mark(connection, names) for operation in operations]

    def _mark(self, connection: sqlite3.Connection, names: Names) -> MarkedDeleted | NotFound | InvalidOption:
        row = connection.execute(SELECT_FIGURES, (self.name,)).fetchone()
        try:
            deletion = deletion_from(row, self.name)
        except (NotFound, InvalidOption) as refused:
            return refused
        project: int = row[0]
        connection.execute(
            "UPDATE project SET name = ?, is_deleted = ?, is_paused = 1 WHERE id = ?",
            (f"/deleted/{project}", BEING_DELETED, project),  # no project that is declared can have such a name
        )
        stages = {id for (id,) in connection.execute("SELECT id FROM stage WHERE project = ?", (project,))}
        _forget_counts(connection, project)
        forget_deliveries(connection, project)
        for table in KNOWN_BY:
            connection.execute(f"DELETE FROM {table} WHERE project = ?", (project,))
        names.forget_hooks()
        ledger = Ledger(connection, names, self.at)
        ledger.event(Kind.DELETED, units=deletion.jobs, detail=self.name)
        consequences = Consequences()
        settle_calls_of_project(connection, ledger, project, consequences)
        ledger.write()
        return MarkedDeleted(project, stages, deletion, consequences)


def _forget_counts(connection: sqlite3.Connection, project: int) -> None:
    """Have nothing of *project* counted any more."""
    connection.execute("DELETE FROM counter WHERE stage IN (SELECT id FROM stage WHERE project = ?)", (project,))
    connection.execute("DELETE FROM job_counter WHERE project = ?", (project,))


class Removal:
    """The way of a deleted project's rows out of the file; begun anew after a restart, it goes on where it was."""

    def __init__(self, project: int) -> None:
        self._project = project
        self._limit = FIRST_LIMIT
        self._swept: dict[str, tuple[object, ...] | None] = dict.fromkeys(SWEPT, ())  #: until where; None: all

    def remove_some(self, connection: sqlite3.Connection) -> bool:
        """Remove some rows in a transaction of its own, outside of any other; return whether there may be more.

        Keys that lead from row to row are not checked meanwhile: no index leads back to those who name a row, so
        each row that goes would cost a look at all others. Whatever names a row goes with it or before it.
        """
        began = time.perf_counter()
        connection.execute("PRAGMA foreign_keys = OFF")
        try:
            connection.execute("BEGIN IMMEDIATE")
            is_more = self._remove_jobs(connection) or self._remove_credit(connection) or self._sweep(connection)
            if not is_more:
                self._finish(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")  # else the next line would do nothing
            connection.execute("PRAGMA foreign_keys = ON")
        pace = SLICE_SECONDS / max(time.perf_counter() - began, SLICE_SECONDS / 2)
        self._limit = max(1, min(LIMIT, int(self._limit * pace)))
        return is_more

    def _remove_jobs(self, connection: sqlite3.Connection) -> bool:
        jobs = [id for (id,) in connection.execute(SELECT_JOBS, (self._project, self._limit))]
        if not jobs:
            return False
        of_jobs = json.dumps(jobs)
        tasks = [id for (id,) in connection.execute(SELECT_TASKS, (of_jobs,))]
        of_tasks = json.dumps(tasks)
        connection.execute(RAISE_FLOOR, (max(jobs) + 1, "next_job"))
        connection.execute(RAISE_FLOOR, (max(tasks, default=0) + 1, "next_task"))
        for table, key, rows in (
            *((table, "task", of_tasks) for table in ("flag", "gather", "payload")),
            ("task", "id", of_tasks),
            *((table, "job", of_jobs) for table in ("output", "progress")),
            ("job", "id", of_jobs),
        ):
            connection.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))", (rows,))
        return True

    def _remove_credit(self, connection: sqlite3.Connection) -> bool:
        return connection.execute(DELETE_STANDINGS, (self._project, self._limit)).rowcount > 0

    def _sweep(self, connection: sqlite3.Connection) -> bool:
        """Go through some more rows of a table; return False when all tables are done."""
        for table, start in self._swept.items():
            if start is not None:
                self._swept[table] = self._sweep_on(connection, table, start)
                return True
        return False

    def _sweep_on(
        self, connection: sqlite3.Connection, table: str, start: tuple[object, ...]
    ) -> tuple[object, ...] | None:
        """Remove what goes from the rows of *table* after *start*; return until where, None at the end."""
        key, which = SWEPT[table]
        values = {"project": self._project, "limit": self._limit, **_named("start", start)}
        after = f"({key}) > ({_places('start', start)})" if start else "TRUE"
        rows = connection.execute(f"SELECT {key} FROM {table} WHERE {after} ORDER BY {key} LIMIT :limit", values)
        seen = rows.fetchall()
        if not seen:
            return None
        end: tuple[object, ...] = seen[-1]
        until = f"({key}) <= ({_places('end', end)})"
        connection.execute(
            f"DELETE FROM {table} WHERE {after} AND {until} AND {which}", {**values, **_named("end", end)}
        )
        return end

    def _finish(self, connection: sqlite3.Connection) -> None:
        """Remove what is left, once nothing else is."""
        _forget_counts(connection, self._project)
        for table in ("import", "standing_total"):
            connection.execute(f"DELETE FROM {table} WHERE project = ?", (self._project,))
        connection.execute("UPDATE stage SET function = NULL WHERE project = ?", (self._project,))
        connection.execute("UPDATE project SET is_deleted = ? WHERE id = ?", (GONE, self._project))


def _named(name: str, key: tuple[object, ...]) -> dict[str, object]:
    return {f"{name}{n}": part for n, part in enumerate(key)}


def _places(name: str, key: tuple[object, ...]) -> str:
    return ", ".join(f":{each}" for each in _named(name, key))
