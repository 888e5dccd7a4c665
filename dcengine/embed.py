"""The engine as a guest in another program: a thread of its own, `with` and `async with`, and its HTTP side.

The engine never shares the host's loop: a busy cell cannot stall its leases, and a blocking
`dcengine.submit` works from a coroutine too.
"""

from __future__ import annotations

import asyncio
import atexit
import hmac
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from .api import Caller, ThreadLink, front
from .cluster import ClusterSettings
from .cluster.facts import cpu_count
from .engine import Engine
from .errors import DcengineError, EngineClosed, InvalidOption
from .loops import Across, LoopThread
from .owner import Lock
from .server import Role, application, listen
from .verbs import EngineStatus, Verbs

logger = logging.getLogger(__name__)

IDLE_LOOK_SECONDS = 1.0


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
        worker_values: int = 8 << 30,
        blobs: str | None = None,
        idle_exit: float | None = None,
        allow_hosts: list[str] | tuple[str, ...] = (),
        tls_cert: str | None = None,
        tls_key: str | None = None,
        insecure: bool = False,
    ) -> None:
        self.db = Path(db).resolve()
        tags = worker_tags.split(";") if isinstance(worker_tags, str) else list(worker_tags)
        if workers is not None and workers < 0:
            raise InvalidOption("workers", str(workers), "0 or more")
        if worker_lease <= 0:
            raise InvalidOption("worker_lease", str(worker_lease), "a number above 0")
        if output_limit < 0:
            raise InvalidOption("output_limit", str(output_limit), "0 or more")
        self._settings = ClusterSettings(
            workers=0 if scheduler else min(4, cpu_count()) if workers is None else workers,
            worker_tags=tags, scheduler=scheduler, processes=processes, host=cluster_host, share=cluster_share,
            pilot_idle=pilot_idle, lease=worker_lease, grace=grace, output_limit=output_limit,
            values_limit=worker_values,
        )  # fmt: skip
        self._listen = {"host": host, "port": port, "tls_cert": tls_cert, "tls_key": tls_key, "insecure": insecure}
        self._allow_hosts = [*allow_hosts]
        self._idle_exit = idle_exit
        self._blobs = blobs
        self.finished = (
            threading.Event()
        )  #: set when it has no reason to go on: idle for long, or the file was taken over
        self.token = ""
        self._thread: LoopThread | None = None
        self._last_used = time.monotonic()

    # ---- start and stop --------------------------------------------------------------------

    def start(self) -> EmbeddedEngine:
        """Open the file and start the cluster; returns when work can be handed in."""
        if self._thread is not None:
            return self
        self._lock = Lock(self.db)
        self.token = self._lock.token
        self._pid = os.getpid()
        self._thread = LoopThread("dcengine-engine")
        try:
            left = self._thread.run(self._start())
        except BaseException:
            self._thread.stop()
            self._thread = None
            self._lock.release()
            raise
        self._link = ThreadLink(self._engine, self._thread, (self._listening.url, self.token))
        front.enter(self._link)
        atexit.register(self.close)
        if left:
            print(f"dcengine: resuming {_unfinished(left)} of {self.db}", file=sys.stderr)
        return self

    async def _start(self) -> int:
        self._engine = Engine(self.db, self._settings, self._blobs)
        left = await self._engine.start()
        try:
            app = self._application(self._engine)
            self._listening = await listen(app, **self._listen)  # type: ignore[arg-type]
        except BaseException:
            await self._engine.close()
            raise
        self._engine.url = self._listening.url
        self._lock.say(self._listening.url)
        self._watch = asyncio.get_running_loop().create_task(self._watch_itself())
        return left

    def close(self) -> None:
        """Stop; running tasks go back to the queue, and how many jobs are unfinished is told on stderr."""
        thread, self._thread = self._thread, None
        if thread is None or os.getpid() != self._pid:
            return
        atexit.unregister(self.close)
        front.leave(self._link)
        try:
            left = thread.run(self._stop())
        finally:
            thread.stop()
            self._lock.release()
            self.finished.set()
        if left:
            print(f"dcengine: {_unfinished(left)} in {self.db}; the next engine on it goes on", file=sys.stderr)

    async def _stop(self) -> int:
        self._watch.cancel()
        self._engine.end_waits()
        await self._listening.close()
        return await self._engine.close()

    async def _watch_itself(self) -> None:
        """Set `finished` once there is no reason to go on."""
        while True:
            await asyncio.sleep(IDLE_LOOK_SECONDS)
            if self._engine.broken is not None:
                self.finished.set()
            if self._idle_exit is not None and await self._engine.unfinished():
                self._last_used = time.monotonic()
            if self._idle_exit is not None and time.monotonic() - self._last_used > self._idle_exit:
                self.finished.set()

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
        return f"{self._listening.url}/?token={self.token}"

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
        return self._application(_Hop(self._way))

    def _way(self) -> ThreadLink:
        if self._thread is None:
            raise EngineClosed(str(self.db))
        return self._link

    def _application(self, verbs: Verbs) -> web.Application:
        return application(verbs, access=self, allowed_hosts=self._allow_hosts)

    def role_of(self, token: str) -> Role | None:
        """Return the role that *token* carries; called for each request that needs one."""
        if not self.token or not hmac.compare_digest(_digest(token), _digest(self.token)):
            return None
        self._last_used = time.monotonic()
        return Role.ADMIN


class _Hop:
    """The engine's verbs for another loop: each hops to the engine's thread and back."""

    def __init__(self, way: Callable[[], ThreadLink]) -> None:
        self._way = way

    def __getattr__(self, verb: str) -> Any:
        async def hop(*args: Any, **kwargs: Any) -> Any:
            # What comes in pieces comes on the loop that serves it.
            given = [Across(each) if isinstance(each, AsyncIterator) else each for each in args]
            return await asyncio.wrap_future(self._way().start(verb, *given, **kwargs))

        return hop


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _unfinished(jobs: int) -> str:
    return "1 unfinished job" if jobs == 1 else f"{jobs:,} unfinished jobs"
