"""The benchmarks run and answer. How fast things are is read by people, never tested."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.scenes import needs_blender

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 170.0
KEYS = {
    "store": [
        "ceiling_ratio_32",
        "ceiling_ratio_256",
        "percall_ratio_1",
        "percall_ratio_32",
        "percall_ratio_256",
        "onehop_ratio_32",
        "lease_1e6_over_1e4",
        "import_jobs_per_s",
        "import_peak_mib",
        "counters_ms",
        "page_ms",
        "standing_ms",
        "busy_reader_ratio",
        "jobs_per_s",
        "fair_share_ratio",
    ],
    "functions": [
        "latency_vs_dask",
        "latency_daemon_vs_dask",
        "map10k_vs_dask",
        "map100k_vs_dask",
        "map100k_vs_dask_batched",
        "ms10_over_ideal",
        "ms10_vs_dask",
        "echo100mb_vs_dask",
        "echo100mb_remote_vs_dask",
        "start_vs_localcluster",
        "first_tick_ms",
        "output_p95_ms",
        "idle_uss_mb",
        "http_p95_ms",
    ],
    "tracker": [
        "client_vs_ceiling_1k",
        "client_vs_ceiling_1m",
        "v1_requests_vs_echo",
        "batch_jobs_vs_echo",
        "lease_p99_ms_2000_workers",
        "engine_cores_2000_workers",
    ],
    "notebook": [
        "kernel_start_vs_stock",
        "rtt_vs_stock_kernel",
        "ws_rtt_vs_stock",
        "ws_rtt_vs_zmq",
        "lines_vs_stock",
        "lease_p99_ms_during_flood",
        "flood_rss_growth_mib",
    ],
    "faults": ["child_lost_s", "worker_lost_s", "scheduler_lost_s", "engine_lost_s", "interrupt_p95_ms"],
    "events": ["p50_many_over_none", "p99_many_over_none", "events_per_second"],
    "imports": ["import_over_bare_ms", "bare_ms", "import_ms", "modules"],
    "render": ["render_vs_hand"],
}
BENCHMARKS = [pytest.param(name, marks=needs_blender if name == "render" else ()) for name in KEYS]
WITHOUT_PEERS = """
import json
from benchmarks import peers
peers.installed = lambda package: None
peers.OURS = {}
print(json.dumps(peers.run(quick=True)))
"""
QUICK_BACKLOG = """
import json, tempfile
from pathlib import Path
from benchmarks import backlog, store
del backlog.SIZES["1e6"]
with tempfile.TemporaryDirectory() as folder:
    files, imported = backlog.grow(Path(folder), quick=True)
    ratio = store._worst_ratio(backlog.lease_ms(files), "1e7")
    print(json.dumps({"files": [*files], "lease_1e7_over_1e4": ratio, **imported._asdict()}))
"""
WITHOUT_JOBLIB = """
from benchmarks import functions
functions.installed = lambda package: None
functions.QUICK = functions.Sizes(calls=1, items=1, many=1, naps=1)
functions.main()
"""


def answer_of(*command: str) -> tuple[str, dict[str, Any]]:
    """Return what a benchmark prints, and the JSON object in its last line; one that hangs says where it stands."""
    whole = [sys.executable, "-X", "faulthandler", *command, "--quick", "--json"]
    with TemporaryFile("w+") as printed, TemporaryFile("w+") as complaints:
        running = subprocess.Popen(whole, cwd=ROOT, stdout=printed, stderr=complaints)
        try:
            running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGABRT)  # which has faulthandler print what each thread is doing
            running.wait(PATIENCE)
        for said in (printed, complaints):
            said.seek(0)
        answer, trouble = printed.read(), complaints.read()
    assert running.returncode == 0, answer + trouble
    return answer, json.loads(answer.splitlines()[-1])


@pytest.mark.timeout(PATIENCE + 10)
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_benchmark_prints_a_table_and_an_object_with_its_keys(benchmark: str) -> None:
    text, answer = answer_of("-m", f"benchmarks.{benchmark}")

    assert "┃" in text
    for key in KEYS[benchmark]:
        assert math.isfinite(answer[key]), key


def test_a_benchmark_says_where_and_when_it_ran() -> None:
    text, answer = answer_of("-m", "benchmarks.imports")

    assert answer["machine"]["cores"] >= 1
    assert answer["versions"]["python"] == sys.version.split()[0]
    assert answer["date"][:10] in text


def test_importing_dcengine_is_measured_with_the_modules_it_loads() -> None:
    _, answer = answer_of("-m", "benchmarks.imports")

    assert "dcengine" in answer["raw"]["modules"]
    assert answer["modules"] == len(answer["raw"]["modules"])


def test_a_peer_that_is_not_installed_is_left_out_with_a_note() -> None:
    _, answer = answer_of("-c", WITHOUT_JOBLIB)

    assert answer["map10k_vs_joblib"] is None
    assert answer["raw"]["joblib"] is None
    assert any("joblib is not installed" in note for note in answer["notes"])
    assert math.isfinite(answer["latency_vs_dask"])


def test_a_quick_run_of_the_store_says_what_it_left_out() -> None:
    _, answer = answer_of("-c", QUICK_BACKLOG)

    assert list(answer["files"]) == ["1e4"]
    assert answer["lease_1e7_over_1e4"] is None
    assert answer["jobs"] == 10_000
    assert 0 < answer["peak_mib"] < 300


def test_a_peer_of_the_store_that_is_not_here_is_left_out_with_a_reason() -> None:
    _, answer = answer_of("-c", WITHOUT_PEERS)

    assert answer["peers"] == {}
    assert set(answer["missing"]) == {"huey", "dbos", "procrastinate"}
    assert all("not installed" in reason for reason in answer["missing"].values())
