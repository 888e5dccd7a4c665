"""JupyterLab in Chromium with our kernels: what a user sees and presses. The pictures in the docs are taken here.

They go to the folder that ``DCENGINE_SCREENSHOTS`` names, without it to one that is thrown away.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import BrowserContext, ViewportSize

from tests.engines import serving
from tests.labs import Lab, lab
from tests.pages import CHROMIUM, WINDOW, Notebook, chromium, errors, says, slide, take_picture

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.timeout(240),
]

QUICKSTART = Path(__file__).resolve().parents[2] / "notebooks/01-quickstart.ipynb"
ENDLESS = "%%distribute\nimport time\nprint('on its way', flush=True)\nwhile True:\n    time.sleep(0.1)"
CANCELLED = "import dcengine, time\nbatch = dcengine.map(time.sleep, [600] * 8)\nbatch"
SLIDER = "import ipywidgets\nslider = ipywidgets.IntSlider(7)\nslider"
MOVED = "print(slider.value, 'there')"
REMOTE = """\
%%distribute
import ipywidgets, time
distant = ipywidgets.IntSlider(7)
display(distant)
while distant.value != 41:
    time.sleep(0.05)
print(distant.value, 'on the worker')"""
BOARD = """\
import dcengine
dozen = dcengine.Project("dozen")
@dozen.stage
def load(number):
    if number % 4 == 0:
        raise ValueError(f"{number} dead pixels")
    return number
@dozen.stage
def sheet(number):
    print(f"\\x1b[32msheet\\x1b[0m {number}")
    return {"sheet": number}
dozen.add(range(1, 13))
dozen"""
JOBS = "%jobs --project dozen"
STOPPED_WITHIN = 10.0  #: seconds, on a machine that has other things to do
SMALL = ViewportSize(width=1000, height=560)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("DCENGINE_SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab that is given the URL of an engine with two workers."""
    folder = tmp_path_factory.mktemp("lab")
    with serving(folder / "engine.db", "--files", str(folder)) as (_, told):
        address, _, token = str(told["url"]).partition("/?token=")
        with lab(folder, address, token) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def opened(jupyterlab: Lab, browser: BrowserContext, pictures: Path) -> Notebook:
    """A notebook of our own, its kernel chosen in the dialog that asks for one."""
    cells = [nbformat.v4.new_code_cell(code) for code in (ENDLESS, CANCELLED, SLIDER, MOVED, REMOTE, BOARD, JOBS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), jupyterlab.folder / "cells.ipynb")
    page = browser.new_page()
    page.set_viewport_size(SMALL)
    notebook = Notebook(page, jupyterlab, "cells.ipynb")
    page.locator(".jp-Dialog select").wait_for()
    take_picture(page, pictures / "lab-kernels.png")
    notebook.choose_kernel("dcengine")
    notebook.wait_until_idle()
    return notebook


def test_the_quickstart_runs_and_its_bars_move(jupyterlab: Lab, browser: BrowserContext, pictures: Path) -> None:
    shutil.copy(QUICKSTART, jupyterlab.folder)
    notebook = Notebook(browser.new_page(), jupyterlab, QUICKSTART.name)
    notebook.wait_until_idle()
    mapped, project = notebook.cell("dcengine.map"), notebook.cell("dcengine.Project")

    notebook.run_all()

    assert len(notebook.see_grow(mapped, 120)) > 1
    notebook.photograph(mapped, pictures / "lab-light.png")
    notebook.use_theme("JupyterLab Dark")
    notebook.see_grow(project, 180)
    notebook.photograph(project, pictures / "lab-dark.png")
    says(notebook.cell("dcengine.leaderboard"), "grace")
    says(mapped, "64 of 64")
    says(project, "6 of 6")
    notebook.cell("pictures = project.outputs()").locator(".jp-OutputArea img").wait_for()
    notebook.wait_until_idle()
    assert errors(notebook.page) == []
    notebook.use_theme("JupyterLab Light")
    notebook.page.close()


def test_the_stop_button_stops_a_cell_on_its_worker(opened: Notebook, pictures: Path) -> None:
    cell = opened.cell("on its way")
    opened.run(cell)
    says(cell, "on its way")
    pressed = time.monotonic()

    opened.stop()

    says(cell, "KeyboardInterrupt")
    assert time.monotonic() - pressed < STOPPED_WITHIN
    opened.wait_until_idle()
    opened.photograph(cell, pictures / "lab-stop.png")


def test_the_cancel_button_of_a_batch_reaches_its_engine(opened: Notebook) -> None:
    cell = opened.cell("dcengine.map")
    opened.run(cell)

    cell.get_by_role("button", name="Cancel").click()

    says(cell, "8 cancelled")


def test_a_slider_that_is_moved_in_the_browser_moves_in_the_kernel(opened: Notebook) -> None:
    slider, moved = opened.cell("slider = "), opened.cell("slider.value")
    opened.run(slider)
    slide(slider, 41)

    opened.run(moved)

    says(moved, "41 there")


def test_a_slider_of_a_remote_cell_moves_on_its_worker(opened: Notebook) -> None:
    cell = opened.cell("distant")
    opened.run(cell)

    slide(cell, 41)

    says(cell, "41 on the worker")


def test_a_board_is_run_in_the_browser_and_its_jobs_are_looked_through(opened: Notebook, pictures: Path) -> None:
    board, jobs = opened.cell("dozen = "), opened.cell("%jobs")
    opened.page.set_viewport_size(WINDOW)
    opened.run(board)
    board.get_by_role("button", name="Run").click()
    says(board, "12 of 12 jobs")
    board.get_by_role("button", name="Requeue failed").wait_for()
    assert board.locator("svg[role=img][aria-label^='tasks done']").count() == 1
    assert board.get_by_role("columnheader", name="queued").count() == 1
    opened.photograph(board, pictures / "lab-board.png")

    opened.run(jobs)
    jobs.get_by_label("State").select_option("failed")
    says(jobs, "jobs with project dozen, state failed")
    jobs.get_by_label("Job").select_option(index=1)
    says(jobs, "What happened")
    says(jobs, "dead pixels")
    opened.photograph(jobs, pictures / "lab-jobs.png")
    jobs.get_by_role("button", name="Requeue").click()
    says(jobs, "queued again")
    opened.page.set_viewport_size(SMALL)
