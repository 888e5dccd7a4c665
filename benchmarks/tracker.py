"""Outside workers over HTTP: LAION's client unmodified, leases and completions, and a crowd that is merely connected.

Each figure is a ratio to what was measured in the same round: the client's own ceiling against a tracker that keeps
nothing, and an echo in bare aiohttp. Every transition here is durable.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psutil
from yarl import URL

import dcengine

from .oldclient import WARM_UP
from .rounds import Served, serving
from .showing import Table, arguments, circumstances, installed, show

ROUNDS, QUICK_ROUNDS = 3, 1
FEW, MANY, QUICK_MANY = 1_000, 1_000_000, 20_000  #: open jobs
OLD_CYCLES, QUICK_CYCLES = 800, 150  #: of each old client
CLIENTS = 4  #: of them at the same time: enough to keep two cores busy
CONNECTIONS, BATCH, BATCH_CONNECTIONS = 64, 100, 16
SECONDS, QUICK_SECONDS = 6.0, 1.0
CROWD, QUICK_CROWD = 2_000, 100  #: connected workers
CROWD_SECONDS, QUICK_CROWD_SECONDS = 30.0, 3.0


def run(*, quick: bool) -> dict[str, Any]:
    """Measure everything by turns; return the ratios, and every figure."""
    rounds: list[dict[str, float]] = []
    with bare() as port, tracker() as served:
        fill("many", QUICK_MANY if quick else MANY)
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            rounds.append(one_round(port, served, number, quick=quick))
    with tracker() as served:
        crowded = crowd(served, QUICK_CROWD if quick else CROWD, QUICK_CROWD_SECONDS if quick else CROWD_SECONDS)
    figures = {key: round(median(each[key] for each in rounds), 1) for key in rounds[0]}
    return {
        **circumstances("aiohttp", "distcompute-client", "requests"),
        "client_vs_ceiling_1k": _ratio(rounds, "old_client_1k", "old_client_ceiling"),
        "client_vs_ceiling_1m": _ratio(rounds, "old_client_1m", "old_client_ceiling"),
        "lone_client_vs_ceiling": _ratio(rounds, "lone_client_1k", "lone_client_ceiling"),
        "v1_requests_vs_echo": round(2 * _ratio(rounds, "cycles", "echo"), 3),
        "batch_jobs_vs_echo": _ratio(rounds, "batch_jobs", "echo"),
        **crowded,
        "figures": figures,
        "all_rounds": rounds,
        "quick": quick,
        "notes": [
            f"{CONNECTIONS} connections one by one, {BATCH_CONNECTIONS} in batches of {BATCH}; load and server share "
            "the cores",
        ],
    }


def one_round(port: int, served: Served, number: int, *, quick: bool) -> dict[str, float]:
    """Return what each of the subjects does in a second."""
    seconds, cycles = (QUICK_SECONDS, QUICK_CYCLES) if quick else (SECONDS, OLD_CYCLES)
    taken: dict[str, float] = {}
    taken["echo"] = load("echo", f"http://127.0.0.1:{port}/echo", CONNECTIONS, seconds)["per_second"]
    name = f"cycles{number}"
    fill(name, int(taken["echo"] * (seconds + 1)))
    taken["cycles"] = load("cycles", stage_of(served, name), CONNECTIONS, seconds)["per_second"]
    name = f"batch{number}"
    fill(name, int(4 * taken["echo"] * (seconds + 1)))
    taken["batch_jobs"] = load("cycles", stage_of(served, name), BATCH_CONNECTIONS, seconds, BATCH)["per_second"]
    if installed("distcompute-client") is not None:
        ceiling, few, many = f"http://127.0.0.1:{port}", project_of(served, f"old{number}"), project_of(served, "many")
        fill(f"old{number}", FEW + (CLIENTS + 1) * (cycles + WARM_UP))
        taken["old_client_ceiling"] = old_clients(ceiling, cycles, CLIENTS)
        taken["old_client_1k"] = old_clients(few, cycles, CLIENTS)
        taken["old_client_1m"] = old_clients(many, cycles, CLIENTS)
        taken["lone_client_ceiling"] = old_clients(ceiling, cycles, 1)
        taken["lone_client_1k"] = old_clients(few, cycles, 1)
    return taken


def _ratio(rounds: list[dict[str, float]], mine: str, theirs: str) -> float:
    pairs = [(each[mine], each[theirs]) for each in rounds if mine in each]
    return round(median(ours / their for ours, their in pairs), 3) if pairs else float("nan")


# ---- servers -------------------------------------------------------------------------------


@contextmanager
def bare() -> Iterator[int]:
    """The port of the servers to measure by."""
    command = [sys.executable, "-m", "benchmarks.bare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@contextmanager
def tracker() -> Iterator[Served]:
    """An engine without Dask workers."""
    with serving(workers=0) as served:
        yield served


def fill(name: str, count: int) -> None:
    """Make a project of one lease stage with *count* jobs, open to anybody."""
    project = dcengine.Project(name, protocol="distcompute", is_open=True)
    project.lease_stage("a", title="CPU", lease_seconds=600.0)
    project.run()
    project.add(f"s3://bucket/part-{number:08}.tar" for number in range(count))


def stage_of(served: Served, project: str) -> str:
    return str(URL(served.url).with_path(f"/v1/projects/{project}/stages/a", keep_query=True))


def project_of(served: Served, name: str) -> str:
    address = URL(served.url)
    return str(
        address.with_user("benchmark").with_password(address.query["token"]).with_query(None).with_path(f"/p/{name}/")
    )


# ---- loads ---------------------------------------------------------------------------------


def load(what: str, url: str, connections: int, seconds: float, batch: int = 1) -> dict[str, float]:
    """Return what a load of *connections* saw in *seconds*."""
    with loading(what, url, connections, seconds, batch) as process:
        return _last_word(process)


@contextmanager
def loading(what: str, url: str, connections: int, seconds: float, batch: int = 1) -> Iterator[subprocess.Popen[str]]:
    address = URL(url)
    token = address.query.get("token")
    order = {
        "what": what, "host": address.host, "port": address.port, "path": address.path, "batch": batch,
        "headers": {"Authorization": f"Bearer {token}"} if token else {}, "connections": connections,
        "seconds": seconds,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        yield process


def _last_word(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout is not None
    seen: dict[str, float] = json.loads(process.stdout.read().splitlines()[-1])
    return seen


def old_clients(url: str, cycles: int, count: int) -> float:
    """Return how many jobs a second *count* old clients together get and complete at *url*."""
    command = [sys.executable, "-m", "benchmarks.oldclient", url, str(cycles)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    words = [client.communicate(timeout=300)[0] for client in started]
    return sum(float(json.loads(word.splitlines()[-1])["cycles_per_second"]) for word in words)


def crowd(served: Served, workers: int, seconds: float) -> dict[str, float]:
    """Return what an engine takes for *workers* that are connected, and how soon another one gets a lease."""
    fill("crowd", workers + 10_000)
    engine = psutil.Process(served.process)
    with loading("crowd", stage_of(served, "crowd"), workers, seconds) as process:
        assert process.stdout is not None
        process.stdout.readline()  # all are connected
        before = engine.cpu_times()
        seen = _last_word(process)
        after = engine.cpu_times()
    used = after.user + after.system - before.user - before.system
    return {
        "lease_p99_ms_2000_workers": round(seen["lease_p99_ms"], 1),
        "lease_p50_ms_2000_workers": round(seen["lease_p50_ms"], 1),
        "engine_cores_2000_workers": round(used / seconds, 3),
        "connected_workers": workers,
    }


# ---- for people ----------------------------------------------------------------------------


def tables(result: dict[str, Any]) -> list[Table]:
    figures = result["figures"]
    rows = [
        ("echo in bare aiohttp, requests/s", figures["echo"], ""),
        ("lease + complete, cycles/s", figures["cycles"], f"{result['v1_requests_vs_echo']} of the echo's requests"),
        ("in batches of 100, jobs/s", figures["batch_jobs"], f"{result['batch_jobs_vs_echo']} of the echo's requests"),
        (f"{CLIENTS} of LAION's clients, their ceiling, cycles/s", figures.get("old_client_ceiling", "-"), ""),
        ("1,000 open jobs", figures.get("old_client_1k", "-"), f"{result['client_vs_ceiling_1k']} of its ceiling"),
        ("1,000,000 open jobs", figures.get("old_client_1m", "-"), f"{result['client_vs_ceiling_1m']} of its ceiling"),
        ("one of them, its ceiling, cycles/s", figures.get("lone_client_ceiling", "-"), ""),
        ("1,000 open jobs", figures.get("lone_client_1k", "-"), f"{result['lone_client_vs_ceiling']} of its ceiling"),
        (
            f"{result['connected_workers']:,} connected workers, lease p50 / p99",
            f"{result['lease_p50_ms_2000_workers']} / {result['lease_p99_ms_2000_workers']} ms",
            f"{result['engine_cores_2000_workers']} cores of the engine",
        ),
    ]
    return [Table("Outside workers", ("", "", ""), [tuple(map(str, row)) for row in rows])]


if __name__ == "__main__":
    given = arguments(__doc__ or "")
    result = run(quick=given.quick)
    show(tables(result), result, as_json=given.json)
