"""Leases in front of a backlog: taking 1 and 100 tasks with ten thousand, a million and ten million queued.

The files are opened side by side and asked by turns, so that all of them meet the same machine.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from dcengine.jobs import Stage
from dcengine.store import Store, now
from dcengine.store.leasing import Holder, Lease

from .importing import Imported, bring

SIZES = {"1e4": 10_000, "1e6": 1_000_000, "1e7": 10_000_000}
BYTES = 600  #: of disk for each job, the log and a reserve included
AMOUNTS = {1: 100, 100: 30}  #: tasks in one lease -> leases from each file
TURN = 5  #: leases from one file before it is the next one's turn
LEASE_SECONDS = 600
SUBMITTER_ID = 1  #: of the first submitter in a file


def grow(folder: Path, *, quick: bool) -> tuple[dict[str, Path], Imported]:
    """Import a file of each size into *folder*; return them by name, and what the largest took.

    The largest is left out when *quick*, or where it does not fit on the disk.
    """
    room = shutil.disk_usage(folder).free // BYTES
    sizes = {name: jobs for name, jobs in SIZES.items() if jobs <= room and not (quick and name == "1e7")}
    files = {name: folder / f"{name}.db" for name in sizes}
    imported = [bring(files[name], jobs) for name, jobs in sizes.items()]
    return files, imported[-1]


def lease_ms(files: Mapping[str, Path]) -> dict[str, dict[int, float]]:
    """Return for each file the median milliseconds of a lease, by the number of tasks that it takes."""
    return asyncio.run(_lease_ms(files))


async def _lease_ms(files: Mapping[str, Path]) -> dict[str, dict[int, float]]:
    stores = {name: Store(db) for name, db in files.items()}
    waits: dict[str, dict[int, list[float]]] = {name: {n: [] for n in AMOUNTS} for name in files}
    for store in stores.values():
        await store.start()
    try:
        for n, leases in AMOUNTS.items():
            for _ in range(leases // TURN):
                for name, store in stores.items():
                    waits[name][n] += await _turn(store, n)
    finally:
        await asyncio.gather(*(store.close() for store in stores.values()))
    return {name: {n: round(1000 * median(each), 3) for n, each in of.items()} for name, of in waits.items()}


async def _turn(store: Store, n: int) -> list[float]:
    """Return the seconds that each of some leases of *n* tasks took."""
    (project,) = await store.reads.stored_projects()
    return [await _lease_seconds(store, project.stages[0], n) for _ in range(TURN)]


async def _lease_seconds(store: Store, stage: Stage, n: int) -> float:
    holder = Holder("w1", "somebody@here", now() + LEASE_SECONDS * 1_000_000)
    started = time.perf_counter()
    tasks: list[Any] = await store.apply(Lease(stage.id, stage.need, SUBMITTER_ID, n, holder, now()))
    seconds = time.perf_counter() - started
    assert len(tasks) == n, "the backlog is not as long as it should be"
    return seconds
