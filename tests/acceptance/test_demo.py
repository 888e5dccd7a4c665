"""`make demo`: what somebody sees who runs it for the first time, for the second time, or stops it."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from PIL import Image

import dcengine
from dcengine.owner import find_owner
from tests.engines import environment, eventually, family, gone

DEMO = Path(__file__).resolve().parents[2] / "notebooks/demo.py"
PATIENCE = 90.0  #: seconds one run may take


class Run(NamedTuple):
    """One run of the demo: what it printed and whom it started."""

    said: str
    family: list[psutil.Process]


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, started in *folder*; it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, DEMO],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(folder: Path) -> Run:
    """Run the demo in *folder* to its end."""
    with started(folder) as process:
        everybody: set[psutil.Process] = set()
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < deadline, f"the demo took more than {PATIENCE:g} s"
            everybody.update(family(process.pid))
            time.sleep(0.1)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.returncode == 0, said
        return Run(said, list(everybody))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder: Path) -> Run:
    return run(folder)


@pytest.fixture(scope="module")
def second(folder: Path, first: Run) -> Run:
    return run(folder)


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """The demo as a module."""
    description = importlib.util.spec_from_file_location("demo_of_dcengine", DEMO)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module


def tasks_of(nickname: str, run: Run) -> int:
    """Return the number of tasks beside *nickname* on the leaderboard that *run* printed."""
    (line,) = [line for line in run.said.splitlines() if f" {nickname} " in line]
    return int(line.split("│")[2])


def test_the_demo_makes_a_picture_of_photographs_and_drawings(folder: Path, first: Run) -> None:
    picture = Image.open(folder / "build/demo.png")
    pixels = np.asarray(picture)

    assert picture.size == (1296, 784)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10_000


def test_both_workers_drew_and_the_leaderboard_counts_every_task_once(first: Run) -> None:
    ada, grace = tasks_of("ada", first), tasks_of("grace", first)

    assert ada > 0
    assert grace > 0
    assert ada + grace == 6 * 48 + 1


def test_the_demo_says_where_everything_is(folder: Path, first: Run) -> None:
    for path in ("build/demo.png", "build/demo.db"):
        assert path in first.said
        assert (folder / path).exists()


def test_a_second_run_goes_on_in_the_same_file(second: Run) -> None:
    assert tasks_of("ada", second) + tasks_of("grace", second) == 2 * (6 * 48 + 1)


def test_the_demo_leaves_nothing_running(folder: Path, first: Run, second: Run) -> None:
    assert len(first.family) >= 3  # a launcher, a scheduler, workers
    eventually(lambda: gone([*first.family, *second.family]))
    assert find_owner(folder / "build/demo.db") is None


def test_ctrl_c_ends_the_demo_and_keeps_what_is_left(tmp_path: Path) -> None:
    db = tmp_path / "build/demo.db"
    with started(tmp_path) as process:
        owner = eventually(lambda: (found := find_owner(db)) and found.url and found)
        dcengine.connect(owner.url, owner.token)
        try:
            eventually(lambda: has_begun(1))
        finally:
            dcengine.connect(None)
        everybody = family(process.pid)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "unfinished job" in said
    assert "Traceback" not in said
    eventually(lambda: gone(everybody))


def has_begun(batch: int) -> bool:
    """Tell whether an item of *batch* has ended."""
    try:
        return dcengine.batch(batch).progress.done > 0
    except dcengine.NotFound:
        return False


def test_the_drawing_shows_no_seams_between_tiles(demo: ModuleType) -> None:
    photograph = demo.photograph("coffee")
    margins = ((demo.MARGIN, demo.MARGIN), (demo.MARGIN, demo.MARGIN), (0, 0))
    whole = demo.draw(np.pad(photograph, margins, mode="reflect"))

    joined = demo.join(np.array([demo.draw(tile) for tile in demo.cut(photograph)]))

    assert joined.shape == photograph.shape
    assert np.abs(joined.astype(int) - whole).mean() < 1
