"""Durable transitions per second: the store beside a bare group commit and one transaction per call, with the same SQL.

Every caller leases a task and completes it, again and again, and waits each time until that is durable.
A transition is one lease or one completion, with its event, its counters and its credit.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from statistics import median
from typing import Any

from .subjects import SUBJECTS, Subject, fill

CALLERS = (1, 32, 256)
ROUNDS, QUICK_ROUNDS = 5, 1
TASKS = {1: 1500, 32: 8000, 256: 12_000}  #: for a group commit
SLOWER = {"percall": 8, "onehop": 8}  #: one transaction per call is slower: it gets a part of them
CEILINGS = ("ceiling", "ceiling_rows")  #: of what a shared commit can do: for many callers
PEERS = (*CEILINGS, "percall", "onehop")


def run(*, quick: bool) -> dict[str, Any]:
    """Measure all subjects by turns; return the ratios of the store's speed to theirs, and every figure."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    syncs = list[float]()
    for _ in range(rounds):
        for callers in CALLERS:
            syncs.append(sync_milliseconds())
            for name in SUBJECTS:
                if callers == 1 and name in CEILINGS:
                    continue
                tasks = TASKS[callers] // SLOWER.get(name, 1) // (2 if quick else 1)
                rate, wait = measure(name, callers=callers, tasks=tasks)
                rates.setdefault(f"{name}_{callers}", []).append(rate)
                waits.setdefault(f"{name}_{callers}", []).append(wait)
    return {
        "ratios": {
            f"{peer}_ratio_{n}": _ratio(rates, peer, n) for peer in PEERS for n in CALLERS if f"{peer}_{n}" in rates
        },
        "transitions_per_second": {key: round(median(values)) for key, values in rates.items()},
        "p50_ms": {key: round(median(values), 3) for key, values in waits.items()},
        "all_rounds": {key: [round(value) for value in values] for key, values in rates.items()},
        "sync_ms": round(median(syncs), 3),
        "rounds": rounds,
    }


def _ratio(rates: dict[str, list[float]], peer: str, callers: int) -> float:
    """Return the median over the rounds of the store's speed over that of *peer*."""
    pairs = zip(rates[f"group_{callers}"], rates[f"{peer}_{callers}"], strict=True)
    return round(median(ours / theirs for ours, theirs in pairs), 2)


# ---- one measurement -----------------------------------------------------------------------


def measure(name: str, *, callers: int, tasks: int) -> tuple[float, float]:
    """Return transitions per second of subject *name*, and the median milliseconds of one."""
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        db = Path(folder) / "store.db"
        fill(db, tasks)
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
