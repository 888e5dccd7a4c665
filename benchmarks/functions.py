"""Functions on two one-thread workers: latency, ten thousand no-ops, a thousand times 10 ms; beside Dask and joblib.

Each system is started, warmed up, measured and ended before the next one begins, and so on by turns: an
idle peer would take time from the others.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import dcengine

from .showing import Table, arguments, circumstances, installed, show

WORKERS = 2
NAP = 0.01
ROUNDS = 3


class Sizes(NamedTuple):
    """How much work one round is."""

    calls: int  #: one by one, for the latency
    items: int  #: no-ops in one map
    naps: int  #: of 10 ms each


FULL, QUICK = Sizes(200, 10_000, 1_000), Sizes(50, 1_000, 100)


class Subject(NamedTuple):
    """A system that runs functions."""

    call: Callable[[Callable[[int], int], int], int]
    map: Callable[[Callable[[int], int], int], list[int]]


def nothing(number: int) -> int:
    return number


def nap(number: int) -> int:
    time.sleep(NAP)
    return number


# ---- the subjects --------------------------------------------------------------------------


@contextmanager
def ours() -> Iterator[Subject]:
    """This engine, embedded; every call is durable."""
    with (
        tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder,
        dcengine.Engine(db=Path(folder) / "benchmark.db", workers=WORKERS),
    ):
        yield Subject(
            call=lambda function, number: dcengine.submit(function, number).result(),
            map=lambda function, count: dcengine.map(function, range(count)).results(),
        )


@contextmanager
def plain_dask() -> Iterator[Subject]:
    """Dask with its default settings."""
    distributed = importlib.import_module("distributed")
    shape = {"n_workers": WORKERS, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**shape) as cluster, distributed.Client(cluster) as client:
        # pure=False: otherwise Dask runs equal calls once
        yield Subject(
            call=lambda function, number: client.submit(function, number, pure=False).result(),
            map=lambda function, count: client.gather(client.map(function, range(count), pure=False)),
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


SUBJECTS = {"dcengine": ours, "dask": plain_dask, "joblib": joblib}
MEASURES = ("latency_ms", "map_seconds", "nap_seconds")


# ---- one round -----------------------------------------------------------------------------


def measure(subject: Subject, sizes: Sizes) -> dict[str, float]:
    """Return what one round of *subject* takes, once both its workers are warm."""
    subject.map(nothing, 20)
    subject.map(nap, 20)
    calls = [_seconds(partial(subject.call, nothing, number), number) for number in range(sizes.calls)]
    return {
        "latency_ms": 1000 * median(calls),
        "map_seconds": _seconds(lambda: subject.map(nothing, sizes.items), list(range(sizes.items))),
        "nap_seconds": _seconds(lambda: subject.map(nap, sizes.naps), list(range(sizes.naps))),
    }


def _seconds(work: Callable[[], object], expected: object) -> float:
    """Return how long *work* takes; it has to be right, too."""
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    assert result == expected, "a wrong result"
    return seconds


# ---- the run -------------------------------------------------------------------------------


def run(*, quick: bool) -> dict[str, Any]:
    """Measure all subjects by turns; return the result."""
    sizes, rounds = (QUICK, 1) if quick else (FULL, ROUNDS)
    present = {name: start for name, start in SUBJECTS.items() if name != "joblib" or installed("joblib")}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in present}
    for _ in range(rounds):
        for name, start in present.items():
            with start() as subject:
                taken[name].append(measure(subject, sizes))
    ideal = sizes.naps * NAP / WORKERS
    return {
        **circumstances("distributed", "joblib"),
        "latency_vs_dask": _ratio(taken, "dcengine", "dask", "latency_ms"),
        "latency_vs_joblib": _ratio(taken, "dcengine", "joblib", "latency_ms"),
        "map10k_vs_dask": _ratio(taken, "dask", "dcengine", "map_seconds"),
        "map10k_vs_joblib": _ratio(taken, "joblib", "dcengine", "map_seconds"),
        "ms10_over_ideal": round(median(row["nap_seconds"] for row in taken["dcengine"]) / ideal, 3),
        "ms10_vs_dask": _ratio(taken, "dask", "dcengine", "nap_seconds"),
        "ms10_vs_joblib": _ratio(taken, "joblib", "dcengine", "nap_seconds"),
        "raw": {
            **{name: _summary(taken.get(name)) for name in SUBJECTS},
            "all_rounds": taken,
            "sizes": sizes._asdict(),
            "ideal_seconds": ideal,
            "rounds": rounds,
        },
        "quick": quick,
        "notes": _notes(sizes, rounds, ideal, present),
    }


def _ratio(taken: dict[str, list[dict[str, float]]], above: str, below: str, measure: str) -> float | None:
    """Return the median over the rounds of one subject's *measure* over another's; None without it."""
    pairs = list(zip(taken.get(above, []), taken.get(below, []), strict=False))
    return round(median(mine[measure] / theirs[measure] for mine, theirs in pairs), 3) if pairs else None


def _summary(rows: list[dict[str, float]] | None) -> dict[str, float] | None:
    return None if rows is None else {name: round(median(row[name] for row in rows), 4) for name in MEASURES}


def _notes(sizes: Sizes, rounds: int, ideal: float, present: dict[str, Any]) -> list[str]:
    notes = [
        f"{WORKERS} workers of one thread each; median of {rounds} round(s), the systems by turns",
        "dcengine writes every call and result durably before it answers; Dask and joblib keep them in memory",
        "latency: submit, then result, one call at a time; ours / theirs, below 1 is better",
        "the two maps: their seconds / ours, above 1 is better",
    ]
    if sizes != FULL:
        notes.append(f"quick: {sizes.items:,} no-ops and {sizes.naps:,} x 10 ms instead of 10,000 and 1,000")
    if "joblib" not in present:
        notes.append("joblib is not installed (extra 'bench'): its figures are missing")
    return [*notes, f"ideal: {ideal:g} s, the naps alone on {WORKERS} workers"]


def main() -> None:
    options = arguments("Functions on two workers, beside Dask and joblib.")
    result = run(quick=options.quick)
    raw, sizes = result["raw"], result["raw"]["sizes"]
    titles = ["submit + result, p50 ms", f"map of {sizes['items']:,} no-ops, s", f"{sizes['naps']:,} x 10 ms, s"]
    rows = [
        [
            title,
            *(f"{raw[name][measure]:.3f}" if raw[name] else "-" for name in SUBJECTS),
            *(_in_words(result[f"{key}_vs_{peer}"], measure) for peer in ("dask", "joblib")),
        ]
        for title, measure, key in zip(titles, MEASURES, ("latency", "map10k", "ms10"), strict=True)
    ]
    result["notes"].append(f"{sizes['naps']:,} x 10 ms took {result['ms10_over_ideal']} times the ideal")
    headings = ["", *SUBJECTS, "dcengine / Dask", "dcengine / joblib"]
    show([Table("functions on two one-thread workers", headings, rows)], result, as_json=options.json)


def _in_words(ratio: float | None, measure: str) -> str:
    """Return *ratio* with its direction: of latencies, ours over theirs; of speeds, too."""
    if ratio is None:
        return "-"
    return f"{ratio:.2f}x the time" if measure == "latency_ms" else f"{ratio:.3g}x the speed"


if __name__ == "__main__":
    main()
