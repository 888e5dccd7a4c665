"""Cells outlive their kernel: ``%distribute attach`` in a new one shows them and takes home what they made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import serving
from tests.kernels import Kernel, kernel, plain

WAITING = "while not os.path.exists({gate!r}): time.sleep(0.02)\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attach")


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[str]:
    """The address of an engine with three workers; a kernel has sent it cells and is gone."""
    with serving(place / "jobs.db", workers=3) as (_, told):
        with kernel(place, DCENGINE_URL=str(told["url"])) as lost:
            _send_cells(lost, place)
            lost.manager.provisioner.process.kill()
        yield str(told["url"])


def _send_cells(lost: Kernel, place: Path) -> None:
    """Send a cell that ends, a batch, one that fails, and one that goes on until its gate opens."""
    lost.execute("%load_ext dcengine")
    lost.execute("factor = 2\ndef twice(n): return factor * n")
    lost.execute("%%distribute\nimport json\nprint('first')\nmade = twice(4)\ndef more(n): return n + made\n[made]")
    lost.execute("%%distribute --each x in [1, 0] --out q\nprint('at', x)\nq = 1 / x\nq")
    lost.execute("%%distribute\n1 / 0")
    gate = WAITING.format(gate=str(place / "gate"))
    running = lost.start(f"%%distribute\nimport os, time\nprint('begun')\n{gate}print('done')\nlate = 5\nlate")
    lost.hear(running, lambda message: message["content"].get("text") == "begun\n")


@pytest.fixture(scope="module")
def notebook(engine: str, place: Path) -> Iterator[Kernel]:
    """Another kernel, of the same user."""
    with kernel(place, DCENGINE_URL=engine) as running:
        assert running.execute("%load_ext dcengine").reply["status"] == "ok"
        yield running


def ids(notebook: Kernel) -> dict[str, str]:
    """The IDs of the cells that ``%distribute attach`` lists, by their names, newest first."""
    lines = notebook.execute("%distribute attach").text().splitlines()[1:]
    return {re.split(r"\s{2,}", line)[1]: re.split(r"\s{2,}", line)[0] for line in lines}


def test_the_last_cells_are_listed_newest_first_running_ones_marked(notebook: Kernel) -> None:
    lines = notebook.execute("%distribute attach").text().splitlines()

    assert lines[0].split() == ["ID", "cell", "state", "sent"]
    assert [re.split(r"\s{2,}", line)[1] for line in lines[1:]] == [
        "cell In[6]", "cell In[5]", "cell In[4], each x in [1, 0]", "cell In[3]",
    ]  # fmt: skip
    states = [re.split(r"\s{2,}", line)[2] for line in lines[1:]]
    assert [state.split()[0] for state in states] == ["running", "failed", "failed", "succeeded"]


def test_a_new_kernel_shows_what_was_said_and_takes_the_names_home(notebook: Kernel) -> None:
    cell = notebook.execute(f"%distribute attach {ids(notebook)['cell In[3]']}")

    assert cell.text() == "first\n"
    assert cell.contents("execute_result")[0]["data"]["text/plain"] == "[8]"
    assert notebook.execute("print(_, made, more(1), json.dumps([]))").text() == "[8] 8 9 []\n"


def test_an_error_is_raised_again_with_the_cells_own_lines(notebook: Kernel) -> None:
    cell = notebook.execute(f"%distribute attach {ids(notebook)['cell In[5]']}")

    assert cell.reply["ename"] == "ZeroDivisionError"
    assert "----> 2 1 / 0" in plain(cell.error)


def test_a_batch_is_shown_item_by_item_with_what_succeeded(notebook: Kernel) -> None:
    batch = ids(notebook)["cell In[4], each x in [1, 0]"]
    cell = notebook.execute(f"%distribute attach {batch}")

    assert cell.text() == "at 1\nat 0\n"
    assert f"%distribute retry {batch}" in plain(cell.error)
    assert notebook.execute("print(_[0], type(_[1]).__name__)").text() == "1.0 ZeroDivisionError\n"


def test_a_cell_that_still_runs_is_followed_to_its_end(notebook: Kernel, place: Path) -> None:
    request = notebook.start(f"%distribute attach {ids(notebook)['cell In[6]']}")
    notebook.hear(request, lambda message: message["content"].get("text") == "begun\n")
    (place / "gate").touch()
    cell = notebook.finish(request)

    assert cell.text() == "begun\ndone\n"
    assert notebook.execute("print(late)").text() == "5\n"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("attach 4711", "4711 is no cell that was sent"),
        ("attach it", "'it' is no ID of a cell"),
        ("attach 1", "1 may be job 1 (cell In[3]) or batch 1"),
        ("retry", "%distribute retry takes the ID of a cell"),
        ("wait job 1", "no cell goes on in the background as job 1"),
    ],
)
def test_what_names_no_cell_is_a_clear_error(notebook: Kernel, asked: str, said: str) -> None:
    cell = notebook.execute(f"%distribute {asked}")

    assert cell.reply["ename"] == "InvalidCell"
    assert said in plain(cell.error)


def test_all_of_it_is_there_after_the_engine_was_started_anew(tmp_path: Path, place: Path) -> None:
    gate, db = str(tmp_path / "gate"), tmp_path / "jobs.db"
    with kernel(tmp_path) as notebook:
        notebook.execute("%load_ext dcengine\nimport dcengine")
        with serving(db) as (_, told):
            notebook.execute(f"dcengine.connect({told['url']!r})")
            begun = "import os, time\nprint('begun')\n"
            cell = notebook.start(f"%%distribute --background\n{begun}{WAITING.format(gate=gate)}u = 1")
            items = notebook.start(
                "%%distribute --background --each x in range(2)\nimport os, time\n"
                f"while x and not os.path.exists({gate!r}): time.sleep(0.02)\nx"
            )
            notebook.finish(items)
            notebook.hear(cell, lambda message: message["content"].get("text") == "begun\n")
        (tmp_path / "gate").touch()
        with serving(db) as (_, told):
            notebook.execute(f"dcengine.connect({told['url']!r})")
            again = notebook.execute("%distribute attach job 1")
            many = notebook.execute("%distribute attach batch 1")

            assert "begun\n" in again.text()
            assert notebook.execute("print(u)").text() == "1\n"
            assert many.contents("execute_result")[0]["data"]["text/plain"] == "[0, 1]"
