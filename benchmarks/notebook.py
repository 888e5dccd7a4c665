"""The notebook: an empty remote cell beside ipyparallel's, our kernel beside ipykernel's own, and our endpoint for
front ends beside jupyter_server and beside the kernel's bare sockets.

All of them are started in the same way, by turns; so are the blocks of questions and cells.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import KernelConnectionInfo

from . import crowds
from .frontends import Frontend, Server, frontend, server_of, stock
from .rounds import Served, serving
from .showing import Table, arguments, circumstances, show

KERNELS = {"dcengine": "dcengine_kernel", "stock": "ipykernel_launcher"}  #: the modules that kernelspecs start
CELLS = {
    "dcengine": (
        "dcengine_kernel",
        "import dcengine, os, signal; from dcengine.api import current; dcengine.submit(int).result()",
        "%%distribute\npass",
        "os.kill(current().call('status').pid, signal.SIGTERM)",
    ),
    "embedded": (
        "dcengine_kernel",
        "import dcengine; engine = dcengine.Engine('work.db', workers=1).start()",
        "%%distribute\npass",
        "engine.close()",
    ),
    "ipyparallel": (
        "ipykernel_launcher",
        "import ipyparallel; cluster = ipyparallel.Cluster(n=1, log_level=40)\n"
        "client = cluster.start_and_connect_sync(); client[:].activate()",
        "%%px\npass",
        "cluster.stop_cluster_sync()",
    ),
}  #: for each way to run an empty cell elsewhere: the kernel, what prepares it, the cell, what ends it
PATIENCE = 60.0  #: seconds for any one answer
GLANCE = 0.001  #: seconds between two looks whether a kernel listens
WARM_UP = 20  #: questions to each kernel before any counts
BLOCK = 10  #: questions to one kernel before it is the other's turn


Rounds = list[dict[str, list[float]]]  #: what each kernel took, in each round
Asked = Callable[[], float]  #: asks a kernel, and returns how long that took


class Sizes(NamedTuple):
    """How much is measured."""

    starts: int  #: of each kernel
    questions: int  #: to each kernel
    cells: int  #: in each way
    lines: int  #: printed in one go
    prints: int  #: of so many lines through each server
    crowd: crowds.Sizes


FULL = Sizes(15, 200, 200, 100_000, 5, crowds.Sizes(kernels=20, lines=100, flood=1_000_000, seconds=8.0))
QUICK = Sizes(3, 40, 40, 20_000, 1, crowds.Sizes(kernels=2, lines=20, flood=200_000, seconds=1.0))


# ---- kernels -------------------------------------------------------------------------------


@contextmanager
def kernel(module: str) -> Iterator[BlockingKernelClient]:
    """A kernel of its own in an empty folder, without anybody's settings; it listens, but may not answer yet."""
    context = zmq.Context()
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        file = Path(folder, "kernel.json")  # which the kernel writes: a port chosen for it could be taken by then
        environment = {**os.environ, "IPYTHONDIR": folder, "JUPYTER_NO_CONFIG": "1"}
        command = [sys.executable, "-m", module, "-f", str(file)]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        client = BlockingKernelClient(connection_file=str(file), context=context)
        client.load_connection_info(_written(file, process))
        client.start_channels(hb=False)
        try:
            yield client
        finally:
            client.shutdown()
            process.wait(PATIENCE)
            client.stop_channels()
            context.destroy(linger=0)


def _written(file: Path, process: subprocess.Popen[bytes]) -> KernelConnectionInfo:
    """Return how the kernel of *process* is reached, once it has written that into *file*."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(FileNotFoundError, ValueError):  # not there, or not to its end
            connection: KernelConnectionInfo = json.loads(file.read_text())
            return connection
        time.sleep(GLANCE)
    process.kill()
    raise RuntimeError("the kernel does not listen")


def start_seconds(module: str) -> float:
    """Return how long a kernel takes from the start of its process to its first answer."""
    started = time.perf_counter()
    with kernel(module) as client:
        client.kernel_info()
        client.get_shell_msg(timeout=PATIENCE)
        return time.perf_counter() - started


def question_seconds(client: BlockingKernelClient) -> float:
    """Return how long ``1+1`` takes from the request until its result has come and the kernel is idle."""
    seconds, result = cell_seconds(client, "1+1")
    assert result == "2", "a wrong result"
    return seconds


def cell_seconds(client: BlockingKernelClient, code: str) -> tuple[float, str | None]:
    """Return how long *code* takes from the request until the kernel is idle again, and its result as text."""
    started = time.perf_counter()
    request = client.execute(code)
    result = None
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "execute_result":
            result = message["content"]["data"]["text/plain"]
        if message["content"].get("execution_state") == "idle":
            break
    reply = client.get_shell_msg(timeout=PATIENCE)
    seconds = time.perf_counter() - started
    assert reply["content"]["status"] == "ok", reply["content"]
    return seconds, result


# ---- the measures --------------------------------------------------------------------------


def kernel_starts(sizes: Sizes) -> Rounds:
    """Return the milliseconds that each kernel takes to start, round by round."""
    for module in KERNELS.values():
        start_seconds(module)  # the first import writes byte code
    return [{name: [1000 * start_seconds(KERNELS[name])] for name in _order(number)} for number in range(sizes.starts)]


def kernel_questions(sizes: Sizes) -> Rounds:
    """Return the milliseconds of each ``1+1`` to each kernel, in blocks, round by round."""
    with ExitStack() as running:
        clients = {name: running.enter_context(kernel(module)) for name, module in KERNELS.items()}
        for client in clients.values():
            client.wait_for_ready(timeout=PATIENCE)
            for _ in range(WARM_UP):
                question_seconds(client)
        return [
            {name: [1000 * question_seconds(clients[name]) for _ in range(BLOCK)] for name in _order(number)}
            for number in range(sizes.questions // BLOCK)
        ]


def remote_cells(sizes: Sizes) -> Rounds:
    """Return the milliseconds that an empty cell takes on a worker, in each way, in blocks, round by round."""
    ways = [name for name in CELLS if name != "ipyparallel" or find_spec("ipyparallel")]
    with ExitStack() as running:
        clients = {name: running.enter_context(prepared(name)) for name in ways}
        return [
            {
                name: [1000 * cell_seconds(clients[name], CELLS[name][2])[0] for _ in range(BLOCK)]
                for name in _order(number, ways)
            }
            for number in range(sizes.cells // BLOCK)
        ]


@contextmanager
def prepared(name: str) -> Iterator[BlockingKernelClient]:
    """A kernel that has run empty cells elsewhere in the way *name*, and can again."""
    module, preparation, cell, end = CELLS[name]
    with kernel(module) as client:
        client.wait_for_ready(timeout=PATIENCE)
        cell_seconds(client, preparation)
        try:
            for _ in range(WARM_UP):
                cell_seconds(client, cell)
            yield client
        finally:
            cell_seconds(client, end)


# ---- behind HTTP ---------------------------------------------------------------------------


def behind_http(sizes: Sizes) -> tuple[Rounds, Rounds, dict[str, float]]:
    """Return the milliseconds of ``1+1``, the seconds of many lines, and what is felt of many front ends and floods."""
    with serving(workers=0) as served:
        with ExitStack() as running:
            ours, theirs = server_of(served), running.enter_context(stock())
            frontends = {"dcengine": _ready(running, ours), "stock": _ready(running, theirs)}
            client = running.enter_context(kernel("dcengine_kernel"))
            client.wait_for_ready(timeout=PATIENCE)
            asked: dict[str, Asked] = {name: partial(_asked, each) for name, each in frontends.items()}
            questions = _by_turns({**asked, "zmq": partial(question_seconds, client)}, sizes.questions // BLOCK, BLOCK)
            printed: dict[str, Asked] = {name: partial(_printed, each, sizes.lines) for name, each in frontends.items()}
            lines = _by_turns(printed, sizes.prints, 1)
        return questions, lines, _crowded(served, sizes.crowd)


def _ready(running: ExitStack, server: Server) -> Frontend:
    return running.enter_context(frontend(server))


def _asked(frontend: Frontend) -> float:
    seconds, result = frontend.cell("1+1")
    assert result == "2", "a wrong result"
    return seconds


def _printed(frontend: Frontend, lines: int) -> float:
    seconds, text = frontend.cell(crowds.FLOODING.format(lines=lines))
    assert text == "".join(f"{number}\n" for number in range(lines)), "lines are missing"
    return seconds


def _crowded(served: Served, sizes: crowds.Sizes) -> dict[str, float]:
    messages = crowds.crowd(server_of(served), sizes.kernels, sizes.lines)
    return {"crowd_messages_per_s": round(messages), **crowds.flood(served, sizes)}


def _by_turns(asked: dict[str, Asked], rounds: int, block: int) -> Rounds:
    """Return the seconds of each way to ask, in blocks, round by round; the first times do not count."""
    for ask in asked.values():
        for _ in range(2 * block):
            ask()
    return [{name: [asked[name]() for _ in range(block)] for name in _order(number, asked)} for number in range(rounds)]


def _order(number: int, ways: Iterable[str] = KERNELS) -> list[str]:
    """Return whose turn it is in round *number*; who comes first changes, should that matter."""
    return list(ways)[:: -1 if number % 2 else 1]


# ---- the run -------------------------------------------------------------------------------


def run(*, quick: bool) -> dict[str, Any]:
    """Measure both kernels by turns; return the result."""
    sizes = QUICK if quick else FULL
    starts, questions, cells = kernel_starts(sizes), kernel_questions(sizes), remote_cells(sizes)
    asked, printed, crowded = behind_http(sizes)
    remote = _medians(cells)
    return {
        **circumstances("ipykernel", "ipython", "jupyter_client", "jupyter_server", "ipyparallel"),
        "distribute_empty_ms": remote["dcengine"],
        "px_empty_ms": remote.get("ipyparallel"),
        "kernel_start_vs_stock": _ratio(starts),
        "rtt_vs_stock_kernel": _ratio(questions),
        "ws_rtt_vs_stock": _ratio(asked),
        "ws_rtt_vs_zmq": _ratio(asked, "zmq"),
        "lines_vs_stock": _ratio(printed, "dcengine", "stock"),
        **crowded,
        "raw": {
            "kernel_start_ms": _medians(starts),
            "rtt_ms": _medians(questions),
            "empty_cell_ms": remote,
            "ws_rtt_ms": {name: round(1000 * seconds, 2) for name, seconds in _middles(asked).items()},
            "lines_per_s": {name: round(sizes.lines / seconds) for name, seconds in _middles(printed).items()},
            "all_starts_ms": [{name: round(values[0], 1) for name, values in each.items()} for each in starts],
            "sizes": {**sizes._asdict(), "crowd": sizes.crowd._asdict()},
        },
        "quick": quick,
        "notes": [
            f"median of {sizes.starts} starts each, from the start of the process to its first answer",
            f"median of {sizes.questions} times 1+1 each, from the request to the result and an idle kernel",
            "ours / stock, round by round, the median of all; below 1 is better",
            f"median of {sizes.cells} empty cells each, by turns; ours with the engine in the background, as it is"
            " found or started by itself (embedded: in the kernel), ipyparallel's with one engine of its own",
            f"behind HTTP: the dcengine kernel everywhere, one client for both servers; {sizes.lines:,} lines"
            f" {sizes.prints} times, by turns, jupyter_server without its limit on what is printed fast",
            f"{sizes.crowd.kernels} kernels with two websockets each, all of whose messages came in order; leases over"
            " /v1 while one front end reads the flood and another one stands still",
        ],
    }


def _middles(rounds: Rounds) -> dict[str, float]:
    return {name: median(value for each in rounds for value in each[name]) for name in rounds[0]}


def _medians(rounds: Rounds) -> dict[str, float]:
    return {name: round(value, 2) for name, value in _middles(rounds).items()}


def _ratio(rounds: Rounds, below: str = "stock", above: str = "dcengine") -> float:
    """Return the median over the rounds of what ours took, over what the stock one did."""
    return round(median(median(each[above]) / median(each[below]) for each in rounds), 3)


def main() -> None:
    options = arguments("The kernel beside ipykernel's own.")
    result = run(quick=options.quick)
    rows = [
        [title, *(f"{result['raw'][raw][name]:.1f}" for name in KERNELS), f"{result[ratio]:.2f}x the time"]
        for title, raw, ratio in (
            ("start to first answer, ms", "kernel_start_ms", "kernel_start_vs_stock"),
            ("1+1, p50 ms", "rtt_ms", "rtt_vs_stock_kernel"),
        )
    ]
    remote = result["raw"]["empty_cell_ms"]
    rows += [
        ["%%distribute of an empty cell, p50 ms", f"{remote['dcengine']:.1f}", "", ""],
        ["the same, engine in the kernel", f"{remote['embedded']:.1f}", "", ""],
        ["%%px of an empty cell (ipyparallel)", "", f"{remote.get('ipyparallel', math.nan):.1f}", ""],
    ]
    tables = [Table("the notebook", ["", *KERNELS, "dcengine / stock"], rows), behind(result)]
    show(tables, result, as_json=options.json)


def behind(result: dict[str, Any]) -> Table:
    """Return what was measured behind HTTP."""
    rtt, lines = result["raw"]["ws_rtt_ms"], result["raw"]["lines_per_s"]
    sizes = result["raw"]["sizes"]["crowd"]
    rows = [
        ["1+1, p50 ms", *(f"{rtt[name]:.1f}" for name in ("dcengine", "stock", "zmq"))],
        ["the time of dcengine over it", "", f"{result['ws_rtt_vs_stock']:.2f}", f"{result['ws_rtt_vs_zmq']:.2f}"],
        ["printed lines a second", *(f"{lines[name]:,}" for name in ("dcengine", "stock")), ""],
        ["dcengine over it", "", f"{result['lines_vs_stock']:.2f}", ""],
        [f"messages a second, {sizes['kernels']} kernels", f"{result['crowd_messages_per_s']:,}", "", ""],
        [f"lease p99 ms while {sizes['flood']:,} lines", f"{result['lease_p99_ms_during_flood']:.1f}", "", ""],
        ["the same without the lines", f"{result['lease_p99_ms_quiet']:.1f}", "", ""],
        ["memory that the lines take, MiB", f"{result['flood_rss_growth_mib']:.1f}", "", ""],
    ]
    return Table("behind HTTP", ["", "dcengine", "jupyter_server", "bare sockets"], rows)


if __name__ == "__main__":
    main()
