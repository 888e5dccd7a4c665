"""``%%distribute --background`` and ``%distribute on`` in a real kernel, message by message."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import serving
from tests.kernels import Kernel, kernel, plain


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with the magic, and its engine with three workers, one of them tagged."""
    db = tmp_path_factory.mktemp("engine") / "jobs.db"
    with (
        serving(db, "--worker-tags", "plain;plain;site=lab", workers=3) as (_, told),
        kernel(tmp_path_factory.mktemp("notebook"), DCENGINE_URL=str(told["url"])) as running,
    ):
        assert running.execute("%load_ext dcengine").reply["status"] == "ok"
        yield running


@pytest.fixture
def notebook(shared: Kernel) -> Iterator[Kernel]:
    """The kernel with nothing of other tests in its namespace, and no default."""
    assert shared.execute("%reset -f").reply["status"] == "ok"
    yield shared
    shared.execute("%distribute off")


def texts(notebook: Kernel, request: str, kind: str = "stdout") -> str:
    """What was printed under *request* so far."""
    return "".join(
        message["content"]["text"] for message in notebook.said(request) if message["content"].get("name") == kind
    )


def ended(message: dict[str, object]) -> bool:
    return "has ended" in str(message["content"])


# ---- in the background ---------------------------------------------------------------------


def test_a_background_cell_gives_its_handle_at_once_and_fills_its_own_place_later(
    notebook: Kernel, tmp_path: Path
) -> None:
    notebook.execute(f"gate = {str(tmp_path / 'gate')!r}\nimport time, os")
    request = notebook.start(
        "%%distribute --background\nimport os, time\nprint('begun')\n"
        "while not os.path.exists(gate): time.sleep(0.02)\nprint('late')\nmade = 6\nmade + 1"
    )
    cell = notebook.finish(request)
    handle = cell.contents("execute_result")[0]["data"]["text/plain"]
    notebook.hear(request, lambda message: message["content"].get("text") == "begun\n")
    between = notebook.execute("print('between', 'made' in dir())\nopen(gate, 'w').close()")
    notebook.hear(request, ended)
    after = notebook.execute(f"print(made, Out[{cell.reply['execution_count']}].result())")

    assert re.fullmatch(r"<cell In\[\d+\] in the background, job \d+: it goes on>", handle)
    assert between.text() == "between False\n"
    assert texts(notebook, request) == "begun\nlate\n"
    assert f"cell In[{cell.reply['execution_count']}] has ended; in the notebook now: made" in texts(
        notebook, request, "stderr"
    )
    assert after.text() == "6 7\n"


def test_several_run_at_once_and_each_speaks_in_its_own_place(notebook: Kernel) -> None:
    body = "%%distribute --background\nimport time\nfor n in range(4):\n    print({0!r}, n); time.sleep(0.05)\n{0} = n"
    requests = {name: notebook.start(body.format(name)) for name in ("a", "b")}
    for n in range(10):
        notebook.execute(f"print('other', {n})")
    for request in requests.values():
        notebook.finish(request)
        notebook.hear(request, ended)

    for name, request in requests.items():
        assert texts(notebook, request) == "".join(f"{name} {n}\n" for n in range(4))
    assert notebook.execute("print(a, b)").text() == "3 3\n"


def test_what_it_prints_is_not_caught_by_another_cells_capture(notebook: Kernel, tmp_path: Path) -> None:
    notebook.execute(f"gate = {str(tmp_path / 'gate')!r}")
    request = notebook.start(
        "%%distribute --background\nimport os, time\nwhile not os.path.exists(gate): time.sleep(0.02)\nprint('mine')"
    )
    notebook.finish(request)
    notebook.execute("%%capture caught\nopen(gate, 'w').close()\n%distribute wait")
    notebook.hear(request, ended)

    assert texts(notebook, request) == "mine\n"
    assert notebook.execute("print(repr(caught.stdout))").text() == "''\n"


def test_its_error_is_shown_in_its_place_and_raised_by_who_waits(notebook: Kernel) -> None:
    request = notebook.start("%%distribute --background\nx = 1\n1 / 0")
    notebook.finish(request)
    error = notebook.hear(request, lambda message: message["msg_type"] == "error")

    assert error["content"]["ename"] == "ZeroDivisionError"
    assert "----> 3 1 / 0" in plain("\n".join(error["content"]["traceback"]))
    assert notebook.execute("print('x' in dir())").text() == "False\n"
    assert notebook.execute("%distribute wait").reply["ename"] == "ZeroDivisionError"
    assert notebook.execute("%distribute wait").reply["status"] == "ok"


def test_it_can_be_stopped_by_its_handle(notebook: Kernel) -> None:
    request = notebook.start("%%distribute --background\nimport time\nprint('begun')\ntime.sleep(60)")
    notebook.finish(request)
    notebook.hear(request, lambda message: message["content"].get("text") == "begun\n")
    notebook.execute("_.interrupt()")

    error = notebook.hear(request, lambda message: message["msg_type"] == "error")
    assert error["content"]["ename"] == "KeyboardInterrupt"
    assert notebook.execute("%distribute wait").reply["ename"] == "KeyboardInterrupt"


def test_stop_ends_the_waiting_and_the_cell_goes_on(notebook: Kernel, tmp_path: Path) -> None:
    notebook.execute(f"gate = {str(tmp_path / 'gate')!r}")
    body = "import os, time\nwhile not os.path.exists(gate): time.sleep(0.02)\nz = 4"
    notebook.execute(f"%%distribute --background\n{body}")
    waiting = notebook.start("h = _\nprint('waiting')\n%distribute wait")
    notebook.hear(waiting, lambda message: message["content"].get("text") == "waiting\n")
    notebook.interrupt()

    stopped = notebook.finish(waiting)
    assert stopped.reply["ename"] == "KeyboardInterrupt"
    assert "which goes on; %distribute wait waits again" in plain(stopped.error)
    assert "background.py" not in plain(stopped.error)
    (tmp_path / "gate").touch()
    assert notebook.execute("h.result(); print(z)").text() == "4\n"


def test_many_items_go_on_in_the_background_too(notebook: Kernel) -> None:
    request = notebook.start("%%distribute --background --each x in range(3) --out y\nprint('at', x)\ny = x * x\ny")
    notebook.finish(request)
    notebook.hear(request, ended)

    assert texts(notebook, request) == "at 0\nat 1\nat 2\n"
    assert notebook.execute("print(_.result(), y)").text() == "[0, 1, 4] [0, 1, 4]\n"


# ---- by default ----------------------------------------------------------------------------


def test_cells_without_a_magic_go_to_a_worker_once_that_is_the_default(notebook: Kernel) -> None:
    told = notebook.execute("%distribute on site==lab --timeout 60").text()
    remote = notebook.execute("import os\npid = os.getpid()\npid > 0")
    local = notebook.execute("%%local\nimport os\nhere = os.getpid()")
    notebook.execute("%distribute off")

    assert "go to workers with: site==lab --timeout 60" in told
    assert remote.contents("execute_result")[0]["data"]["text/plain"] == "True"
    assert local.reply["status"] == "ok"
    assert notebook.execute("print(pid != here == os.getpid())").text() == "True\n"


def test_by_default_lines_history_and_await_are_those_of_the_cell(notebook: Kernel) -> None:
    notebook.execute("%distribute on")
    cell = notebook.execute("import asyncio\nawait asyncio.sleep(0)\nz = 1\n1 / 0")
    local = notebook.execute("%%local\nimport asyncio\nawait asyncio.sleep(0)\n%history -l 1")

    assert "----> 4 1 / 0" in plain(cell.error)
    assert local.text().startswith("import asyncio\nawait asyncio.sleep(0)\nz = 1\n1 / 0\n")


def test_what_front_ends_hide_and_magics_alone_run_here(notebook: Kernel) -> None:
    pid = notebook.manager.provisioner.pid
    notebook.execute("import os\n%distribute on")

    hidden = notebook.start("import os\nprint(os.getpid())", store_history=False)
    assert notebook.finish(hidden).text() == f"{pid}\n"
    assert notebook.execute("# which?\n%distribute").text().startswith("cells without a magic of their own go to")
    assert "%distribute on [EXPR]" in notebook.execute("%distribute?").reply["payload"][0]["data"]["text/plain"]
    assert notebook.execute("%%capture text\nprint(os.getpid())").reply["status"] == "ok"
    assert notebook.execute("%%local\nprint(text.stdout)").text().strip() == str(pid)
    assert notebook.execute("print(os.getpid())").text() != f"{pid}\n"
    assert os.getpid() != pid


def test_handles_and_results_are_used_here_whatever_the_default_is(notebook: Kernel) -> None:
    notebook.execute("%distribute on")
    number = notebook.execute("%%distribute --background\n'from there'").reply["execution_count"]
    notebook.execute("background = _")

    assert notebook.execute("print(background.result())").text() == "from there\n"
    assert notebook.execute(f"print(Out[{number}] is background)").text() == "True\n"
    refused = notebook.execute(f"%%distribute\nOut[{number}]")
    assert refused.reply["ename"] == "InvalidCell"
    assert "Out (line 2) stays in the notebook" in refused.reply["evalue"]


def test_a_default_that_makes_no_sense_is_refused_and_changes_nothing(notebook: Kernel) -> None:
    notebook.execute("%distribute on site==lab")

    for line, said in (("on >=", "at character 1"), ("on --each x in xs", "--each"), ("up", "means nothing")):
        answer = notebook.execute(f"%distribute {line}")
        assert answer.reply["ename"] in ("InvalidCell", "InvalidTags"), line
        assert said in plain(answer.error)
    assert "with: site==lab" in notebook.execute("%distribute").text()
