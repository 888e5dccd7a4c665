"""Anything of an engine and its workers killed or stopped, again and again, while people use it.

Maps, single calls that wait for others, staged projects, sessions and ``%%distribute`` cells go on meanwhile; each
item leaves a mark whenever it runs, is accepted once, with the right value, and in the end every slot is back.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

import dcengine
from dcengine.errors import EngineBusy, EngineClosed, EngineUnreachable, ResultNotReady, SessionLost, TaskCrashed
from tests.engines import eventually, forget_engines
from tests.faults.aftermath import check_survivor
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.mayhem import Mayhem, Place, place_in
from tests.faults.report import recorded
from tests.kernels import Kernel, kernel, plain

SECONDS = in_form(short=45.0, long=600.0)
PATIENCE = 90.0  #: seconds for anything to end once the mayhem is over, or to answer while it goes on
LINES = 3  #: that a cell prints

T = TypeVar("T")


# ---- what runs on the workers --------------------------------------------------------------


def leave_mark(path: str, name: str) -> None:
    """Note that the item called *name* runs now, in a file that many processes append to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name} {time.time():.3f}\n".encode())
    os.close(descriptor)


def item(path: str, name: str, value: int, nap: float) -> tuple[int, bytes]:
    leave_mark(path, name)
    time.sleep(nap)
    return value, bytes(value % 7 * 1000)


def fail_first(path: str, name: str, value: int) -> int:
    """Raise unless this item has left a mark before."""
    is_first = name not in Path(path).read_text().split()
    leave_mark(path, name)
    if is_first:
        raise ValueError(f"{name} fails at first")
    return value


def total(path: str, name: str, *values: int) -> int:
    leave_mark(path, name)
    return sum(values)


def parts_of(whole: tuple[str, str, int]) -> list[tuple[str, str, int]]:
    path, name, count = whole
    leave_mark(path, f"{name}/parts")
    return [(path, f"{name}/{n}", n) for n in range(count)]


def double(part: tuple[str, str, int]) -> tuple[str, str, int]:
    path, name, value = part
    leave_mark(path, f"{name}/double")
    time.sleep(0.01)
    return path, name, 2 * value


def square(part: tuple[str, str, int]) -> tuple[str, str, int]:
    path, name, value = part
    leave_mark(path, f"{name}/square")
    return path, name, value * value


def joined_up(parts: list[tuple[str, str, int]]) -> list[int]:
    path, name, _ = parts[0]
    leave_mark(path, f"{name.rpartition('/')[0]}/joined")
    return [value for _, _, value in parts]


def bump(path: str, name: str) -> int:
    """Count in this process."""
    leave_mark(path, name)
    sys.dcengine_mayhem = getattr(sys, "dcengine_mayhem", 0) + 1  # type: ignore[attr-defined]
    return int(sys.dcengine_mayhem)  # type: ignore[attr-defined]


CELL = """%%distribute
import os, time
descriptor = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(descriptor, f"{name} {{time.time():.3f}}\\n".encode())
os.close(descriptor)
for n in range({lines}):
    print("at", n)
    time.sleep(0.1)
answer = given * {number}
answer
"""


# ---- who asks for it -----------------------------------------------------------------------


class Work(threading.Thread):
    """Somebody who uses the engine again and again, until it is over, and wants what was promised."""

    kind = ""

    def __init__(self, marks: Path, seed: float, over: threading.Event) -> None:
        super().__init__(name=self.kind, daemon=True)
        self.marks, self.dice, self.over = str(marks), random.Random(seed), over
        self.expected: set[str] = set()  #: names of items that were accepted
        self.acknowledged = self.unreachable = self.told = 0  #: ends; engines that were not there; errors of ours
        self.handles: list[Any] = []  #: that it waits for now
        self.failure: BaseException | None = None

    def run(self) -> None:
        n = 0
        try:
            while not self.over.is_set():
                n += 1
                self.once(n)
                self.handles.clear()
        except BaseException as failure:
            self.failure = failure

    def once(self, n: int) -> None:
        raise NotImplementedError

    def ask(self, what: Callable[[], T]) -> T:
        """Ask for *what* until an engine is there that answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return what()
            except (EngineUnreachable, EngineClosed, EngineBusy):
                self.unreachable += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def accepted(self, *names: str) -> None:
        self.expected.update(names)
        self.acknowledged += len(names)


class Maps(Work):
    kind = "map"

    def once(self, n: int) -> None:
        count, nap = self.dice.choice([(3, 0.2), (40, 0.03), (200, 0.01), (600, 0.0)])
        names = [f"{self.name}{n}/{i}" for i in range(count)]
        columns = [self.marks] * count, names, range(count), [nap] * count
        batch = self.ask(lambda: dcengine.map(item, *columns))
        self.handles[:] = [batch]
        if self.dice.random() < 0.5:
            batch = self.ask(lambda: dcengine.batch(batch.id))

        assert self.ask(lambda: batch.results(PATIENCE)) == [(i, bytes(i % 7 * 1000)) for i in range(count)]
        status = self.ask(batch.status)
        assert (status.succeeded, status.failed, status.cancelled) == (count, 0, 0), status
        self.accepted(*names)


class Calls(Work):
    kind = "calls"

    def once(self, n: int) -> None:
        names = [f"{self.name}{n}/{word}" for word in ("a", "b", "c")]
        first, second, third = names
        a = self._submit(fail_first, first, n, retries=1)
        b = self._submit(total, second, a, 1)
        c = self._submit(total, third, a, b, retries=2)
        handle = self.ask(lambda: dcengine.job(c.id)) if self.dice.random() < 0.5 else c

        assert [self.ask(lambda one=one: one.result(PATIENCE)) for one in (handle, b, a)] == [2 * n + 1, n + 1, n]
        self.accepted(*names)

    def _submit(self, function: Any, name: str, *rest: Any, **options: Any) -> Any:
        handle = self.ask(lambda: dcengine.submit(function, self.marks, name, *rest, key=name, **options))
        self.handles.append(handle)
        return handle


class Projects(Work):
    kind = "project"

    def once(self, n: int) -> None:
        name = f"{self.name}{n}"
        project = dcengine.Project(name)
        project.expand(parts_of)
        project.stage(double)
        project.stage(square)
        project.gather(joined_up)
        counts = [self.dice.randrange(1, 30) for _ in range(self.dice.randrange(1, 5))]
        items = [(self.marks, f"{name}/{k}", count) for k, count in enumerate(counts)]
        self.ask(lambda: project.add(items, keys=[f"{k}" for k in range(len(items))]))
        self.handles[:] = [project]
        status = self.ask(project.status)
        assert status.total >= len(items), f"{len(items)} jobs were stored, and here is a status without them: {status}"

        results = self.ask(lambda: self.ask(project.run).results(PATIENCE))
        assert results == [[4 * i * i for i in range(count)] for count in counts]
        tasks = sum(2 + 2 * count for count in counts)
        assert sum(row.tasks for row in self.ask(project.leaderboard)) == tasks
        for k, count in enumerate(counts):
            self.accepted(f"{name}/{k}/parts", f"{name}/{k}/joined")
            self.accepted(*(f"{name}/{k}/{i}/{stage}" for i in range(count) for stage in ("double", "square")))


class Counting(Work):
    """Counts in a session: what was there is there, or it is told that it is lost, and begins anew."""

    kind = "session"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._count: int | None = None

    def once(self, n: int) -> None:
        name = f"{self.name}{n}"
        handle = self.ask(lambda: dcengine.submit(bump, self.marks, name, session="counting", key=name))
        self.handles[:] = [handle]
        try:
            count = self.ask(lambda: handle.result(PATIENCE))
        except (SessionLost, TaskCrashed):
            self._count, self.told = 0, self.told + 1
            return
        assert self._count is None or count == self._count + 1, f"after {self._count} came {count}"
        self._count = count
        self.accepted(name)
        time.sleep(0.05)


class Cells(Work):
    """Sends cells from a real kernel, and from another one when that is killed."""

    kind = "cell"

    def __init__(self, place: Place, *args: Any) -> None:
        super().__init__(*args)
        self._place, self._number = place, 0

    def once(self, n: int) -> None:
        with kernel(self._place.folder, DCENGINE_URL=self._place.url) as notebook:
            notebook.execute("%load_ext dcengine\ngiven = 6")
            while not self.over.is_set():
                self._number += 1
                name = f"{self.name}{self._number}"
                code = CELL.format(path=self.marks, name=name, lines=LINES, number=self._number)
                request = notebook.start(code)
                if self.dice.random() < 0.1:
                    time.sleep(self.dice.uniform(0, 1))
                    notebook.manager.provisioner.process.kill()  # type: ignore[union-attr]
                    return
                if self._is_right(notebook, request, name):
                    self.accepted(name)

    def _is_right(self, notebook: Kernel, request: str, name: str) -> bool:
        """Check how the cell ended; return whether it brought its value."""
        cell = notebook.finish(request, PATIENCE)
        if cell.reply["status"] != "ok":
            self.told += 1
            error = plain(cell.error)
            assert cell.reply["ename"] in ("EngineUnreachable", "TaskCrashed", "WorkerVanished"), error
            print(f"{name}: {error.splitlines()[-1]}")
            return False
        lines = "".join(f"at {n}\n" for n in range(LINES))
        assert cell.text().endswith(lines), cell.text()
        (value,) = cell.contents("execute_result")
        assert value["data"]["text/plain"] == str(6 * self._number)
        return True


# ---- the test ------------------------------------------------------------------------------


@pytest.mark.timeout(SECONDS + 300)
def test_whoever_dies_or_stands_still_each_item_is_accepted_once_and_every_slot_comes_back(
    tmp_path: Path, seed: int, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, over = tmp_path / "marks", threading.Event()
    marks.touch()
    with (
        recorded("Dask: anything killed or stopped", seed=seed, is_long=IS_LONG) as record,
        place_in(tmp_path) as place,
    ):
        monkeypatch.setenv("DCENGINE_URL", place.url)
        forget_engines()
        eventually(place.is_well, PATIENCE)
        kinds = [Maps, Maps, Calls, Projects, Counting]
        works: list[Work] = [kind(marks, dice.random(), over) for kind in kinds]
        works[1].name = "other map"
        works.append(Cells(place, marks, dice.random(), over))
        mayhem = Mayhem(place, dice)
        for work in works:
            work.start()
        try:
            mayhem.go_on(SECONDS, lambda: fail_early(works))
            over.set()
            ended = time.monotonic()
            settle(place, works, dice)
            well = time.monotonic() - ended
        finally:
            over.set()
            record.runs, record.acknowledged = mayhem.hits.total(), sum(work.acknowledged for work in works)
            record.stuck = sum(work.is_alive() or isinstance(work.failure, ResultNotReady) for work in works)
            tell(place, mayhem, works)
        left = place.end()
        times = read(marks)
        record.figures = figures(times, works, mayhem, well)

        assert not left, f"left behind: {left}"
        assert place.engine.surprises == []
        assert {name for work in works for name in work.expected} <= times.keys()
        forget_engines()
        monkeypatch.delenv("DCENGINE_URL")
        check_survivor(place.db)


def fail_early(works: list[Work]) -> None:
    """Raise what one of *works* has found wrong."""
    for work in works:
        if work.failure is not None:
            raise AssertionError(f"{work.name}: {work.failure!r}") from work.failure


def settle(place: Place, works: list[Work], dice: random.Random) -> None:
    """Wait until everything that was begun has ended, and all slots are back."""
    deadline = time.monotonic() + PATIENCE
    while any(work.is_alive() for work in works) or not place.is_well():
        place.look_after(dice)
        fail_early(works)
        assert time.monotonic() < deadline, f"still not well after {PATIENCE:g} s"
        time.sleep(0.1)
    fail_early(works)


def figures(times: dict[str, list[float]], works: list[Work], mayhem: Mayhem, well: float) -> dict[str, float]:
    """Return what else is told of the run."""
    moments = sorted(moment for each in times.values() for moment in each)
    return {
        "seconds": SECONDS,
        "runs_again": sum(len(each) - 1 for each in times.values()),
        "slowest_recovery_s": round(max((b - a for a, b in pairwise(moments)), default=0), 1),
        "well_again_s": round(well, 1),
        "errors_told": sum(work.told for work in works),
        **{f"hits_{kind.replace(' ', '_')}": n for kind, n in sorted(mayhem.hits.items())},
    }


def read(marks: Path) -> dict[str, list[float]]:
    """Return when each item ran, by its name."""
    times: dict[str, list[float]] = {}
    for line in marks.read_text().splitlines():
        name, _, moment = line.rpartition(" ")
        times.setdefault(name, []).append(float(moment))
    return times


def tell(place: Place, mayhem: Mayhem, works: list[Work]) -> None:
    """Print what has happened, and of what is stuck why, as far as anybody answers."""
    print("\n".join(mayhem.story))
    for work in works:
        print(f"{work.name}: {work.acknowledged} ended, {work.unreachable} times no engine, {work.told} errors told")
    if not (any(work.is_alive() or work.failure for work in works) or place.engine.surprises) and place.is_well():
        return
    for work in works:
        if work.is_alive() or work.failure:
            print(f"{work.name} waits for {[_why(handle) for handle in work.handles]}; {work.failure!r}")
    for what in (dcengine.workers, dcengine.list_jobs):
        try:
            print(what())
        except dcengine.DcengineError as error:
            print(f"{what.__name__}: {error}")
    for one in place.everybody():
        with suppress(psutil.Error):
            print(one.pid, one.ppid(), one.status(), " ".join(one.cmdline())[:150])
    for log in ("engine.log", "box.log"):
        print(log, (place.folder / log).read_text(errors="replace")[-8000:])


def _why(handle: Any) -> str:
    try:
        return f"{handle!r}: {handle.why() if hasattr(handle, 'why') else handle.status()}"
    except dcengine.DcengineError as error:
        return f"{handle!r}: {error}"
