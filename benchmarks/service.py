"""The engine as a service: how soon it answers, what it takes while idle, how it answers while much runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
import time
from statistics import median, quantiles
from typing import Any
from urllib.request import urlopen

import dcengine

from .rounds import WORKERS, nothing, serving

OURS = f"""
import tempfile, time, json
from pathlib import Path
started = time.perf_counter()
import dcengine
with tempfile.TemporaryDirectory() as folder, dcengine.Engine(db=Path(folder) / "benchmark.db", workers={WORKERS}):
    assert dcengine.submit(abs, -1).result() == 1
    print(json.dumps(time.perf_counter() - started))
"""
DASK = f"""
import time, json
started = time.perf_counter()
from distributed import Client, LocalCluster
if __name__ == "__main__":
    shape = dict(n_workers={WORKERS}, threads_per_worker=1, dashboard_address=None)
    with LocalCluster(**shape) as cluster, Client(cluster) as dask:
        assert dask.submit(abs, -1).result() == 1
        print(json.dumps(time.perf_counter() - started))
"""
BUSY = 0.005  #: seconds that each of the many tasks takes
ASKS_EACH = 0.01  #: seconds between two questions
QUIET_SECONDS = 3.0  #: before the idle process is weighed


def busy(number: int) -> int:
    time.sleep(BUSY)
    return number


def ticking(steps: int) -> None:
    for _ in dcengine.track(range(steps)):
        time.sleep(0.02)


def saying(times: int) -> None:
    for _ in range(times):
        print(time.time())
        time.sleep(0.03)


def measure(*, tasks: int, starts: int) -> dict[str, Any]:
    """Return the figures of one engine with two workers, asked over HTTP."""
    ours, dask = zip(*((started(OURS), started(DASK)) for _ in range(starts)), strict=True)
    with serving() as engine:
        dcengine.submit(nothing, 1).result()
        time.sleep(QUIET_SECONDS)
        idle = _unique_bytes(engine.process)
        ticks = [first_tick() for _ in range(5)]
        delays = output_delays(100)
        waits = answers_while(tasks, engine.url)
    return {
        "start_seconds": round(median(ours), 3),
        "localcluster_seconds": round(median(dask), 3),
        "start_vs_localcluster": round(median(mine / theirs for mine, theirs in zip(ours, dask, strict=True)), 3),
        "idle_uss_mb": None if idle is None else round(idle / 1e6, 1),
        "first_tick_ms": round(1000 * median(ticks), 1),
        "output_p50_ms": round(1000 * median(delays), 1),
        "output_p95_ms": round(1000 * quantiles(delays, n=20)[-1], 1),
        "http_p50_ms": round(1000 * median(waits), 2),
        "http_p95_ms": round(1000 * quantiles(waits, n=20)[-1], 2),
        "http_max_ms": round(1000 * max(waits), 2),
        "http_asked": len(waits),
    }


def started(program: str) -> float:
    """Return the seconds that a new process takes from its first import to the first result."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return float(json.loads(done.stdout))


def first_tick() -> float:
    """Return the seconds from a submission to the first progress that is seen of it."""
    began = time.perf_counter()
    job = dcengine.submit(ticking, 50)
    while not job.progress.done:
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    job.cancel()
    return seconds


def output_delays(times: int) -> list[float]:
    """Return the seconds that each of so many lines takes from its `print` to whoever follows the job."""
    delays = []
    for line in dcengine.submit(saying, times).follow():
        now = time.time()
        delays += [now - float(printed) for printed in line.text.split()]
    return delays


def answers_while(tasks: int, url: str) -> list[float]:
    """Return how long each answer of the engine at *url* takes while a map of so many *tasks* runs."""
    status = url.replace("/?", "/v1/status?")
    ended = threading.Event()

    def run() -> None:
        dcengine.map(busy, range(tasks)).results()
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    waits = []
    while not ended.wait(ASKS_EACH):
        began = time.perf_counter()
        with urlopen(status, timeout=30) as response:
            response.read()
        waits.append(time.perf_counter() - began)
    thread.join()
    return waits


def _unique_bytes(pid: int) -> int | None:
    """Return the memory that only process *pid* has; None without psutil."""
    try:
        psutil = importlib.import_module("psutil")
    except ModuleNotFoundError:
        return None
    return int(psutil.Process(pid).memory_full_info().uss)
