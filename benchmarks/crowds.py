"""Many front ends at once, and one kernel that prints without end: what others feel of it, and that nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psutil

from .frontends import Frontend, Server, frontend, kernel, server_of, text_of
from .rounds import Served
from .tracker import fill, load, stage_of

CELLS = 3  #: that each front end asks for at once
PRINTING = "for number in range({lines}): print(number, flush=True)"
FLOODING = "for number in range({lines}): print(number)"
LEASES = 20_000  #: that there are to be had
GLANCE_SECONDS = 0.05  #: between two looks at the memory


class Sizes(NamedTuple):
    """How much happens."""

    kernels: int  #: at once, with two front ends each
    lines: int  #: of each cell of the many
    flood: int  #: lines of the one cell
    seconds: float  #: for which leases are measured


# ---- many ----------------------------------------------------------------------------------


def crowd(server: Server, kernels: int, lines: int) -> float:
    """Have two front ends at each of so many *kernels* run cells at once; return the messages a second.

    Raises `AssertionError` if one of them has lost any, or had them in another order.
    """
    with ExitStack() as running, ThreadPoolExecutor(2 * kernels) as threads:
        ids = list(threads.map(lambda _: running.enter_context(kernel(server)), range(kernels)))
        pairs = [(Frontend(server, id), Frontend(server, id)) for id in ids]
        everybody = [each for pair in pairs for each in pair]
        for each in everybody:
            running.callback(each.close)
        list(threads.map(lambda each: each.cell("1"), everybody))
        started = time.perf_counter()
        asked = [[each.ask(PRINTING.format(lines=lines)) for _ in range(CELLS)] for each in everybody]
        theirs = [asked[number ^ 1] for number in range(len(asked))]
        text = "".join(f"{number}\n" for number in range(lines))
        heard = sum(threads.map(listen, everybody, asked, theirs, [text] * len(asked)))
        return heard / (time.perf_counter() - started)


def listen(frontend: Frontend, own: Sequence[str], others: Sequence[str], text: str) -> int:
    """Listen until all requests have ended, *own* ones and those of *others*; return how many messages that were."""
    said: dict[str, list[str]] = {request: [] for request in (*own, *others)}
    replies, ends, count = list[str](), list[str](), 0
    while len(ends) < len(said) or len(replies) < len(own):
        heard = frontend.hear()
        count += 1
        if heard.request not in said:
            continue
        said[heard.request].append(text_of(heard))
        if heard.channel == "shell":
            replies.append(heard.request)
        elif heard.content.get("execution_state") == "idle":
            ends.append(heard.request)
    assert replies == own, "replies are missing, or in another order"
    assert [request for request in ends if request in own] == own, "the ends of cells are in another order"
    assert all("".join(lines) == text for lines in said.values()), "lines are missing, or in another order"
    return count


# ---- a flood -------------------------------------------------------------------------------


def flood(served: Served, sizes: Sizes) -> dict[str, float]:
    """Return how long leases take while a kernel of the same engine prints, and how much its memory grows by that.

    One front end reads all of it, another one nothing at all.
    """
    fill("flood", LEASES)
    server, stage = server_of(served), stage_of(served, "flood")
    quiet = load("crowd", stage, 0, sizes.seconds / 2)
    with frontend(server) as reader, stalled(server, reader), watched(served.process) as grown:
        with ThreadPoolExecutor(1) as thread:
            flooding = thread.submit(reader.cell, FLOODING.format(lines=sizes.flood))
            during = load("crowd", stage, 0, sizes.seconds)
            was_all_the_time = not flooding.done()
            seconds, text = flooding.result()
        assert text == "".join(f"{number}\n" for number in range(sizes.flood)), "lines are missing"
    return {
        "lease_p99_ms_during_flood": round(during["lease_p99_ms"], 1),
        "lease_p50_ms_during_flood": round(during["lease_p50_ms"], 1),
        "lease_p99_ms_quiet": round(quiet["lease_p99_ms"], 1),
        "flood_lines_per_s": round(sizes.flood / seconds),
        "flood_rss_growth_mib": round(max(grown) / 2**20, 1),
        "flood_outlasted_leases": was_all_the_time,
    }


@contextmanager
def stalled(server: Server, beside: Frontend) -> Iterator[Frontend]:
    """A second front end at the kernel of the one *beside* that never reads."""
    idle = Frontend(server, beside.kernel)
    try:
        yield idle
    finally:
        idle.close()


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """By how many bytes process *pid* has grown, at each glance."""
    process = psutil.Process(pid)
    before, ended = process.memory_info().rss, threading.Event()
    grown = [0]

    def watch() -> None:
        while not ended.wait(GLANCE_SECONDS):
            grown.append(process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        ended.set()
        watcher.join()
