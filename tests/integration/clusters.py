"""Real clusters for tests: units of real functions, waiting for conditions, processes that must be gone."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from dcengine.cluster import Cluster, ClusterSettings, Slot
from dcengine.codec import loads, pack, pack_call, pack_function, unpack
from dcengine.runner.units import Ending, Live, Unit, UnitReport

_ids = itertools.count(1)


def unit(function: Callable[..., Any], *calls: tuple[Any, ...], **options: Any) -> Unit:
    """Return a unit with one call of *function* for each of *calls*."""
    packed = pack_function(function)
    return Unit(
        id=next(_ids),
        function=packed.digest,
        name=packed.name,
        code=packed.code,
        items=pack([pack_call(call, {}) for call in calls]),
        count=len(calls),
        **options,
    )


def results(report: UnitReport) -> list[Any]:
    """Return the results of a report all of whose calls succeeded."""
    assert set(report.endings) == {Ending.SUCCEEDED}, endings(report)
    return [loads(value) for value in unpack(report.values)]


def endings(report: UnitReport) -> list[str]:
    return [Ending(ending).name for ending in report.endings]


class Watched:
    """A cluster with all it says."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.live: list[Live] = []
        self.changes = 0
        self.cluster = Cluster(
            settings, engine_id=os.urandom(4).hex(), on_change=self._count_change, on_live=self.live.append
        )

    def _count_change(self) -> None:
        self.changes += 1

    def slot(self, worker: str) -> Slot:
        return next(slot for slot in self.cluster.slots if slot.worker.name == worker)

    async def slots(self, count: int, *, seconds: float = 20) -> list[Slot]:
        """Wait until there are *count* slots."""
        await until(lambda: len(self.cluster.slots) == count, seconds=seconds)
        return self.cluster.slots

    async def run(self, function: Callable[..., Any], *args: Any, on: Slot) -> Any:
        """Return the result of one call on the slot *on*."""
        return results(await self.cluster.run(unit(function, args), on))[0]


@asynccontextmanager
async def cluster(**settings: Any) -> AsyncIterator[Watched]:
    watched = Watched(ClusterSettings(**settings))
    await watched.cluster.start()
    try:
        yield watched
    finally:
        await watched.cluster.close()


async def until(claim: Callable[[], Any], *, seconds: float = 20) -> None:
    """Wait until *claim* holds."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        await asyncio.sleep(0.005)


def descendants() -> set[psutil.Process]:
    """Return the processes below this one."""
    return set(psutil.Process().children(recursive=True))


def is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # between the two questions
        return False


async def written(path: Path) -> str:
    """Return the text of *path* once a function somewhere wrote it."""

    def text() -> str:
        return path.read_text() if path.exists() else ""

    await until(text)
    return text()
