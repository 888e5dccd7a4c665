"""Which cells ``%distribute on`` sends away, in an IPython shell without a kernel."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell

import dcengine
from dcengine.errors import JobCancelled
from dcengine.handles import JobHandle
from dcengine_magics.cells.background import BackgroundCell
from dcengine_magics.cells.belonging import belongs_here
from dcengine_magics.cells.cell import Stayed
from dcengine_magics.cells.defaults import Defaults, stays_here, without_local
from dcengine_magics.cells.references import RemoteReference


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """A shell whose ``%%distribute`` keeps what it is given."""
    shell = InteractiveShell.instance()
    sent: list[tuple[str, str]] = []
    shell.user_ns["sent"] = sent
    shell.register_magic_function(lambda line, body: sent.append((line, body)), "cell", "distribute")
    defaults = Defaults(shell)
    defaults.install()
    defaults.options = Namespace(tags="gpu")
    yield shell
    defaults.remove()
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, cell: str, **options: bool) -> list[tuple[str, str]]:
    shell.user_ns["sent"].clear()
    assert shell.run_cell(cell, **{"store_history": True, **options}).success
    return list(shell.user_ns["sent"])


def test_a_cell_without_a_magic_of_its_own_is_sent_as_it_stands(shell: InteractiveShell) -> None:
    assert run(shell, "x = 1\n%time x\n!ls") == [("--default", "x = 1\n%time x\n!ls")]


def test_a_cell_that_awaits_is_sent_too(shell: InteractiveShell) -> None:
    assert run(shell, "await nothing()") == [("--default", "await nothing()")]


def test_what_front_ends_hide_runs_here(shell: InteractiveShell) -> None:
    assert run(shell, "hidden = 1", store_history=False) == run(shell, "silent = 1", silent=True) == []
    assert (shell.user_ns["hidden"], shell.user_ns["silent"]) == (1, 1)


def test_local_cells_run_here_with_their_own_lines(shell: InteractiveShell) -> None:
    assert run(shell, "%%local\nimport sys\nline = sys._getframe().f_lineno") == []
    assert shell.user_ns["line"] == 3


def test_a_syntax_error_is_met_here(shell: InteractiveShell) -> None:
    assert not shell.run_cell("%%distribute", store_history=True).success
    assert shell.user_ns["sent"] == []


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "\n",
        "# a remark",
        "%distribute off",
        "%%time\nx",
        "%%local\nx",
        "found = %jobs -n 3",
        "%jobs\n\n%workers",
        "x?",
        "?x",
    ],
)
def test_magics_alone_and_cells_of_magics_stay(cell: str) -> None:
    assert stays_here(cell)


@pytest.mark.parametrize("cell", ["x", "x = 1 # ?", "%time x\ny = 1", "!ls", "a % b", "# %%time\nx"])
def test_other_cells_do_not(cell: str) -> None:
    assert not stays_here(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "handle.result()",
        "[job.result() for job in handles]",
        "import os, dcengine as d\nd.map(abs, [1])",
        "from dcengine import submit",
        "engine.workers()",
        "Out[2]",
        "len(In)",
    ],
)
def test_cells_that_use_the_engine_handles_or_the_history_run_here(shell: InteractiveShell, cell: str) -> None:
    shell.user_ns.update(handle=object.__new__(JobHandle), handles=[1, object.__new__(BackgroundCell)], engine=dcengine)

    assert belongs_here(shell, cell)


@pytest.mark.parametrize(
    "cell",
    [
        "handle = 1\nhandle",
        "x.handle",
        "'handle'",
        "numbers[0]",
        "error",
        "for Out in range(3): Out",
        "x = = 1",
        "remote",
    ],
)
def test_cells_that_only_look_so_are_sent(shell: InteractiveShell, cell: str) -> None:
    remote = RemoteReference("remote", Stayed("key", "list", "", "it is too big"), "s", "w1")
    shell.user_ns.update(handle=object.__new__(JobHandle), numbers=[1], x=1, error=JobCancelled(7, ""), remote=remote)

    assert not belongs_here(shell, cell)


def test_a_local_cell_may_begin_with_another_magic() -> None:
    assert without_local(["%%local\n", "%%time\n", "x\n"]) == ["%%time\n", "x\n"]
    assert without_local(["%%local\n", "x\n"]) == ["\n", "x\n"]
    assert without_local(["x\n", "%%local\n"]) == ["x\n", "%%local\n"]
