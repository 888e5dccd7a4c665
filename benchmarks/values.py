"""An array of 100 MB there and back, beside plain Dask.

Each time it is another array of random numbers, since we store equal values once. Timed is, in seconds of the caller:

- Dask: ``client.submit(identity, array).result()``, in memory all along;
- dcengine: ``submit(identity, array).result()``; argument and result are on disk, synced, before they count;
- dcengine, remote: ``put(array)`` (on disk, synced), ``submit(identity, reference, keep="remote").result()``.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import dcengine

from .rounds import WORKERS
from .showing import Table, arguments, circumstances, show

NUMBERS, QUICK_NUMBERS = 12_500_000, 1_250_000  #: of 8 bytes
ROUNDS, TIMES = 3, 3
NOTES = [
    "100 MB: another array each time; ours is synced to disk on its way there, and back unless it stays on the worker; "
    "below 1 is better",
]

Echo = Callable[[Any], Any]


def identity(value: Any) -> Any:
    return value


@contextmanager
def ours() -> Iterator[dict[str, Echo]]:
    """This engine, in the process that asks."""
    with (
        tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder,
        dcengine.Engine(db=Path(folder) / "benchmark.db", workers=WORKERS) as engine,
    ):
        yield {
            "dcengine": lambda array: engine.submit(identity, array).result(),
            "remote": lambda array: engine.submit(identity, engine.put(array), keep="remote").result(),
        }


@contextmanager
def dask() -> Iterator[dict[str, Echo]]:
    """Plain Dask with worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield {"dask": lambda array: client.submit(identity, array, pure=False).result()}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the ratios of a value's way there and back to that of plain Dask, and the seconds."""
    rounds, numbers = (1, QUICK_NUMBERS) if quick else (ROUNDS, NUMBERS)
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for start in (dask, ours):
            with start() as ways, warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Dask would rather not be given so much
                for name, echo in ways.items():
                    taken.setdefault(name, []).append(_seconds(echo, numbers))
    return {
        "echo100mb_vs_dask": _ratio(taken, "dcengine"),
        "echo100mb_remote_vs_dask": _ratio(taken, "remote"),
        "echo100mb_seconds": {name: [round(each, 3) for each in seconds] for name, seconds in taken.items()},
        "echo100mb_megabytes": numbers * 8 // 1_000_000,
    }


def _seconds(echo: Echo, numbers: int) -> float:
    """Return the median of some rounds of *echo*, after one to warm up."""
    from numpy.random import default_rng

    generator, seconds = default_rng(), list[float]()
    for _ in range(TIMES + 1):
        array = generator.random(numbers)
        began = time.perf_counter()
        back = echo(array)
        seconds.append(time.perf_counter() - began)
        if (back[::1000] != array[::1000]).any():
            raise AssertionError("what came back is not what was sent")
    return median(seconds[1:])


def _ratio(taken: dict[str, list[float]], name: str) -> float:
    ratios = [mine / theirs for mine, theirs in zip(taken[name], taken["dask"], strict=True)]
    return round(median(ratios), 3)


def run(*, quick: bool) -> dict[str, Any]:
    """Return what was measured, and where."""
    return {**circumstances("distributed", "numpy"), **measure(quick=quick), "quick": quick, "notes": NOTES}


def main() -> None:
    options = arguments("A large array there and back, beside Dask.")
    result = run(quick=options.quick)
    rows = [
        [name, ", ".join(f"{each:.2f}" for each in seconds)] for name, seconds in result["echo100mb_seconds"].items()
    ]
    rows += [[key, str(result[key])] for key in ("echo100mb_vs_dask", "echo100mb_remote_vs_dask")]
    title = f"{result['echo100mb_megabytes']} MB there and back"
    show([Table(title, ["", "seconds, by rounds"], rows)], result, as_json=options.json)


if __name__ == "__main__":
    main()
