"""What clients were promised, and whether the file knows it: each answer is noted, and looked for after each fault."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dcengine.events import Kind
from tests.faults.report import Record

Fact = tuple[object, ...]

#: What a word about a task becomes in the file, by circumstances.
WORDS = {
    "lease": {Kind.LEASED},
    "complete": {Kind.SUCCEEDED},
    "fail": {Kind.FAILED, Kind.RETRIED},
    "flag": {Kind.FLAGGED, Kind.RETURNED, Kind.FAILED},
    "release": {Kind.RELEASED},
}
KINDS = {int(kind): [word for word, kinds in WORDS.items() if kind in kinds] for kind in Kind}
SELECT_EVENTS = "SELECT seq, kind, task, attempt, job FROM event WHERE seq > ? ORDER BY seq"
ROWS = {
    "job": "SELECT 1 FROM job WHERE id = ?",
    "batch": "SELECT 1 FROM batch WHERE id = ? AND count = ?",
    "items": "SELECT 1 FROM project WHERE (SELECT count(*) FROM job WHERE id BETWEEN ? AND ? AND project > 1) = ?",
    "token": "SELECT 1 FROM token WHERE id = ?",
    "project": "SELECT 1 FROM project WHERE name = ?",
}


class Promises:
    """What was acknowledged, and what the file has of it."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self.acknowledged: Counter[str] = Counter()  #: operations, by their kinds
        self.lost: list[Fact] = []  #: what was acknowledged and is not in the file
        self.double: list[Fact] = []  #: tasks that were accepted twice, of whomever
        self.contradicted: list[Fact] = []  #: what was refused, and is in the file
        self._accepted: dict[int, str] = {}  #: who completed a task, by its token
        self._refused: set[Fact] = set()
        self._fresh: list[Fact] = []  #: not looked for yet
        self._all: list[Fact] = []
        self._facts: set[Fact] = set()  #: that the events of the file tell
        self._told_to = 0  #: the last event that was read

    def note(self, *fact: object) -> None:
        """Note that somebody was answered that *fact* is so."""
        self.acknowledged[str(fact[0])] += 1
        self._fresh.append(fact)

    def answered(self, word: str, task: int, attempt: int, token: str, *, is_accepted: bool) -> None:
        """Note what was answered to *word* about a task."""
        if not is_accepted:
            if word == "complete":  # what is queued again may be somebody else's by now, so nobody answers for it
                self._refused.add((word, task, attempt))
            return
        self.note(word, task, attempt)
        if word == "complete" and self._accepted.setdefault(task, token) != token:
            self.double.append((task, self._accepted[task], token))

    def look(self) -> None:
        """Look for all that was acknowledged since the last look."""
        fresh, self._fresh = self._fresh, []
        self._all += fresh
        with reading(self._db) as connection:
            self._read_events(connection)
            self.lost += [fact for fact in fresh if not self._has(connection, fact)]
        self.contradicted += self._refused & self._facts
        self._refused.clear()

    def look_for_all(self) -> None:
        """Look for all that was ever acknowledged: nothing of it may have gone, or earned credit twice."""
        self._facts, self._told_to, self._fresh, self._all = set(), 0, self._all + self._fresh, []
        self.lost.clear()
        self.look()
        with reading(self._db) as connection:
            entries = dict(connection.execute("SELECT task, count(*) FROM credit WHERE task IS NOT NULL GROUP BY task"))
        self.lost += [("credit", task) for task in self._accepted if not entries.get(task)]
        self.double += [("credit", task) for task, n in entries.items() if n > 1]

    def report(self, record: Record) -> None:
        """Add what came of all promises to *record*."""
        record.acknowledged += self.acknowledged.total()
        record.lost += len(self.lost)
        record.double += len(self.double) + len(self.contradicted)
        for what, facts in (("lost", self.lost), ("double", self.double), ("contradicted", self.contradicted)):
            if facts:
                print(f"{what}: {facts[:20]}")

    def _read_events(self, connection: sqlite3.Connection) -> None:
        for seq, kind, task, attempt, job in connection.execute(SELECT_EVENTS, (self._told_to,)):
            self._told_to = seq
            for word in KINDS[kind]:
                fact = (word, task, attempt)
                if word == "complete" and task is not None and fact in self._facts:
                    self.double.append(fact)
                self._facts.add(fact)
            if kind in (Kind.CANCELLED, Kind.REOPENED):
                self._facts.add((Kind(kind).name.lower(), job))

    def _has(self, connection: sqlite3.Connection, fact: Fact) -> bool:
        if fact[0] in ROWS:
            return connection.execute(ROWS[str(fact[0])], fact[1:]).fetchone() is not None
        return fact in self._facts


@contextmanager
def reading(db: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes nothing and folds no log into the file, beside an engine or after its end."""
    how = "mode=ro" if Path(f"{db}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{db.as_uri()}?{how}", uri=True, timeout=30.0)) as connection:
        connection.execute("BEGIN")
        yield connection
