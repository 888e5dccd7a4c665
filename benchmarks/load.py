"""Requests as fast as one process can make them: kept connections, bodies made beforehand, answers hardly looked at.

A client library would be the bottleneck of what it measures. Run in a process of its own: ``python -m benchmarks.load``
reads what to do as JSON from standard input, and prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import quantiles
from typing import Any, NamedTuple

LENGTH, ACCEPTED = b"content-length: ", b'"is_accepted":true'
TOKEN = re.compile(rb'"token":"([^"]+)"')
BEAT_SECONDS = 10.0  #: between two heartbeats of a worker
PROBE_SECONDS = 0.05  #: between two leases of the one that is measured


class Order(NamedTuple):
    """What is to be done."""

    what: str  #: a name in `LOADS`
    host: str
    port: int
    path: str  #: of the project's stage, or of the echo
    headers: dict[str, str]
    connections: int
    seconds: float
    batch: int = 1


class Connection:
    """One kept connection; a request at a time."""

    def __init__(self, order: Order, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        fields = {"Host": f"{order.host}:{order.port}", "Content-Type": "application/json", **order.headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()

    async def post(self, path: str, body: bytes) -> bytes:
        """Return the body of the answer; raises `RuntimeError` for any but 200."""
        start = f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
        self._writer.write(start + self._head + b"\r\n" + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        at = head.find(LENGTH)
        size = int(head[at + len(LENGTH) : head.index(b"\r", at)]) if at >= 0 else 0
        answer = await self._reader.readexactly(size) if size else b""
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{path}: {head[:60]!r} {answer[:200]!r}")
        return answer

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(order: Order) -> AsyncIterator[Connection]:
    connection = Connection(order, *await asyncio.open_connection(order.host, order.port))
    try:
        yield connection
    finally:
        connection.close()


def tokens_in(leased: bytes) -> list[str]:
    return [task["token"] for task in json.loads(leased)]


# ---- loads ---------------------------------------------------------------------------------


async def echo(order: Order) -> dict[str, Any]:
    """Send a body and get it back."""
    body = json.dumps({"worker": "w", "n": 1, "wait": 0, "text": "x" * 60}).encode()

    async def once(connection: Connection, number: int) -> int:
        await connection.post(order.path, body)
        return 1

    return await _repeated(order, once)


async def cycles(order: Order) -> dict[str, Any]:
    """Lease tasks and complete them, *batch* at a time; counts tasks."""

    async def once(connection: Connection, number: int) -> int:
        wish = b'{"worker":"w%d","nickname":"n%d","n":%d}' % (number, number % 8, order.batch)
        tokens = TOKEN.findall(await connection.post(f"{order.path}/lease", wish))
        done = b",".join(b'{"token":"%b","output":"done"}' % token for token in tokens)
        answers = await connection.post("/v1/tasks/complete", b"[%b]" % done)
        if not tokens or answers.count(ACCEPTED) != len(tokens):
            raise RuntimeError(f"of {len(tokens)} leased tasks {answers[:100]!r}")
        return len(tokens)

    return await _repeated(order, once)


async def _repeated(order: Order, once: Callable[[Connection, int], Awaitable[int]]) -> dict[str, Any]:
    """Do *once* over every connection, again and again; return how much that was a second, after a warm-up."""
    begin = time.perf_counter() + min(1.0, order.seconds / 3)
    end = begin + order.seconds
    done, waits = 0, list[float]()

    async def one(number: int) -> None:
        nonlocal done
        async with connected(order) as connection:
            while (started := time.perf_counter()) < end:
                count = await once(connection, number)
                if begin <= (now := time.perf_counter()) < end:
                    done += count
                    waits.append(now - started)

    await asyncio.gather(*map(one, range(order.connections)))
    return {"per_second": done / order.seconds, "p50_ms": 1000 * quantiles(waits, n=2)[0]}


async def crowd(order: Order) -> dict[str, Any]:
    """Keep many workers connected, each with a task and its heartbeats; return how long another one's leases take."""
    end = time.perf_counter() + order.seconds
    ready, beats, waits = asyncio.Semaphore(0), 0, list[float]()
    opening = asyncio.Semaphore(50)

    async def worker(number: int) -> None:
        nonlocal beats
        async with opening:
            connection = Connection(order, *await asyncio.open_connection(order.host, order.port))
            wish = json.dumps({"worker": f"w{number}", "nickname": f"n{number}"}).encode()
            (token,) = tokens_in(await connection.post(f"{order.path}/lease", wish))
        ready.release()
        await asyncio.sleep(BEAT_SECONDS * number / order.connections)  # not all at once
        while time.perf_counter() < end:
            body = json.dumps([{"token": token, "done": beats, "text": "at it"}]).encode()
            (answer,) = json.loads(await connection.post("/v1/tasks/heartbeat", body))
            assert answer["is_accepted"], answer
            beats += 1
            await asyncio.sleep(BEAT_SECONDS)
        connection.close()

    workers = [asyncio.ensure_future(worker(number)) for number in range(order.connections)]
    for _ in workers:
        await ready.acquire()
    print(json.dumps({"ready": True}), flush=True)
    end = time.perf_counter() + order.seconds
    async with connected(order) as connection:
        wish = json.dumps({"worker": "probe", "nickname": "probe"}).encode()
        while (started := time.perf_counter()) < end:
            (token,) = tokens_in(await connection.post(f"{order.path}/lease", wish))
            waits.append(time.perf_counter() - started)
            await connection.post("/v1/tasks/complete", json.dumps([{"token": token, "output": 1}]).encode())
            await asyncio.sleep(PROBE_SECONDS)
    for each in workers:
        each.cancel()
    for outcome in await asyncio.gather(*workers, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return {"lease_p50_ms": 1000 * quantiles(waits, n=2)[0], "lease_p99_ms": 1000 * quantiles(waits, n=100)[-1],
            "leases": len(waits), "beats": beats}  # fmt: skip


LOADS = {"echo": echo, "cycles": cycles, "crowd": crowd}


def main() -> None:
    order = Order(**json.load(sys.stdin))
    print(json.dumps(asyncio.run(LOADS[order.what](order))), flush=True)


if __name__ == "__main__":
    main()
