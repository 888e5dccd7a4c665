"""Our kernels by the clients that others wrote: jupyter_kernel_client, nbclient, papermill, a stock jupyter_server
in gateway mode, and the suite of jupyter_kernel_test. JupyterLab has a module of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import papermill
import pytest
from jupyter_kernel_client import JupyterKernelClient, KernelHttpManager
from yarl import URL

from benchmarks.crowds import crowd
from benchmarks.frontends import Server
from tests.acceptance import test_kernel
from tests.engines import eventually, serving
from tests.labs import lab

PATIENCE = 60.0


class RemoteKernel(KernelHttpManager):
    """A kernel behind a URL, as nbclient, papermill and jupyter_kernel_test want to have one."""

    def start_kernel(self, **_: object) -> None:
        super().start_kernel("dcengine")

    def shutdown_kernel(self, **_: object) -> None:
        super().shutdown_kernel(now=True)

    def client(self) -> Any:
        return super().client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("engine")
    with serving(folder / "engine.db", "--files", str(folder), workers=1) as (process, told):
        address = URL(str(told["url"]))
        yield Server(str(address.origin()), address.query["token"], process.pid)


@pytest.fixture
def remote(server: Server) -> RemoteKernel:
    return RemoteKernel(server.url, server.token)


# ---- jupyter_kernel_client -----------------------------------------------------------------


@pytest.fixture(scope="module", params=["directly", "behind a stock jupyter_server"])
def kernel(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterKernelClient]:
    """A kernel of ours, asked where it runs, and through a stock server that was given our URL."""
    if request.param == "directly":
        yield from started(server.url, server.token)
    else:
        with lab(tmp_path_factory.mktemp("stock"), server.url, server.token) as stock:
            yield from started(stock.url, stock.token)


def shown(ran: dict[str, Any]) -> str:
    """Return all that an execution has shown as text."""
    return "".join(output.get("text") or output["data"]["text/plain"] for output in ran["outputs"])


def started(url: str, token: str) -> Iterator[JupyterKernelClient]:
    client = JupyterKernelClient(server_url=url, token=token)
    client.start("dcengine")
    yield client
    client._manager.shutdown_kernel(now=True)  # first: a client that hangs up itself waits ten seconds for its thread
    client.stop()


def test_it_runs_code_and_shows_what_comes_of_it(kernel: JupyterKernelClient) -> None:
    ran = kernel.execute("print('a')\n6 * 7")
    failed = kernel.execute("1 / 0")

    assert kernel.kernel_info["implementation"] == "dcengine"
    assert shown(ran) == "a\n42"
    assert (failed["status"], failed["outputs"][0]["ename"]) == ("error", "ZeroDivisionError")


def test_it_gives_and_takes_variables(kernel: JupyterKernelClient) -> None:
    kernel.set_variable("numbers", [1, 2, 3])
    kernel.execute("total = sum(numbers)")

    assert kernel.get_variable("total") == 6
    assert {"numbers", "total"} <= {variable["name"] for variable in kernel.list_variables()}


def test_it_is_asked_for_input(kernel: JupyterKernelClient) -> None:
    def answer(_: object) -> None:
        kernel._manager.client.input("Ada")

    ran = kernel.execute("print('Hello', input('Name? '))", allow_stdin=True, stdin_hook=answer, timeout=PATIENCE)

    assert shown(ran) == "Hello Ada\n"


def test_it_interrupts_a_cell(kernel: JupyterKernelClient, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def interrupt() -> None:
        eventually(begun.exists, PATIENCE)
        kernel.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    stopped = kernel.execute(
        f"import time; open({str(begun)!r}, 'w').close(); [time.sleep(0.1) for _ in range(6000)]", timeout=PATIENCE
    )
    thread.join()

    assert stopped["outputs"][0]["ename"] == "KeyboardInterrupt"


def test_jobs_of_its_cells_run_on_the_engine_that_started_it(kernel: JupyterKernelClient) -> None:
    ran = kernel.execute("import dcengine; dcengine.submit(abs, -7).result()", timeout=PATIENCE)

    assert shown(ran) == "7"


def test_it_restarts_the_kernel_and_goes_on(kernel: JupyterKernelClient) -> None:
    kernel.execute("kept = 1")

    kernel.restart()

    assert shown(kernel.execute("'kept' in globals()", timeout=PATIENCE)) == "False"


def test_without_a_name_it_gets_a_python_kernel(server: Server) -> None:
    with JupyterKernelClient(server_url=server.url, token=server.token) as kernel:
        ran = kernel.execute("1 + 1")
        kernel._manager.shutdown_kernel(now=True)  # first, as above

    assert shown(ran) == "2"


# ---- programs that run notebooks -----------------------------------------------------------


def test_nbclient_runs_a_notebook_on_a_kernel_behind_a_url(remote: RemoteKernel) -> None:
    cells = [nbformat.v4.new_code_cell(code) for code in ("count = 6", "print('counting')\ncount * 7")]
    notebook = nbformat.v4.new_notebook(cells=cells)

    nbclient.NotebookClient(notebook, km=remote, timeout=PATIENCE).execute()

    printed, result = notebook.cells[1].outputs
    assert (printed["text"], result["data"]["text/plain"]) == ("counting\n", "42")


def test_papermill_runs_a_notebook_with_parameters_there(remote: RemoteKernel, tmp_path: Path) -> None:
    kernelspec = {"name": "dcengine", "display_name": "dcengine", "language": "python"}
    cells = [
        nbformat.v4.new_code_cell("count = 6", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("count * 7"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
    nbformat.write(notebook, tmp_path / "in.ipynb")

    ran = papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"count": 7}, km=remote, progress_bar=False
    )

    assert ran.cells[-1].outputs[0]["data"]["text/plain"] == "49"


# ---- the protocol --------------------------------------------------------------------------


class ProtocolTests(test_kernel.ProtocolTests):
    """All that jupyter_kernel_test asks, through our endpoint."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def behind_a_url(cls, server: Server) -> Iterator[None]:
        cls.km = RemoteKernel(server.url, server.token)
        cls.km.start_kernel()
        cls.kc = cls.km.client()
        cls.kc.start_channels()
        cls.kc.wait_for_ready(timeout=PATIENCE)
        yield
        cls.km.shutdown_kernel()  # first, as above
        cls.kc.stop_channels()

    @classmethod
    def setUpClass(cls) -> None:
        """Leave it to the fixture, which knows the engine."""

    @classmethod
    def tearDownClass(cls) -> None:
        """The fixture does that too."""


# ---- many ----------------------------------------------------------------------------------


def test_twelve_front_ends_at_six_kernels_lose_and_reorder_nothing(server: Server) -> None:
    crowd(server, kernels=6, lines=50)
