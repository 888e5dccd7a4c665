"""The history checker: what the tables say must be what their events tell, and must make sense by itself.

It reads one state of the file, through a connection of its own that cannot write, with an engine running or without.
Events written before schema 3 do not say which task they moved: what jobs from then have done since is taken as it
stands, and so are the rows of deleted projects, which go bit by bit.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..events import Kind
from ..jobs import JobState, State
from .invariants import INVARIANTS
from .opening import open_for_reading, translated
from .retelling import Credit, Story, stories

SELECT_TASKS = "SELECT id, job, stage, batch, state, attempt FROM task ORDER BY id"
SELECT_CREDITS = """
SELECT task, contributor, units, void
FROM credit
WHERE task IS NOT NULL
ORDER BY task, id
"""
SELECT_STAGES = """
SELECT stage.id, project.id, project.is_deleted
FROM stage
JOIN project ON project.id = stage.project
"""
SELECT_BATCHES = "SELECT id, stage, first_job, count, succeeded, failed, cancelled FROM batch"
#: What events tell of items without rows of their own; for those queued again, *detail* says how they had ended.
SELECT_ITEMS = f"""
SELECT batch, kind, detail, sum(units)
FROM event
WHERE batch IS NOT NULL AND task IS NULL AND kind <> {Kind.EXPIRED:d}
GROUP BY batch, kind, iif(kind = {Kind.REOPENED:d}, detail, NULL)
"""
SELECT_TOLD_CREDIT = """
SELECT stage, coalesce(contributor, 0), sum(credit)
FROM event
WHERE credit IS NOT NULL AND stage IS NOT NULL
GROUP BY stage, contributor
"""
ENDS = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def check_history(db: Path) -> list[str]:
    """Return in a sentence each everything that is wrong with the file *db*; nothing if all is well.

    Raises an error of the `StoreError` family for a file that cannot be read, or that has another schema.
    """
    with closing(open_for_reading(db)) as connection:
        try:
            connection.execute("PRAGMA temp_store = FILE")  # a large file has more events than there may be memory
            connection.execute("BEGIN")  # from the first question on it sees one state of the file
            return [*_structure(connection), *_History(connection).violations(), *_invariants(connection)]
        except sqlite3.Error as error:
            raise translated(error, db) from error


def _structure(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what SQLite itself finds wrong."""
    for (verdict,) in connection.execute("PRAGMA integrity_check"):
        if verdict != "ok":
            yield f"the file is damaged: {verdict}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of table {table} names a row of table {parent} that is not there"


def _invariants(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what tables say that cannot be, whatever has happened."""
    for states, function in ((State, "task_state"), (JobState, "job_state")):
        names = {int(state): state.name.lower() for state in states}
        connection.create_function(function, 1, lambda n, names=names: names.get(n, f"in state {n}"))
    for statement in INVARIANTS:
        for (sentence,) in connection.execute(statement):
            yield sentence


class _History:
    """Tables beside what events tell of them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        row = connection.execute("SELECT value FROM meta WHERE key = 'told_from'").fetchone()
        self._told_from = int(row[0]) if row else 1  #: the first job whose events say all
        self._stages = {id: project for id, project, is_deleted in connection.execute(SELECT_STAGES) if not is_deleted}
        self._counts: Counter[tuple[int, int]] = Counter()  #: tasks by stage and state, as told
        self._items: dict[int, Counter[State]] = {}  #: items of each batch, as told

    def violations(self) -> Iterator[str]:
        """Yield each difference between the two, and what events tell that cannot have happened."""
        yield from self._check_tasks()
        yield from self._check_batches()
        yield from self._check_counters()
        yield from self._check_totals()

    # ---- tasks -----------------------------------------------------------------------------

    def _check_tasks(self) -> Iterator[str]:
        told = ((story.task, 0, story) for story in stories(self._connection))
        rows = ((row[0], 1, row) for row in self._connection.execute(SELECT_TASKS))
        credits = ((row[0], 2, row) for row in self._connection.execute(SELECT_CREDITS))
        for id, group in groupby(merge(told, rows, credits, key=itemgetter(0)), key=itemgetter(0)):
            some: list[Any] = list(group)
            story, row = (next((each for _, of, each in some if of == wanted), None) for wanted in (0, 1))
            if row is not None and row[1] < self._told_from:
                self._count(State(row[4]), stage=row[2], batch=row[3], is_item=row[3] is not None)
            elif story is not None and story.stage not in self._stages:
                yield from story.problems
            elif story is not None and story.job >= self._told_from:
                yield from self._check_task(story, row)
                yield from _check_credit(story, [each for _, of, each in some if of == 2])
            elif row is not None:
                yield f"task {id} of job {row[1]} is in the file, but no event tells of it"

    def _check_task(self, story: Story, row: Any) -> Iterator[str]:
        yield from story.problems
        task = f"task {story.task} of job {story.job}"
        if story.state is not None and story.stage is not None:
            self._count(story.state, stage=story.stage, batch=story.batch, is_item=story.is_item)
        if row is None:
            yield f"{task} is not in the file, but events tell of it"
            return
        _, job, stage, batch, state, attempt = row
        for what, found, told in (
            ("of job", job, story.job),
            ("at stage", stage, story.stage),
            ("of batch", batch, story.batch),
            ("in attempt", attempt, story.attempt),
            ("in state", _name(state), None if story.state is None else story.state.name.lower()),
        ):
            if found != told:
                yield f"{task} is {what} {found}, but {what} {told} by its events"

    def _count(self, state: State, *, stage: int, batch: int | None, is_item: bool) -> None:
        """Count a task in *state*; as an item of its batch, if it was counted there when it was none yet."""
        if is_item and batch is not None:
            items = self._items.setdefault(batch, Counter())
            items[State.QUEUED] -= 1
            items[state] += 1
        else:
            self._counts[stage, state] += 1

    # ---- batches ---------------------------------------------------------------------------

    def _check_batches(self) -> Iterator[str]:
        for batch, kind, detail, units in self._connection.execute(SELECT_ITEMS):
            items = self._items.setdefault(batch, Counter())
            after = State.QUEUED
            if kind in (Kind.SUCCEEDED, Kind.CANCELLED):
                items[State.QUEUED] -= units
                after = State.SUCCEEDED if kind == Kind.SUCCEEDED else State.CANCELLED
            elif kind == Kind.REOPENED:
                items[State[(detail or "cancelled").upper()]] -= units
            items[after] += units
        for id, stage, first_job, count, *tally in self._connection.execute(SELECT_BATCHES):
            items = self._items.pop(id, Counter())
            if first_job < self._told_from:
                items = self._standing_items(id, count, tally)
            elif items.total() != count:
                yield f"batch {id} has {count} items, but {items.total()} by its events"
            for state, stored in zip(ENDS, tally, strict=True):
                if items[state] != stored:
                    yield f"batch {id} has {stored} {_name(state)} items, but {items[state]} by its events"
            for state, n in items.items():
                self._counts[stage, state] += n
        for id in self._items:
            yield f"batch {id} is not in the file, but events tell of it"

    def _standing_items(self, batch: int, count: int, tally: list[int]) -> Counter[State]:
        """Return the items of a *batch* from before schema 3 by their states, as they stand in the file."""
        items = Counter(dict(zip(ENDS, tally, strict=True)))
        live = self._connection.execute(
            "SELECT state, count(*) FROM task WHERE batch = ? AND state < ? GROUP BY state", (batch, State.SUCCEEDED)
        )
        for state, n in live:
            items[State(state)] += n
        items[State.QUEUED] += count - items.total()
        return items

    # ---- sums ------------------------------------------------------------------------------

    def _check_counters(self) -> Iterator[str]:
        stored = {(stage, state): n for stage, state, n in self._connection.execute("SELECT * FROM counter")}
        for stage, state in sorted(stored.keys() | self._counts.keys()):
            told, n = self._counts[stage, state], stored.get((stage, state), 0)
            if n != told and stage in self._stages:
                yield f"counter of stage {stage}: {n} tasks are {_name(state)}, but {told} by their events"
            elif n and stage not in self._stages:
                yield f"counter of stage {stage}: {n} tasks are {_name(state)}, but its project is deleted"

    def _check_totals(self) -> Iterator[str]:
        """Yield where somebody's credit in a project is not the sum of what events gave and took."""
        if self._told_from > 1:
            return  # older events do not say what they gave
        told: Counter[tuple[int, int]] = Counter()
        for stage, contributor, units in self._connection.execute(SELECT_TOLD_CREDIT):
            if stage in self._stages:
                told[self._stages[stage], contributor] += units
        rows = self._connection.execute("SELECT project, contributor, units FROM standing")
        stored = {(project, contributor): units for project, contributor, units in rows}
        alive = set(self._stages.values())
        for project, contributor in sorted(stored.keys() | told.keys()):
            units, given = stored.get((project, contributor), 0), told[project, contributor]
            if units != given and project in alive:
                yield (
                    f"contributor {contributor} has {units} units of credit in project {project}, "
                    f"but {given} by the events"
                )


def _check_credit(story: Story, rows: list[Any]) -> Iterator[str]:
    """Yield where the credit for a task is not what its events tell; items of batches have theirs by chunk."""
    if story.batch is not None:
        return
    task, told = f"task {story.task} of job {story.job}", story.credit
    found = [Credit(contributor, units, bool(void)) for _, contributor, units, void in rows]
    if len(found) > 1:
        yield f"{task} has {len(found)} entries of credit"
    elif told is None and found:
        yield f"{task} has an entry of credit, but no event gives it any"
    elif told is not None and not found:
        yield f"{task} has no entry of credit, but an event gives it {told.units} units"
    elif told is not None and found[0] != told:
        yield f"the credit for {task} is {_describe(found[0])}, but {_describe(told)} by its events"


def _describe(credit: Credit) -> str:
    return f"{credit.units} units of contributor {credit.contributor}{', void' if credit.is_void else ''}"


def _name(state: int) -> str:
    return State(state).name.lower() if state in State._value2member_map_ else str(state)
