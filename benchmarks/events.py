"""What those who follow an engine's events cost it: the latency of a lone call, with nobody and with many following.

``python -m benchmarks.events``: `dcengine serve` in a process of its own; an outside worker leases and completes in
batches, so that 500 events happen in a second; 0 and 20 listeners, by turns, take all of them as a stream; meanwhile
another worker leases one task and completes it, again and again. Each listener checks that no event is missing.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import dcengine

from .load import TOKEN, Connection, Order
from .rounds import serving
from .showing import Table, arguments, circumstances, show

LISTENERS = (0, 20)
PER_SECOND = 500  #: events
BATCH = 25  #: tasks in one lease
ROUNDS, SECONDS = 3, 10.0
PROBE_SECONDS = 0.02  #: between two calls of the one that is measured
AHEAD = 200_000  #: tasks that are there from the beginning
SETTLE_SECONDS = 0.5
PROJECT = "stream"
SEQ = re.compile(rb'"seq":(\d+)')


class Seen(NamedTuple):
    """What one round has shown."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    events: float  #: that happened in a second
    told: int  #: to all listeners together
    late_ms: float  #: from an event's time to its arrival, the median
    processor: float  #: seconds that the engine's process used in each second


# ---- who asks ------------------------------------------------------------------------------


async def stir(order: Order, until: float, per_second: float = PER_SECOND) -> int:
    """Lease and complete in batches, so often that so many events happen; return how many tasks that were."""
    connection, done = await connect(order), 0
    begun = time.perf_counter()
    while (now := time.perf_counter()) < until:
        await asyncio.sleep(max(0.0, begun + 2 * done / per_second - now))  # a task makes two events
        tokens = TOKEN.findall(
            await connection.post(f"{order.path}/lease", b'{"worker":"w","tags":{"net":null},"n":%d}' % BATCH)
        )
        body = b",".join(b'{"token":"%b","output":"done"}' % token for token in tokens)
        await connection.post("/v1/tasks/complete", b"[%b]" % body)
        done += len(tokens)
    connection.close()
    return done


async def probe(order: Order, until: float) -> list[float]:
    """Lease one task again and again; return how long that took each time."""
    connection, waits = await connect(order), list[float]()
    while (started := time.perf_counter()) < until:
        (token,) = TOKEN.findall(await connection.post(f"{order.path}/lease", b'{"worker":"probe","n":1}'))
        waits.append(time.perf_counter() - started)
        await connection.post("/v1/tasks/complete", b'[{"token":"%b"}]' % token)
        await asyncio.sleep(PROBE_SECONDS)
    connection.close()
    return waits


async def connect(order: Order) -> Connection:
    return Connection(order, *await asyncio.open_connection(order.host, order.port))


async def _round(order: Order, seconds: float) -> tuple[int, list[float]]:
    until = time.perf_counter() + seconds
    done, waits = await asyncio.gather(stir(order, until), probe(order, until))
    return done, waits


# ---- who listens ---------------------------------------------------------------------------


async def listen(order: Order, until: float) -> tuple[int, list[float]]:
    """Follow the stream; return how many events were told, and how late those of some messages were."""
    reader, writer = await asyncio.open_connection(order.host, order.port)
    fields = {"Host": f"{order.host}:{order.port}", "Accept": "text/event-stream", **order.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"GET /v1/events HTTP/1.1\r\n{head}\r\n".encode())
    told, last, late = 0, 0, list[float]()
    while (left := until - time.time()) > 0:
        try:
            line = await asyncio.wait_for(reader.readline(), left)
        except asyncio.TimeoutError:
            break
        if not line.startswith(b"data: [{"):
            continue
        numbers = [int(seq) for seq in SEQ.findall(line)]
        assert numbers == list(range(last + 1 if last else numbers[0], numbers[-1] + 1)), "an event is missing"
        told, last = told + len(numbers), numbers[-1]
        late.append(time.time() - json.loads(line[6:])[-1]["at"])
    writer.close()
    return told, late


def listeners(order: Order, count: int, until: float) -> None:
    """The main function of a process of listeners."""

    async def all_of_them() -> list[tuple[int, list[float]]]:
        return list(await asyncio.gather(*(listen(order, until) for _ in range(count))))

    heard = asyncio.run(all_of_them())
    late = [each for _, some in heard for each in some]
    print(json.dumps([sum(told for told, _ in heard), median(late) if late else 0.0]), flush=True)


# ---- one round -----------------------------------------------------------------------------


def measure(order: Order, process: int, count: int, seconds: float) -> Seen:
    """Return what a round with so many listeners shows."""
    command = [sys.executable, "-m", "benchmarks.events", "listeners", json.dumps(order), str(count), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        following.stdout.readline()  # it is there
        time.sleep(SETTLE_SECONDS)
        before = processor_of(process)
        done, waits = asyncio.run(_round(order, seconds))
        used = processor_of(process) - before
        told, late = json.loads(following.stdout.readline())
    waits.sort()
    rate = (2 * done + 2 * len(waits)) / seconds
    p50, p99, worst = (1000 * wait for wait in (median(waits), waits[int(0.99 * len(waits))], waits[-1]))
    return Seen(p50, p99, worst, rate, told, 1000 * late, used / seconds)


def processor_of(process: int) -> float:
    import psutil

    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def order_for(url: str, project: str, stage: str, seconds: float) -> Order:
    """Return where to ask the engine at *url*, which has its token."""
    address = urlsplit(url)
    headers = {"Authorization": f"Bearer {address.query.partition('token=')[2]}"}
    path = f"/v1/projects/{project}/stages/{stage}"
    return Order("events", address.hostname or "", address.port or 0, path, headers, 1, seconds)


def run(*, quick: bool) -> dict[str, Any]:
    """Return the figures of all rounds."""
    seconds, rounds = (2.0, 1) if quick else (SECONDS, ROUNDS)
    with serving(workers=0) as engine:
        project = dcengine.Project(PROJECT)
        project.lease_stage("a")
        project.add(range(AHEAD // (10 if quick else 1)))
        project.run()
        order = order_for(engine.url, PROJECT, "a", seconds)
        seen = {count: list[Seen]() for count in LISTENERS}
        for _ in range(rounds):
            for count in LISTENERS:
                seen[count].append(measure(order, engine.process, count, seconds))
    middle = {
        count: Seen(*(round(median(values), 2) for values in zip(*some, strict=True))) for count, some in seen.items()
    }
    none, many = (middle[count] for count in LISTENERS)
    return {
        "p50_many_over_none": round(many.p50_ms / none.p50_ms, 2),
        "p99_many_over_none": round(many.p99_ms / none.p99_ms, 2),
        "events_per_second": many.events,
        "raw": {str(count): each._asdict() for count, each in middle.items()},
        "notes": [f"{LISTENERS[-1]} listeners were told all of it, {many.late_ms:.0f} ms after it happened"],
    }


def main() -> None:
    if sys.argv[1:2] == ["listeners"]:
        order, count, seconds = Order(*json.loads(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4])
        print(flush=True)
        listeners(order, count, time.time() + seconds + 2 * SETTLE_SECONDS + 0.5)
        return
    if sys.argv[1:2] == ["stir"]:  # for others who need a lively engine: URL, project, stage, events in a second
        url, project, stage, per_second = sys.argv[2:]
        print(flush=True)
        asyncio.run(stir(order_for(url, project, stage, 0), time.perf_counter() + 3600, float(per_second)))
        return
    options = arguments(__doc__ or "")
    found = run(quick=options.quick)
    rows = [
        [count, *(f"{found['raw'][count][name]:,.2f}" for name in Seen._fields)] for count in map(str, LISTENERS)
    ]  # fmt: skip
    headings = ["listeners", "p50 ms", "p99 ms", "worst ms", "events/s", "told", "late ms", "processor"]
    table = Table("a lease of one task", headings, rows)
    show([table], {**circumstances("aiohttp", "msgspec"), **found}, as_json=options.json)


if __name__ == "__main__":
    main()
