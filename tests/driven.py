"""An engine that a test drives step by step: time passes when the test says so, and what workers do, it does itself.

The engine is the real one, over a real file. Only its cluster is not there: what it sends to a slot waits here until
the test says how it ended. The file is not synced: what a killed process leaves is the same.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from dcengine.cluster import ClusterSettings, Slot, WorkerGone
from dcengine.codec import pack
from dcengine.engine import Engine, clocks, conduct
from dcengine.engine import outcomes as rules
from dcengine.jobs import Task, Worker
from dcengine.runner.units import Ending, Unit, UnitReport
from dcengine.store import opening, reads

T = TypeVar("T")

STUCK_SECONDS = 20.0  #: of real time, after which an engine that is still busy is stuck


class Clock:
    """Stands in for the module `time`: stands still but for what a test, or waiting for nothing else, lets pass."""

    def __init__(self) -> None:
        self._monotonic = 1000.0
        self._wall = float(int(time.time()))

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def time_ns(self) -> int:
        return int(self._wall * 1e9)

    def pass_by(self, seconds: float) -> None:
        """Let *seconds* go by."""
        self._monotonic += seconds
        self._wall += seconds

    def set_wall(self, seconds: float) -> None:
        """Have somebody set the clock on the wall forward, or back."""
        self._wall += seconds


class _Selector(selectors.DefaultSelector):
    """Lets time pass where the loop has waited it through."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(timeout)
        if not events and timeout:
            self._clock.pass_by(timeout)
        return events


class Workers:
    """What an engine sees of its cluster: slots, and what it sends there waits for the test."""

    def __init__(self, nicknames: Sequence[str]) -> None:
        workers = [
            Worker(name=f"slot-{n}", address="", contributor=nickname, tags={}, slots=1)
            for n, nickname in enumerate(nicknames)
        ]
        self.workers = {worker.name: worker for worker in workers}
        self.slots = [Slot(worker, 0) for worker in workers]
        self.settled, self.address = True, None
        self.sent: dict[int, tuple[Unit, Slot, asyncio.Future[UnitReport]]] = {}
        self.unwanted: set[int] = set()  #: units that the engine has asked to stop
        self.recalled: list[int] = []  #: units that it has taken back
        self.begun: dict[int, int] = {}  #: how many calls of a unit have begun, where it is not the usual number
        self.usually_begun: int | None = None  #: None: all of them
        self.cut_units: dict[int, int] = {}  #: units that it has cut short, and how many calls they have kept
        self.vacated: list[Slot] = []  #: slots that were to let go of devices

    async def start(self, launched: object = None) -> None: ...

    async def close(self) -> None: ...

    def want(self, matching: Callable[[Worker], bool]) -> None: ...

    def heard_of(self) -> dict[str, tuple[float, float]]:
        return {}

    async def run(self, unit: Unit, slot: Slot) -> UnitReport:
        future = asyncio.get_running_loop().create_future()
        self.sent[unit.id] = unit, slot, future
        try:
            return await future
        finally:
            del self.sent[unit.id]
            self.unwanted.discard(unit.id)

    async def cancel(self, unit: int, slot: Slot) -> None:
        self.unwanted.add(unit)

    async def vacate(self, slot: Slot) -> None:
        self.vacated.append(slot)

    async def interrupt(self, unit: int, slot: Slot) -> None:
        self.unwanted.add(unit)

    kill = interrupt

    async def tell(self, unit: int, slot: Slot, item: int, message: bytes) -> bool:
        return unit in self.sent

    async def cut(self, unit: int, slot: Slot) -> int:
        if unit not in self.sent:
            return 0
        usually = self.sent[unit][0].count if self.usually_begun is None else self.usually_begun
        self.cut_units[unit] = self.begun.get(unit, usually)
        return self.cut_units[unit]

    def join(self, name: str, tags: dict[str, str | None] | None = None) -> Slot:
        """Have a worker with one slot join."""
        worker = Worker(name=name, address="", contributor=name, tags=tags or {}, slots=1)
        self.workers[name] = worker
        self.slots.append(slot := Slot(worker, 0))
        return slot

    def leave(self, slot: Slot) -> None:
        """Have the worker of *slot* leave for good."""
        self.slots.remove(slot)
        del self.workers[slot.worker.name]
        for _, where, future in list(self.sent.values()):
            if where is slot:
                future.set_exception(WorkerGone(slot.worker.name))

    async def recall(self, unit: int, slot: Slot) -> bool:
        self.recalled.append(unit)
        self.report(unit, [(Ending.NOT_RUN, b"")] * self.sent[unit][0].count, 0.0)
        return True

    def items(self, unit: int) -> bytes:
        """What *unit* was sent to work on."""
        return self.sent[unit][0].items

    def report(self, unit: int, endings: Sequence[tuple[Ending, bytes]], seconds: float) -> None:
        """Have the calls of *unit* end so, after so many *seconds*."""
        codes = bytes(ending for ending, _ in endings)
        report = UnitReport(endings=codes, values=pack([value for _, value in endings]), seconds=seconds)
        self.sent[unit][2].set_result(report)

    def vanish(self, unit: int) -> None:
        """Have the worker that runs *unit* disappear, and come back."""
        _, slot, future = self.sent[unit]
        future.set_exception(WorkerGone(slot.worker.name))


class Driven:
    """An engine, its file, its workers and its clock."""

    def __init__(self, nicknames: Sequence[str] = (), db: Path | None = None, *, judges: bool = True) -> None:
        """With *judges* workers that fail again and again are set aside."""
        self.folder = Path(tempfile.mkdtemp(prefix="driven-"))
        self.clock = Clock()
        self._nicknames = nicknames
        self._elsewhere = 0  #: what other threads are doing for the engine
        self.stumbles = _Stumbles(logging.ERROR)
        self._patches = ExitStack()
        self._patch()
        if not judges:
            self._patches.enter_context(mock.patch.object(conduct, "FAILURES", 1_000_000))
        self._loop = asyncio.SelectorEventLoop(_Selector(self.clock))
        self._loop.time = self.clock.monotonic  # type: ignore[method-assign]
        self._loop.run_in_executor = self._counted(self._loop.run_in_executor)  # type: ignore[method-assign]
        self._lives = 0
        self.db = self._new_db()
        try:
            self.db.write_bytes(db.read_bytes() if db is not None else _empty_file())
            self._open()
        except BaseException:
            self._patches.close()
            raise

    # ---- its life --------------------------------------------------------------------------

    def look_around(self) -> None:
        """Have the engine see that its workers or their slots are others now."""

        async def look() -> None:
            self.engine._on_change()

        self.call(look())

    def call(self, question: Coroutine[Any, Any, T]) -> T:
        """Ask the engine, and wait until it has done everything that follows."""
        try:
            return self._loop.run_until_complete(question)
        finally:
            self.settle()

    def settle(self) -> None:
        """Wait until the engine has nothing left to do until time passes."""
        self._loop.run_until_complete(self._settled())

    def pass_by(self, seconds: float) -> None:
        """Let *seconds* go by."""
        self.clock.pass_by(seconds)
        self.settle()

    def crash(self) -> None:
        """Go on with a new engine on the files as a killed one leaves them."""
        old, db = self.engine, self._new_db()
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.db}{suffix}", f"{db}{suffix}")
        self._loop.run_until_complete(old.close())
        self.db = db
        self._open()

    def reopen(self) -> None:
        """Go on with a new engine after the old one has been closed."""
        self._loop.run_until_complete(self.engine.close())
        self._open()

    def close(self) -> None:
        """Leave nothing behind but the file."""
        self._loop.run_until_complete(self.engine.close())
        self._loop.close()
        self._patches.close()

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    # ---- its work --------------------------------------------------------------------------

    @property
    def running(self) -> dict[int, tuple[tuple[Task, ...], Worker]]:
        """What slots run: the tasks and the worker of each unit."""
        runs = {id: self.engine._running[id] for id in self.workers.sent}
        return {id: (run.tasks, run.slot.worker) for id, run in runs.items()}

    def end(self, unit: int, endings: Sequence[tuple[Ending, bytes]], seconds: float) -> None:
        """Have the calls of a running unit end so, after so many *seconds*."""
        self.workers.report(unit, endings, seconds)
        self.settle()

    def vanish(self, unit: int) -> None:
        """Have the worker of a running unit disappear."""
        self.workers.vanish(unit)
        self.settle()

    # ---- behind the scenes -----------------------------------------------------------------

    def _new_db(self) -> Path:
        self._lives += 1
        folder = self.folder / str(self._lives)
        folder.mkdir()
        return folder / "work.db"

    def _open(self) -> None:
        self.engine = Engine(self.db, ClusterSettings(processes=False))
        self.workers = Workers(self._nicknames)
        self.engine._cluster = self.workers  # type: ignore[assignment]
        self._loop.run_until_complete(self.engine.start())
        self.settle()

    async def _settled(self) -> None:
        loop: Any = self._loop
        deadline = time.monotonic() + STUCK_SECONDS
        writer = self.engine._store._writer
        while True:
            await asyncio.sleep(0)
            is_due = any(not each._cancelled and each._when <= self.clock.monotonic() for each in loop._scheduled)
            assert not self.stumbles.records, self.stumbles.records
            if not (loop._ready or self._elsewhere or writer._waiting or is_due):
                return
            assert time.monotonic() < deadline, "the engine does not come to rest"

    def _patch(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith(("dcengine.engine", "dcengine.store")) and getattr(module, "time", None) is time:
                self._patches.enter_context(mock.patch.object(module, "time", self.clock))
        logger = logging.getLogger("dcengine")
        logger.addHandler(self.stumbles)
        self._patches.callback(logger.removeHandler, self.stumbles)
        unsynced = opening.PRAGMAS.replace("synchronous = FULL", "synchronous = OFF")
        self._patches.enter_context(mock.patch.object(opening, "PRAGMAS", unsynced))
        # A minute passes in one go here, which is no standstill.
        self._patches.enter_context(mock.patch.object(clocks, "STOOD_STILL_SECONDS", float("inf")))
        # Chance: every back-off takes as long as it may.
        self._patches.enter_context(mock.patch.object(rules, "random", mock.Mock(uniform=lambda _, most: most)))
        read = reads.Reads._all

        async def counted(those: reads.Reads, sql: str, *parameters: object) -> list[Any]:
            self._elsewhere += 1
            try:
                return await read(those, sql, *parameters)
            finally:
                self._elsewhere -= 1

        self._patches.enter_context(mock.patch.object(reads.Reads, "_all", counted))

    def _counted(self, run: Callable[..., asyncio.Future[Any]]) -> Callable[..., asyncio.Future[Any]]:
        def run_counted(*arguments: Any) -> asyncio.Future[Any]:
            self._elsewhere += 1
            future = run(*arguments)
            future.add_done_callback(self._came_back)
            return future

        return run_counted

    def _came_back(self, future: asyncio.Future[Any]) -> None:
        self._elsewhere -= 1


class _Stumbles(logging.Handler):
    """Errors that an engine logs: it should have none."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


@cache
def _empty_file() -> bytes:
    """Return what a file with the newest schema holds: making one takes longer than copying it."""
    with tempfile.TemporaryDirectory(prefix="driven-") as folder:
        db = Path(folder) / "empty.db"
        opening.open_for_writing(db).close()
        return db.read_bytes()
