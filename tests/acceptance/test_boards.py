"""The project board and the job browser in a real kernel: what they show, and what their buttons and boxes do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbconvert
import nbformat
import pytest

from tests.engines import eventually, serving
from tests.kernels import Kernel, kernel
from tests.screens import WIDGET, Screen

HOSTILE = "<img src=x onerror=alert(name)>"
SHOWN = "&lt;img src=x onerror=alert(name)&gt;"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(40)
ENGINE = 'engine = dcengine.Engine("work.db", workers=2, processes=False).start()'
START = f"""
import os, time
import dcengine
get_ipython().run_line_magic("load_ext", "dcengine")

def load(number):
    print(f"\\x1b[31mloading\\x1b[0m {{number}} {HOSTILE}")
    if number % 5 == 0 and not os.path.exists("mended"):
        raise ValueError(f"{{number}} dead pixels {HOSTILE}")
    if number % 7 == 0:
        raise OSError("no calibration")
    return number

def draw(number):
    while os.path.exists("hold"):
        time.sleep(0.01)
    return {PICTURE!r} if number == 16 else {{"tile": number}}

def filled(name, numbers):
    project = dcengine.Project(name)
    project.stage(load)
    project.stage(draw)
    project.add(numbers)
    return project
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Path]]:
    folder = tmp_path_factory.mktemp("boards")
    with kernel(folder) as running:
        executed = running.execute(START + ENGINE)
        assert not executed.error, executed.error
        yield running, folder


@pytest.fixture(scope="module")
def screen(started: tuple[Kernel, Path]) -> Screen:
    return Screen(started[0])


@pytest.fixture
def folder(started: tuple[Kernel, Path]) -> Path:
    return started[1]


# ---- a project -----------------------------------------------------------------------------


def test_a_board_runs_pauses_cancels_and_queues_again(screen: Screen, folder: Path) -> None:
    (folder / "hold").touch()
    cell = screen.run("photos = filled('photos', range(1, 17)); photos")
    assert screen.says(cell, "paused")
    assert {"Run", "Cancel", "Refresh"} <= set(screen.labels(cell))
    assert WIDGET not in screen.outputs(cell)[0]  # what is saved now stays, whatever becomes of the kernel

    screen.press(cell, "Run")
    screen.until(lambda: screen.says(cell, "2 running"))
    assert WIDGET in screen.outputs(cell)[0]

    screen.press(cell, "Pause")
    screen.until(lambda: "Run" in screen.labels(cell))
    assert screen.says(cell, "of 16 jobs")
    screen.press(cell, "Run")
    (folder / "hold").unlink()
    screen.until(lambda: screen.says(cell, "16 of 16 jobs, 5 failed") and WIDGET not in screen.outputs(cell)[0])
    assert "<svg" in screen.seen(cell)
    assert SHOWN in screen.seen(cell)
    assert "<img src=x" not in screen.seen(cell)
    assert "data:image/png;base64," in screen.seen(cell)

    (folder / "mended").touch()
    screen.press(cell, "Requeue 3 × ValueError: N dead pixels")
    screen.until(lambda: screen.says(cell, "16 of 16 jobs, 2 failed"))
    assert screen.says(cell, "3 queued again")


def test_a_board_asks_once_before_it_cancels(screen: Screen, folder: Path) -> None:
    (folder / "hold").touch()
    cell = screen.run("held = filled('held', [1, 2, 3, 4]).run(); held")
    screen.press(cell, "Cancel")
    screen.until(lambda: "Yes, cancel" in screen.labels(cell))
    screen.press(cell, "No")
    screen.until(lambda: "Cancel" in screen.labels(cell))
    assert not screen.says(cell, "cancelled")

    screen.press(cell, "Cancel")
    screen.press(cell, "Yes, cancel")
    screen.until(lambda: screen.says(cell, "cancelled"))
    (folder / "hold").unlink()  # threads cannot be stopped: what runs goes on to its end
    screen.until(lambda: screen.says(cell, "4 of 4 jobs"))


def test_a_board_that_was_at_rest_goes_on_in_a_page_that_was_loaded_again(screen: Screen) -> None:
    cell = screen.run("again = filled('again', [1, 2, 3]); again")
    (box,) = screen.boxes(cell)  # all that a page which is loaded now knows, beside the HTML above
    screen.press(cell, "Run")

    screen.until(lambda: "3 of 3 jobs" in screen.text_of(box))
    screen.until(lambda: screen.says(cell, "3 of 3 jobs"))


def test_a_board_answers_while_the_kernel_runs_something_else(started: tuple[Kernel, Path], screen: Screen) -> None:
    kernel, folder = started
    subshell = kernel.create_subshell()
    cell = screen.run("busy = filled('busy', [1, 2, 3]); busy")
    running = kernel.start("while not os.path.exists('enough'): time.sleep(0.05)")
    screen.press(cell, "Run", subshell_id=subshell)
    screen.until(lambda: screen.says(cell, "3 of 3 jobs"))
    (folder / "enough").touch()

    assert kernel.finish(running).reply["status"] == "ok"


def test_a_cell_that_is_run_again_leaves_nothing_of_its_view_behind(
    started: tuple[Kernel, Path], screen: Screen, folder: Path
) -> None:
    (folder / "hold").touch()
    first = screen.run("rerun = filled('rerun', [1, 2]).run(); rerun", cell="cell-7")
    screen.until(lambda: screen.labels(first))
    second = screen.run("'nothing to follow'", cell="cell-7")
    (folder / "hold").unlink()

    assert screen.boxes(first) == []
    assert screen.outputs(second) == []
    threads = "import threading; print([thread.name for thread in threading.enumerate()])"
    eventually(lambda: "dcengine-views" not in started[0].execute(threads).text())


# ---- jobs ----------------------------------------------------------------------------------


def test_jobs_are_looked_through_page_by_page_and_one_of_them_closely(screen: Screen) -> None:
    screen.run("filled('many', [n for n in range(1, 60) if n % 5 and n % 7] + [7]).run().wait(30);")
    cell = screen.run("%jobs --project many -n 20")
    newest = screen.outputs(cell)[0]["text/html"]
    assert WIDGET not in screen.outputs(cell)[0]
    assert screen.says(cell, "jobs with project many")

    screen.press(cell, "Older")
    screen.until(lambda: WIDGET in screen.outputs(cell)[0] and screen.seen(cell) != newest)
    screen.press(cell, "Newer")
    screen.until(lambda: "many/41" in " ".join(screen.choices(cell, "Job")))
    screen.choose(cell, "State", "failed")
    screen.until(lambda: len(screen.choices(cell, "Job")) == 2)
    assert screen.says(cell, "jobs with project many, state failed")
    screen.choose(cell, "Job", "many/")
    screen.until(lambda: screen.says(cell, "What happened"))
    assert "try 1 failed" in screen.seen(cell)
    assert SHOWN in screen.seen(cell)
    assert "<img src=x" not in screen.seen(cell)
    assert ">loading</span>" in screen.seen(cell)  # in its colour

    screen.press(cell, "Requeue")
    screen.until(lambda: screen.says(cell, "queued again"))
    screen.type(cell, "Project", "nowhere")
    screen.until(lambda: screen.says(cell, "no project nowhere"))


def test_a_job_that_waits_says_why_and_moves_and_is_cancelled(screen: Screen) -> None:
    cell = screen.run("import warnings; warnings.simplefilter('ignore'); lone = dcengine.submit(abs, 1, tags='tpu')")
    cell = screen.run("%job lone")
    assert screen.says(cell, "tpu")
    screen.press(cell, "Sooner")
    screen.until(lambda: screen.says(cell, "its priority is 1 now"))
    screen.press(cell, "Cancel")
    screen.press(cell, "Yes, cancel")
    screen.until(lambda: screen.says(cell, "cancelled") and "Requeue" in screen.labels(cell))


# ---- elsewhere -----------------------------------------------------------------------------


def test_whoever_runs_a_notebook_as_a_program_gets_html_that_stays(tmp_path: Path) -> None:
    cells = [
        START + ENGINE,
        "photos = filled('photos', range(1, 12)).run(); photos",
        "%jobs --project photos",
        "photos.wait(30);",
        "%project photos",
        "%job photos/5",
        "engine.close()",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbclient.NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    page, _ = nbconvert.HTMLExporter().from_notebook_node(book)

    outputs = [output for cell in book.cells for output in cell.outputs if "data" in output]
    assert len(outputs) == 4
    assert all(WIDGET not in output["data"] for output in outputs)
    assert "11 of 11 jobs, 3 failed" in outputs[0]["data"]["text/plain"]
    assert "tasks done in the last hour" in outputs[2]["data"]["text/plain"]
    assert "5 dead pixels" in outputs[3]["data"]["text/plain"]
    assert "<svg" in page
    assert SHOWN in page
    assert "<img src=x" not in page


def test_a_board_of_an_engine_elsewhere_works_by_its_url_and_says_when_it_is_gone(tmp_path: Path) -> None:
    with serving(tmp_path / "served.db", workers=1) as (process, told), kernel(tmp_path) as running:
        screen = Screen(running)
        screen.run(START + f"dcengine.connect({told['url']!r})")
        cell = screen.run("far = filled('far', [1, 2, 5]); far")
        screen.press(cell, "Run")
        screen.until(lambda: screen.says(cell, "3 of 3 jobs, 1 failed"))
        process.kill()
        process.wait()
        screen.press(cell, "Requeue failed")

        screen.until(lambda: screen.says(cell, "not reachable"))
