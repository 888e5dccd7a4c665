"""What a notebook shows of handles, batches, projects, contributors and workers, message by message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbconvert
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

import dcengine
from dcengine_magics.views.formatters import register
from dcengine_magics.views.panel import KEPT
from dcengine_magics.views.refreshing import TRYING
from tests.engines import embedded, environment, eventually, serving
from tests.kernels import Kernel, kernel

WIDGET = "application/vnd.jupyter.widget-view+json"
NICKNAME = "<script>alert(1)</script>\u202eegnp"
START = """
import os, time
import dcengine
from dcengine_magics.views.formatters import register

register(get_ipython())


def hold(name):
    while not os.path.exists(name):
        time.sleep(0.01)
    if name.endswith("bad"):
        raise ValueError("bad <pixel>")
    return name
"""
ENGINE = f"""
engine = dcengine.Engine(
    "work.db", workers=2, processes=False, worker_tags=["gpu,nickname={NICKNAME}", "nickname=bob"]
).start()
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Path]]:
    folder = tmp_path_factory.mktemp("views")
    with kernel(folder) as started:
        assert not started.execute(START + ENGINE).error
        yield started, folder


def value_with(text: str) -> Any:
    """Return what tells whether a message gives a widget an HTML value with *text* in it."""

    def is_it(message: dict[str, Any]) -> bool:
        state = message["content"].get("data", {}).get("state", {})
        return message["msg_type"] == "comm_msg" and text in str(state.get("value"))

    return is_it


def update_with(text: str) -> Any:
    """Return what tells whether a message puts a text with *text* in the place of an output."""

    def is_it(message: dict[str, Any]) -> bool:
        return message["msg_type"] == "update_display_data" and text in message["content"]["data"]["text/plain"]

    return is_it


def end_of(kernel: Kernel, request: str) -> Any:
    """Wait for the end of the view that *request* has shown; return its content."""
    display = kernel.hear(request, lambda message: message["msg_type"] == "display_data")["content"]

    def is_it(message: dict[str, Any]) -> bool:
        is_update = message["msg_type"] == "update_display_data"
        return is_update and bool(message["content"]["transient"] == display["transient"])

    return kernel.hear(request, is_it)["content"]


def models(kernel: Kernel, request: str) -> dict[str, str]:
    """The ids of the widgets that *request* opened, by the names of their models."""
    return {
        message["content"]["data"]["state"]["_model_name"]: message["content"]["comm_id"]
        for message in kernel.said(request)
        if message["msg_type"] == "comm_open"
    }


def closed(kernel: Kernel, request: str, model: str) -> Any:
    """Wait until the widget of *model* that *request* opened is closed."""
    id = models(kernel, request)[model]
    kernel.hear(request, lambda m: m["msg_type"] == "comm_close" and m["content"]["comm_id"] == id)


# ---- a batch -------------------------------------------------------------------------------


def test_a_batch_is_live_in_its_own_cell_and_stays_as_it_ended(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    shown = kernel.start("batch = dcengine.map(hold, ['a1', 'a2-bad', 'a3']); batch")
    (display,) = kernel.finish(shown).contents("display_data")
    printing = kernel.start("while not os.path.exists('a-printed'): print('.', end='', flush=True); time.sleep(0.02)")
    (folder / "a1").touch()
    kernel.hear(shown, value_with("1 of 3"))
    (folder / "a2-bad").touch()
    kernel.hear(shown, value_with("ValueError: bad &lt;pixel&gt;"))
    (folder / "a3").touch()
    end = end_of(kernel, shown)
    closed(kernel, shown, "ButtonStyleModel")
    (folder / "a-printed").touch()
    other = kernel.finish(printing)
    count = len(kernel.said(shown))
    alive = kernel.execute("import threading; print([thread.name for thread in threading.enumerate()])")

    assert set(display["data"]) == {WIDGET, "text/html", "text/plain"}
    assert display["data"][WIDGET]["model_id"] == models(kernel, shown)["VBoxModel"]
    assert set(end["data"]) == {"text/html", "text/plain"}
    assert end["transient"] == display["transient"]
    assert "3 of 3, 1 failed" in end["data"]["text/plain"]
    assert "1 x ValueError: bad <pixel> (item 1)" in end["data"]["text/plain"]
    # Once more in the words of the cell that ran meanwhile, for tools that listen to one cell at a time;
    # it goes to the output with that display id.
    assert set(other.kinds) == {"stream", "update_display_data"}
    assert other.contents("update_display_data") == [end]
    assert "dcengine-views" not in alive.text()
    assert alive.kinds == ["stream"]
    assert len(kernel.said(shown)) == count


def test_a_cell_that_waits_for_its_batch_ends_with_it(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    shown = kernel.start("batch = dcengine.map(hold, ['b1', 'b2']); display(batch); batch.wait(30);")
    kernel.hear(shown, lambda message: message["msg_type"] == "display_data")
    (folder / "b1").touch()
    (folder / "b2").touch()
    end = kernel.finish(shown)
    after = kernel.execute("1 + 1")

    assert len(end.contents("update_display_data")) == 1
    assert "2 of 2" in end.contents("update_display_data")[0]["data"]["text/plain"]
    assert after.kinds == ["execute_result"]


def test_what_is_over_is_shown_as_it_ended_without_a_widget(notebook: tuple[Kernel, Path]) -> None:
    kernel, _ = notebook
    executed = kernel.execute("done = dcengine.map(abs, range(-3, 0)); done.wait(30); done")

    (display,) = executed.contents()
    assert set(display["data"]) == {"text/html", "text/plain"}
    assert display["transient"] == {}


def test_the_cancel_button_cancels_also_while_a_cell_waits_in_a_subshell(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    subshell = kernel.create_subshell()
    shown = kernel.start("batch = dcengine.map(hold, [f'c{n}' for n in range(9)]); batch")
    kernel.finish(shown)
    waiting = kernel.start("batch.wait(30).cancelled")
    click = {"method": "custom", "content": {"event": "click"}}
    message = kernel.client.session.msg("comm_msg", {"comm_id": models(kernel, shown)["ButtonModel"], "data": click})
    message["header"]["subshell_id"] = subshell
    kernel.client.shell_channel.send(message)
    kernel.hear(shown, value_with("7 cancelled"))
    for n in range(9):
        (folder / f"c{n}").touch()
    end = end_of(kernel, shown)

    assert "cancelled" in end["data"]["text/plain"]
    assert kernel.finish(waiting).reply["status"] == "ok"


def test_a_front_end_that_knows_no_widgets_sees_it_move(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    shown = kernel.start("batch = dcengine.map(hold, ['w1', 'w2']); batch")
    (display,) = kernel.finish(shown).contents("display_data")
    for id in models(kernel, shown).values():
        kernel.client.shell_channel.send(kernel.client.session.msg("comm_close", {"comm_id": id, "data": {}}))
    (folder / "w1").touch()
    update = kernel.hear(shown, update_with("1 of 2"))["content"]
    (folder / "w2").touch()
    end = kernel.hear(shown, update_with("2 of 2"))["content"]

    assert set(update["data"]) == set(end["data"]) == {"text/html", "text/plain"}
    assert update["transient"] == end["transient"] == display["transient"]


def test_a_page_that_is_loaded_again_still_sees_the_end(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    shown = kernel.start("batch = dcengine.map(hold, ['l1']); batch")
    kernel.finish(shown)
    (folder / "l1").touch()
    closed(kernel, shown, "ButtonStyleModel")
    heard = kernel.said(shown)

    ids = models(kernel, shown)
    gone = {message["content"]["comm_id"] for message in heard if message["msg_type"] == "comm_close"}
    assert any(map(value_with("1 of 1"), heard))
    assert not gone & {ids["VBoxModel"], ids["HTMLModel"]}


def test_widgets_of_what_is_over_are_let_go_when_there_are_many(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    shown = kernel.start("batch = dcengine.map(hold, ['m1']); batch")
    others = [kernel.start("batch") for _ in range(KEPT)]
    kernel.finish(others[-1])
    (folder / "m1").touch()

    for request in (shown, *others):
        closed(kernel, request, "ButtonStyleModel")
    kernel.execute("1 + 1")
    boxes = [models(kernel, request)["VBoxModel"] for request in (shown, *others)]
    said = [message for request in (shown, *others) for message in kernel.said(request)]
    gone = [m["content"]["comm_id"] for m in said if m["msg_type"] == "comm_close"]
    assert len(boxes) == KEPT + 1
    assert len(set(gone) & set(boxes)) == 1


def test_two_views_of_one_batch_are_both_kept_up_to_date(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    first = kernel.start("batch = dcengine.map(hold, ['d1']); batch")
    second = kernel.start("batch")
    kernel.finish(second)
    (folder / "d1").touch()

    ids = {end_of(kernel, shown)["transient"]["display_id"] for shown in (first, second)}
    assert len(ids) == 2


# ---- jobs, projects, lists -----------------------------------------------------------------


def test_a_job_says_how_it_ended(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    shown = kernel.start("job = dcengine.submit(hold, 'e-bad'); job")
    kernel.finish(shown)
    (folder / "e-bad").touch()

    end = end_of(kernel, shown)["data"]
    assert "failed" in end["text/plain"]
    assert "ValueError: bad &lt;pixel&gt;" in end["text/html"]


def test_a_project_has_a_line_for_each_stage(notebook: tuple[Kernel, Path]) -> None:
    kernel, folder = notebook
    made = kernel.execute(
        """
        project = dcengine.Project("photos")

        @project.stage
        def load(name):
            return hold(name)

        @project.stage(name="<b>sheet")
        def sheet(name):
            return name

        project.add(["f1", "f2-bad", "f3"])
        """
    )
    paused = kernel.execute("project")
    shown = kernel.start("project.run()")
    kernel.finish(shown)
    for name in ("f1", "f2-bad", "f3"):
        (folder / name).touch()
    end = end_of(kernel, shown)["data"]

    assert not made.error
    assert "paused" in paused.contents("display_data")[0]["data"]["text/plain"]
    assert "3 of 3 jobs, 1 failed" in end["text/plain"]
    assert "1 x ValueError: bad <pixel> at load (%job " in end["text/plain"]
    assert "&lt;b&gt;sheet" in end["text/html"]


def test_a_hostile_nickname_is_shown_and_nothing_else(notebook: tuple[Kernel, Path]) -> None:
    kernel, _ = notebook
    kernel.execute("dcengine.submit(abs, -1, tags='gpu').result(30)")
    executed = kernel.execute("display(dcengine.leaderboard()); display(dcengine.workers())")

    for content in executed.contents("display_data"):
        assert "<script" not in content["data"]["text/html"]
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content["data"]["text/html"]
        assert "\u202e" not in str(content)
    assert len(executed.contents("display_data")) == 2


# ---- engines and kernels that end ----------------------------------------------------------


def test_an_engine_that_is_gone_is_said_quietly_and_the_kernel_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path / "served.db", workers=1) as (process, told), kernel(tmp_path) as started:
        started.execute(START + f"dcengine.connect({told['url']!r})")
        shown = started.start("batch = dcengine.map(hold, ['never']); batch")
        started.finish(shown)
        os.kill(process.pid, signal.SIGKILL)

        started.hear(shown, value_with(TRYING))
        assert started.execute("1 + 1").kinds == ["execute_result"]
        later = started.execute("batch")
        assert later.kinds == ["display_data"]
        assert "not reachable" in later.contents()[0]["data"]["text/plain"]


def test_a_kernel_ends_at_once_though_a_view_is_live(tmp_path: Path) -> None:
    with kernel(tmp_path) as started:
        started.execute(START + ENGINE)
        started.execute("batch = dcengine.map(hold, ['soon', 'never'], tags='tpu'); batch")
        started.client.shutdown()

        eventually(lambda: not started.manager.is_alive(), 15.0)


# ---- without a front end -------------------------------------------------------------------


def test_an_executed_notebook_and_its_export_show_the_end(tmp_path: Path) -> None:
    cells = [
        START + ENGINE,
        "batch = dcengine.map(hold, ['g1', 'g2']); batch",
        "open('g1', 'w'); open('g2', 'w'); batch.results(30)",
        "dcengine.leaderboard()",
        "engine.close()",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbclient.NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    page, _ = nbconvert.HTMLExporter().from_notebook_node(book)

    (output,) = book.cells[1].outputs
    assert "2 of 2" in output["data"]["text/plain"]
    assert WIDGET not in output["data"]
    assert "2 of 2" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_shell_without_a_kernel_gets_html_and_text(tmp_path: Path) -> None:
    shell = InteractiveShell()
    register(shell)
    with embedded(tmp_path / "work.db", processes=False):
        batch = dcengine.map(abs, range(5))
        batch.wait(30)
        data, _ = shell.display_formatter.format(batch)
        nested, _ = shell.display_formatter.format([batch])

    assert "5 of 5" in data["text/html"]
    assert data["text/plain"].splitlines()[0] == f"batch {batch.id}  abs"
    assert nested["text/plain"] == f"[{batch!r}]"


def test_a_terminal_gets_text_once(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""\
        import dcengine; from dcengine_magics.views.formatters import register; register(get_ipython())
        {ENGINE.replace(chr(10), " ").strip()};
        batch = dcengine.map(abs, range(5)); _ = batch.wait(30)
        batch
        dcengine.leaderboard()
        engine.close()
        """
    )
    told = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--quick", "--colors=NoColor"],
        input=program, capture_output=True, text=True, timeout=90, cwd=tmp_path,
        env=environment(IPYTHONDIR=str(tmp_path / "ipython")),
    )  # fmt: skip

    assert told.stdout.count("5 of 5") == 1
    assert "contributor" in told.stdout
    assert "<div" not in told.stdout
    assert "\u202e" not in told.stdout
