"""The kernel as front ends meet it: found by its name, asked over the protocol, with nothing in between."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import nbclient
import nbformat
import pexpect
import pytest
import zmq
from jupyter_client.connect import write_connection_file
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import start_new_kernel
from jupyter_client.session import Session

import dcengine
from tests.kernels import PATIENCE, Kernel

Message = dict[str, Any]


def own_settings(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment in which nobody's settings, kernels and engines count."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DCENGINE_", "JUPYTER_"))}
    places = {"IPYTHONDIR": "ipython", "JUPYTER_DATA_DIR": "data", "JUPYTER_CONFIG_DIR": "config"}
    return {**inherited, **{name: str(folder / place) for name, place in places.items()}, **more}


@contextmanager
def started(folder: Path, name: str = "dcengine", **more: str) -> Iterator[Kernel]:
    """A kernel that works in *folder*, found as it was installed."""
    manager, client = start_new_kernel(
        startup_timeout=PATIENCE, kernel_name=name, cwd=str(folder), env=own_settings(folder, **more)
    )
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(kernel: Kernel, code: str, **options: Any) -> list[Message]:
    """Run *code* as a cell; return what it showed, in order."""
    messages = kernel.execute(code, **options).messages
    return [message for message in messages if message["msg_type"] not in ("status", "execute_input")]


def text_of(messages: list[Message]) -> str:
    """Return all that *messages* say in plain text."""
    contents = [message["content"] for message in messages]
    return "".join(
        content.get("text") or content.get("data", {}).get("text/plain") or content.get("evalue", "")
        for content in contents
    )


def info(kernel: Kernel) -> dict[str, Any]:
    """Return what the kernel says of itself."""
    content: dict[str, Any] = kernel.client.kernel_info(reply=True, timeout=PATIENCE)["content"]
    return content


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started(tmp_path_factory.mktemp("notebooks")) as running:
        yield running


@pytest.mark.parametrize("name", ["shell", "iopub", "stdin", "control"])
def test_a_kernel_one_of_whose_ports_is_taken_ends_and_says_so(name: str, tmp_path: Path) -> None:
    file, connection = write_connection_file(str(tmp_path / "kernel.json"))
    command = [sys.executable, "-m", "dcengine_kernel", "-f", file]
    with socket.create_server(("127.0.0.1", connection[f"{name}_port"])):
        ended = subprocess.run(command, env=own_settings(tmp_path), capture_output=True, text=True, timeout=PATIENCE)

    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr


def test_a_front_end_that_listens_late_misses_nothing_of_ten_thousand_prints(kernel: Kernel) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as late:
        for option, value in ((zmq.RCVHWM, 10), (zmq.RCVBUF, 4096), (zmq.RCVTIMEO, int(1000 * PATIENCE))):
            late.setsockopt(option, value)
        late.subscribe(b"")
        late.connect(f"tcp://127.0.0.1:{kernel.manager.iopub_port}")
        while not late.poll(200):  # milliseconds
            kernel.client.kernel_info(reply=True, timeout=PATIENCE)
        kernel.execute("for number in range(10_000): print(number, flush=True)")
        kernel.execute("print('the end', flush=True)")
        session, text = Session(key=kernel.client.session.key), ""
        while not text.endswith("the end\n"):
            _, frames = session.feed_identities(late.recv_multipart())
            message = session.deserialize(frames)
            text += message["content"].get("text", "")

    assert text == "".join(f"{number}\n" for number in range(10_000)) + "the end\n"


class ProtocolTests(jupyter_kernel_test.KernelTests):
    """All that the suite asks of any kernel and a Python one can do."""

    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('trouble', file=sys.stderr)"
    completion_samples = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import dcengin", "matches": {"dcengine", "dcengine_kernel", "dcengine_magics", "dcengine_plugins"}},
    ]
    complete_code_samples = ["1", "print('done')", "def answer():\n    return 42\n\n"]
    incomplete_code_samples = ["print('''to be", "def answer():", "for i in range(3):\n    print(i)"]
    invalid_code_samples = ["import = 7", "1 +* 2"]
    code_page_something = "zip?"
    code_generate_error = "1 / 0"
    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": "'a' * 3", "result": "'aaa'"},
        {"code": "6 * 9", "result": "54"},
    ]
    code_display_data = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>bold</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('x^2'))", "mime": "text/latex"},
    ]
    code_history_pattern = "6 [*] 7"
    supported_history_operations = ("tail", "search")  # IPython calls its own session 0, the suite wants its number
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.running = started(Path(cls.folder.name))
        kernel = cls.running.__enter__()
        cls.km, cls.kc = kernel.manager, kernel.client

    @classmethod
    def tearDownClass(cls) -> None:
        cls.running.__exit__(None, None, None)
        cls.folder.cleanup()


# ---- what it is ----------------------------------------------------------------------------


def test_the_kernel_is_found_by_name_with_its_pictures() -> None:
    spec = KernelSpecManager().get_kernel_spec("dcengine")

    assert spec.display_name == "dcengine"
    assert spec.language == "python"
    pictures = {path.name: path.read_bytes() for path in Path(spec.resource_dir).glob("logo-*")}
    assert sorted(pictures) == ["logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]
    for side in (32, 64):
        assert pictures[f"logo-{side}x{side}.png"][16:24] == side.to_bytes(4, "big") * 2


def test_the_kernel_says_its_name_and_that_no_engine_runs(tmp_path: Path) -> None:
    with started(tmp_path) as kernel:
        said = info(kernel)

    assert (said["implementation"], said["implementation_version"]) == ("dcengine", dcengine.__version__)
    assert f"no engine runs for {tmp_path / 'dcengine.db'} yet" in said["banner"]
    assert "An enhanced Interactive Python" in said["banner"]
    assert not list(tmp_path.glob("*.db*"))


def test_the_banner_tells_of_an_engine_opened_since(tmp_path: Path) -> None:
    with started(tmp_path) as kernel:
        run(kernel, "import dcengine; engine = dcengine.Engine('own.db', workers=1, processes=False).start()")
        said = info(kernel)["banner"]
        run(kernel, "engine.close()")

    assert f"the engine of this process, for {tmp_path / 'own.db'}" in said


def test_apart_from_its_name_the_kernel_is_the_stock_one(kernel: Kernel, tmp_path: Path) -> None:
    own = {"implementation", "implementation_version", "banner"}
    with started(tmp_path, "python3") as stock:
        expected = {name: value for name, value in info(stock).items() if name not in own}

    assert "debugger" in expected["supported_features"]
    assert {name: value for name, value in info(kernel).items() if name not in own} == expected


# ---- our extension -------------------------------------------------------------------------

HAS_DISTRIBUTE = "print('distribute' in get_ipython().magics_manager.magics['cell'])"


def test_the_extension_is_there_from_the_start(kernel: Kernel) -> None:
    assert text_of(run(kernel, HAS_DISTRIBUTE)) == "True\n"


def test_the_kernel_starts_without_what_only_jobs_and_views_need(tmp_path: Path) -> None:
    heavy = {"aiohttp", "cloudpickle", "dask", "dcengine.api", "distributed", "ipywidgets", "matplotlib", "numpy"}
    with started(tmp_path) as kernel:
        info(kernel)
        shown = run(kernel, f"import sys; print(sorted({heavy!r} & set(sys.modules)))")

    assert text_of(shown) == "[]\n"


def test_the_stock_kernel_gets_the_same_by_loading_the_extension(tmp_path: Path) -> None:
    with started(tmp_path, "python3") as kernel:
        said = [
            text_of(run(kernel, code))
            for code in (HAS_DISTRIBUTE, "%load_ext dcengine", HAS_DISTRIBUTE, "%unload_ext dcengine", HAS_DISTRIBUTE)
        ]

    assert said == ["False\n", "", "True\n", "", "False\n"]


def test_terminal_ipython_gets_the_same_by_loading_the_extension(tmp_path: Path) -> None:
    command = f"get_ipython().run_line_magic('load_ext', 'dcengine'); {HAS_DISTRIBUTE}"

    answer = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt", "-c", command],
        cwd=tmp_path, env=own_settings(tmp_path), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip

    assert (answer.stdout, answer.returncode) == ("True\n", 0), answer.stderr


def test_an_extension_that_fails_leaves_a_kernel_that_works_and_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "packages/dcengine_magics/__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("raise ImportError('half an installation')")

    with started(tmp_path, PYTHONPATH=str(tmp_path / "packages")) as kernel:
        said = info(kernel)["banner"]
        hidden = run(kernel, "1 + 1", store_history=False)
        first, second = run(kernel, "1 + 2"), run(kernel, "1 + 3")

    assert "Its extension was not loaded; %load_ext dcengine says why" in said
    assert text_of(hidden) == "2"
    assert "its magics are missing here: ImportError: half an installation" in text_of(first)
    assert [text_of([first[-1]]), text_of(second)] == ["3", "4"]


def test_the_settings_that_people_have_for_ipython_count(tmp_path: Path) -> None:
    profile = tmp_path / "ipython/profile_default"
    profile.mkdir(parents=True)
    (tmp_path / "theirs.py").write_text("def load_ipython_extension(ip): ip.user_ns['loaded'] = 'theirs'")
    settings = ["c.InteractiveShellApp.extensions = ['theirs']", "c.InteractiveShellApp.exec_lines = ['ran = 1']"]
    (profile / "ipython_config.py").write_text("\n".join(["c = get_config()", *settings]))

    with started(tmp_path) as kernel:
        shown = run(kernel, "print(loaded, ran)") + run(kernel, HAS_DISTRIBUTE)

    assert text_of(shown) == "theirs 1\nTrue\n"


def test_files_beside_the_notebook_do_not_stand_in_for_pythons_own(tmp_path: Path) -> None:
    for name in ("random", "json", "pathlib", "tempfile", "asyncio", "re"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "mine.py").write_text("value = 7")

    with started(tmp_path) as kernel:
        shown = run(kernel, "import mine; mine.value")

    assert text_of(shown) == "7"


# ---- what must stay stock ------------------------------------------------------------------


def test_a_figure_is_shown_below_its_cell(kernel: Kernel) -> None:
    shown = run(kernel, "import matplotlib.pyplot as plt; plt.plot([1, 2, 3]);")

    assert [message["msg_type"] for message in shown] == ["display_data"]
    assert shown[0]["content"]["data"]["image/png"]


def test_a_widget_opens_its_comm_and_is_shown(kernel: Kernel) -> None:
    shown = run(kernel, "import ipywidgets; ipywidgets.IntSlider()")

    assert {message["content"]["target_name"] for message in shown if message["msg_type"] == "comm_open"} == {
        "jupyter.widget"
    }
    assert "application/vnd.jupyter.widget-view+json" in shown[-1]["content"]["data"]


def test_input_asks_the_front_end(kernel: Kernel) -> None:
    asked: list[str] = []

    def answer(message: Message) -> None:
        asked.append(message["content"]["prompt"])
        kernel.client.input("Ada")

    shown: list[Message] = []
    kernel.client.execute_interactive(
        "print('Hello', input('Name? '))",
        allow_stdin=True, stdin_hook=answer, output_hook=shown.append, timeout=PATIENCE,
    )  # fmt: skip

    assert asked == ["Name? "]
    assert text_of(shown) == "Hello Ada\n"


def test_the_stop_button_interrupts_a_cell(kernel: Kernel) -> None:
    request = kernel.start("import time; print('running', flush=True); time.sleep(60)")
    kernel.hear(request, lambda message: message["msg_type"] == "stream")

    kernel.interrupt()

    assert kernel.finish(request).reply["ename"] == "KeyboardInterrupt"
    assert text_of(run(kernel, "1 + 1")) == "2"


def test_a_stop_that_python_hears_of_without_being_woken_ends_a_long_sleep(kernel: Kernel) -> None:
    block = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})"
    run(kernel, block)  # the system gives it to another thread now
    request = kernel.start("print('running', flush=True); time.sleep(60)")
    kernel.hear(request, lambda message: message["msg_type"] == "stream")

    kernel.interrupt()

    assert kernel.finish(request).reply["ename"] == "KeyboardInterrupt"
    run(kernel, block.replace("SIG_BLOCK", "SIG_UNBLOCK"))


HIT = """
def hit_in(step):
    import os, signal
    kernel, found = get_ipython().kernel, getattr(get_ipython().kernel, step)
    def hit(*args, **options):
        setattr(kernel, step, found)
        os.kill(os.getpid(), signal.SIGINT)
        return found(*args, **options)
    setattr(kernel, step, hit)
"""


def test_a_stop_just_before_or_after_a_cells_code_leaves_no_front_end_without_an_answer(kernel: Kernel) -> None:
    run(kernel, HIT)

    run(kernel, "hit_in('init_metadata')")
    before = kernel.execute("ran = True")
    run(kernel, "hit_in('_forward_input')")
    within = kernel.execute("ran = True")
    run(kernel, "hit_in('finish_metadata')")  # of this cell itself
    after = kernel.execute("6 * 7")

    for stopped in (before, within):
        assert stopped.reply["ename"] == "KeyboardInterrupt"
        assert "interrupted around the code of the cell" in stopped.error
    assert text_of(after.messages) == "42"
    assert text_of(run(kernel, "'ran' in dir()")) == "False"


# ---- programs that use kernels -------------------------------------------------------------


def test_nbclient_runs_a_notebook_on_it(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(code) for code in ("count = 6", "print('counting')\ncount * 7")]
    notebook = nbformat.v4.new_notebook(cells=cells)

    nbclient.NotebookClient(
        notebook, kernel_name="dcengine", timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}
    ).execute(env=own_settings(tmp_path))

    printed, result = notebook.cells[1].outputs
    assert printed["text"] == "counting\n"
    assert result["data"]["text/plain"] == "42"


def test_a_console_joins_it_and_shows_its_banner(tmp_path: Path) -> None:
    with started(tmp_path) as kernel:
        arguments = ["-m", "jupyter_console", "--simple-prompt", "--existing", kernel.manager.connection_file]
        console = pexpect.spawn(
            sys.executable, arguments, timeout=PATIENCE, env=own_settings(tmp_path), cwd=str(tmp_path), echo=False
        )

        console.expect_exact(f"dcengine {dcengine.__version__}: no engine runs for")
        console.expect_exact("In [1]: ")
        console.sendline("1+1")
        console.expect_exact("Out[1]: 2")
        console.expect_exact("In [2]: ")
        console.sendline("exit(keep_kernel=True)")
        console.expect(pexpect.EOF)
        console.close()


def test_an_installed_kernel_starts_in_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "dcengine", "kernel", "install", "--prefix", str(tmp_path), "--name", "elsewhere"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share/jupyter"))

    with started(tmp_path, "elsewhere") as kernel:
        shown = run(kernel, "import sys; print(sys.executable)")

    assert text_of(shown) == f"{sys.executable}\n"
