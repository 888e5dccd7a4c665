"""``%%distribute`` in a real kernel, message by message, as front ends see it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import dcengine
from dcengine.owner import find_owner
from tests.engines import forget_engines, serving
from tests.kernels import Kernel, kernel


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an engine with two workers, one of them tagged."""
    db = tmp_path_factory.mktemp("engine") / "jobs.db"
    with serving(db, "--worker-tags", "plain;gpu.memory=24GiB,site=lab") as (_, told):
        yield str(told["url"])


@pytest.fixture(scope="module")
def shared(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with the magic, connected to the engine."""
    with kernel(tmp_path_factory.mktemp("notebook"), DCENGINE_URL=engine) as running:
        assert running.execute("%load_ext dcengine").reply["status"] == "ok"
        yield running


@pytest.fixture
def notebook(shared: Kernel) -> Kernel:
    """The kernel with nothing of other tests in its namespace."""
    assert shared.execute("%reset -f").reply["status"] == "ok"
    return shared


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def job_of(engine: str, title: str) -> int:
    """The newest job of this name."""
    dcengine.connect(engine)
    try:
        jobs = dcengine.api.current().call("jobs")
        return int(next(job.id for job in jobs if job.name == title))
    finally:
        forget_engines()


# ---- what comes back -----------------------------------------------------------------------


def test_names_go_in_and_come_out(notebook: Kernel) -> None:
    notebook.execute("x = 20\ndef double(v): return v * factor\nfactor = 2")

    cell = notebook.execute(
        "%%distribute\nimport math\ny = double(x) + math.floor(2.5)\nz = [y]\ndef add(v): return v + y"
    )

    assert cell.reply["status"] == "ok"
    assert notebook.execute("(y, z, math.pi > 3, add(1))").contents("execute_result")[0]["data"]["text/plain"] == (
        "(42, [42], True, 43)"
    )


def test_the_last_expression_shows_as_this_cells_result_and_stays_in_out(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute\nimport html\n{'a': 1}")
    (result,) = cell.contents("execute_result")

    number = cell.reply["execution_count"]
    assert result == {"data": {"text/plain": "{'a': 1}"}, "metadata": {}, "execution_count": number}
    assert notebook.execute(f"print(_ == Out[{number}] == _{number} == {{'a': 1}})").text() == "True\n"


def test_a_semicolon_keeps_the_result_to_itself(notebook: Kernel) -> None:
    assert notebook.execute("%%distribute\n1 + 1;").kinds == []


def test_a_value_that_cannot_travel_is_shown_and_something_that_looks_like_it_stays(notebook: Kernel) -> None:
    shown = notebook.execute("%%distribute\n(i for i in range(3))").contents("execute_result")[0]["data"]

    assert notebook.execute("_").contents("execute_result")[0]["data"] == shown


def test_only_what_out_names_comes_back(notebook: Kernel) -> None:
    assert notebook.execute("%%distribute --out a,b\na = 1; b = 2; c = 3").reply["status"] == "ok"

    assert notebook.execute("print(a, b, 'c' in dir())").text() == "1 2 False\n"


def test_a_name_that_cannot_come_back_stays_with_a_note(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute\nimport threading\nlock = threading.Lock()\nok = 1")

    assert re.fullmatch(
        r"lock stays on worker w\d in session unnamed-\w+: it cannot travel: a lock: cannot pickle '_thread.lock' "
        r"object. Cells that use it run there\n",
        cell.text("stderr"),
    )
    assert notebook.execute("print(ok, type(lock).__name__)").text() == "1 RemoteReference\n"


def test_a_name_that_was_asked_for_and_cannot_come_back_is_an_error(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --out lock\nimport threading\nlock = threading.Lock()")

    assert cell.reply["ename"] == "NamesCannotTravel"
    assert "lock: a lock: cannot pickle" in cell.reply["evalue"]


def test_a_cell_that_fails_changes_nothing(notebook: Kernel) -> None:
    notebook.execute("x = 1")

    assert notebook.execute("%%distribute\nx = 2\nnew = 3\n1 / 0").reply["status"] == "error"
    assert notebook.execute("print(x, 'new' in dir())").text() == "1 False\n"


def test_each_cell_starts_with_a_namespace_of_its_own(notebook: Kernel) -> None:
    notebook.execute("%%distribute --out kept --tags site==lab\nleft_behind = kept = 1")

    cell = notebook.execute("%%distribute --tags site==lab\nprint('left_behind' in globals(), __name__)")

    assert cell.text() == "False __main__\n"


def test_tags_choose_the_worker(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --tags gpu.memory>=16GiB & site==lab\nprint('here')")

    assert cell.text() == "here\n"


def test_a_cell_is_a_job_that_people_find_by_its_number(notebook: Kernel, engine: str) -> None:
    cell = notebook.execute("%%distribute\n5")

    job = job_of(engine, f"cell In[{cell.reply['execution_count']}]")

    assert job > 0


# ---- what is shown -------------------------------------------------------------------------

SHOWING = """%%distribute
import sys
from IPython.display import display, clear_output
print("one")
print("two", file=sys.stderr)
print("three")
shown = display("four", display_id=True)
print("five")
shown.update("six")
display({"image/png": b"bytes", "text/plain": "seven"}, raw=True, metadata={"image/png": {"width": 3}})
clear_output(wait=True)
print("eight")
"nine"
"""


def test_everything_arrives_once_in_order_and_under_its_own_parent(notebook: Kernel) -> None:
    cell = notebook.execute(SHOWING)

    assert [(m["msg_type"], m["content"].get("text")) for m in cell.messages if m["msg_type"] != "status"] == [
        ("execute_input", None),
        ("stream", "one\n"),
        ("stream", "two\n"),
        ("stream", "three\n"),
        ("display_data", None),
        ("stream", "five\n"),
        ("update_display_data", None),
        ("display_data", None),
        ("clear_output", None),
        ("stream", "eight\n"),
        ("execute_result", None),
    ]


def test_an_update_has_the_display_id_of_what_it_updates(notebook: Kernel) -> None:
    cell = notebook.execute(SHOWING)
    first, update, picture = cell.contents("display_data", "update_display_data")

    assert first["transient"]["display_id"] == update["transient"]["display_id"]
    assert (first["data"], update["data"]) == ({"text/plain": "'four'"}, {"text/plain": "'six'"})
    assert picture["data"] == {"image/png": "Ynl0ZXM=", "text/plain": "seven"}
    assert picture["metadata"] == {"image/png": {"width": 3}}
    assert cell.contents("clear_output") == [{"wait": True}]


def test_a_hundred_thousand_lines_arrive_complete_and_in_order(notebook: Kernel) -> None:
    started = time.perf_counter()
    cell = notebook.execute("%%distribute\nfor i in range(100_000): print(i)")
    print(f"100,000 lines took {time.perf_counter() - started:.2f} s")

    assert cell.text() == "".join(f"{i}\n" for i in range(100_000))


def test_output_is_live(notebook: Kernel, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    request = notebook.start(
        f"%%distribute\nimport os, time\nprint('early')\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)\nprint('late')"
    )
    notebook.hear(request, lambda message: message["content"].get("text") == "early\n")

    go_on.touch()

    assert notebook.finish(request).text() == "early\nlate\n"


def test_nothing_is_lost_when_the_next_cell_is_sent_early(notebook: Kernel) -> None:
    first = notebook.start("%%distribute\nfor i in range(2000): print('first', i)\nx = 1")
    second = notebook.start("%%distribute\nfor i in range(2000): print('second', i, x)")

    assert notebook.finish(first).text() == "".join(f"first {i}\n" for i in range(2000))
    assert notebook.finish(second).text() == "".join(f"second {i} 1\n" for i in range(2000))


TALKING = """%%distribute
import time
from IPython.display import display
for i in range(50):
    print('{0}', i)
    display('{0} shown')
    time.sleep(0.005)
'{0} result'
"""


def test_cells_in_a_subshell_and_in_the_main_shell_keep_their_outputs_apart(notebook: Kernel) -> None:
    if not notebook.client.kernel_info(reply=True, timeout=30)["content"].get("supported_features"):
        pytest.skip("this ipykernel has no subshells")
    subshell = notebook.create_subshell()

    requests = {
        "main": notebook.start(TALKING.format("main")),
        "sub": notebook.start(TALKING.format("sub"), subshell=subshell, store_history=False),
    }
    cells = {name: notebook.finish(request) for name, request in requests.items()}

    for name, cell in cells.items():
        assert cell.text() == "".join(f"{name} {i}\n" for i in range(50))
        assert [shown["data"]["text/plain"] for shown in cell.contents("display_data")] == [f"'{name} shown'"] * 50
        assert [result["data"]["text/plain"] for result in cell.contents("execute_result")] == [f"'{name} result'"]


def test_a_figure_appears_and_the_next_cell_does_not_show_it_again(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --tags plain\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    (figure,) = cell.contents("display_data")

    assert figure["data"]["image/png"].startswith("iVBOR")
    assert notebook.execute("%%distribute --tags plain\nimport matplotlib.pyplot as plt").kinds == []


# ---- a real shell --------------------------------------------------------------------------


def test_magics_commands_and_await_work_as_in_a_notebook(notebook: Kernel) -> None:
    notebook.execute("word = 'hello'")

    cell = notebook.execute(
        "%%distribute\nimport asyncio\n!echo {word} $word\nfiles = !printf 'a\\nb'\n%time y = len(files)\n"
        "asyncio.ensure_future(asyncio.sleep(1000))\nawait asyncio.sleep(0)\ny"
    )

    assert cell.text().startswith("hello hello")
    assert "Wall time" in cell.text()
    assert cell.contents("execute_result")[0]["data"]["text/plain"] == "2"
    assert notebook.execute("print(y, list(files))").text() == "2 ['a', 'b']\n"


def test_a_cell_magic_inside_works_and_assigns(notebook: Kernel) -> None:
    assert "Wall time" in notebook.execute("%%distribute\n%%time\nx = 6").text()

    assert notebook.execute("x").contents("execute_result")[0]["data"]["text/plain"] == "6"


# ---- errors --------------------------------------------------------------------------------


def test_an_error_points_at_the_cells_own_lines_and_shows_no_frames_of_ours(notebook: Kernel) -> None:
    notebook.execute("def helper(v):\n    return 1 / v")

    cell = notebook.execute("%%distribute\n\ndef inner(v):\n    return helper(v)\n\ninner(0)")
    number = cell.reply["execution_count"]
    shown = plain(cell.error)

    assert cell.reply["ename"] == "ZeroDivisionError"
    assert f"Cell In[{number}], line 6" in shown
    assert "----> 6 inner(0)" in shown
    assert f"Cell In[{number}], line 4, in inner(v)" in shown
    assert f"Cell In[{number - 1}], line 2, in helper(v)" in shown
    assert "dcengine" not in shown.replace("# %%distribute", "")


def test_the_original_exception_is_raised_in_the_notebook(notebook: Kernel) -> None:
    cell = notebook.execute(
        "try: get_ipython().run_cell_magic('distribute', '', 'raise KeyError(\"k\", 5)')\n"
        "except KeyError as error: print(error.args)"
    )

    assert cell.text() == "('k', 5)\n"


def test_a_retry_is_said_and_its_end_counts(notebook: Kernel, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    cell = notebook.execute(
        f"%%distribute --retries 1\nimport pathlib\nmark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists():\n    mark.touch()\n    raise OSError('once')\nprint('done')"
    )

    assert cell.reply["status"] == "ok"
    assert cell.text() == "done\n"
    assert "OSError: once" in cell.text("stderr")
    assert cell.contents("error") == []


def test_an_error_keeps_its_traceback_when_its_worker_is_set_aside(notebook: Kernel, tmp_path: Path) -> None:
    mark = str(tmp_path / "bad")
    cell = notebook.execute(
        "%%distribute --each number in range(60)\n"
        "import os, time\nfrom contextlib import suppress\n"
        f"with suppress(FileExistsError): os.symlink(str(os.getppid()), {mark!r})\n"
        "time.sleep(0.05)\n"
        f"if os.readlink({mark!r}) == str(os.getppid()): raise OSError('always')"
    )

    assert "is set aside for cell In[" in cell.text("stderr")
    assert "raise OSError('always')" in plain(cell.error)


def test_the_last_value_is_captured_as_it_is_here(notebook: Kernel) -> None:
    cell = notebook.execute("%%capture caught\n%%distribute\nprint('text')\n'value'")

    assert cell.contents("execute_result") == []
    assert notebook.execute("print([caught.stdout, caught.outputs[0].data])").text() == (
        "['text\\n', {'text/plain': \"'value'\"}]\n"
    )


def test_a_traceback_of_a_function_that_came_back_shows_its_source(notebook: Kernel) -> None:
    number = notebook.execute("%%distribute\ndef f(v):\n    return 1 / v").reply["execution_count"]

    shown = plain(notebook.execute("f(0)").error)

    assert f"Cell In[{number}], line 3, in f(v)" in shown
    assert "----> 3     return 1 / v" in shown


@pytest.mark.parametrize(
    ("cell", "name", "said"),
    [
        ("x = = 1", "SyntaxError", "line 2"),
        ("return 1", "SyntaxError", "'return' outside function"),
        ("exec('x = = 1')", "SyntaxError", "invalid syntax"),
        ("exit()", "CellExited", "nothing to exit on a worker"),
        ("quit", "CellExited", "nothing to exit on a worker"),
        ("import sys; sys.exit(3)", "CellExited", "exit() with 3"),
        ("name = input('name? ')", "NoInputOnWorkers", "input() cannot ask"),
        ("import getpass; getpass.getpass()", "NoInputOnWorkers", "getpass() cannot ask"),
        ("breakpoint()", "NoInputOnWorkers", "breakpoint() cannot ask"),
        ("print(nowhere)", "UndefinedName", "'nowhere' (line 2)"),
        ("import no_such_module_anywhere", "MissingPackage", "no module 'no_such_module_anywhere'"),
        ("import os; os._exit(3)", "TaskCrashed", "exit code 3"),
        (
            "from IPython.display import display\ndisplay({'text/plain': 'x' * 200_000_000}, raw=True)",
            "PayloadTooLarge",
            "the limit is 33,554,432",
        ),
    ],
)
def test_bad_input_is_a_clear_error_and_kernel_and_engine_live_on(
    notebook: Kernel, cell: str, name: str, said: str
) -> None:
    answer = notebook.execute(f"%%distribute\n{cell}")

    assert (answer.reply["status"], answer.reply["ename"]) == ("error", name)
    assert said in plain(answer.error) + answer.reply["evalue"]
    assert notebook.execute("%%distribute\n1 + 1").contents("execute_result")[0]["data"]["text/plain"] == "2"


@pytest.mark.parametrize("cell", ["x = = 1", "exec('x = = 1')", "raise ExceptionGroup('many', [ValueError(1)])"])
def test_syntax_errors_and_groups_are_shown_once_without_frames_of_ours(notebook: Kernel, cell: str) -> None:
    if cell.startswith("raise") and sys.version_info < (3, 11):
        pytest.skip("there are no groups yet")

    answer = notebook.execute(f"%%distribute\n{cell}")

    assert answer.kinds == ["error"]
    assert "dcengine" not in answer.error
    assert "run_cell_magic" not in answer.error


def test_an_error_with_an_endless_message_is_shown_shortened(notebook: Kernel) -> None:
    shown = plain(notebook.execute("%%distribute\nraise ValueError('x' * 40_000_000)").error)

    assert "----> 2 raise ValueError" in shown
    assert "characters left out" in shown
    assert len(shown) < 1_000_000


def test_an_error_that_cannot_say_what_it_is_points_at_the_cells_lines_all_the_same(notebook: Kernel) -> None:
    code = "class Mute(Exception):\n    def __str__(self): raise RuntimeError('no')\nraise Mute()"

    answer = notebook.execute(f"%%distribute\n{code}")

    assert answer.kinds == ["error"]
    assert "----> 4 raise Mute()" in plain(answer.error)
    assert "sending.py" not in answer.error


def test_what_programs_and_c_code_write_appears_in_the_cell(notebook: Kernel) -> None:
    code = """%%distribute
import ctypes, os, subprocess
print("one")
subprocess.run(["sh", "-c", "echo two; echo three >&2"])
ctypes.CDLL(None).printf(b"four\\n")
if os.fork() == 0:
    os.write(1, b"five\\n")
    os._exit(0)
os.wait();"""

    cell = notebook.execute(code)

    assert cell.text("stderr") == "three\n"
    assert sorted(cell.text().split()) == ["five", "four", "one", "two"]


def test_the_output_of_a_program_is_live(notebook: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.02; done; echo second"

    request = notebook.start(f"%%distribute\nimport os\nos.system({script!r});")
    notebook.hear(request, lambda message: "first" in message["content"].get("text", ""))
    go.touch()

    assert notebook.finish(request).text() == "first\nsecond\n"


def test_a_bar_stays_in_the_cell_as_text(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute\nfrom tqdm.auto import tqdm\nfor _ in tqdm(range(3), desc='images'): pass")

    assert "\rimages: 100%" in cell.text("stderr")
    assert "3/3" in cell.text("stderr")


def test_figures_may_be_asked_for_inline(notebook: Kernel) -> None:
    cell = notebook.execute(
        "%%distribute\n%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1]); plt.show()"
    )

    assert cell.kinds == ["display_data"]


def test_how_a_cell_sets_up_its_shell_is_not_the_next_ones_affair(notebook: Kernel) -> None:
    figures = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()"
    settings = "%xmode Plain\n%precision 2\n%pdb on\n%config InlineBackend.figure_format = 'svg'\n"
    only = "--tags site=lab"  # the same process for all of them

    first = notebook.execute(f"%%distribute {only}\n{settings}{figures}\n1 / 3")
    notebook.execute(f"%%distribute {only}\n%pdb on\n1 / 0")
    second = notebook.execute(f"%%distribute {only}\n{figures}\n1 / 3")
    third = plain(notebook.execute(f"%%distribute {only}\n1 / 0").error)

    assert "image/svg+xml" in first.contents("display_data")[0]["data"]
    assert first.contents("execute_result")[0]["data"]["text/plain"] == "0.33"
    assert "image/png" in second.contents("display_data")[0]["data"]
    assert second.contents("execute_result")[0]["data"]["text/plain"] == "0.3333333333333333"
    assert "----> 2 1 / 0" in third


def test_a_file_that_a_with_has_closed_stays_behind_quietly(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute\nwith open('/dev/null') as file:\n    text = file.read()")

    assert cell.text("stderr") == ""
    assert notebook.execute("print(repr(text), 'file' in globals())").text() == "'' False\n"


def test_what_a_lost_kernels_cell_made_is_found_by_its_job(notebook: Kernel, engine: str) -> None:
    cell = notebook.execute("%%distribute\nimport html\nmade = 6\ndef f(): return made\n[7]")
    notebook.execute("%reset -f")

    job = job_of(engine, f"cell In[{cell.reply['execution_count']}]")

    found = f"import dcengine\nmade = dcengine.job({job}).result().unpack()\n"
    shown = notebook.execute(f"{found}print(sorted(made), made['made'], made['_'], made['html'].escape('<'))").text()
    assert shown == "['_', 'f', 'html', 'made'] 6 [7] &lt;\n"


def test_a_cell_that_ends_its_process_runs_once(notebook: Kernel, tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    answer = notebook.execute(f"%%distribute\nimport os\nopen({str(runs)!r}, 'a').write('x')\nos._exit(3)")

    assert answer.reply["ename"] == "TaskCrashed"
    assert runs.read_text() == "x"


@pytest.mark.parametrize(
    ("line", "name", "said"),
    [
        ("--bogus", "InvalidCell", "usage: %%distribute"),
        ("--timeout soon", "InvalidCell", "invalid float value: 'soon'"),
        ("--tags 'gpu", "InvalidCell", "No closing quotation"),
        ("--tags gpu >> 3", "InvalidTags", "at character 6"),
        ("--out never_bound", "InvalidCell", "never_bound"),
        ("--retries -1", "InvalidOption", "retries"),
    ],
)
def test_wrong_options_are_a_clear_error(notebook: Kernel, line: str, name: str, said: str) -> None:
    answer = notebook.execute(f"%%distribute {line}\nx = 1")

    assert answer.reply["ename"] == name
    assert said in plain(answer.error)
    assert "Traceback" not in plain(answer.error)


def test_a_shadowed_builtin_travels(notebook: Kernel) -> None:
    notebook.execute("len = lambda v: 'mine'")

    assert notebook.execute("%%distribute\nprint(len([]), max(1, 2))").text() == "mine 2\n"


def test_a_name_that_cannot_travel_is_refused_by_name_before_anything_runs(notebook: Kernel, tmp_path: Path) -> None:
    notebook.execute("import threading\nlock = threading.Lock()\nfine = 1")

    cell = notebook.execute(f"%%distribute\nopen({str(tmp_path / 'ran')!r}, 'w')\nprint(fine)\nlock.acquire()")

    assert cell.reply["ename"] == "NamesCannotTravel"
    assert "lock: a lock: cannot pickle '_thread.lock' object" in cell.reply["evalue"]
    assert "fine" not in cell.reply["evalue"]
    assert not (tmp_path / "ran").exists()


def test_a_function_that_cannot_travel_says_which_name_it_uses(notebook: Kernel) -> None:
    notebook.execute("import threading\nmutex = threading.Lock()\ndef guarded():\n    with mutex: return 1")

    said = notebook.execute("%%distribute\nguarded()").error

    assert "guarded: a function: cannot pickle '_thread.lock' object, for it uses mutex" in said


def test_a_module_beside_the_notebook_travels_from_there_only_and_says_so(notebook: Kernel) -> None:
    notebook.execute("%%writefile beside.py\ndef f(): return 5")

    missing = notebook.execute("%%distribute\nimport beside")
    notebook.execute("import beside")

    assert "import it in a cell that runs here" in missing.error
    assert notebook.execute("%%distribute\nprint(beside.f())").text() == "5\n"


def test_a_notebook_keeps_its_own_module_attributes(notebook: Kernel) -> None:
    assert notebook.execute("%%distribute\n__name__ = 'other'").reply["status"] == "ok"

    assert notebook.execute("print(__name__)").text() == "__main__\n"


def test_a_dry_run_says_what_would_travel_and_sends_nothing(notebook: Kernel, engine: str) -> None:
    notebook.execute("data = bytes(3 << 20)\nimport threading; lock = threading.Lock()")

    cell = notebook.execute("%%distribute --dry-run --tags site==lab\nprint(len(data), lock)\nresult = 1")

    assert re.search(r"^data +bytes +3\.0 MiB$", cell.text(), re.MULTILINE)
    assert re.search(r"^lock +lock +cannot travel: ", cell.text(), re.MULTILINE)
    assert "would come back: result" in cell.text()
    assert "workers: 1 of 2 workers matches" in cell.text()
    with pytest.raises(StopIteration):
        job_of(engine, f"cell In[{cell.reply['execution_count']}]")


def test_a_gigabyte_printed_is_bounded_and_said_so(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute\nline = 'x' * 999\nfor _ in range(1_000_000): print(line)\nended = True")

    assert cell.reply["status"] == "ok"
    assert (16 << 20) - 2000 < len(cell.text()) < 17 << 20
    assert "bytes are left out here" in cell.text()
    assert notebook.execute("print(ended)").text() == "True\n"


def test_a_time_out_shows_the_line_it_met(notebook: Kernel) -> None:
    cell = notebook.execute("%%distribute --timeout 0.3\nimport time\ntime.sleep(60)")

    assert cell.reply["ename"] == "TaskTimeout"
    assert "----> 3 time.sleep(60)" in plain(cell.error)
    assert "ran longer than its time-out of 0.3 s" in plain(cell.error)


# ---- the stop button -----------------------------------------------------------------------


@pytest.mark.parametrize("nap", ["import time\ntime.sleep(60)", "import asyncio\nawait asyncio.sleep(60)"])
def test_the_stop_button_interrupts_the_remote_code(notebook: Kernel, nap: str) -> None:
    request = notebook.start(f"%%distribute\nprint('started', flush=True)\n{nap}")
    notebook.hear(request, lambda message: message["content"].get("text") == "started\n")

    notebook.interrupt()
    cell = notebook.finish(request)

    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert "once more kills it" in cell.text("stderr")
    assert f"----> 4 {nap.splitlines()[1]}" in plain(cell.error)
    assert "dcengine" not in plain(cell.error).replace("# %%distribute", "")


def test_code_that_catches_the_interrupt_goes_on(notebook: Kernel) -> None:
    request = notebook.start(
        "%%distribute\nimport time\nprint('started')\n"
        "try: time.sleep(60)\nexcept KeyboardInterrupt: print('caught')\nx = 7"
    )
    notebook.hear(request, lambda message: message["content"].get("text") == "started\n")

    notebook.interrupt()
    cell = notebook.finish(request)

    assert cell.reply["status"] == "ok"
    assert cell.text() == "started\ncaught\n"
    assert notebook.execute("print(x)").text() == "7\n"


def test_a_second_press_kills_the_remote_code(notebook: Kernel) -> None:
    request = notebook.start(
        "%%distribute\nimport time\nprint('started')\nwhile True:\n"
        "    try: time.sleep(60)\n    except KeyboardInterrupt: print('no')"
    )
    notebook.hear(request, lambda message: message["content"].get("text") == "started\n")

    notebook.interrupt()
    notebook.hear(request, lambda message: message["content"].get("text") == "no\n")
    notebook.interrupt()
    cell = notebook.finish(request)

    assert cell.reply["ename"] == "JobCancelled"
    assert "killing job" in cell.text("stderr")


def test_a_cell_that_no_worker_matches_says_so_and_can_be_stopped(notebook: Kernel) -> None:
    request = notebook.start("%%distribute --tags no_such_tag\n1")
    notebook.hear(request, lambda message: "no worker matches" in message["content"].get("text", ""))

    notebook.interrupt()
    cell = notebook.finish(request)

    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert "stopped before it ran" in plain(cell.error)


# ---- an engine that goes away --------------------------------------------------------------


def test_a_cell_outlives_an_engine_that_is_killed_in_its_middle(tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    code = (
        f"%%distribute\nimport os, time\nprint('started')\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)\nx = 3"
    )
    try:
        with kernel(tmp_path, DCENGINE_WORKERS="1") as notebook:
            notebook.execute("%load_ext dcengine")
            request = notebook.start(code)
            notebook.hear(request, lambda message: message["content"].get("text") == "started\n")

            owner = find_owner(tmp_path / "dcengine.db")
            assert owner is not None
            os.kill(owner.pid, signal.SIGKILL)
            go_on.touch()
            cell = notebook.finish(request)

            assert cell.reply["status"] == "ok"
            assert set(cell.text().splitlines()) == {"started"}
            assert notebook.execute("print(x)").text() == "3\n"
    finally:
        _end_engine(tmp_path)


def _end_engine(folder: Path) -> None:
    owner = find_owner(folder / "dcengine.db")
    if owner is not None:
        process = psutil.Process(owner.pid)
        process.terminate()
        process.wait(20)


def test_an_embedded_engine_that_closes_is_waited_for_until_stop_gives_up(tmp_path: Path) -> None:
    with kernel(tmp_path) as notebook:
        notebook.execute("%load_ext dcengine\nimport dcengine, threading, time")
        notebook.execute("engine = dcengine.Engine('work.db', workers=1).start()")
        notebook.execute("import builtins; builtins.engine = engine")
        subshell = notebook.create_subshell()
        request = notebook.start("%%distribute\nimport time\nprint('started')\ntime.sleep(60)")
        notebook.hear(request, lambda message: message["content"].get("text") == "started\n")

        assert notebook.execute("engine.close()", subshell=subshell).reply["status"] == "ok"
        notebook.hear(request, lambda message: "waiting for its engine" in message["content"].get("text", ""))
        notebook.interrupt()
        cell = notebook.finish(request)

        assert cell.reply["ename"] == "KeyboardInterrupt"
        assert re.search(r"%distribute attach job \d+", plain(cell.error))


def test_cells_need_worker_processes(tmp_path: Path) -> None:
    with kernel(tmp_path) as notebook:
        notebook.execute("%load_ext dcengine\nimport dcengine")
        notebook.execute("engine = dcengine.Engine('work.db', workers=1, processes=False).start()")

        cell = notebook.execute("%%distribute\n1")

        assert cell.reply["ename"] == "InvalidOption"
        assert "worker processes" in cell.reply["evalue"]
        notebook.execute("engine.close()")
