"""Functions on two one-thread workers, beside plain Dask, joblib and ipyparallel; and the engine as a service.

Each system is started, warmed up, measured and ended before the next one begins, and so on by turns: an
idle peer would take time from the others.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any

from . import service, values
from .rounds import MEASURES, NAP, SUBJECTS, WORKERS, Sizes, measure, summary
from .showing import Table, arguments, circumstances, installed, show

ROUNDS = 3
FULL, QUICK = Sizes(200, 10_000, 100_000, 1_000), Sizes(50, 1_000, 2_000, 100)
EXTRAS = ("joblib", "ipyparallel")  #: peers that are measured where they are installed
BUSY_TASKS = 8_000  #: while which the engine is asked over HTTP


def run(*, quick: bool) -> dict[str, Any]:
    """Measure all subjects by turns, then the engine as a service; return the result."""
    sizes, rounds = (QUICK, 1) if quick else (FULL, ROUNDS)
    present = {name: start for name, start in SUBJECTS.items() if name not in EXTRAS or installed(name)}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in present}
    for number in range(rounds):
        for name, start in present.items():
            with start() as subject:
                taken[name].append(measure(subject, sizes, is_first=not number))
    ideal = sizes.naps * NAP / WORKERS
    served = service.measure(tasks=200 if quick else BUSY_TASKS, starts=1 if quick else ROUNDS)
    return {
        **circumstances("distributed", "joblib", "ipyparallel", "numpy"),
        "latency_vs_dask": _ratio(taken, "dcengine", "dask", "latency_ms"),
        "latency_daemon_vs_dask": _ratio(taken, "daemon", "dask", "latency_ms"),
        "latency_vs_ipyparallel": _ratio(taken, "dcengine", "ipyparallel", "latency_ms"),
        "map10k_vs_ipyparallel": _ratio(taken, "ipyparallel", "dcengine", "map_seconds"),
        "latency_vs_joblib": _ratio(taken, "dcengine", "joblib", "latency_ms"),
        "map10k_vs_dask": _ratio(taken, "dask", "dcengine", "map_seconds"),
        "map10k_vs_joblib": _ratio(taken, "joblib", "dcengine", "map_seconds"),
        "map100k_vs_dask": _ratio(taken, "dask", "dcengine", "many_seconds"),
        "map100k_vs_dask_batched": _ratio(taken, "dask", "dcengine", "batched_seconds", "many_seconds"),
        "map100k_vs_joblib": _ratio(taken, "joblib", "dcengine", "many_seconds"),
        "ms10_over_ideal": round(median(row["nap_seconds"] for row in taken["dcengine"]) / ideal, 3),
        "ms10_vs_dask": _ratio(taken, "dask", "dcengine", "nap_seconds"),
        "ms10_vs_joblib": _ratio(taken, "joblib", "dcengine", "nap_seconds"),
        **_apart(values.measure, quick=quick),
        **served,
        "raw": {
            **{name: summary(taken.get(name)) for name in SUBJECTS},
            "all_rounds": taken,
            "sizes": sizes._asdict(),
            "ideal_seconds": ideal,
            "rounds": rounds,
        },
        "quick": quick,
        "notes": _notes(sizes, rounds, ideal, present),
    }


def _apart(measure: Callable[..., dict[str, Any]], *, quick: bool) -> dict[str, Any]:
    """Return what is measured in a process of its own: what the peers have left in this one slows it down."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, quick=quick).result()


def _ratio(
    taken: dict[str, list[dict[str, float]]], above: str, below: str, measured: str, beside: str | None = None
) -> float | None:
    """Return the median over the rounds of one subject's measure over another's (*beside*); None without it."""
    pairs = zip(taken.get(above, []), taken.get(below, []), strict=False)
    other = beside or measured
    ratios = [mine[measured] / theirs[other] for mine, theirs in pairs if measured in mine and other in theirs]
    return round(median(ratios), 3) if ratios else None


def _notes(sizes: Sizes, rounds: int, ideal: float, present: dict[str, Any]) -> list[str]:
    notes = [
        f"{WORKERS} workers of one thread each; median of {rounds} round(s), the systems by turns; the large map once",
        "dcengine writes every call and result durably before it answers; Dask and joblib keep them in memory",
        "latency: submit, then result, one call at a time; 'daemon' is dcengine in a process of its own, over HTTP",
        "ratios of times are ours / theirs, below 1 is better; of speeds (maps) theirs / ours in seconds, above 1",
    ]
    if sizes != FULL:
        notes.append(f"quick: maps of {sizes.items:,} and {sizes.many:,} no-ops and {sizes.naps:,} x 10 ms")
    missing = [name for name in EXTRAS if name not in present]
    notes += [f"{name} is not installed (extra 'bench'): its figures are missing" for name in missing]
    return [*notes, f"ideal: {ideal:g} s, the naps alone on {WORKERS} workers", *values.NOTES]


# ---- for people ----------------------------------------------------------------------------


def main() -> None:
    options = arguments("Functions on two workers, beside Dask and joblib.")
    result = run(quick=options.quick)
    show([_calls(result), _figures(result)], result, as_json=options.json)


def _calls(result: dict[str, Any]) -> Table:
    raw, sizes = result["raw"], result["raw"]["sizes"]
    titles = {
        "latency_ms": ("submit + result, p50 ms", "latency_vs_dask"),
        "map_seconds": (f"map of {sizes['items']:,} no-ops, s", "map10k_vs_dask"),
        "many_seconds": (f"map of {sizes['many']:,} no-ops, s", "map100k_vs_dask"),
        "batched_seconds": ("the same in batches of 100 by hand, s", "map100k_vs_dask_batched"),
        "nap_seconds": (f"{sizes['naps']:,} x 10 ms, s", "ms10_vs_dask"),
    }
    rows = [
        [title, *(_number((raw[name] or {}).get(measured)) for name in SUBJECTS), _in_words(result[key], measured)]
        for measured, (title, key) in ((measured, titles[measured]) for measured in MEASURES)
    ]
    return Table("functions on two one-thread workers", ["", *SUBJECTS, "dcengine / Dask"], rows)


def _figures(result: dict[str, Any]) -> Table:
    names = (
        "latency_vs_dask", "latency_daemon_vs_dask", "map10k_vs_dask", "map100k_vs_dask", "map100k_vs_dask_batched",
        "ms10_over_ideal", "echo100mb_vs_dask", "echo100mb_remote_vs_dask", "start_vs_localcluster",
        "first_tick_ms", "output_p95_ms", "idle_uss_mb", "http_p95_ms",
    )  # fmt: skip
    return Table(
        "ratios and the engine as a service", ["figure", ""], [[name, _number(result[name])] for name in names]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _in_words(ratio: float | None, measured: str) -> str:
    """Return *ratio* with its direction: of latencies, ours over theirs; of speeds, too."""
    if ratio is None:
        return "-"
    return f"{ratio:.2f}x the time" if measured == "latency_ms" else f"{ratio:.3g}x the speed"


if __name__ == "__main__":
    main()
