"""What an engine and all its processes use, looked at again and again, and how fast that grows."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

MB = 1e6
PATHS = {"log_mb": "-wal", "file_mb": ""}  #: what is weighed: what follows the name of the file
TABLES = ("job", "task", "event", "output", "blob", "token", "worker", "session", "request", "function", "project")
DEPTHS = ("engine", "launcher", "worker", "fork server", "child")  #: what a process is, by who has started it


class Use(NamedTuple):
    """What one process uses."""

    role: str
    uss_mb: float
    rss_mb: float
    handles: int
    threads: int


class Sample(NamedTuple):
    """One look at everything."""

    at: float  #: seconds since the begin
    processes: dict[int, Use]  #: by process id
    sizes: dict[str, float]  #: of files and folders, with the unit in the name
    rows: dict[str, int]  #: in tables; empty in most samples


def look(engine: int, db: Path, begun: float, *, with_rows: bool) -> Sample:
    """Return what the processes of *engine* use now, and how large its files at *db* are."""
    return Sample(time.monotonic() - begun, _processes(engine), _sizes(db), _rows(db) if with_rows else {})


def _processes(engine: int) -> dict[int, Use]:
    found: dict[int, Use] = {}
    level, depth = [(psutil.Process(engine), "engine")], 0
    while level:
        below: list[tuple[psutil.Process, str]] = []
        for process, role in level:
            try:
                children = process.children()
                found[process.pid] = _use(process, role)
            except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended, or is a zombie
                continue
            below += [(child, _role(child, depth + 1, children)) for child in children]
        level, depth = below, depth + 1
    return found


def _role(process: psutil.Process, depth: int, siblings: Sequence[psutil.Process]) -> str:
    try:
        command = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        command = []
    if "dcengine_kernel" in command:
        return "kernel"
    if depth == 2 and process.pid == min(each.pid for each in siblings):
        return "scheduler"  # the launcher starts it first
    return DEPTHS[depth] if depth < len(DEPTHS) else "other"


def _use(process: psutil.Process, role: str) -> Use:
    memory = process.memory_full_info()
    return Use(role, memory.uss / MB, memory.rss / MB, process.num_fds(), process.num_threads())


def _sizes(db: Path) -> dict[str, float]:
    """Return how large files and folders are, in units that their names say."""
    weighed = {name: _weight(Path(f"{db}{suffix}")) / MB for name, suffix in PATHS.items()}
    return {**weighed, "blobs_mb": sum(map(_weight, Path(f"{db}.blobs").rglob("*"))) / MB}


def _weight(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _rows(db: Path) -> dict[str, int]:
    """Return how many rows the tables have that work grows."""
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    try:
        return {table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in TABLES}
    finally:
        connection.close()


class Watcher(threading.Thread):
    """Looks each *every* seconds, at rows each minute."""

    def __init__(self, engine: int, db: Path, begun: float, every: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._take: Callable[[bool], Sample] = lambda rows: look(engine, db, begun, with_rows=rows)
        self._every, self._ending = every, threading.Event()

    def run(self) -> None:
        counted = -60.0
        while not self._ending.wait(self._every):
            now = time.monotonic()
            with_rows = now - counted >= 60
            counted = now if with_rows else counted
            self.samples.append(self._take(with_rows))

    def end(self) -> list[Sample]:
        """Look no more; return all samples."""
        self._ending.set()
        self.join()
        return self.samples


# ---- how it grows --------------------------------------------------------------------------


class Growth(NamedTuple):
    """How one figure stood in the beginning and in the end, and how fast it grew."""

    first: float
    last: float
    per_hour: float

    @property
    def by(self) -> float:
        return self.last - self.first


def growth(points: Iterable[tuple[float, float]]) -> Growth:
    """Return how *points*, of seconds and a value, grew: medians of the first and the last third, Theil-Sen's slope."""
    series = sorted(points)
    third = max(1, len(series) // 3)
    first, last = (median(value for _, value in part) for part in (series[:third], series[-third:]))
    return Growth(first, last, 3600 * slope(series))


def slope(series: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs that are far enough apart: no outlier moves it."""
    step = max(1, len(series) // 200)
    few = series[::step]
    reach = (few[-1][0] - few[0][0]) / 3 if few else 0.0
    slopes = [
        (b - y) / (a - x)
        for number, (x, y) in enumerate(few)
        for a, b in few[number + 1 :]
        if a - x >= max(reach, 1e-9)
    ]
    return median(slopes) if slopes else 0.0


def lasting(samples: Sequence[Sample]) -> dict[int, str]:
    """Return the processes that were there all the time, with what they are."""
    there = Counter(pid for sample in samples for pid in sample.processes)
    return {pid: use.role for pid, use in samples[-1].processes.items() if there[pid] == len(samples)}


def by_role(samples: Sequence[Sample], value: Callable[[Use], float]) -> dict[str, list[tuple[float, float]]]:
    """Return *value* over time, summed over the lasting processes of each role."""
    pids = lasting(samples)
    series: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        sums: Counter[str] = Counter()
        for pid, role in pids.items():
            sums[role] += value(sample.processes[pid])  # type: ignore[assignment]
        for role, total in sums.items():
            series[role].append((sample.at, total))
    return dict(series)


def counts(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Return how many processes there were, over time."""
    return [(sample.at, float(len(sample.processes))) for sample in samples]


def settled(samples: Sequence[Sample], share: float = 1 / 3) -> list[Sample]:
    """Return *samples* without the beginning, in which everything is loaded and warmed up."""
    end = samples[-1].at if samples else 0.0
    return [sample for sample in samples if sample.at >= share * end]
