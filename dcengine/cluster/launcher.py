"""The process that owns our scheduler and workers: forks them, watches them, ends them.

It reads one JSON line, its orders, on stdin and writes one JSON
line a happening on stdout. When stdin ends, the engine is gone: everything here is killed.
Forking after the slow import of ``distributed`` makes a new worker cost milliseconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import selectors
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import msgspec

from ..runner.orphans import adopt_orphans, children, ended_children
from .orders import Happening, Orders, WorkerOrders
from .settings import Certificate

HEALTHY_SECONDS = 10.0  #: a worker that lived so long starts again at once
LONGEST_PAUSE = 30.0  #: seconds before a worker that keeps ending is started again
LOOK_SECONDS = 1.0  #: between checks that the engine's process is still there
PUSH_SECONDS = 0.3  #: that the orphans of a killed worker have to end by themselves
END_SECONDS = 1.0  #: after which whatever is left is left
STATUS_UNABLE = 3  #: exit status of a scheduler that could not start

PR_SET_PDEATHSIG = 1


class Launcher:
    """Our scheduler and workers as children of this process."""

    def __init__(self, orders: Orders, certificate: Certificate, *, engine: int, out: int) -> None:
        self._orders, self._certificate = orders, certificate
        self._engine = engine
        self._out = out
        self._lifeline, self._lifeline_end = os.pipe()  # the children read the end of the one when the other closes
        self._scheduler = 0
        self._address = ""
        self._workers: dict[int, _Started] = {}
        self._due: list[_Due] = []
        self._woken, wakeup = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        self._stopping = False

    def run(self) -> None:
        """Start everything and keep it running until the engine is gone."""
        adopt_orphans()
        try:
            if self._start_scheduler():
                self._due = [_Due(worker, failures=0, at=0.0) for worker in self._orders.workers]
                self._keep()
        finally:
            self._end()

    # ---- the scheduler -------------------------------------------------------------------------

    def _start_scheduler(self) -> bool:
        """Start the scheduler and tell its address; return False, and say why, if it cannot start."""
        answer, answer_end = os.pipe()
        self._scheduler = self._fork(partial(_run_scheduler, self._orders.host, self._certificate, answer_end))
        os.close(answer_end)
        with open(answer, encoding="utf-8") as file:
            said = file.read()
        address, _, reason = said.partition("\n")
        if not address:
            self._say(Happening(kind="failed", name="scheduler", reason=reason or "its process ended at once"))
            return False
        self._address = address
        self._say(
            Happening(
                kind="scheduler", name="scheduler", address=address, pid=self._scheduler, certificate=self._certificate
            )
        )
        return True

    # ---- keeping it running --------------------------------------------------------------------

    def _keep(self) -> None:
        """Start what is due and reap what ended, until the engine or the scheduler is gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping and os.getppid() == self._engine:
                self._start_due()
                for key, _ in selector.select(self._pause()):
                    if not os.read(key.fd, 4096) and key.fd == 0:
                        return
                self._reap()

    def _start_due(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._due if due.at <= now]:
            self._due.remove(due)
            pid = self._fork(partial(_run_worker, self._address, self._orders, self._certificate, due.worker))
            self._workers[pid] = _Started(due.worker, due.failures, now)
            self._say(Happening(kind="worker", name=due.worker.name, pid=pid))

    def _pause(self) -> float:
        return max(0.0, min([LOOK_SECONDS, *(due.at - time.monotonic() for due in self._due)]))

    def _reap(self) -> None:
        """Take note of every child that ended."""
        for pid, status in ended_children():
            if pid == self._scheduler:
                self._scheduler, self._stopping = 0, True
                self._say(Happening(kind="ended", name="scheduler", pid=pid, reason=_in_words(status)))
            elif started := self._workers.pop(pid, None):
                self._say(Happening(kind="ended", name=started.worker.name, pid=pid, reason=_in_words(status)))
                self._due.append(started.again())

    def _note_signal(self, number: int, frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    # ---- the end -------------------------------------------------------------------------------

    def _end(self) -> None:
        """Kill every child, and what they left behind, and remove our folder."""
        for pid in [self._scheduler, *self._workers]:
            _kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        while (left := children()) and (passed := time.monotonic() - begun) < END_SECONDS:
            # the fork servers end their own children when their worker is gone; whoever is slow is pushed
            if passed > PUSH_SECONDS:
                for pid in left:
                    _kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            ended_children()
        shutil.rmtree(self._orders.directory, ignore_errors=True)

    # ---- processes -----------------------------------------------------------------------------

    def _fork(self, main: Callable[[], Coroutine[Any, Any, None]]) -> int:
        """Return the process id of a child that runs *main*."""
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become_child(parent)
            asyncio.run(_with_lifeline(main(), self._lifeline))
        except BaseException:
            logging.getLogger(__name__).exception("a process of the cluster failed")
            os._exit(1)
        os._exit(0)

    def _become_child(self, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for descriptor in (self._out, self._lifeline_end, self._woken):
            os.close(descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        _die_with_parent(parent)

    def _say(self, happening: Happening) -> None:
        with suppress(BrokenPipeError):  # the engine is gone; stdin says so too
            os.write(self._out, msgspec.json.encode(happening) + b"\n")


class _Due(msgspec.Struct):
    """A worker to start at a certain time."""

    worker: WorkerOrders
    failures: int
    at: float


class _Started(msgspec.Struct):
    """A worker that runs."""

    worker: WorkerOrders
    failures: int
    since: float

    def again(self) -> _Due:
        """Return when to start it again: at once, or later and later if it keeps ending."""
        now = time.monotonic()
        if now - self.since > HEALTHY_SECONDS:
            return _Due(self.worker, failures=1, at=now)
        pause = 0.0 if self.failures == 0 else min(LONGEST_PAUSE, 0.25 * 2**self.failures)
        return _Due(self.worker, failures=self.failures + 1, at=now + pause)


# ---- what the children do ------------------------------------------------------------------


async def _run_scheduler(host: str, certificate: Certificate, answer: int) -> None:
    """Serve as the scheduler; write its address, or an empty line and the reason, to *answer*."""
    from .nodes import new_scheduler

    try:
        scheduler = await new_scheduler(host=host, certificate=certificate)
    except Exception as error:
        os.write(answer, f"\n{type(error).__name__}: {error}".encode())
        os._exit(STATUS_UNABLE)
    os.write(answer, scheduler.address.encode())
    os.close(answer)
    await scheduler.finished()


async def _run_worker(scheduler: str, orders: Orders, certificate: Certificate, worker: WorkerOrders) -> None:
    """Serve as one worker until its scheduler is gone."""
    from .host import make_ready
    from .nodes import new_worker

    node = await new_worker(
        scheduler,
        name=worker.name,
        identity=worker.identity,
        certificate=certificate,
        directory=orders.directory,
    )
    await make_ready(node)
    await node.finished()


async def _with_lifeline(main: Coroutine[Any, Any, None], lifeline: int) -> None:
    """Run *main*; end this process when the launcher's end of *lifeline* closes."""
    asyncio.get_running_loop().add_reader(lifeline, os._exit, 0)
    await main


# ---- the operating system ------------------------------------------------------------------


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when *parent* ends; elsewhere the lifeline does it alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def _kill(pid: int, number: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _in_words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _read_orders() -> Orders:
    """Return the orders, read byte by byte: what follows the line must stay in the pipe."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (part := os.read(0, 1)):
            sys.exit(0)
        line += part
    return msgspec.json.decode(bytes(line), type=Orders)


def main() -> NoReturn:
    """Be the launcher."""
    gc.disable()  # nothing of what is loaded is garbage: looking for some takes a tenth of a second
    engine = os.getppid()
    out = os.dup(1)
    os.dup2(2, 1)  # what anybody here prints must not get between the happenings
    from . import host, nodes  # slow: the engine loads its own half meanwhile

    del host  # the workers, which are forked, have it loaded
    nodes.configure_process()
    gc.freeze()  # what is loaded stays: the workers' looks for garbage pass it by, and it stays shared with them
    gc.enable()
    Launcher(_read_orders(), nodes.new_certificate(), engine=engine, out=out).run()
    sys.exit(0)
