"""What the events of a file tell of each task, from its beginning on. It reads events and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from ..events import Kind
from ..jobs import State

# SQLite sorts what does not fit into memory in a temporary file.
SELECT_TELLINGS = """
SELECT task, seq, kind, job, stage, state, units, attempt, batch, contributor, credit
FROM event
WHERE task IS NOT NULL
ORDER BY task, seq
"""

LIVE = frozenset({State.QUEUED, State.WAITING, State.BLOCKED, State.LEASED})
BEGINNINGS = frozenset({Kind.JOB_SUBMITTED, Kind.OPENED})
#: Where each kind of event finds a task, and where it may leave it.
MOVES: dict[Kind, tuple[frozenset[State], frozenset[State]]] = {
    Kind.LEASED: (frozenset({State.QUEUED}), frozenset({State.LEASED})),
    Kind.SUCCEEDED: (frozenset({State.LEASED}), frozenset({State.SUCCEEDED})),
    Kind.FAILED: (LIVE, frozenset({State.FAILED})),
    Kind.RETRIED: (frozenset({State.LEASED}), frozenset({State.WAITING})),
    Kind.RELEASED: (frozenset({State.LEASED}), frozenset({State.QUEUED})),
    Kind.CANCELLED: (LIVE, frozenset({State.CANCELLED})),
    Kind.REOPENED: (frozenset({State.FAILED, State.CANCELLED}), frozenset({State.QUEUED})),
    Kind.RECOVERED: (frozenset({State.LEASED}), frozenset({State.QUEUED, State.FAILED})),
    Kind.FLAGGED: (frozenset({State.LEASED}), frozenset({State.QUEUED})),
    Kind.RETURNED: (frozenset(State) - {State.BLOCKED, State.RETURNED}, frozenset({State.RETURNED})),
    Kind.WOKEN: (frozenset({State.WAITING}), frozenset({State.QUEUED})),
    Kind.GATHERED: (frozenset({State.BLOCKED}), frozenset({State.QUEUED, State.WAITING})),
    Kind.BLOCKED: (frozenset({State.FAILED, State.CANCELLED}), frozenset({State.BLOCKED})),
}


class Telling(NamedTuple):
    """One event, as far as it is about a task."""

    task: int
    seq: int
    kind: int
    job: int
    stage: int | None
    state: int | None
    units: int
    attempt: int | None
    batch: int | None
    contributor: int | None
    credit: int | None


class Credit(NamedTuple):
    """What somebody has earned with a task."""

    contributor: int
    units: int
    is_void: bool = False


@dataclass
class Story:
    """A task as its events tell it."""

    task: int
    job: int
    stage: int | None
    batch: int | None
    state: State | None = None
    attempt: int = 0
    credit: Credit | None = None
    is_item: bool = False  #: it was counted with its batch before it had rows of its own
    problems: list[str] = field(default_factory=list)  #: what cannot have happened so

    def tell(self, telling: Telling) -> None:
        """Go on with what *telling* says."""
        try:
            kind = Kind(telling.kind)
            after = None if telling.state is None else State(telling.state)
        except ValueError:
            self._doubt(telling, f"is of the unknown kind {telling.kind} or leads to the unknown state {telling.state}")
            return
        if self.state is None:
            self._begin(telling, kind)
        if kind in BEGINNINGS:
            if self.state is not None:
                self._doubt(telling, f"opens it, but it is {self.state.name} already")
            self.state = after
            return
        self._tell_credit(telling, kind)
        if after is not None:  # else only its credit is gone
            self._move(telling, kind, after)

    def _begin(self, telling: Telling, kind: Kind) -> None:
        if kind in BEGINNINGS:
            return
        if telling.batch is None:
            self._doubt(telling, f"is the first of it, and says {kind.name}")
        # An item of a batch has no rows, and no event of its own, before its first run has ended.
        self.is_item = telling.batch is not None
        self.state, self.attempt = State.LEASED, telling.attempt or 0

    def _move(self, telling: Telling, kind: Kind, after: State) -> None:
        assert self.state is not None
        befores, afters = MOVES.get(kind, (frozenset(), frozenset()))
        if self.state not in befores or after not in afters:
            self._doubt(telling, f"says {kind.name} and leaves it {after.name}, but it was {self.state.name}")
        if kind is Kind.LEASED:
            if telling.attempt != self.attempt + 1:
                self._doubt(telling, f"leases it in attempt {telling.attempt}, after attempt {self.attempt}")
            self.attempt = telling.attempt or 0
        elif telling.attempt is not None and telling.attempt != self.attempt:
            self._doubt(telling, f"is of attempt {telling.attempt}, but it was in attempt {self.attempt}")
        self.state = after

    def _tell_credit(self, telling: Telling, kind: Kind) -> None:
        if kind is Kind.SUCCEEDED:
            if self.credit is not None:
                self._doubt(telling, "says SUCCEEDED, which it had done before")
            if telling.contributor is not None and telling.credit is not None:
                self.credit = Credit(telling.contributor, telling.credit)
        elif kind is Kind.RETURNED and telling.credit is not None:
            if self.credit != (telling.contributor, -telling.credit, False):
                self._doubt(telling, f"takes {-telling.credit} units back that nobody had")
            else:
                self.credit = self.credit._replace(is_void=True)
        elif telling.credit:
            self._doubt(telling, f"says {kind.name}, which changes no credit, but changes it by {telling.credit}")

    def _doubt(self, telling: Telling, problem: str) -> None:
        self.problems.append(f"event {telling.seq} of task {self.task} {problem}")


def stories(connection: sqlite3.Connection) -> Iterator[Story]:
    """Yield the story of each task that events tell of, in the order of the tasks' ids."""
    for task, tellings in _by_task(map(Telling._make, connection.execute(SELECT_TELLINGS))):
        first, *_ = tellings
        job = first.job + task - first.task  # one event may open many jobs, each with its first task
        story = Story(task, job, first.stage, first.batch)
        for telling in tellings:
            story.tell(telling)
        yield story


def _by_task(tellings: Iterable[Telling]) -> Iterator[tuple[int, list[Telling]]]:
    """Yield each task with what is told of it: first by the event that has opened it among others."""
    opening: Telling | None = None  #: of many tasks
    at = 0  #: the next one of them
    for task, some in groupby(tellings, key=lambda telling: telling.task):
        own = list(some)
        while opening is not None and at < min(task, opening.task + opening.units):
            yield at, [opening]
            at += 1
        if opening is not None and task < opening.task + opening.units:
            yield task, [opening, *own]
        else:
            yield task, own
            opening = own[0] if own[0].kind == Kind.JOB_SUBMITTED else None
        at = task + 1
    while opening is not None and at < opening.task + opening.units:
        yield at, [opening]
        at += 1
