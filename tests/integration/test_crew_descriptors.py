"""What a cluster that is gone leaves behind in the engine's process: nothing that is closed twice."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from contextlib import suppress

import psutil
import pytest

from dcengine.cluster import ClusterSettings
from dcengine.cluster.crew import Launched, ProcessCrew
from dcengine.loops import quick_loop
from tests.integration.clusters import until


@pytest.mark.parametrize("victim", ["scheduler", "launcher", "none"])
def test_no_descriptor_of_others_is_closed_with_a_cluster_that_is_gone(victim: str) -> None:
    """The engine of `dcengine serve` has uvloop's event loop, whose transports close what they were given."""
    loop = quick_loop()
    try:
        launched = Launched(ClusterSettings(workers=0))
        loop.run_until_complete(begin_and_end(launched, victim))
        gc.collect()
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]  # they get the numbers that are free again
        del launched  # whoever has launched it may remember it for longer than the cluster does
        gc.collect()
        closed = []
        for number in others:
            try:
                os.close(number)
            except OSError:
                closed.append(number)
        assert closed == []
    finally:
        loop.close()


async def begin_and_end(launched: Launched, victim: str) -> None:
    lost = asyncio.Event()
    crew = ProcessCrew(ClusterSettings(workers=0), lost.set, launched)
    await crew.start()
    scheduler = crew.pids["scheduler"]
    if victim != "none":
        with suppress(psutil.NoSuchProcess):
            launcher = psutil.Process(scheduler).ppid()
            os.kill(scheduler if victim == "scheduler" else launcher, signal.SIGKILL)
        await until(lost.is_set)
    await crew.close()
