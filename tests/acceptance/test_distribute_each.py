"""``%%distribute --each``, ``--stage`` and ``--devices`` in a real kernel, message by message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import serving
from tests.kernels import Executed, Kernel, kernel, plain


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with the magic, and its engine with two workers, one of them with GPUs to count."""
    db = tmp_path_factory.mktemp("engine") / "jobs.db"
    with (
        serving(db, "--worker-tags", "plain;board.count=2,site=lab") as (_, told),
        kernel(tmp_path_factory.mktemp("notebook"), DCENGINE_URL=str(told["url"])) as running,
    ):
        assert running.execute("%load_ext dcengine").reply["status"] == "ok"
        yield running


@pytest.fixture
def notebook(shared: Kernel) -> Kernel:
    """The kernel with nothing of other tests in its namespace."""
    assert shared.execute("%reset -f").reply["status"] == "ok"
    return shared


def value(cell: Executed) -> str:
    """The text of what the cell has come to."""
    (result,) = cell.contents("execute_result")
    return str(result["data"]["text/plain"])


# ---- values --------------------------------------------------------------------------------


def test_the_body_runs_for_each_item_and_its_values_come_back_in_order(notebook: Kernel) -> None:
    notebook.execute("factor = 10\ndef scaled(v): return v * factor\nxs = [3, 1, 2]")

    cell = notebook.execute("%%distribute --each x in sorted(xs)\nprint('hidden', end='')\nscaled(x)")

    assert value(cell) == "[10, 20, 30]"
    assert notebook.execute(f"print(_ == Out[{cell.reply['execution_count']}] == [10, 20, 30])").text() == "True\n"
    assert notebook.execute("print('x' in dir())").text() == "False\n"


def test_an_item_may_be_taken_apart_and_names_come_home_as_lists(notebook: Kernel) -> None:
    cell = notebook.execute(
        "%%distribute --each name, (low, *rest) in {'a': (1, 2), 'b': (3,)}.items() --out total,label\n"
        "total = low + sum(rest)\nlabel = name.upper()"
    )

    assert cell.reply["status"] == "ok"
    assert notebook.execute("print(total, label, 'low' in dir())").text() == "[3, 3] ['A', 'B'] False\n"


def test_items_of_the_notebooks_own_classes_keep_them(notebook: Kernel) -> None:
    notebook.execute("class Box:\n    def __init__(self, v): self.v = v")

    notebook.execute("%%distribute --each b in map(Box, range(2))\nassert isinstance(b, Box)\n1, b")
    assert notebook.execute("print([isinstance(b, Box) and b.v for _, b in Out[max(Out)]])").text() == "[0, 1]\n"


def test_names_travel_once_and_items_by_themselves(notebook: Kernel) -> None:
    notebook.execute("table = bytes(4 << 20)\nimport dcengine\nsize = lambda: dcengine.api.current().call('status')")

    cell = notebook.execute("%%distribute --each x in range(200)\nlen(table) + x")

    assert cell.reply["status"] == "ok"
    inputs = "sum(len(e.input) for i in range(200) for e in _b._link.call('history', _b.first_job + i))"
    assert int(notebook.execute(f"_b = _.batch\nprint({inputs})").text()) < 20_000


def test_each_item_starts_with_the_names_as_they_were_sent(notebook: Kernel) -> None:
    notebook.execute("seen = []")

    assert value(notebook.execute("%%distribute --each x in range(4)\nseen.append(x)\nlen(seen)")) == "[1, 1, 1, 1]"


def test_values_that_cannot_travel_stay_where_they_are_and_are_said(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --each x in range(3)\n(n for n in range(x)) if x else x")

    assert cell.text("stderr") == "2 of 3 values stayed on their workers: they cannot travel\n"
    assert notebook.execute("print(_[0])").text() == "0\n"


def test_no_items_give_an_empty_list(notebook: Kernel) -> None:
    assert value(notebook.execute("%%distribute --each x in []\nx")) == "[]"


# ---- what is seen --------------------------------------------------------------------------


def test_outputs_are_grouped_by_item_in_their_order_below_the_bar(notebook: Kernel) -> None:
    cell = notebook.execute(
        "%%distribute --each x in range(3)\nimport time\nfrom IPython.display import display, HTML\n"
        "time.sleep(0.3 - 0.1 * x)\nif x != 1: print('text of', x)\nif x == 2: display(HTML('<b>two</b>'))\nNone"
    )
    shown = [
        message["content"].get("text") or message["content"]["data"]["text/plain"]
        for message in cell.messages
        if message["msg_type"] in ("stream", "display_data")
    ]

    assert shown[0].startswith("batch ")
    assert shown[1:] == [
        "--- item 0: 0", "text of 0\n", "--- item 2: 2", "text of 2\n", "<IPython.core.display.HTML object>",
    ]  # fmt: skip


def test_an_item_that_says_much_is_bounded(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --each x in range(2)\nfor n in range(20000): print('line', n)\nNone")

    assert len(cell.text()) < 50_000
    assert "the rest is left out here" in cell.text("stderr")


def test_a_table_is_shown_with_its_item_and_stays_a_value(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --each x in [1]\nfrom IPython.display import HTML\nHTML(f'<i>{x}</i>')")

    assert cell.contents("display_data")[-1]["data"]["text/html"] == "<i>1</i>"
    assert "HTML object" in value(cell)


# ---- what fails ----------------------------------------------------------------------------


def test_failures_are_listed_and_a_retry_completes_the_results(notebook: Kernel, tmp_path: Path) -> None:
    flag = tmp_path / "repaired"
    notebook.execute(f"flag = {str(flag)!r}\ninverse = 'kept'")

    cell = notebook.execute(
        "%%distribute --each x in [2, 0, 4] --out inverse\n"
        "import os\nprint('doing', x)\nx = x or (5 if os.path.exists(flag) else 0)\ninverse = 1 / x\ninverse"
    )
    told = plain(cell.error)

    assert cell.reply["ename"] == "ItemsFailed"
    assert "of 3 items 1 failed\n  item 1 (0): ZeroDivisionError: division by zero\n" in told
    assert "    at line 5: inverse = 1 / x\n" in told
    assert "1 # %%distribute (x)\n" in plain(cell.text("stderr"))
    assert notebook.execute("print([type(v).__name__ for v in _], inverse)").text() == (
        "['float', 'ZeroDivisionError', 'float'] kept\n"
    )

    flag.touch()
    again = notebook.execute(told[told.index("%distribute retry") :].partition(" runs")[0])

    assert value(again) == "[0.5, 0.2, 0.25]"
    assert again.text() == "doing 0\n"
    assert notebook.execute("print(inverse)").text() == "[0.5, 0.2, 0.25]\n"


def test_what_came_of_the_others_can_be_retried_from_python(notebook: Kernel, tmp_path: Path) -> None:
    notebook.execute(f"flag = {str(tmp_path / 'flag')!r}")
    notebook.execute("%%distribute --each x in [1, 2]\nimport os\nx if x == 1 or os.path.exists(flag) else 1 / 0")
    (tmp_path / "flag").touch()

    assert value(notebook.execute("_.retry()")) == "[1, 2]"


def test_stop_cancels_what_is_left_and_keeps_what_is_done(notebook: Kernel) -> None:
    request = notebook.start("%%distribute --each x in range(4)\nimport time\nprint(x)\nif x: time.sleep(60)\nx")
    notebook.hear(request, lambda message: message["content"].get("text") == "0\n")
    notebook.interrupt()
    cell = notebook.finish(request)

    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert "of 4 items 3 were cancelled" in plain(cell.error)
    assert notebook.execute("print(_[0])").text() == "0\n"


@pytest.mark.parametrize(
    ("line", "name", "said"),
    [
        ("--each", "InvalidCell", "--each takes TARGET in EXPRESSION, such as --each x in xs"),
        ("--each x of xs", "InvalidCell", "not 'x of xs'"),
        ("--each x in nowhere", "NameError", "name 'nowhere' is not defined"),
        ("--each x in 5", "InvalidCell", "5 is of type int, which has no items"),
        ("--each x in [1, (n for n in [])]", "NamesCannotTravel", "item 1 (<generator object"),
        ("--each x in [1] --background --dry-run", "InvalidCell", "--background does not go with --dry-run"),
        ("--each x in [1] --out nothing", "InvalidCell", "--out asks for nothing"),
        ("--stage photos", "InvalidCell", "--stage takes PROJECT.STAGE"),
        ("--stage a.b --out x", "InvalidCell", "--stage does not go with --out"),
        ("--devices board", "InvalidCell", "--devices takes kinds with numbers"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    notebook: Kernel, line: str, name: str, said: str
) -> None:
    cell = notebook.execute(f"%%distribute {line}\n1")

    assert cell.reply["ename"] == name
    assert said in plain(cell.error)
    assert "Traceback" not in plain(cell.error)


def test_a_dry_run_says_for_how_many_items_and_runs_nothing(notebook: Kernel) -> None:
    notebook.execute("k = 3")

    told = notebook.execute("%%distribute --each x in [7, 8] --devices board=2 --dry-run\nx + k").text()

    assert told.startswith("would run for 2 items, the first of them 7\n")
    assert "k     int   " in told
    assert "1 of 2 workers matches" in told


# ---- devices and stages --------------------------------------------------------------------


def test_a_cell_gets_devices_of_its_own(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --devices board=1\nimport os\nos.environ['DCENGINE_DEVICES_BOARD'] in '01'")

    assert value(cell) == "True"


def test_cells_become_the_stages_of_a_project(notebook: Kernel) -> None:
    notebook.execute("sign = '!'")
    first = notebook.execute("%%distribute --stage photos.draw --tags site==lab\nitem.upper()")
    notebook.execute("%%distribute --stage photos.caption --each drawing in ['cat', 'dog']\ndrawing + sign")

    assert "its stages are draw" in first.text()
    assert value(notebook.execute("_.results()")) == "['CAT!', 'DOG!']"
    notebook.execute("import dcengine\nphotos = dcengine.Project('photos')")
    assert notebook.execute("print(photos.job(2).history()[0].output)").text() == "DOG\n"
    assert notebook.execute("print([stage.tags for stage in photos.status().stages])").text() == "['site==lab', '']\n"


def test_a_stage_of_another_kernel_keeps_its_place_when_one_is_declared_anew(notebook: Kernel) -> None:
    notebook.execute("import dcengine\np = dcengine.Project('books')")
    notebook.execute("p.stage(name='one')(lambda n: n + 1); p.stage(name='two')(lambda n: n * 10); p.add([]);")

    notebook.execute("%%distribute --stage books.one\nitem + 2")

    assert notebook.execute("q = dcengine.Project('books'); q.add([1]); print(q.run().results())").text() == "[30]\n"


def test_a_stage_of_outside_workers_is_left_to_them(notebook: Kernel) -> None:
    notebook.execute("import dcengine\np = dcengine.Project('laion'); p.lease_stage('a'); p.add([1])")

    cell = notebook.execute("%%distribute --stage laion.a\nitem")

    assert "is done by outside workers" in plain(cell.error)
