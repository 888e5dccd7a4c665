"""What a fault costs: processes are killed or stopped in the middle of a map, and the seconds that it takes longer.

Each item leaves a mark in a file, so that those that run more than once are counted; every item is accepted once,
or the run fails. Beside it: how soon an interrupt reaches the code.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple, TypeVar

import psutil

import dcengine
from dcengine import api

from .showing import Table, arguments, circumstances, show

T = TypeVar("T")

WORKERS = 2
NAP = 0.002  #: seconds of an item
LEASE = 2.0  #: seconds that a worker may be silent
PATIENCE = 90.0  #: seconds for a map to end, whatever happens to it
KILLED = ("child", "fork server", "worker", "launcher", "scheduler")  #: of an engine inside this process
FAULTS = (*KILLED, "engine", "worker that stands still")
WAITS = ("python", "sleep", "program")  #: in which an interrupt is to reach the code


class Sizes(NamedTuple):
    """How much is done."""

    items: int  #: of one map
    rounds: int
    interrupts: int


FULL, QUICK = Sizes(2000, 5, 40), Sizes(400, 1, 5)


class Survival(NamedTuple):
    """What came of a map that a fault hit."""

    seconds: float
    results: list[int]
    status: dcengine.BatchStatus  #: once everything is well again
    credit: int  #: that the map brought
    marks: Counter[int]  #: how often each item ran

    @property
    def again(self) -> int:
        """How many runs there were beyond one for each item."""
        return self.marks.total() - len(self.marks)

    def check(self, items: int) -> None:
        """Raise AssertionError unless each of *items* was accepted exactly once."""
        assert self.results == list(range(items)), "the results are not those of the items"
        status = self.status
        assert (status.succeeded, status.failed, status.cancelled) == (items, 0, 0), f"the batch stands at {status}"
        assert self.credit == items, f"credit of {self.credit:,} for {items:,} items"
        assert set(self.marks) == set(range(items)), "an item was accepted that did not run"


# ---- a map that is hit ---------------------------------------------------------------------


def leave_a_mark(n: int, path: str) -> int:
    """Note that item *n* runs, in a file that several processes append to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % n)
    os.close(descriptor)
    time.sleep(NAP)
    return n


def survive(fault: str, at: Sequence[int], *, items: int, folder: Path, dice: random.Random) -> Survival:
    """Have *fault* hit a map when so many items are done, as often as *at* says; return what came of it.

    What stands still goes on when the map has ended; then all has to be well again.
    """
    marks, before = folder / "marks", _credit()
    marks.write_text("")
    started = time.perf_counter()
    batch = dcengine.map(leave_a_mark, range(items), [str(marks)] * items)
    with ExitStack() as afterwards:
        for done in at:
            _until(lambda done=done: (status := batch.status()).done >= done or status.is_final)  # type: ignore[misc]
            _hit(fault, folder, dice, afterwards)
        results = batch.results(PATIENCE)
        seconds = time.perf_counter() - started
    _until(is_well)
    counted = Counter(map(int, marks.read_text().split()))
    return Survival(seconds, results, batch.status(), _credit() - before, counted)


def _hit(fault: str, folder: Path, dice: random.Random, afterwards: ExitStack) -> None:
    """Have *fault* happen to one of those whom it may hit."""
    if fault == "engine":
        _serving[folder / "work.db"].kill()
        _serving[folder / "work.db"].wait()
        _serve(folder / "work.db")
        return
    is_stopped = fault == "worker that stands still"
    victim = dice.choice(_until(lambda: processes("worker" if is_stopped else fault)))
    with suppress(psutil.NoSuchProcess):  # it has just ended by itself, for another reason
        if is_stopped:
            afterwards.callback(victim.resume)
            victim.suspend()
        else:
            victim.kill()


def _credit() -> int:
    return sum(row.tasks for row in dcengine.leaderboard())


# ---- the engines ---------------------------------------------------------------------------

_serving: dict[Path, subprocess.Popen[bytes]] = {}  #: engines in processes of their own, by their files


@contextmanager
def embedded(folder: Path) -> Iterator[None]:
    """An engine inside this process, both its workers ready."""
    with dcengine.Engine(db=folder / "work.db", workers=WORKERS, worker_lease=LEASE):
        _until(is_well)
        yield


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """An engine in a process of its own, both its workers ready."""
    db = folder / "work.db"
    assert "of this process" not in api.front.describe(), "an engine in this process would be asked instead"
    _serve(db)
    api.use_db(db)
    try:
        _until(is_well)
        yield
    finally:
        _serving[db].terminate()
        _serving.pop(db).wait()
        api.front.forget()


def _serve(db: Path) -> None:
    command = [sys.executable, "-m", "dcengine", "serve", "--db", str(db), "--port", "0", "--json"]
    process = subprocess.Popen([*command, "--workers", str(WORKERS)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    json.loads(process.stdout.readline())  # it is ready now
    process.stdout.close()
    _serving[db] = process


def is_well() -> bool:
    """Tell whether all workers are there, each with a child, and none is stopped."""
    try:
        stopped = [one for one in processes("worker") if one.status() == psutil.STATUS_STOPPED]
        return len(dcengine.workers()) == len(processes("child")) == WORKERS and not stopped
    except psutil.NoSuchProcess:
        return False


def processes(kind: str, root: psutil.Process | None = None) -> list[psutil.Process]:
    """Return the processes below *root*, unless given this process, that *kind* names."""
    try:
        family = (root or psutil.Process()).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    servers = [one for one in family if _runs(one, "dcengine.runner.forkserver")]
    if kind in ("child", "fork server"):
        is_child = {one.pid: _runs(one.parent(), "dcengine.runner.forkserver") for one in servers}
        return [one for one in servers if is_child[one.pid] == (kind == "child")]
    ours = [one for one in family if _runs(one, "dcengine.cluster.launcher")]
    launchers = [one for one in ours if not _runs(one.parent(), "dcengine.cluster.launcher")]
    if kind == "launcher":
        return launchers
    crew = sorted((one for one in ours if one not in launchers), key=lambda one: one.create_time())
    return crew[:1] if kind == "scheduler" else crew[1:]  # the scheduler is always started first


def _runs(process: psutil.Process | None, program: str) -> bool:
    """Tell whether *process* is one of *program*; what has ended is not."""
    try:
        return process is not None and program in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _until(condition: Callable[[], T]) -> T:
    """Wait until *condition* gives something true; return it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true within {PATIENCE:g} s"
        time.sleep(0.01)
    return found


# ---- interrupts ----------------------------------------------------------------------------


def wait_for_interrupt(how: str, path: str) -> float:
    """Wait in the way of *how*; return when the interrupt arrived."""
    import subprocess  # again: this function travels by value

    try:
        Path(path).touch()
        if how == "sleep":
            time.sleep(60)
        elif how == "program":
            subprocess.run(["sleep", "60"], check=False)
        while True:
            sum(range(100))
    except KeyboardInterrupt:
        return time.time()


def interrupts(how: str, count: int, folder: Path) -> list[float]:
    """Return the milliseconds from `interrupt()` to the ``except`` in the code, *count* times."""
    taken = []
    for number in range(count):
        sign = folder / f"{how}-{number}"
        handle = dcengine.submit(wait_for_interrupt, how, str(sign))
        _until(sign.exists)
        time.sleep(0.02)  # so that it is in what it is to wait in
        asked = time.time()
        handle.interrupt()
        taken.append(1000 * (handle.result(PATIENCE) - asked))
    return taken


# ---- the run -------------------------------------------------------------------------------


def run(*, quick: bool) -> dict[str, Any]:
    """Have each fault happen; return the result."""
    sizes = QUICK if quick else FULL
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    dice = random.Random(seed)
    taken: dict[str, list[Survival]] = {}
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as name:
        inside, outside = Path(name, "inside"), Path(name, "outside")
        for folder in (inside, outside):
            folder.mkdir()
        with embedded(inside):
            waits = {how: interrupts(how, sizes.interrupts, inside) for how in WAITS}
            for fault in ("nothing", *KILLED, "worker that stands still"):
                taken[fault] = _measured(fault, sizes, inside, dice)
        with served(outside):
            taken["nothing, served"] = _measured("nothing", sizes, outside, dice)
            taken["engine"] = _measured("engine", sizes, outside, dice)
    lost = {fault: _lost(taken, fault) for fault in FAULTS}
    percentiles = {how: (median(each), _p95(each)) for how, each in waits.items()}
    return {
        **circumstances("distributed"),
        **{f"{fault.replace(' ', '_')}_lost_s": round(seconds, 2) for fault, seconds in lost.items()},
        "interrupt_p50_ms": round(max(p50 for p50, _ in percentiles.values()), 2),
        "interrupt_p95_ms": round(max(p95 for _, p95 in percentiles.values()), 2),
        "raw": {
            "seconds": {fault: [one.seconds for one in each] for fault, each in taken.items()},
            "again": {fault: [one.again for one in each] for fault, each in taken.items()},
            "interrupt_ms": waits,
            "sizes": sizes._asdict(),
            "seed": seed,
        },
        "quick": quick,
        "notes": _notes(sizes, seed),
    }


def _measured(fault: str, sizes: Sizes, folder: Path, dice: random.Random) -> list[Survival]:
    """Have *fault* happen once in each round; the first map of an engine only warms it up."""
    if fault == "nothing":
        survive(fault, [], items=sizes.items, folder=folder, dice=dice)
    taken = []
    for _ in range(sizes.rounds):
        at = [] if fault == "nothing" else [dice.randrange(sizes.items // 10, sizes.items // 2)]
        taken.append(survive(fault, at, items=sizes.items, folder=folder, dice=dice))
        taken[-1].check(sizes.items)
    return taken


def _lost(taken: dict[str, list[Survival]], fault: str) -> float:
    """Return how much longer a map took with *fault* than without, by the medians."""
    calm = taken["nothing, served" if fault == "engine" else "nothing"]
    return median(one.seconds for one in taken[fault]) - median(one.seconds for one in calm)


def _p95(figures: list[float]) -> float:
    return quantiles(figures, n=20, method="inclusive")[-1]


def _notes(sizes: Sizes, seed: int) -> list[str]:
    return [
        f"each time a map of {sizes.items:,} items of {NAP * 1000:g} ms on {WORKERS} workers, hit between a tenth and "
        f"a half of it; medians of {sizes.rounds} round(s); seed {seed} (DCENGINE_SEED repeats it)",
        "every item was accepted once, with credit for each exactly once; runs beyond that are those 'again'",
        f"a worker that stands still is given up after {LEASE:g} s of silence here (worker_lease; 30 s by itself)",
        "engine: killed, and at once another is started on its file; the others: in an engine inside this process",
        f"interrupt: from interrupt() to the except in the code, {sizes.interrupts} times each",
    ]


def main() -> None:
    options = arguments("What a fault costs in the middle of a map, and how soon an interrupt reaches the code.")
    logging.disable(logging.ERROR)  # of all that is broken here, everybody complains
    result = run(quick=options.quick)
    raw = result["raw"]
    rows = [
        [
            fault,
            f"{median(raw['seconds'][fault]):.2f}",
            "" if fault.startswith("nothing") else f"{result[fault.replace(' ', '_') + '_lost_s']:.2f}",
            f"{median(raw['again'][fault]):g}",
            f"{max(raw['again'][fault])}",
        ]
        for fault in raw["seconds"]
    ]
    headings = ["what is hit", "the map, s", "time lost, s", "run again, median", "most"]
    faults = Table(f"a map of {raw['sizes']['items']:,} items, each {NAP * 1000:g} ms", headings, rows)
    waits = [
        [how, f"{median(each):.1f}", f"{_p95(each):.1f}", f"{max(each):.1f}"]
        for how, each in raw["interrupt_ms"].items()
    ]
    show(
        [faults, Table("an interrupt, ms", ["the code waits in", "p50", "p95", "most"], waits)],
        result,
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
