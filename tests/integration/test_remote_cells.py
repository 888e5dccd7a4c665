"""``%%distribute`` in IPython without a kernel, against real worker processes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from IPython import version_info
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import dcengine
from tests.engines import embedded

Run = Callable[[str], str]


@pytest.fixture(scope="module", autouse=True)
def _engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with embedded(tmp_path_factory.mktemp("cells") / "jobs.db", workers=1):
        yield


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor" if version_info[0] > 8 else "NoColor"
    shell = InteractiveShell(config=settings)
    shell.run_line_magic("load_ext", "dcengine")
    return shell


@pytest.fixture
def run(shell: InteractiveShell) -> Run:
    """Run a cell and return what it printed."""

    def run(cell: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            shell.run_cell(cell, store_history=True)
        return printed.getvalue()

    return run


def test_a_terminal_shows_text_and_result(run: Run) -> None:
    said = run("%%distribute\nfrom IPython.display import display\nprint('one')\ndisplay('two')\n[3]")

    assert [line for line in said.splitlines() if line] == ["one", "'two'", "Out[1]: [3]"]


def test_a_terminal_keeps_results_and_names(run: Run, shell: InteractiveShell) -> None:
    run("%%distribute\nx = 5\nx")

    assert (shell.user_ns["x"], shell.user_ns["_"], shell.user_ns["Out"][1]) == (5, 5, 5)


def test_an_error_shows_the_cells_lines(run: Run) -> None:
    said = run("%%distribute\nx = 0\n1 / x")

    assert "Cell In[1], line 3" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "sending.py" not in said


def test_a_syntax_error_points_at_the_cells_line(run: Run) -> None:
    said = run("%%distribute\nx = 1\ny = = 1")

    assert ":3\n    y = = 1\n" in said
    assert said.endswith("SyntaxError: invalid syntax\n\n")


def test_what_the_notebook_and_the_cell_share_stays_shared(run: Run, shell: InteractiveShell) -> None:
    run("a = [1]; b = {'a': a}")

    run("%%distribute --out a,b\na.append(2); b")

    assert shell.user_ns["b"] == {"a": [1, 2]}
    assert shell.user_ns["b"]["a"] is shell.user_ns["a"]


def test_a_module_comes_back_as_the_one_installed_here(run: Run, shell: InteractiveShell) -> None:
    run("%%distribute\nimport xml.dom.minidom\nimport json as j")

    assert shell.user_ns["j"].dumps([1]) == "[1]"
    assert shell.user_ns["xml"].dom.minidom.__name__ == "xml.dom.minidom"


def test_a_class_of_the_notebook_is_the_same_class_when_it_comes_back(run: Run, shell: InteractiveShell) -> None:
    run("class A:\n    def m(self): return k\nk = 1")

    run("%%distribute\na = A()")
    run("k = 2")

    assert type(shell.user_ns["a"]) is shell.user_ns["A"]
    assert shell.user_ns["a"].m() == 2


def test_the_workers_process_state_is_as_before_after_a_cell(run: Run) -> None:
    run("%%distribute\n%cd /\nfrom __future__ import annotations")

    said = run("%%distribute\nimport os\nprint(os.getcwd())\ndef f(a: int): pass\nprint(f.__annotations__)")

    assert said.splitlines() == [str(Path.cwd()), "{'a': <class 'int'>}"]


def test_the_environment_and_the_path_of_modules_are_as_before_after_a_cell(run: Run) -> None:
    run("%%distribute\n%env FIRST=1\nimport os, sys\ndel os.environ['PATH']\nsys.path.insert(0, '/first')")

    said = run("%%distribute\nimport os, sys\nprint('FIRST' in os.environ, 'PATH' in os.environ, '/first' in sys.path)")

    assert said == "False True False\n"


def test_functions_on_the_same_worker_print_and_ask_as_before(run: Run) -> None:
    run("%%distribute\n1")

    said = run("import dcengine\nprint(dcengine.submit(lambda: __import__('builtins').input.__name__).result(30))")

    assert said == "input\n"


def test_a_cell_runs_where_a_job_has_made_a_shell_of_its_own(run: Run) -> None:
    def publish() -> bool:
        from IPython.display import publish_display_data

        publish_display_data({"text/plain": "published"})
        return InteractiveShell.initialized()

    run("%%distribute\nimport os\nos._exit(1)")  # the next process has no shell yet
    assert dcengine.submit(publish).result()

    assert run("%%distribute\nprint(1 + 1)").splitlines()[0] == "2"
