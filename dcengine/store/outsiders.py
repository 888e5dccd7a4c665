"""Outside workers with an identity of their own in the file: only digests of their secrets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..errors import NotFound
from ..events import Kind
from .names import Names
from .tokens import TokenReads, project_id

SPOKEN_LIMIT = 10_000  #: events that are looked through for the last words of workers

INSERT_WORKER = """
INSERT INTO worker (digest, project, stage, name, nickname, first_seen, last_seen)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
SAVE_WORKER = """
UPDATE worker
SET last_seen = ?, completed = ?, progress = ?
WHERE digest = ?
"""
DELETE_WORKER = "DELETE FROM worker WHERE digest = ?"
SELECT_WORKERS = """
SELECT worker.digest, project.name, worker.stage, worker.name, worker.nickname, worker.first_seen, worker.last_seen,
    worker.completed, worker.progress
FROM worker
JOIN project ON project.id = worker.project AND project.is_deleted = 0
ORDER BY worker.id
"""
# Whoever did not hear the answer to its last word says it again, to the next engine too.
SELECT_SPOKEN = f"""
SELECT task.stage, said.worker, task.id, task.attempt, task.token
FROM (SELECT seq, kind, task, attempt, worker FROM event ORDER BY seq DESC LIMIT {SPOKEN_LIMIT}) AS said
JOIN task ON task.id = said.task AND task.attempt = said.attempt
WHERE task.token IS NOT NULL AND said.worker IN (SELECT value FROM json_each(?))
    AND said.kind IN ({Kind.SUCCEEDED:d}, {Kind.FAILED:d}, {Kind.FLAGGED:d}, {Kind.RETURNED:d})
ORDER BY said.seq
"""


class StoredWorker(NamedTuple):
    """A registered worker as it stands in the file; times are microseconds."""

    digest: bytes
    project: str
    stage: str
    name: str
    nickname: str
    first_seen: int
    last_seen: int
    completed: int
    progress: str


@dataclass(slots=True)
class AddWorker:
    """Store a worker that registers; the result is True, or `NotFound` for an unknown project."""

    rank: ClassVar[int] = 1
    worker: StoredWorker

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[AddWorker]) -> list[Any]:
        return [operation._add(connection) for operation in operations]

    def _add(self, connection: sqlite3.Connection) -> bool | NotFound:
        digest, project, stage, name, nickname, first_seen, last_seen, *_ = self.worker
        id = project_id(connection, project)
        if id is None:
            return NotFound("project", project)
        connection.execute(INSERT_WORKER, (digest, id, stage, name, nickname, first_seen, last_seen))
        return True


@dataclass(slots=True)
class SaveWorkers:
    """Keep what was heard of registered workers: rows of (last seen, completed, progress, digest)."""

    rank: ClassVar[int] = 4
    rows: list[tuple[int, int, str, bytes]]

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[SaveWorkers]) -> list[Any]:
        connection.executemany(SAVE_WORKER, [row for operation in operations for row in operation.rows])
        return [True] * len(operations)


@dataclass(slots=True)
class RemoveWorkers:
    """Forget registered workers, by the digests of their secrets."""

    rank: ClassVar[int] = 4
    digests: list[bytes]

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[RemoveWorkers]) -> list[Any]:
        connection.executemany(DELETE_WORKER, [(digest,) for operation in operations for digest in operation.digests])
        return [True] * len(operations)


class OutsiderReads(TokenReads):
    """Answers which workers have registered too."""

    async def registered_workers(self) -> list[StoredWorker]:
        """Return every registered worker, the oldest first."""
        return [StoredWorker(*row) for row in await self._all(SELECT_WORKERS)]

    async def last_spoken_of(self, workers: list[str]) -> list[tuple[int, str, int, int, int]]:
        """Return of which leases *workers* have lately spoken their last word, the newest last.

        Each as (stage, worker, task, attempt, secret of the lease), as far as nobody has leased the task since.
        """
        return [tuple(row) for row in await self._all(SELECT_SPOKEN, json.dumps(workers))]
