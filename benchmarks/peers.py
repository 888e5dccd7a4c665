"""Enqueue N jobs that do nothing and process them, durably: dcengine beside huey, DBOS and procrastinate.

Every job is enqueued durably, run by one of two workers and its end is durable too. The peers have no way to enqueue
many at once that all of them share, so they are called once for each job, by as many threads as suits them; so is
`dcengine.submit`. Each system is started, warmed up, measured and ended before the next one begins.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import dcengine
from dcengine.loops import LoopThread

from .showing import installed

WORKERS = 2
CALLERS = 8  #: threads that enqueue
LOOK_SECONDS = 0.005  #: between two looks at how many have ended
IDLE_SECONDS = 0.01  #: that a peer's worker sleeps when it finds nothing to do
ROUNDS, QUICK_ROUNDS = 3, 1
WARM_UP = 50
QUICK = 4  #: the part of a round that a quick one is
SUCCEEDED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

Work = Callable[[int], None]  #: enqueue so many jobs and return when all have ended


def nothing(number: int) -> int:
    return number


# ---- dcengine ------------------------------------------------------------------------------


@contextmanager
def staged() -> Iterator[Work]:
    """Jobs of a project with one stage: added with one call, each a job of its own."""
    with _engine():
        project = dcengine.Project("benchmark")
        project.stage(name="nothing")(nothing)
        project.run()

        def work(jobs: int) -> None:
            done = project.status().succeeded
            project.add(range(jobs))
            _wait_for(lambda: project.status().succeeded == done + jobs)

        yield work


@contextmanager
def submitted() -> Iterator[Work]:
    """Calls submitted one by one."""
    with _engine():

        def work(jobs: int) -> None:
            handles = _for_each(lambda number: dcengine.submit(nothing, number), jobs)
            assert [handle.result() for handle in handles] == list(range(jobs))

        yield work


@contextmanager
def mapped() -> Iterator[Work]:
    """The items of one map."""
    with _engine():

        def work(jobs: int) -> None:
            assert dcengine.map(nothing, range(jobs)).results() == list(range(jobs))

        yield work


@contextmanager
def _engine() -> Iterator[None]:
    with _folder() as folder, dcengine.Engine(db=folder / "benchmark.db", workers=WORKERS):
        yield


# ---- the peers -----------------------------------------------------------------------------


@contextmanager
def huey() -> Iterator[Work]:
    """huey on SQLite with fsync, its consumer's threads in this process."""
    library: Any = importlib.import_module("huey")
    logging.getLogger("huey").setLevel(logging.ERROR)
    with _folder() as folder:
        queue = library.SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
        task = queue.task()(nothing)
        options = {"periodic": False, "initial_delay": IDLE_SECONDS, "max_delay": IDLE_SECONDS}
        consumer = queue.create_consumer(workers=WORKERS, worker_type="thread", **options)
        consumer.start()

        def work(jobs: int) -> None:
            before = queue.storage.result_store_size()
            _for_each(task, jobs)
            _wait_for(lambda: queue.storage.result_store_size() == before + jobs)

        try:
            yield work
        finally:
            consumer.stop(graceful=True)


@contextmanager
def dbos() -> Iterator[Work]:
    """DBOS on SQLite, its queue polled as often as it can be."""
    library: Any = importlib.import_module("dbos").DBOS
    with _folder() as folder:
        url = f"sqlite:///{folder / 'dbos.sqlite'}"
        library(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR"})
        workflow = library.workflow()(nothing)
        library.launch()
        queue = library.register_queue("benchmark", polling_interval_sec=IDLE_SECONDS)

        def work(jobs: int) -> None:
            handles = _for_each(lambda number: queue.enqueue(workflow, number), jobs)
            assert [handle.get_result(polling_interval_sec=IDLE_SECONDS) for handle in handles] == list(range(jobs))

        try:
            yield work
        finally:
            library.destroy(destroy_registry=True)


@contextmanager
def procrastinate() -> Iterator[Work]:
    """procrastinate in a database of its own on the PostgreSQL server that answers."""
    library: Any = importlib.import_module("procrastinate")
    logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
    name = f"dcengine_benchmark_{time.time_ns()}"
    _tell(f"CREATE DATABASE {name}")
    app = library.App(connector=library.SyncPsycopgConnector(kwargs={"dbname": name}))
    task = app.task(name="nothing")(nothing)
    loop = LoopThread("procrastinate")

    def work(jobs: int) -> None:
        before = _tell(SUCCEEDED, name)
        _for_each(lambda number: task.defer(number=number), jobs)
        _wait_for(lambda: _tell(SUCCEEDED, name) == before + jobs)

    try:
        with app.open():
            app.schema_manager.apply_schema()
            worker = app.with_connector(library.PsycopgConnector(kwargs={"dbname": name}))
            served = loop.start(_serve(worker))
            yield work
            served.cancel()
    finally:
        loop.stop()
        _tell(f"DROP DATABASE {name} WITH (FORCE)")


async def _serve(worker: Any) -> None:
    async with worker.open_async():
        await worker.run_worker_async(concurrency=WORKERS, install_signal_handlers=False)


def _tell(sql: str, database: str = "postgres") -> Any:
    """Execute *sql* on the server that libpq's environment leads to (PGHOST and the others); return its first value."""
    psycopg: Any = importlib.import_module("psycopg")
    with psycopg.connect(dbname=database, autocommit=True, connect_timeout=2) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


# ---- one round -----------------------------------------------------------------------------


def _for_each(enqueue: Callable[[int], Any], jobs: int) -> list[Any]:
    """Enqueue *jobs* jobs with some threads; return what that returns for each."""
    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(enqueue, range(jobs)))


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(LOOK_SECONDS)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        yield Path(folder)


class System(NamedTuple):
    """A system, and how many jobs of its a round has: as many as take about a second."""

    start: Callable[[], AbstractContextManager[Work]]
    jobs: int


OURS = {"stage": System(staged, 5000), "submit": System(submitted, 1000), "map": System(mapped, 50_000)}
PEERS = {"huey": System(huey, 1000), "dbos": System(dbos, 200), "procrastinate": System(procrastinate, 500)}


# ---- the run -------------------------------------------------------------------------------


def run(*, quick: bool) -> dict[str, Any]:
    """Measure dcengine and the peers that are here by turns; return jobs per second by name, and who is missing."""
    missing = {name: reason for name in PEERS if (reason := _why_missing(name))}
    systems = {**OURS, **{name: system for name, system in PEERS.items() if name not in missing}}
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for name, system in systems.items():
            rates[name].append(_rate(system, system.jobs // QUICK if quick else system.jobs))
    medians = {name: round(median(each)) for name, each in rates.items()}
    return {
        "ours": {name: medians[name] for name in OURS},
        "peers": {name: medians[name] for name in PEERS if name not in missing},
        "all_rounds": {name: [round(rate) for rate in each] for name, each in rates.items()},
        "missing": missing,
    }


def _rate(system: System, jobs: int) -> float:
    """Return how many jobs per second *system* enqueues and processes."""
    with system.start() as work:
        work(WARM_UP)
        started = time.perf_counter()
        work(jobs)
        return jobs / (time.perf_counter() - started)


def _why_missing(peer: str) -> str | None:
    """Return why *peer* cannot be measured here."""
    if not installed(peer):
        return "not installed (extra 'bench')"
    if peer == "procrastinate":
        try:
            _tell("SELECT 1")
        except Exception as error:  # whatever keeps the server from answering
            return f"no PostgreSQL answers ({str(error).splitlines()[0]}); PGHOST and libpq's other variables name one"
    return None
