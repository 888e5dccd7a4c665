"""`make demo`: what somebody sees who runs it for the first time, for the second time, or stops it."""

from __future__ import annotations

import base64
import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from matplotlib import image
from numpy.typing import NDArray

import dcengine
from dcengine.owner import find_owner
from tests.engines import environment, eventually, family, gone

DEMO = Path(__file__).resolve().parents[2] / "notebooks/demo.py"
PATIENCE = 90.0  #: seconds one run may take
WITH_A_TAKEN_PORT = """
import socket, sys
sys.path.insert(0, sys.argv[1])
import demo
from jupyter_client.provisioning.local_provisioner import LocalPortCache
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

taken = socket.create_server(("127.0.0.1", 0))
find, chosen = LocalPortCache.find_available_port, []

def find_badly(cache, ip):
    chosen.append(find(cache, ip) if chosen else taken.getsockname()[1])
    return chosen[-1]

LocalPortCache.find_available_port = find_badly
demo.FOLDER.mkdir()
notebook = new_notebook(cells=[new_markdown_cell("# Say"), new_code_cell("print(6 * 7)")])
demo.execute(notebook)
print(notebook.cells[1].outputs[0].text, len(chosen))
"""


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


def tasks_of(nickname: str, run: Run) -> int:
    """Return the number of tasks beside *nickname* on the leaderboard that *run* printed."""
    (line,) = [line for line in run.said.splitlines() if f" {nickname} " in line]
    return int(line.split()[2])


def pictures_in(page: str) -> list[NDArray[np.float64]]:
    """Return the pixels of the pictures that *page* holds."""
    found = re.findall(r'<img[^>]*src="data:image/png;base64,([^"]+)"', page)
    return [image.imread(io.BytesIO(base64.b64decode(picture)), format="png") for picture in found]


def test_the_demo_leaves_a_page_with_the_pictures_of_all_three_parts(folder: Path, first: Run) -> None:
    page = (folder / "build/quickstart.html").read_text()

    assert len(pictures_in(page)) == 3
    for pixels in pictures_in(page):
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 5_000


def test_the_page_shows_how_the_batch_and_the_project_ended(folder: Path, first: Run) -> None:
    page = (folder / "build/quickstart.html").read_text()

    assert "64 of 64" in page
    assert "6 of 6 jobs" in page
    assert '<script type="application/vnd.jupyter.widget-view+json">' not in page  # needs a live kernel
    assert "Traceback" not in page


def test_both_workers_worked_and_the_leaderboard_counts_every_task_once(first: Run) -> None:
    assert tasks_of("grace", first) >= 6  # she alone has the tag of the last stage
    assert tasks_of("grace", first) + tasks_of("ada", first) == 6 * 3


def test_the_demo_says_where_everything_is_and_nothing_is_complained_about(folder: Path, first: Run) -> None:
    for path in ("build/quickstart.html", "build/quickstart.db"):
        assert path in first.said
        assert (folder / path).exists()
    assert "WARNING" not in first.said


def test_a_second_run_goes_on_in_the_same_file(second: Run) -> None:
    assert tasks_of("ada", second) + tasks_of("grace", second) == 2 * 6 * 3


def test_the_demo_leaves_nothing_running(folder: Path, first: Run, second: Run) -> None:
    assert len(first.family) >= 4  # the kernel, a launcher, a scheduler, workers
    eventually(lambda: gone([*first.family, *second.family]))
    assert find_owner(folder / "build/quickstart.db") is None


def test_ctrl_c_ends_the_demo_and_keeps_what_is_left(tmp_path: Path) -> None:
    db = tmp_path / "build/quickstart.db"
    with started(tmp_path) as process:
        owner = eventually(lambda: (found := find_owner(db)) and found.url and found)
        dcengine.connect(owner.url, owner.token)
        try:
            eventually(lambda: has_begun(2))
        finally:
            dcengine.connect(None)
        everybody = family(process.pid)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "what is left is kept" in said
    assert "Traceback" not in said
    eventually(lambda: gone(everybody))


def has_begun(job: int) -> bool:
    """Tell whether there is such a job."""
    try:
        dcengine.job(job)
    except dcengine.NotFound:
        return False
    return True


def test_a_kernel_whose_port_another_program_has_taken_is_started_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITH_A_TAKEN_PORT, str(DEMO.parent)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("42\n 10\n")
    assert "Address already in use" in done.stderr
    assert "atexit" not in done.stderr
