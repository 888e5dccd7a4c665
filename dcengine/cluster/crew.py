"""Our own scheduler and workers: child processes, or for tests and tiny notebooks parts of this process."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from ..errors import ClusterFailed
from .orders import Happening, Orders, WorkerOrders
from .settings import Certificate, ClusterSettings, Identity

if TYPE_CHECKING:
    from distributed import Scheduler, Worker

logger = logging.getLogger(__name__)

START_SECONDS = 60.0  #: for the launcher to import Dask and to have a scheduler
# Not ``-m``: that looks in the working directory first, and a file random.py there would be taken for Python's own.
# Last it is searched all the same: user code may import what lies beside the notebook.
LAUNCH = (
    "import os, sys; sys.path[:] = [*filter(None, sys.path), os.getcwd()]; "
    f"from {__package__}.launcher import main; main()"
)
STOP_SECONDS = 1.5  #: for the launcher to end everything and itself
LINES_LIMIT = 64 * 1024  #: bytes of what it says, taken at once


class Crew(Protocol):
    """A scheduler and workers that are ours."""

    address: str  #: of the scheduler
    certificate: Certificate | None
    pids: dict[str, int]  #: of the scheduler and the workers, by name
    ends: Counter[str]  #: how often the process of each has ended by itself

    async def start(self) -> None:
        """Start; raises `ClusterFailed`. Workers may still be joining afterwards."""
        ...

    async def close(self) -> None:
        """End all of it, in bounded time."""
        ...


def new_crew(settings: ClusterSettings, on_lost: Callable[[], None], launched: Launched | None = None) -> Crew:
    """Return the crew that *settings* ask for; *on_lost* is called when it is beyond repair."""
    return ProcessCrew(settings, on_lost, launched) if settings.processes else LocalCrew(settings)


def _worker_orders(settings: ClusterSettings) -> list[WorkerOrders]:
    return [
        WorkerOrders(name=f"w{index + 1}", identity=Identity(tags=settings.tags_of(index)))
        for index in range(settings.workers)
    ]


# ---- child processes -----------------------------------------------------------------------


class Launched:
    """A launcher process with its orders: it goes about them while whoever started it does something else."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.directory = tempfile.mkdtemp(prefix="dcengine-")
        self.orders = Orders(host=settings.host, workers=_worker_orders(settings), directory=self.directory)
        try:
            self.process = subprocess.Popen(
                (sys.executable, "-c", LAUNCH),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(settings.workers),
                start_new_session=True,  # a Ctrl-C in the terminal is for the engine alone
            )
        except OSError as error:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise ClusterFailed("the cluster's launcher", str(error)) from error
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended at once: whoever listens to it hears that
            self.process.stdin.write(msgspec.json.encode(self.orders) + b"\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Have it end, with all that it started; return once it is gone. One that takes its time is killed."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its children end when their lifeline does
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)  # a launcher that was killed has left it


class ProcessCrew:
    """Scheduler and workers as children of a launcher process."""

    def __init__(self, settings: ClusterSettings, on_lost: Callable[[], None], launched: Launched | None) -> None:
        self.address = ""
        self.certificate: Certificate | None = None
        self.pids: dict[str, int] = {}
        self.ends = Counter[str]()
        self._settings = settings
        self._on_lost = on_lost
        self._launched = launched
        self._listeners: list[asyncio.Task[None]] = []
        self._outlets: list[_Outlet] = []
        self._started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the launcher if it is not there yet, and through it the rest; raises `ClusterFailed`."""
        launched = self._launched = self._launched or Launched(self._settings)
        self._outlets = [_Outlet(launched.process.stdout), _Outlet(launched.process.stderr)]
        said, complained = (outlet.stream for outlet in self._outlets)
        self._listeners = [asyncio.create_task(self._listen(said)), asyncio.create_task(_relay_complaints(complained))]
        try:
            self.address = await asyncio.wait_for(self._started, START_SECONDS)
        except asyncio.TimeoutError:
            raise ClusterFailed("the Dask scheduler", f"it said nothing for {START_SECONDS:g} s") from None

    async def _listen(self, stdout: asyncio.StreamReader) -> None:
        """Take note of what the launcher says until it is gone."""
        async for line in stdout:
            self._note(msgspec.json.decode(line, type=Happening))
        if not self._started.done():
            self._started.set_exception(ClusterFailed("the cluster's launcher", "it ended at once, see the log"))
        self._on_lost()

    def _note(self, happening: Happening) -> None:
        if happening.pid and happening.kind != "ended":
            self.pids[happening.name] = happening.pid
        if happening.kind == "scheduler":
            self.certificate = happening.certificate
            self._started.set_result(happening.address)
        elif happening.kind == "failed":
            self._started.set_exception(ClusterFailed("the Dask scheduler", happening.reason))
        elif happening.kind == "ended":
            self.ends[happening.name] += 1
            if happening.name == "scheduler":
                self._on_lost()
            logger.warning("%s (process %d) %s", happening.name, happening.pid, happening.reason)

    async def close(self) -> None:
        """End the launcher, which ends the rest; kill it if it takes its time."""
        if self._launched:
            await asyncio.to_thread(self._launched.end)
        for listener in self._listeners:
            listener.cancel()
        for outlet in self._outlets:
            outlet.close()
        if self._started.done() and not self._started.cancelled():
            self._started.exception()  # nobody may be left to look at it


class _Outlet:
    """What comes out of *pipe*, as a stream of this loop.

    Not by ``connect_read_pipe``: uvloop's transport closes the descriptor, and the pipe closes it again once it is
    forgotten. By then the number may be that of a connection, or of the database.
    """

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self.stream = asyncio.StreamReader(LINES_LIMIT)
        self._pipe, self._loop = pipe, asyncio.get_running_loop()
        self._has_ended = False
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), LINES_LIMIT)
        except BlockingIOError:
            return
        if data:
            self.stream.feed_data(data)
        else:
            self._end()

    def close(self) -> None:
        """Read no more."""
        self._end()
        self._pipe.close()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._loop.remove_reader(self._pipe.fileno())
            self.stream.feed_eof()


async def _relay_complaints(stderr: asyncio.StreamReader) -> None:
    """Log what the launcher's processes write to stderr."""
    while text := await stderr.read(LINES_LIMIT):
        for line in text.decode("utf-8", "replace").splitlines():
            logger.warning("cluster: %s", line)


def _environment(workers: int) -> dict[str, str]:
    """Return the environment of the cluster's processes."""
    installation = (sys.prefix, sys.base_prefix)
    extra = [path for path in sys.path if path and not path.startswith(installation)]
    threads = str(max(1, (os.cpu_count() or 1) // max(1, workers)))
    # several workers share the cores; numeric libraries would each take all of them
    shared = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(extra)}
    if sys.platform == "darwin":
        given["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    return {**shared, **given}


# ---- in this process -----------------------------------------------------------------------


class LocalCrew:
    """Scheduler and workers inside this process and its loop."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.address = ""
        self.certificate: Certificate | None = None
        self.pids: dict[str, int] = {}
        self.ends = Counter[str]()
        self._settings = settings
        self._directory = tempfile.TemporaryDirectory(prefix="dcengine-")
        self._scheduler: Scheduler | None = None
        self._workers: list[Worker] = []

    async def start(self) -> None:
        """Start scheduler and workers; raises `ClusterFailed`."""
        nodes: Any = await asyncio.to_thread(import_module, f"{__package__}.nodes")
        try:
            with nodes.calm():
                self._scheduler = await nodes.new_local_scheduler()
                self.address = self._scheduler.address
                for worker in _worker_orders(self._settings):
                    self._workers.append(await self._start_worker(nodes, worker))
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterFailed("the cluster inside this process", str(error)) from error

    async def _start_worker(self, nodes: Any, worker: WorkerOrders) -> Worker:
        node: Worker = nodes.new_worker(
            self.address, name=worker.name, identity=worker.identity, directory=self._directory.name
        )
        started: Worker = await node
        return started

    async def close(self) -> None:
        """End the workers, then the scheduler."""
        for node in [*self._workers, *([self._scheduler] if self._scheduler else [])]:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(node.close(), STOP_SECONDS)
        self._directory.cleanup()
