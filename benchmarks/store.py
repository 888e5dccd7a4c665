"""Durable transitions per second: the group commit beside one transaction per call, with the same SQL.

Every caller leases a task and completes it, again and again, and waits each time until that is durable.
A transition is one lease or one completion, with its event, its counters and its credit.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import aiosqlite

from dcengine.codec import pack_call
from dcengine.engine.submissions import CALL, FUNCTIONS
from dcengine.events import Kind
from dcengine.jobs import JOB_STATE, State, Task
from dcengine.store import Store, now
from dcengine.store.ledger import ADD_TO_STANDING, INSERT_CREDIT, INSERT_EVENT
from dcengine.store.moving import LEASE, MOVE, SELECT_QUEUED, Lease, Move, task_from
from dcengine.store.names import Names
from dcengine.store.opening import PRAGMAS, open_for_writing
from dcengine.store.submitting import AddJob
from dcengine.store.writer import BATCH_LIMIT, Operation
from dcengine.verbs import Function, Submission

from .showing import arguments, circumstances, show

CALLERS = (1, 32, 256)
ROUNDS, QUICK_ROUNDS = 5, 1
TASKS = {1: 1500, 32: 8000, 256: 12_000}  #: for the group commit; one transaction per call gets fewer, it is slower
SLOWER = 8
WORKER, CONTRIBUTOR = "w1", "somebody@here"
INPUT, OUTPUT = pack_call((1,), {}), pack_call((2,), {})

# These stand in the middle of an operation, without a name of their own.
SELECT_CURRENT = "SELECT id, state, attempt FROM task WHERE id = ?"
SAVE_OUTPUT = "UPDATE payload SET output = ? WHERE task = ?"
END_JOB = "UPDATE job SET state = ?, finished = ? WHERE id = ?"
ADD_TO_COUNTER = "UPDATE counter SET n = n + ? WHERE stage = ? AND state = ?"


class Subject(Protocol):
    """A way to make transitions durable."""

    async def open(self, db: Path) -> None: ...
    async def lease(self) -> Task | None: ...
    async def complete(self, task: Task) -> None: ...
    async def close(self) -> None: ...


class GroupCommit:
    """The store of the engine."""

    async def open(self, db: Path) -> None:
        self._store = Store(db)
        await self._store.start()

    async def lease(self) -> Task | None:
        tasks: list[Task] = await self._store.apply(_lease())
        return tasks[0] if tasks else None

    async def complete(self, task: Task) -> None:
        await self._store.apply(_completion(task))

    async def close(self) -> None:
        await self._store.close()


class PerCall:
    """aiosqlite as it is used everywhere: one transaction for each call, one statement after the other."""

    async def open(self, db: Path) -> None:
        open_for_writing(db).close()
        self._connection = await aiosqlite.connect(db, isolation_level=None)
        await self._connection.executescript(PRAGMAS)
        self._turn = asyncio.Lock()
        named = await self._one("INSERT INTO contributor (nickname) VALUES (?) RETURNING id", CONTRIBUTOR)
        self._contributor = named[0]

    async def lease(self) -> Task | None:
        task: Task | None = await self._transaction(self._lease())
        return task

    async def complete(self, task: Task) -> None:
        await self._transaction(self._complete(task))

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

    async def _lease(self) -> Task | None:
        row = await self._one(SELECT_QUEUED, CALL, 1, 1)
        if row is None:
            return None
        task = task_from(row)
        task = task.to(State.LEASED, attempt=task.attempt + 1)
        await self._connection.execute(LEASE, (task.attempt, WORKER, task.id))
        await self._note(task, Kind.LEASED, State.QUEUED)
        return task

    async def _complete(self, task: Task) -> None:
        found = await self._one(SELECT_CURRENT, task.id)
        assert found[1:] == (task.state, task.attempt)
        after, at = task.to(State.SUCCEEDED), now()
        row = (int(after.state), after.errors, after.vanished, after.crashes, None, after.id)
        await self._connection.execute(MOVE, row)
        await self._connection.execute(SAVE_OUTPUT, (OUTPUT, after.id))
        await self._connection.execute(END_JOB, (JOB_STATE[after.state], at, after.job))
        await self._note(after, Kind.SUCCEEDED, State.LEASED)
        await self._connection.execute(INSERT_CREDIT, (FUNCTIONS, self._contributor, after.id, None, 1, at))
        await self._connection.execute(ADD_TO_STANDING, (FUNCTIONS, self._contributor, 1))

    async def _note(self, task: Task, kind: Kind, before: State) -> None:
        event = (now(), int(kind), task.job, None, 1, task.attempt, WORKER, None)
        await self._connection.execute(INSERT_EVENT, event)
        await self._connection.execute(ADD_TO_COUNTER, (-1, task.stage, int(before)))
        await self._connection.execute(ADD_TO_COUNTER, (1, task.stage, int(task.state)))


class OneHop:
    """The best that one transaction per call can be: the store's own operations, each in one visit to a thread."""

    async def open(self, db: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = open_for_writing(db)
        self._names = Names()

    async def lease(self) -> Task | None:
        tasks: list[Task] = await self._visit(_lease())
        return tasks[0] if tasks else None

    async def complete(self, task: Task) -> None:
        await self._visit(_completion(task))

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


SUBJECTS: dict[str, Callable[[], Subject]] = {"group": GroupCommit, "percall": PerCall, "onehop": OneHop}


def _lease() -> Lease:
    return Lease(CALL, 1, 1, WORKER, now())


def _completion(task: Task) -> Move:
    after = task.to(State.SUCCEEDED)
    return Move(task, after, Kind.SUCCEEDED, now(), worker=WORKER, contributor=CONTRIBUTOR, output=OUTPUT)


# ---- one measurement -----------------------------------------------------------------------


def measure(name: str, *, callers: int, tasks: int) -> tuple[float, float]:
    """Return transitions per second of subject *name*, and the median milliseconds of one."""
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        db = Path(folder) / "store.db"
        _fill(db, tasks)
        waits = list[float]()
        seconds = asyncio.run(_empty(SUBJECTS[name](), db, callers, waits))
    return 2 * tasks / seconds, 1000 * median(waits)


async def _empty(subject: Subject, db: Path, callers: int, waits: list[float]) -> float:
    """Have *callers* lease and complete all tasks of *db*; return the seconds that took."""
    await subject.open(db)
    try:
        started = time.perf_counter()
        await asyncio.gather(*(_work(subject, waits) for _ in range(callers)))
        return time.perf_counter() - started
    finally:
        await subject.close()


async def _work(subject: Subject, waits: list[float]) -> None:
    """Lease and complete until nothing is left."""
    while (task := await _timed(subject.lease(), waits)) is not None:
        await _timed(subject.complete(task), waits)


async def _timed(transition: Awaitable[Any], waits: list[float]) -> Any:
    started = time.perf_counter()
    result = await transition
    waits.append(time.perf_counter() - started)
    return result


def _fill(db: Path, tasks: int) -> None:
    """Make a file with *tasks* queued tasks of need 1."""
    connection, names = open_for_writing(db), Names()
    submission = Submission(function=Function(b"f" * 32, "f", b"code"), input=INPUT)
    left = tasks
    while left:
        some = min(left, BATCH_LIMIT)
        connection.execute("BEGIN IMMEDIATE")
        AddJob.apply(connection, names, [AddJob(FUNCTIONS, CALL, submission, now()) for _ in range(some)])
        connection.execute("COMMIT")
        left -= some
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def sync_milliseconds() -> float:
    """Return the median time that the disk takes to make 4 KiB durable."""
    waits = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fsync(file.fileno())
            waits.append(time.perf_counter() - started)
    return 1000 * median(waits)


# ---- the run -------------------------------------------------------------------------------


def run(*, quick: bool) -> dict[str, Any]:
    """Measure all subjects by turns; return the result."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    syncs = list[float]()
    for _ in range(rounds):
        for callers in CALLERS:
            syncs.append(sync_milliseconds())
            for name in SUBJECTS:
                tasks = TASKS[callers] // (1 if name == "group" else SLOWER) // (2 if quick else 1)
                rate, wait = measure(name, callers=callers, tasks=tasks)
                rates.setdefault(f"{name}_{callers}", []).append(rate)
                waits.setdefault(f"{name}_{callers}", []).append(wait)
    sync = median(syncs)
    result = circumstances("aiosqlite")
    for peer in ("percall", "onehop"):
        for callers in CALLERS:
            pairs = zip(rates[f"group_{callers}"], rates[f"{peer}_{callers}"], strict=True)
            result[f"{peer}_ratio_{callers}"] = round(median(ours / theirs for ours, theirs in pairs), 2)
    result["raw"] = {
        "transitions_per_second": {key: round(median(values)) for key, values in rates.items()},
        "p50_ms": {key: round(median(values), 3) for key, values in waits.items()},
        "all_rounds": {key: [round(value) for value in values] for key, values in rates.items()},
        "sync_ms": round(sync, 3),
        "rounds": rounds,
    }
    result["quick"] = quick
    result["notes"] = [
        f"synchronous=FULL on a real file; the disk takes {sync:.2f} ms to make 4 KiB durable",
        "ratios: transitions per second of the group commit over the peer's, above 1 is faster; "
        f"median of {rounds} round(s), the subjects by turns",
        "one statement at a time: aiosqlite, BEGIN IMMEDIATE, the same statements, COMMIT (percall_ratio_*)",
        "one visit to a thread: sqlite3, the same transaction without a hop for each statement (onehop_ratio_*)",
    ]
    return result


def main() -> None:
    options = arguments("Durable transitions per second of the store.")
    result = run(quick=options.quick)
    rates, waits = result["raw"]["transitions_per_second"], result["raw"]["p50_ms"]
    names = {"group": "group commit (ours)", "percall": "one statement at a time", "onehop": "one visit to a thread"}
    rows = [
        [
            f"{callers} callers" if callers > 1 else "1 caller",
            *(f"{rates[f'{name}_{callers}']:,}/s  {waits[f'{name}_{callers}']:.2f} ms" for name in SUBJECTS),
            *(f"{result[f'{peer}_ratio_{callers}']:.1f}x" for peer in ("percall", "onehop")),
        ]
        for callers in CALLERS
    ]
    headings = ["durable transitions, p50", *(names[name] for name in SUBJECTS), "ours / statement", "ours / visit"]
    show("store: one durable transition per call", headings, rows, result, as_json=options.json)


if __name__ == "__main__":
    main()
