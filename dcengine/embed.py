"""The engine as a guest in another program: a thread of its own, `with` and `async with`, and its HTTP side.

The engine never shares the host's loop: a busy cell cannot stall its leases, and a blocking
`dcengine.submit` works from a coroutine too.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .api import Caller, ThreadLink, front
from .cluster.crew import Launched
from .cluster.facts import cpu_count
from .cluster.settings import ClusterSettings
from .config import ShownSetting
from .errors import DcengineError, EngineClosed, InvalidOption
from .loading import loading
from .loops import LoopThread
from .owner import Lock
from .tags import parse
from .verbs import EngineStatus

if TYPE_CHECKING:
    from aiohttp import web

    from .engine import Engine
    from .hosting import Hosted


class EmbeddedEngine(Caller):
    """An engine over the file *db*, with workers of its own unless *scheduler* names a cluster.

    Raises `DatabaseOwned` when it is started while another engine writes the file.

    Args:
        workers: one-slot workers to start on this machine; None: one per core, at most 4.
        worker_tags: tags of each, such as ``["cpu", "gpu,site=lab"]``; repeated if there are fewer.
        scheduler: address of a Dask scheduler to join instead.
        processes: False runs everything inside this process: quick to start, cannot interrupt.
        port: of the HTTP side, by which other processes attach; 0 finds a free one.
        cluster_host: address the Dask scheduler listens on, for workers of other machines.
        protocol_ports: for old protocols that are no HTTP, such as ``["p2p=9000"]``; see docs/p2p.md first.
        kernels: answer Jupyter front ends, which start kernels here: ``dcengine serve`` does, others only if asked.
        files: the folder or fsspec URL whose files those front ends read and write.
        idle_exit: seconds without work or callers after which `finished` is set.
    """

    def __init__(
        self,
        db: str | Path = "./dcengine.db",
        *,
        workers: int | None = None,
        worker_tags: list[str] | str = (),  # type: ignore[assignment]
        scheduler: str | None = None,
        processes: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        cluster_host: str = "127.0.0.1",
        cluster_share: float = 0.5,
        pilot_idle: float = 30.0,
        worker_lease: float = 30.0,
        grace: float = 1.0,
        output_limit: int = 16 << 20,
        session_idle: float = 3600.0,
        worker_values: int = 8 << 30,
        blobs: str | None = None,
        idle_exit: float | None = None,
        allow_hosts: list[str] | tuple[str, ...] = (),
        trusted_proxies: list[str] | tuple[str, ...] = (),
        prefix: str | None = None,
        max_connections: int = 10_000,
        open_metrics: bool = False,
        volunteer_rate: float = 500.0,
        volunteer_body_limit: int = 16 << 20,
        protocol_ports: list[str] | tuple[str, ...] = (),
        private_webhooks: bool = False,
        kernels: bool = False,
        files: str = ".",
        kernel_idle: float | None = 12 * 3600.0,
        kernel_tags: list[str] | tuple[str, ...] = (),
        tls_cert: str | None = None,
        tls_key: str | None = None,
        insecure: bool = False,
    ) -> None:
        self.db = Path(db).resolve()
        tags = worker_tags.split(";") if isinstance(worker_tags, str) else list(worker_tags)
        if workers is not None and workers < 0:
            raise InvalidOption("workers", str(workers), "0 or more")
        if not 0 <= port <= 65535:
            raise InvalidOption("port", str(port), "a number from 0 to 65535")
        if worker_lease <= 0:
            raise InvalidOption("worker_lease", str(worker_lease), "a number above 0")
        if session_idle <= 0:
            raise InvalidOption("session_idle", str(session_idle), "a number above 0")
        if output_limit < 0:
            raise InvalidOption("output_limit", str(output_limit), "0 or more")
        for expression in kernel_tags:
            parse(expression)
        if kernels and "://" not in files and not Path(files).expanduser().is_dir():
            raise InvalidOption("files", repr(files), "a folder that there is, or an fsspec URL such as s3://bucket/it")
        self._settings = ClusterSettings(
            workers=0 if scheduler else min(4, cpu_count()) if workers is None else workers,
            worker_tags=tags, scheduler=scheduler, processes=processes, host=cluster_host, share=cluster_share,
            pilot_idle=pilot_idle, lease=worker_lease, grace=grace, output_limit=output_limit,
            values_limit=worker_values, session_idle=session_idle,
        )  # fmt: skip
        self._http: dict[str, Any] = {
            "allow_hosts": [*allow_hosts], "trusted_proxies": [*trusted_proxies], "prefix": prefix,
            "max_connections": max_connections, "open_metrics": open_metrics, "volunteer_rate": volunteer_rate,
            "volunteer_body_limit": volunteer_body_limit, "host": host, "port": port, "tls_cert": tls_cert,
            "tls_key": tls_key, "insecure": insecure, "kernels": kernels, "files": files, "kernel_idle": kernel_idle,
            "kernel_tags": [*kernel_tags], "blobs": blobs, "private_webhooks": private_webhooks,
        }  # fmt: skip
        self.shown_settings: list[ShownSetting] = []  #: what the dashboard tells of settings
        self._protocol_ports = [*protocol_ports]
        self._idle_exit = idle_exit
        self._blobs = blobs
        self.finished = (
            threading.Event()
        )  #: set when it has no reason to go on: idle for long, or the file was taken over
        self.new_loop = asyncio.new_event_loop  #: makes the loop that it lives on
        self.is_program = False  #: this process is there for it alone, and may be ended to stop it
        self.token = ""
        self._thread: LoopThread | None = None
        self._hosted: Hosted | None = None

    # ---- start and stop --------------------------------------------------------------------

    def start(self) -> EmbeddedEngine:
        """Open the file and start the cluster; returns when work can be handed in."""
        if self._thread is not None:
            return self
        self._lock = Lock(self.db, is_program=self.is_program)
        self.token = self._lock.token
        self._pid = os.getpid()
        self._thread = LoopThread("dcengine-engine", self.new_loop)
        try:
            left = self._begin(self._thread)
        except BaseException:
            self._thread.stop()
            self._thread = None
            self._lock.release()
            raise
        front.enter(self._link)
        atexit.register(self.close)
        if left:
            print(f"dcengine: resuming {_unfinished(left)} of {self.db}", file=sys.stderr)
        return self

    def _begin(self, thread: LoopThread) -> int:
        """Have scheduler and workers begin, then load and start the engine itself: both take half a second."""
        launched = Launched(self._settings) if self._settings.starts_processes else None
        try:
            with loading():
                from .hosting import Hosted, HttpSide

            http = HttpSide(**self._http, shown_settings=self.shown_settings)
            hosted = Hosted(
                self.db, self._settings, self._blobs, http, token=self.token, finished=self.finished,
                idle_exit=self._idle_exit, protocol_ports=self._protocol_ports, insecure=self._http["insecure"],
            )  # fmt: skip
            left = thread.run(hosted.start(launched))
        except BaseException:
            if launched is not None:
                launched.end()
            raise
        self._hosted = hosted
        self._lock.say(hosted.url)
        self._link = ThreadLink(hosted.engine, thread, (hosted.url, self.token))
        return left

    def close(self) -> None:
        """Stop; running tasks go back to the queue, and how many jobs are unfinished is told on stderr."""
        thread, self._thread = self._thread, None
        if thread is None or os.getpid() != self._pid:
            return
        atexit.unregister(self.close)
        front.leave(self._link)
        assert self._hosted is not None
        try:
            left = thread.run(self._hosted.stop())
        finally:
            thread.stop()
            self._lock.release()
            self.finished.set()
        if left:
            print(f"dcengine: {_unfinished(left)} in {self.db}; the next engine on it goes on", file=sys.stderr)

    def __enter__(self) -> EmbeddedEngine:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> EmbeddedEngine:
        return await asyncio.get_running_loop().run_in_executor(None, self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    # ---- what it offers --------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address of its HTTP side, with the token."""
        assert self._hosted is not None
        return f"{self._hosted.url}/?token={self.token}"

    @property
    def answers_front_ends(self) -> bool:
        """Whether it is a Jupyter server too."""
        return bool(self._http["kernels"])

    @property
    def ports(self) -> dict[str, str]:
        """Where which protocol is answered on a port of its own, as ADDRESS:PORT."""
        assert self._hosted is not None
        return self._hosted.ports

    @property
    def scheduler_address(self) -> str | None:
        """The address of the Dask scheduler."""
        status: EngineStatus = self._link.call("status")
        return status.scheduler

    @property
    def failure(self) -> DcengineError | None:
        """Why it cannot go on, if it is `finished` for that and not for being idle."""
        return self._engine.broken

    @property
    def app(self) -> web.Application:
        """A new aiohttp application over this engine: ``parent.add_subapp("/compute/", engine.app)``.

        It can be mounted before the engine is started; until then its questions are answered with an error.
        """
        from .hosting import Hop, HttpSide, Later

        return HttpSide(**self._http, shown_settings=self.shown_settings).application(
            Hop(self._way), Later(lambda: self._hosted if self._thread else None)
        )

    def _way(self) -> ThreadLink:
        if self._thread is None:
            raise EngineClosed(str(self.db))
        return self._link

    @property
    def _engine(self) -> Engine:
        assert self._hosted is not None
        return self._hosted.engine


def _unfinished(jobs: int) -> str:
    return "1 unfinished job" if jobs == 1 else f"{jobs:,} unfinished jobs"
