"""Texts that many rows share, each stored once and named by its row id."""

from __future__ import annotations

import sqlite3
from typing import Any

from ..verbs import Function
from .outbox import Hooks, active_hooks

FUNCTIONS, CALL = 1, 1  #: ids of the built-in project ``functions`` and its only stage, ``call``
FIRST_LATER_TASK = 1 << 40  #: ids of tasks beyond a job's first, which has the job's own id
KNOWN = 10_000  #: texts of a kind whose ids are remembered; beyond that the file is asked again
# A job has a task for each stage it has reached; the one with the highest id is where it is. The number stands here as
# in the index, or SQLite would not find that.
CURRENT_TASK = f"""coalesce(
    (SELECT max(later.id) FROM task AS later WHERE later.job = job.id AND later.id >= {FIRST_LATER_TASK}), job.id
)"""


class Names:
    """Remembers the ids of needs, functions and contributors, and the next free job ids."""

    def __init__(self) -> None:
        # Ids are given once in an engine's life, also if what they were given to is rolled back: its run may go on,
        # and what that comes to must not be taken for another's.
        self._jobs_given = self._tasks_given = 0
        self.forget()

    def forget(self) -> None:
        """Drop everything remembered: a rollback may have taken rows away."""
        self._needs: dict[str, int] = {}
        self._functions: dict[bytes, int] = {}
        self._contributors: dict[str, int] = {}
        self._submitters: dict[str, int] = {}
        self._projects: dict[int, int] = {}
        self._next_job: int | None = None
        self._next_task: int | None = None
        self._last_numbers: dict[int, int] = {}
        self._hooks: Hooks | None = None
        #: Where a voter's look through flagged tasks stopped, and whether it has found any since the first.
        self.flagged_until: dict[tuple[int, int, str], tuple[int, bool]] = {}

    def need(self, connection: sqlite3.Connection, tags: str) -> int:
        """Return the id of the tag expression *tags*, stored if it is new."""
        if tags not in self._needs:
            _make_room(self._needs)
            connection.execute("INSERT OR IGNORE INTO need (tags) VALUES (?)", (tags,))
            (self._needs[tags],) = connection.execute("SELECT id FROM need WHERE tags = ?", (tags,)).fetchone()
        return self._needs[tags]

    def function(self, connection: sqlite3.Connection, function: Function) -> int:
        """Return the id of *function*, its code stored if it is new."""
        digest = function.digest
        if digest not in self._functions:
            _make_room(self._functions)
            connection.execute(
                "INSERT OR IGNORE INTO function (digest, name, code) VALUES (?, ?, ?)",
                (digest, function.name, function.code),
            )
            (self._functions[digest],) = connection.execute(
                "SELECT id FROM function WHERE digest = ?", (digest,)
            ).fetchone()
        return self._functions[digest]

    def contributor(self, connection: sqlite3.Connection, nickname: str) -> int:
        """Return the id of the contributor called *nickname*, stored if it is new."""
        if nickname not in self._contributors:
            _make_room(self._contributors)
            connection.execute("INSERT OR IGNORE INTO contributor (nickname) VALUES (?)", (nickname,))
            (self._contributors[nickname],) = connection.execute(
                "SELECT id FROM contributor WHERE nickname = ?", (nickname,)
            ).fetchone()
        return self._contributors[nickname]

    def submitter(self, connection: sqlite3.Connection, name: str) -> int:
        """Return the id of who brings work as *name*, stored if it is new."""
        if name not in self._submitters:
            _make_room(self._submitters)
            connection.execute("INSERT OR IGNORE INTO submitter (name) VALUES (?)", (name,))
            (self._submitters[name],) = connection.execute(
                "SELECT id FROM submitter WHERE name = ?", (name,)
            ).fetchone()
        return self._submitters[name]

    def project_of(self, connection: sqlite3.Connection, stage: int) -> int:
        """Return the project that the stage id *stage* belongs to."""
        if stage not in self._projects:
            (self._projects[stage],) = connection.execute("SELECT project FROM stage WHERE id = ?", (stage,)).fetchone()
        return self._projects[stage]

    def hooks(self, connection: sqlite3.Connection) -> Hooks:
        """Return the webhooks that are told something, by project."""
        if self._hooks is None:
            self._hooks = active_hooks(connection)
        return self._hooks

    def forget_hooks(self) -> None:
        """Look again which webhooks there are."""
        self._hooks = None

    def reserve_jobs(self, connection: sqlite3.Connection, project: int, count: int) -> tuple[int, int]:
        """Reserve *count* job ids; return the first id and the first number within *project*."""
        if self._next_job is None:
            (row,) = connection.execute("SELECT max(id) FROM job").fetchone()
            (end,) = connection.execute("SELECT max(first_job + count) FROM batch").fetchone()
            self._next_job = max((row or 0) + 1, end or 1, _floor(connection, "next_job"), self._jobs_given)
        if project not in self._last_numbers:
            (self._last_numbers[project],) = connection.execute(
                "SELECT last_number FROM project WHERE id = ?", (project,)
            ).fetchone()
        first, number = self._next_job, self._last_numbers[project] + 1
        self._next_job = self._jobs_given = first + count
        self._last_numbers[project] += count
        return first, number

    def reserve_tasks(self, connection: sqlite3.Connection, count: int) -> range:
        """Reserve the ids of *count* tasks of later stages: above those of all tasks before them."""
        if self._next_task is None:
            (newest,) = connection.execute("SELECT max(id) FROM task").fetchone()
            floor = max(FIRST_LATER_TASK, _floor(connection, "next_task"), self._tasks_given)
            self._next_task = max((newest or 0) + 1, floor)
        first = self._next_task
        self._next_task = self._tasks_given = first + count
        return range(first, self._next_task)

    def save_numbers(self, connection: sqlite3.Connection, project: int) -> None:
        """Write the newest number of *project* back, once per group of operations."""
        connection.execute("UPDATE project SET last_number = ? WHERE id = ?", (self._last_numbers[project], project))


def _make_room(known: dict[Any, int]) -> None:
    if len(known) >= KNOWN:
        known.clear()


def _floor(connection: sqlite3.Connection, key: str) -> int:
    """Return the id below which all were given away once, though their rows may be deleted."""
    (floor,) = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(floor)
