"""Follow real jobs through the code, and hold docs/journey.md to what is seen."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any
from unittest import mock

import pytest

import dcengine
from dcengine.api import current
from dcengine.engine import Engine

PACKAGE = Path(dcengine.__file__).parent
JOURNEY = (PACKAGE.parent / "docs/journey.md").read_text()
MOST_STATIONS = 10
WORKER_STATIONS = {"cluster/host.py", "runner/slot.py", "runner/child.py"}
BLOCKING = (type(threading.Lock()), SimpleQueue)  #: what threads of ours wait for
JOBS = 20  #: followed together, since one alone may find a lock free that it would otherwise wait for


class Tracker:
    """Notes which of our files jobs enter in this process, and in which of them they wait.

    A job waits in a file when a coroutine there is suspended and taken up again, or when a function there is on
    the stack of a thread that blocks. What asyncio tasks do that were there before the jobs came is housekeeping
    and does not count, but for the feeding loop, which the jobs wake.
    """

    def __init__(self) -> None:
        self.entered: set[str] = set()
        self.stations: set[str] = set()
        self._is_recording = False
        self._housekeeping: set[asyncio.Task[Any]] = set()
        self._suspended: set[FrameType] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Be able to see what threads do that start from here on, and this one."""
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def recording(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Note what happens; *loop* is the engine's."""
        tasks = asyncio.run_coroutine_threadsafe(_tasks_here(), loop).result()
        self._housekeeping = {task for task in tasks if "_feed_forever" not in repr(task.get_coro())}
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def _look(self, frame: FrameType, event: str, what: Any) -> None:
        if not self._is_recording:
            return
        if event == "c_call":
            if isinstance(getattr(what, "__self__", None), BLOCKING) and what.__name__ in ("acquire", "get"):
                self.stations.update(_files_on(frame))
            return
        file = _file(frame)
        if file is None or _current_task() in self._housekeeping:
            return
        if event == "call":
            self.entered.add(file)
            if frame in self._suspended:
                self.stations.add(file)
        elif event == "return" and frame.f_code.co_flags & inspect.CO_COROUTINE:
            self._suspended.add(frame)


async def _tasks_here() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread without a loop
        return None


def _files_on(frame: FrameType | None) -> Iterator[str]:
    """Yield those of our files that are on the stack."""
    while frame is not None:
        file = _file(frame)
        if file is not None:
            yield file
        frame = frame.f_back


def _file(frame: FrameType) -> str | None:
    """Return the name of the file below our package that *frame* runs in."""
    path = frame.f_code.co_filename
    return path[len(str(PACKAGE)) + 1 :] if path.startswith(f"{PACKAGE}/") else None


def files_on_its_stack() -> list[str]:
    """A job that returns which of our files lie below it; runs in the worker's child."""
    import sys
    from pathlib import Path

    import dcengine

    package, frame, found = f"{Path(dcengine.__file__).parent}/", sys._getframe(), set()
    while frame is not None:
        found.add(frame.f_code.co_filename)
        frame = frame.f_back
    return sorted(path[len(package) :] for path in found if path.startswith(package))


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    """What was seen of jobs on a warm engine, from `submit` to `result`."""
    tracker = Tracker()
    quiet = mock.patch.object(Engine, "_keep_up", _nothing)  # its writes are no job's
    with quiet, tracker.watching(), dcengine.Engine(tmp_path_factory.mktemp("journey") / "jobs.db", workers=1):
        for number in range(3):
            dcengine.submit(divmod, number, 2).result(30)
        with tracker.recording(current()._thread.loop):
            for number in range(JOBS):
                dcengine.submit(divmod, number, 2).result(30)
    return tracker


async def _nothing(engine: Engine) -> None:
    """Do nothing."""


def files_in(section: str) -> set[str]:
    """Return the files that the table of a section of docs/journey.md names."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", JOURNEY, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^\| `dcengine/([a-z_/]+\.py)`", text, re.MULTILINE))


def test_a_job_waits_in_at_most_ten_of_our_files(tracker: Tracker) -> None:
    stations = tracker.stations | WORKER_STATIONS

    assert len(stations) <= MOST_STATIONS, sorted(stations)


def test_the_journey_names_exactly_the_files_in_which_a_job_waits(tracker: Tracker) -> None:
    assert files_in("The stations") == tracker.stations


def test_the_journey_names_exactly_the_tools_that_a_job_is_touched_with(tracker: Tracker) -> None:
    assert files_in("The tools") == tracker.entered - tracker.stations


def test_the_journey_names_the_files_below_a_job_in_the_worker(tmp_path: Path) -> None:
    with dcengine.Engine(tmp_path / "jobs.db", workers=1):
        below = set(dcengine.submit(files_on_its_stack).result(30))

    assert below
    assert below - files_in("In the worker") == set()


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`dcengine/([a-z_/]+\.py)`", JOURNEY))))
def test_every_file_that_the_journey_names_exists(file: str) -> None:
    assert (PACKAGE / file).is_file()
