"""Systems that run functions, each on two workers of one thread, and what one round measures of them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import dcengine

WORKERS = 2
NAP = 0.01
BY_HAND = 100  #: items in a batch that somebody makes by hand


class Sizes(NamedTuple):
    """How much work one round is."""

    calls: int  #: one by one, for the latency
    items: int  #: no-ops in one map
    many: int  #: no-ops in a large map, once in all rounds
    naps: int  #: of 10 ms each


class Subject(NamedTuple):
    """A system that runs functions."""

    call: Callable[[Callable[[int], int], int], int]
    map: Callable[[Callable[[int], int], int], list[int]]
    batched: Callable[[Callable[[int], int], int], list[int]] | None = None  #: the same in batches made by hand
    does_many: bool = True  #: quick enough for the large map


def nothing(number: int) -> int:
    return number


def nap(number: int) -> int:
    time.sleep(NAP)
    return number


def _each(function: Callable[[int], int], numbers: range) -> list[int]:
    return [function(number) for number in numbers]


# ---- the subjects --------------------------------------------------------------------------

OURS = Subject(
    call=lambda function, number: dcengine.submit(function, number).result(),
    map=lambda function, count: dcengine.map(function, range(count)).results(),
)


@contextmanager
def embedded() -> Iterator[Subject]:
    """This engine inside the process that asks; every call is durable."""
    with (
        tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder,
        dcengine.Engine(db=Path(folder) / "benchmark.db", workers=WORKERS),
    ):
        yield OURS


class Served(NamedTuple):
    """An engine in a process of its own."""

    process: int
    url: str  #: with its token


@contextmanager
def serving(workers: int = WORKERS) -> Iterator[Served]:
    """An engine in a process of its own, which calls go to meanwhile."""
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        command = [sys.executable, "-c", "from dcengine.cli import main; main()", "serve", "--json", "--port", "0"]
        command += ["--workers", str(workers), "--db", str(Path(folder) / "benchmark.db")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                served = Served(process.pid, json.loads(process.stdout.readline())["url"])
                dcengine.connect(served.url)
                yield served
            finally:
                dcengine.connect(None)
                process.terminate()


@contextmanager
def daemon() -> Iterator[Subject]:
    """This engine in a process of its own, asked over HTTP."""
    with serving():
        yield OURS


@contextmanager
def plain_dask() -> Iterator[Subject]:
    """Dask with its default settings."""
    distributed = importlib.import_module("distributed")
    shape = {"n_workers": WORKERS, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**shape) as cluster, distributed.Client(cluster) as client:

        def batched(function: Callable[[int], int], count: int) -> list[int]:
            parts = [range(first, min(first + BY_HAND, count)) for first in range(0, count, BY_HAND)]
            results = client.gather(client.map(partial(_each, function), parts, pure=False))
            return [value for part in results for value in part]

        # pure=False: otherwise Dask runs equal calls once
        yield Subject(
            call=lambda function, number: client.submit(function, number, pure=False).result(),
            map=lambda function, count: client.gather(client.map(function, range(count), pure=False)),
            batched=batched,
        )


@contextmanager
def joblib() -> Iterator[Subject]:
    """joblib with loky processes."""
    library = importlib.import_module("joblib")
    with library.Parallel(n_jobs=WORKERS, backend="loky") as parallel:

        def run(function: Callable[[int], int], numbers: range) -> list[int]:
            results: list[int] = parallel(library.delayed(function)(number) for number in numbers)
            return results

        yield Subject(
            call=lambda function, number: run(function, range(number, number + 1))[0],
            map=lambda function, count: run(function, range(count)),
        )
    importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


@contextmanager
def ipyparallel() -> Iterator[Subject]:
    """ipyparallel's load-balanced view, as a notebook has it."""
    library = importlib.import_module("ipyparallel")
    with library.Cluster(n=WORKERS, log_level=50) as client:
        view = client.load_balanced_view()
        yield Subject(
            call=lambda function, number: view.apply_sync(function, number),
            map=lambda function, count: list(view.map_sync(function, range(count))),
            does_many=False,
        )


SUBJECTS = {"dcengine": embedded, "daemon": daemon, "dask": plain_dask, "joblib": joblib, "ipyparallel": ipyparallel}
MEASURES = ("latency_ms", "map_seconds", "many_seconds", "batched_seconds", "nap_seconds")


# ---- one round -----------------------------------------------------------------------------


def measure(subject: Subject, sizes: Sizes, *, is_first: bool) -> dict[str, float]:
    """Return what one round of *subject* takes, once both its workers are warm; the large map the first time only."""
    subject.map(nothing, 20)
    subject.map(nap, 20)
    calls = [seconds_of(partial(subject.call, nothing, number), number) for number in range(sizes.calls)]
    taken = {
        "latency_ms": 1000 * median(calls),
        "map_seconds": seconds_of(lambda: subject.map(nothing, sizes.items), list(range(sizes.items))),
        "nap_seconds": seconds_of(lambda: subject.map(nap, sizes.naps), list(range(sizes.naps))),
    }
    if is_first and subject.does_many:
        many = list(range(sizes.many))
        taken["many_seconds"] = seconds_of(lambda: subject.map(nothing, sizes.many), many)
        if subject.batched is not None:
            batched = subject.batched
            taken["batched_seconds"] = seconds_of(lambda: batched(nothing, sizes.many), many)
    return taken


def seconds_of(work: Callable[[], object], expected: object) -> float:
    """Return how long *work* takes; it has to be right, too."""
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    assert result == expected, "a wrong result"
    return seconds


def summary(rows: list[dict[str, Any]] | None) -> dict[str, float | None] | None:
    """Return the median of each measure over the rounds."""
    if rows is None:
        return None
    found = {name: [row[name] for row in rows if name in row] for name in MEASURES}
    return {name: round(median(values), 4) if values else None for name, values in found.items()}
