"""Hours of everything at once: does an engine stay as small and as quick as it was?

``python -m benchmarks.soak --minutes 120``: ``dcengine serve`` with two workers is used by calls, maps, projects,
outside workers, notebooks and pages, each at a rate of its own, the same in every minute. Its processes are looked at
all the time; what is to be flat has a limit.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import dcengine

from .frontends import server_of
from .rounds import Served
from .showing import Table, circumstances, show
from .soak_ledger import Done, Failed, Ledger, drive
from .soak_load import KINDS, Kind, Place
from .soak_samples import Growth, Sample, Watcher, by_role, counts, growth, lasting, settled

WORKERS = 2
EVERY = 2.0  #: seconds between two looks
PATIENCE = 60.0  #: seconds for what is under way to end
FULL_CACHES = 120  #: values of 0.9 MB that fill all caches
ENGINE = "from dcengine.cli import main; main()"
WATCHED = """
import gc, os, signal, sys, threading, tracemalloc
from collections import Counter

def tell():
    while True:
        signal.sigwait({signal.SIGUSR2})
        gc.collect()
        kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
        if tracemalloc.is_tracing():
            tracemalloc.take_snapshot().dump(f"{sys.argv[-1]}.shot{tell.number}")
        with open(f"{sys.argv[-1]}.kinds{tell.number}", "w") as file:
            print(*(f"{n} {kind}" for kind, n in kinds.most_common(400)), sep="\\n", file=file)
        tell.number += 1

tell.number = 0
if "SOAK_TRACED" in os.environ:
    tracemalloc.start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
threading.Thread(target=tell, daemon=True).start()
"""  #: what the engine runs first where it is looked into: SIGUSR2 has it write down what it holds, beside its file


class Limits(NamedTuple):
    """What counts as flat."""

    uss_mb_per_hour: float  #: of all lasting processes together, but for kernels: they keep what their user makes
    uss_mb: float  #: growth that is breathing, however short the time in which it came
    handles: int  #: more in the last third than in the first
    threads: int
    processes: int
    log_mb: float  #: at any time
    rate: float  #: of the last minute, over that of the first
    p99: float  #: the same of what 99 of 100 operations take


FLAT = Limits(uss_mb_per_hour=60.0, uss_mb=60.0, handles=10, threads=4, processes=1, log_mb=80.0, rate=0.9, p99=1.5)


class Run(NamedTuple):
    """What was seen."""

    done: list[Done]
    failures: list[Failed]
    samples: list[Sample]
    seconds: float
    said_kb: float  #: that the engine has written to stderr
    kinds: set[str]  #: what was done at least once, perhaps after the others had ended


# ---- the run -------------------------------------------------------------------------------


def soak(minutes: float, folder: Path, kinds: Sequence[Kind] = KINDS, *, looked_into: bool = False) -> Run:
    """Load an engine in *folder* for so many *minutes*; return what was seen."""
    ending = threading.Event()
    with served(folder, looked_into=looked_into) as engine:
        place = Place(server_of(engine), folder)
        fill_caches(FULL_CACHES if minutes >= 5 else 1)
        ledger = Ledger()
        watcher = Watcher(engine.process, folder / "soak.db", ledger.begun, EVERY)
        lanes = [kind for kind in kinds for _ in range(kind.lanes)]
        threads = [threading.Thread(target=drive, args=(kind, place, ledger, ending), daemon=True) for kind in lanes]
        for thread in (watcher, *threads):
            thread.start()
        shots = [min(180.0, 20 * minutes), 60 * minutes - 5] if looked_into else []
        for moment in (*shots, 60 * minutes):
            time.sleep(max(0.0, ledger.begun + moment - time.monotonic()))
            if moment in shots:
                os.kill(engine.process, signal.SIGUSR2)
        seconds = time.monotonic() - ledger.begun
        samples = watcher.end()
        ending.set()
        for thread in threads:
            thread.join(PATIENCE)
        done = [each for each in ledger.done if each.ended <= seconds]
        failures = [each for each in ledger.failures if each.at <= seconds]
        said_kb, ever = (folder / "soak.log").stat().st_size / 1000, {each.kind for each in ledger.done}
        return Run(done, failures, samples, seconds, said_kb, ever)


def fill_caches(values: int) -> None:
    """Have the engine's caches be full, of pages and of results: they are bounded, and what grows now is not theirs."""
    for _ in range(values):
        assert len(dcengine.submit(bytes, 900_000).result(PATIENCE)) == 900_000


@contextmanager
def served(folder: Path, *, looked_into: bool) -> Iterator[Served]:
    """``dcengine serve`` with its file, log and files in *folder*, which calls go to meanwhile."""
    (folder / "files").mkdir(parents=True)
    arguments = ["serve", "--json", "--port", "0", "--workers", str(WORKERS), "--files", str(folder / "files")]
    program = (WATCHED if looked_into else "") + ENGINE
    command = [sys.executable, "-c", program, *arguments, "--db", str(folder / "soak.db")]
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    with (folder / "soak.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            engine = Served(process.pid, json.loads(process.stdout.readline())["url"])
            dcengine.connect(engine.url)
            yield engine
        finally:
            dcengine.connect(None)
            process.terminate()
            process.wait(PATIENCE)


# ---- the verdict ---------------------------------------------------------------------------


def figures(run: Run) -> dict[str, Any]:
    """Return what *run* comes to."""
    later = settled(run.samples)
    memory = {role: growth(series) for role, series in by_role(later, lambda use: use.uss_mb).items()}
    handles = {role: growth(series) for role, series in by_role(later, lambda use: use.handles).items()}
    threads = {role: growth(series) for role, series in by_role(later, lambda use: use.threads).items()}
    logs, first, last = [sample.sizes["log_mb"] for sample in run.samples], *ends(run)
    return {
        "uss_growth_mb_per_hour": round(sum(each.per_hour for role, each in memory.items() if role != "kernel"), 1),
        "uss_growth_mb": round(sum(each.by for role, each in memory.items() if role != "kernel"), 1),
        "engine_uss_growth_mb_per_hour": round(memory["engine"].per_hour, 1),
        "handles_growth": round(sum(each.by for each in handles.values())),
        "threads_growth": round(sum(each.by for each in threads.values())),
        "processes_growth": round(growth(counts(later)).by),
        "log_mb_max": round(max(logs), 1),
        "last_over_first_minute": round(len(last) / len(first), 3) if first else None,
        "last_over_first_p99": slower(first, last),
        "operations": len(run.done),
        "failures": len(run.failures),
        "raw": {
            "uss_mb": shown(memory), "handles": shown(handles), "threads": shown(threads),
            "file_mb": [round(run.samples[at].sizes["file_mb"], 1) for at in (0, -1)],
            "rows": [sample.rows for sample in run.samples if sample.rows][:: max(1, round(run.seconds / 600))],
            "said_kb": round(run.said_kb, 1),
            "processes": Counter(lasting(later).values()),
            "failures": Counter(kind for kind, _, _ in run.failures),
        },
    }  # fmt: skip


def shown(growths: dict[str, Growth]) -> dict[str, list[float]]:
    """Return each growth as first, last and per hour."""
    return {role: [round(value, 1) for value in each] for role, each in growths.items()}


def ends(run: Run) -> tuple[list[Done], list[Done]]:
    """Return what was done in the second minute, the first in which everything is warm, and in the last one.

    Of a run that is too short for that, a third of it each.
    """
    span = min(60.0, run.seconds / 3)
    return (
        [each for each in run.done if span <= each.ended < 2 * span],
        [each for each in run.done if run.seconds - span <= each.ended],
    )


def slower(first: Sequence[Done], last: Sequence[Done]) -> float | None:
    """Return by what the p99 of the kinds has grown: the median over those that were done often enough."""
    grown = [
        p99(after) / p99(before)
        for kind in {each.kind for each in first}
        if len(before := [each.seconds for each in first if each.kind == kind]) >= 20
        and len(after := [each.seconds for each in last if each.kind == kind]) >= 20
    ]
    return round(median(grown), 2) if grown else None


def p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100)[98] if len(seconds) > 1 else (seconds or [0.0])[0]


def complaints(found: dict[str, Any], limits: Limits = FLAT) -> list[str]:
    """Return what is not flat, each in a sentence."""
    rules: tuple[tuple[str, float], ...] = (
        ("uss_growth_mb_per_hour", limits.uss_mb_per_hour), ("handles_growth", limits.handles),
        ("threads_growth", limits.threads), ("processes_growth", limits.processes), ("log_mb_max", limits.log_mb),
        ("last_over_first_p99", limits.p99), ("failures", 0),
    )  # fmt: skip
    if found["uss_growth_mb"] <= limits.uss_mb:
        rules = rules[1:]
    said = [f"{key} is {found[key]}, more than {limit}" for key, limit in rules if (found[key] or 0) > limit]
    rate = found["last_over_first_minute"]
    return said if rate is None or rate >= limits.rate else [*said, f"the last minute did {rate} of the first"]


# ---- for people ----------------------------------------------------------------------------


def tables(run: Run, found: dict[str, Any]) -> list[Table]:
    raw = found["raw"]
    roles = [
        [role, str(raw["processes"].get(role, 1)), *(f"{value:,.1f}" for value in raw["uss_mb"][role]),
         *(f"{raw[what][role][at]:,.0f}" for what in ("handles", "threads") for at in (0, 1))]
        for role in raw["uss_mb"]
    ]  # fmt: skip
    first, last = ends(run)
    kinds = [
        [kind.name, str(sum(each.kind == kind.name for each in run.done)), *_speed(first, kind), *_speed(last, kind),
         str(raw["failures"].get(kind.name, ""))]
        for kind in KINDS if any(each.kind == kind.name for each in run.done)
    ]  # fmt: skip
    keys = [
        "uss_growth_mb_per_hour", "uss_growth_mb", "engine_uss_growth_mb_per_hour", "handles_growth", "threads_growth",
        "processes_growth", "log_mb_max", "last_over_first_minute", "last_over_first_p99", "operations", "failures",
    ]  # fmt: skip
    verdict = [[key, str(found[key])] for key in keys]
    verdict += [["file, MB, begin and end", str(raw["file_mb"])], ["log lines of the engine, KB", str(raw["said_kb"])]]
    return [
        Table("lasting processes", ["", "n", "USS MB", "then", "MB/h", "handles", "then", "threads", "then"], roles),
        Table("operations", ["", "done", "a minute", "p50 ms", "p99 ms", "last", "p50 ms", "p99 ms", "failed"], kinds),
        Table("flat?", ["", ""], verdict),
    ]


def _speed(done: Sequence[Done], kind: Kind) -> list[str]:
    taken = [1000 * each.seconds for each in done if each.kind == kind.name]
    return [str(len(taken)), f"{median(taken):.1f}" if taken else "", f"{p99(taken):.1f}" if taken else ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything at once, for hours: what grows?")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument(
        "--looked-into",
        action="store_true",
        help="have the engine count its objects, twice",
    )
    parser.add_argument("--folder", type=Path, help="where its files are left; else they are removed in the end")
    parser.add_argument("--only", help="kinds of load, with commas between them")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only is None or kind.name in options.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="dcengine-soak-") as temporary:
        run = soak(options.minutes, options.folder or Path(temporary), kinds, looked_into=options.looked_into)
    found = figures(run)
    said = complaints(found)
    notes = [f"{run.seconds / 60:.1f} minutes; growth is that of the last two thirds", *(said or ["all of it is flat"])]
    for kind, at, text in run.failures[:10]:
        notes.append(f"{kind} at {at:.0f} s: {' | '.join(text.strip().splitlines()[-3:])[:500]}")
    show(tables(run, found), {**circumstances("distributed", "aiohttp"), **found, "notes": notes}, as_json=options.json)
    sys.exit(bool(said))


if __name__ == "__main__":
    main()
