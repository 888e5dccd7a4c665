"""Ways to make transitions durable, with the same statements: the engine's store, and what it is measured by."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol

import aiosqlite

from dcengine.codec import pack_call
from dcengine.events import Kind
from dcengine.jobs import JobState, State, Task
from dcengine.store import Store, now
from dcengine.store.handing import END_JOB, SAVE_OUTPUT
from dcengine.store.leasing import LEASE, SELECT_QUEUED, Holder, Lease, task_from
from dcengine.store.ledger import ADD_TO_COUNTER, INSERT_CREDIT, INSERT_EVENT
from dcengine.store.moving import MOVE, Move
from dcengine.store.names import CALL, FUNCTIONS, Names
from dcengine.store.opening import PRAGMAS, open_for_writing
from dcengine.store.rows import execute_rows, for_one
from dcengine.store.standings import ADD_TO_EARNING, ADD_TO_STANDING, HOUR
from dcengine.store.submitting import AddJob
from dcengine.store.transactions import Operation
from dcengine.store.writer import BATCH_LIMIT
from dcengine.verbs import Function, Submission

WORKER, CONTRIBUTOR, SUBMITTER = "w1", "somebody@here", "somebody"
INPUT, OUTPUT = pack_call((1,), {}), pack_call((2,), {})
QUEUED, LEASED, SUCCEEDED, ENDED = map(int, (State.QUEUED, State.LEASED, State.SUCCEEDED, JobState.SUCCEEDED))
NEED = SUBMITTER_ID = 1  #: of the first need and the first submitter in a file
SELECT_CURRENT = "SELECT id, state, attempt FROM task WHERE id = ?"

Leased = Any  #: what a subject's `lease` brings, and its `complete` takes


class Subject(Protocol):
    """A way to make transitions durable."""

    async def open(self, db: Path) -> None: ...
    def lease(self) -> Awaitable[Leased | None]: ...
    def complete(self, leased: Leased) -> Awaitable[None]: ...
    async def close(self) -> None: ...


class GroupCommit:
    """The store of the engine."""

    async def open(self, db: Path) -> None:
        self._store = Store(db)
        await self._store.start()

    async def lease(self) -> Task | None:
        tasks: list[Task] = await self._store.apply(_lease())
        return tasks[0] if tasks else None

    async def complete(self, leased: Task) -> None:
        await self._store.apply(_completion(leased))

    async def close(self) -> None:
        await self._store.close()


class Bare:
    """The ceiling: a group commit of the same statements on rows as they come. Nothing is decided, checked or kept."""

    def _write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.executemany(for_one(statement), rows)

    async def open(self, db: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = open_for_writing(db)
        self._contributor = _contributor_of(self._connection)
        self._inbox: SimpleQueue[tuple[Leased | None, asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def lease(self) -> asyncio.Future[Leased | None]:
        return self._put(None)

    def complete(self, leased: Leased) -> asyncio.Future[None]:
        return self._put(leased)

    async def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()
        self._connection.close()

    def _put(self, leased: Leased | None) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        self._inbox.put((leased, future))
        return future

    def _run(self) -> None:
        while (first := self._inbox.get()) is not None:
            batch = [first]
            try:
                while len(batch) < BATCH_LIMIT and (another := self._inbox.get_nowait()) is not None:
                    batch.append(another)
            except Empty:
                pass
            try:
                results = self._commit([leased for leased, _ in batch])
            except Exception as error:
                results = [error] * len(batch)  # so that the benchmark ends with it
            self._loop.call_soon_threadsafe(_settle, batch, results)

    def _commit(self, asked: Sequence[Leased | None]) -> Sequence[Any]:
        """Complete what is given, and lease a task for each None; return a result for each."""
        done = [leased for leased in asked if leased is not None]
        self._connection.execute("BEGIN IMMEDIATE")
        self._complete(done)
        rows = iter(self._lease(len(asked) - len(done)))
        self._connection.execute("COMMIT")
        return [next(rows, None) if leased is None else None for leased in asked]

    def _lease(self, n: int) -> Sequence[Leased]:
        if not n:
            return ()
        rows = self._connection.execute(SELECT_QUEUED, (CALL, NEED, SUBMITTER_ID, n)).fetchall()
        write, at = self._write, now()
        write(LEASE, [(row[0], row[6] + 1, WORKER, None, None, None) for row in rows])
        write(INSERT_EVENT, [_event(at, Kind.LEASED, row, LEASED, row[6] + 1) for row in rows])
        self._connection.executemany(ADD_TO_COUNTER, [(-len(rows), CALL, QUEUED), (len(rows), CALL, LEASED)])
        return rows

    def _complete(self, rows: Sequence[Leased]) -> None:
        if not rows:
            return
        write, at, n, who = self._write, now(), len(rows), self._contributor
        write(MOVE, [(row[0], SUCCEEDED, 0, 0, 0, 0, None, at, who, 0) for row in rows])
        write(SAVE_OUTPUT, [(row[0], OUTPUT) for row in rows])
        write(END_JOB, [(row[1], ENDED, at) for row in rows])
        write(INSERT_EVENT, [_event(at, Kind.SUCCEEDED, row, SUCCEEDED, row[6] + 1, who, 1) for row in rows])
        write(INSERT_CREDIT, [(FUNCTIONS, who, row[0], None, 1, at) for row in rows])
        self._connection.execute(ADD_TO_STANDING, (FUNCTIONS, who, n))
        self._connection.execute(ADD_TO_EARNING, (at // HOUR, FUNCTIONS, who, n))
        self._connection.executemany(ADD_TO_COUNTER, [(-n, CALL, LEASED), (n, CALL, SUCCEEDED)])


class BareRows(Bare):
    """The same with what the store has learned: one statement for many rows. A ceiling that is higher still."""

    def _write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        execute_rows(self._connection, statement, rows)


class PerCall:
    """aiosqlite as it is used everywhere: one transaction for each call, one statement after the other."""

    async def open(self, db: Path) -> None:
        connection = open_for_writing(db)
        self._contributor = _contributor_of(connection)
        connection.close()
        self._connection = await aiosqlite.connect(db, isolation_level=None)
        await self._connection.executescript(PRAGMAS)
        self._turn = asyncio.Lock()

    async def lease(self) -> Task | None:
        task: Task | None = await self._transaction(self._lease())
        return task

    async def complete(self, leased: Task) -> None:
        await self._transaction(self._complete(leased))

    async def close(self) -> None:
        await self._connection.close()

    async def _transaction(self, steps: Coroutine[Any, Any, Any]) -> Any:
        async with self._turn:
            await self._connection.execute("BEGIN IMMEDIATE")
            result = await steps
            await self._connection.execute("COMMIT")
            return result

    async def _one(self, sql: str, *parameters: object) -> Any:
        async with self._connection.execute(sql, parameters) as cursor:
            return await cursor.fetchone()

    async def _write(self, statement: str, row: Sequence[object]) -> None:
        await self._connection.execute(for_one(statement), row)

    async def _lease(self) -> Task | None:
        row = await self._one(SELECT_QUEUED, CALL, NEED, SUBMITTER_ID, 1)
        if row is None:
            return None
        task = task_from(row)
        task = task.to(State.LEASED, attempt=task.attempt + 1)
        write = self._write
        await write(LEASE, (task.id, task.attempt, WORKER, None, None, None))
        await write(INSERT_EVENT, _event(now(), Kind.LEASED, row, LEASED, task.attempt))
        await write(ADD_TO_COUNTER, (-1, CALL, QUEUED))
        await write(ADD_TO_COUNTER, (1, CALL, LEASED))
        return task

    async def _complete(self, task: Task) -> None:
        found = await self._one(SELECT_CURRENT, task.id)
        assert found[1:] == (task.state, task.attempt)
        write, at, who = self._write, now(), self._contributor
        await write(MOVE, (task.id, SUCCEEDED, 0, 0, 0, 0, None, at, who, 0))
        await write(SAVE_OUTPUT, (task.id, OUTPUT))
        await write(END_JOB, (task.job, ENDED, at))
        row = (task.id, task.job)
        await write(INSERT_EVENT, _event(at, Kind.SUCCEEDED, row, SUCCEEDED, task.attempt, who, 1))
        await write(ADD_TO_STANDING, (FUNCTIONS, who, 1))
        await write(ADD_TO_EARNING, (at // HOUR, FUNCTIONS, who, 1))
        await write(INSERT_CREDIT, (FUNCTIONS, who, task.id, None, 1, at))
        await write(ADD_TO_COUNTER, (-1, CALL, LEASED))
        await write(ADD_TO_COUNTER, (1, CALL, SUCCEEDED))


class OneHop:
    """The best that one transaction per call can be: the store's own operations, each in one visit to a thread."""

    async def open(self, db: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = open_for_writing(db)
        self._names = Names()

    async def lease(self) -> Task | None:
        tasks: list[Task] = await self._visit(_lease())
        return tasks[0] if tasks else None

    async def complete(self, leased: Task) -> None:
        await self._visit(_completion(leased))

    async def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()

    async def _visit(self, operation: Operation) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._apply, operation)

    def _apply(self, operation: Operation) -> Any:
        self._connection.execute("BEGIN IMMEDIATE")
        (result,) = operation.apply(self._connection, self._names, [operation])
        self._connection.execute("COMMIT")
        return result


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "group": GroupCommit,
    "ceiling": Bare,
    "ceiling_rows": BareRows,
    "percall": PerCall,
    "onehop": OneHop,
}


def fill(db: Path, tasks: int) -> None:
    """Make a file with *tasks* queued calls of one function, by one submitter, with one need."""
    connection, names = open_for_writing(db), Names()
    submission = Submission(function=Function(b"f" * 32, "f", b"code"), input=INPUT, submitter=SUBMITTER)
    left = tasks
    while left:
        some = min(left, BATCH_LIMIT)
        connection.execute("BEGIN IMMEDIATE")
        AddJob.apply(connection, names, [AddJob(FUNCTIONS, CALL, submission, now()) for _ in range(some)])
        connection.execute("COMMIT")
        left -= some
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _lease() -> Lease:
    return Lease(CALL, NEED, SUBMITTER_ID, 1, Holder(WORKER), now())


def _completion(task: Task) -> Move:
    after = task.to(State.SUCCEEDED)
    return Move(task, after, Kind.SUCCEEDED, now(), worker=WORKER, contributor=CONTRIBUTOR, output=OUTPUT)


def _event(
    at: int,
    kind: Kind,
    task: Sequence[Any],
    state: int,
    attempt: int,
    contributor: int | None = None,
    credit: int | None = None,
) -> tuple[object, ...]:
    """Return the row of an event that moved *task*, of which the first two fields are its id and its job's."""
    return (at, int(kind), task[1], task[0], CALL, state, None, 1, attempt, WORKER, contributor, credit, None, None)


def _contributor_of(connection: sqlite3.Connection) -> int:
    return Names().contributor(connection, CONTRIBUTOR)


def _settle(batch: Sequence[tuple[Leased | None, asyncio.Future[Any]]], results: Sequence[Any]) -> None:
    for (_, future), result in zip(batch, results, strict=True):
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
