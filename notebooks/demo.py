"""Execute the quickstart notebook on the dcengine kernel and say what came of it. `make demo` runs this."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from traitlets.config import Config

NOTEBOOK = Path(__file__).with_name("01-quickstart.ipynb")
FOLDER = Path("build")
PAGE, DB = FOLDER / "quickstart.html", FOLDER / "quickstart.db"
CELL_SECONDS = 120
TRIES = 3  #: to start the kernel

console = Console(highlight=False)


def main() -> None:
    """Run the notebook, write it down with its pictures, and say where everything is."""
    started = time.monotonic()
    FOLDER.mkdir(exist_ok=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook)
    write_page(notebook, PAGE, "dcengine quickstart")
    show_leaderboard(notebook)
    say_where_everything_is(time.monotonic() - started)


def execute(notebook: NotebookNode) -> None:
    """Run all cells on the dcengine kernel, in `FOLDER`, and show how far it is."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("cells"),
    ]
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        bar = progress.add_task("starting the dcengine kernel", total=len(code))

        def begin(cell: NotebookNode, cell_index: int) -> None:
            progress.update(bar, description=heading(notebook, cell_index))

        def end(cell: NotebookNode, cell_index: int, **_: object) -> None:
            progress.advance(bar)

        for tries_left in reversed(range(TRIES)):
            client = NotebookClient(
                notebook,
                kernel_name="dcengine",
                timeout=CELL_SECONDS,
                resources={"metadata": {"path": str(FOLDER)}},
                config=Config(KernelManager={"transport_encryption": "auto"}),
                on_cell_execute=begin,
                on_cell_executed=end,
            )
            try:
                asyncio.run(run_cells(client))
                break
            except RuntimeError as error:
                if not (tries_left and has_no_kernel(client, error)):
                    raise


def has_no_kernel(client: NotebookClient, error: RuntimeError) -> bool:
    """Return whether *error* is that the kernel did not start: a port that was free is so no more."""
    if isinstance(error, (CellExecutionError, DeadKernelError)) or "died before" not in str(error):
        return False
    atexit.unregister(client._cleanup_kernel)  # done already, and it would complain about that
    return True


async def run_cells(client: NotebookClient) -> None:
    """Run all cells; Ctrl-C stops the one that runs, and with it the notebook, as the stop button would."""
    running = asyncio.ensure_future(client.async_execute(env=own_environment()))
    pressed = asyncio.Event()
    show_cell = client.on_cell_execute

    def stop() -> None:
        if pressed.is_set():
            running.cancel()
        else:
            pressed.set()
            asyncio.ensure_future(client.km.interrupt_kernel()).add_done_callback(lambda done: done.result())

    def take_ctrl_c_over(**_: object) -> None:  # nbclient would kill the kernel, which could not say good-bye then
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)

    async def begin_cell(**facts: Any) -> None:
        show_cell(**facts)
        if pressed.is_set():  # the kernel had nothing to stop: it was between two cells
            running.cancel()
            await asyncio.sleep(0)  # the cancellation comes here, before the cell is sent

    client.on_notebook_start, client.on_cell_execute = take_ctrl_c_over, begin_cell
    try:
        await running
    except (CellExecutionError, DeadKernelError, asyncio.CancelledError):
        if pressed.is_set():
            raise KeyboardInterrupt from None
        raise


def own_environment() -> dict[str, str]:
    """Return the environment of the kernel: the programs beside this Python go first."""
    beside = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])}


def heading(notebook: NotebookNode, index: int) -> str:
    """Return the newest heading above cell *index*."""
    lines = [
        line for cell in notebook.cells[:index] if cell.cell_type == "markdown" for line in cell.source.split("\n")
    ]
    return next(line.lstrip("# ") for line in reversed(lines) if line.startswith("#"))


def write_page(notebook: NotebookNode, page: Path, title: str) -> None:
    """Write the executed notebook as a *page* that holds its pictures."""
    html, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook, {"metadata": {"name": title}})
    page.write_text(html, "utf-8")


def show_leaderboard(notebook: NotebookNode) -> None:
    """Print the leaderboard that the notebook shows."""
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith("dcengine.leaderboard(")]
    console.print(cell.outputs[0].data["text/plain"], markup=False)


def say_where_everything_is(seconds: float) -> None:
    """Print what there is now, and what to try next."""
    command = os.path.relpath(shutil.which("dcengine", path=Path(sys.executable).parent) or "dcengine")
    text = f"""
[bold]The quickstart ran on the dcengine kernel in {seconds:.0f} s[/]
  its page   {PAGE}   (open it in a browser: pictures included)
  its jobs   {DB}   (kept; look again: {command} jobs --db {DB})

[bold]Run it yourself[/]
  pip install jupyterlab, then jupyter lab {os.path.relpath(NOTEBOOK)}, with the kernel "dcengine"
  (Jupyter of another environment finds that kernel after {command} kernel install)

[bold]Next[/]
  README.md            dcengine in your own programs
  docs/notebooks.md    the kernel, %%distribute and the widgets"""
    console.print(text, soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print(f"\nstopped; what is left is kept in {DB}, and the next run goes on with it")
        sys.exit(130)
    except CellExecutionError as error:
        sys.exit(f"demo: a cell of the quickstart failed\n{error}")
