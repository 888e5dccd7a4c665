"""The job that hosts a kernel on a worker: as long as the kernel lives, so does it, and it has the worker's slot."""

from __future__ import annotations

import logging
import signal
import threading
import time

import msgspec

from dcengine.errors import InvalidOption
from dcengine.runner import displays, live

from ..errors import KernelDied, NobodyConnected
from . import places
from .job import MIME
from .line import Asker, Begin, Ended, HostEnd, Ping, Pong, Signal, Started, Where
from .process import KernelProcess, connection_for, reachable_engine

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0  #: for whoever asked to connect
STARTING_LOOK, LOOK = 0.02, 0.1  #: seconds between two looks at the kernel, before it listens and after
ENDING = (signal.SIGTERM, signal.SIGKILL)  #: who sends them wants the kernel to end


def host(asker: Asker) -> int:
    """Start a kernel for *asker* and stay until it has ended; return its status.

    Nothing is started before the asker has connected, by the key that it made for this one kernel: a second run of
    the job, after its worker vanished, finds nobody and ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise InvalidOption("processes", "False where kernels run", "worker processes: a kernel needs one of its own")
    address = places.address_for(asker.machine, asker.address)
    with HostEnd(address, asker.key) as line:
        _tell(line.where)
        begin = _begun(line)
        env = reachable_engine(begin.env, same_machine=asker.machine == places.machine())
        kernel = KernelProcess(
            connection_for(address, begin.before), env=env, arguments=begin.arguments, folder=begin.folder
        )
        try:
            return Hosting(line, kernel, begin.patience).to_the_end()
        finally:
            line.send(Ended(kernel.end()))


def _tell(where: Where) -> None:
    """Say in what the job shows where the asker is to connect."""
    channel = live.current()
    if channel is not None:
        text = f"A kernel is to run here; whoever asked for it reaches {where.ip}."
        data = {MIME: msgspec.to_builtins(where), "text/plain": text}
        displays.show(channel, "display", {"data": data, "metadata": {}, "transient": {}})


def _begun(line: HostEnd) -> Begin:
    """Wait until the asker is there; return how the kernel is to be started."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        asked = line.receive(left)
        if isinstance(asked, Begin):
            return asked
    raise NobodyConnected(CONNECT_SECONDS)


class Hosting:
    """A kernel from its start to its end, as *line* asks for it."""

    def __init__(self, line: HostEnd, kernel: KernelProcess, patience: float) -> None:
        self._line, self._kernel, self._patience = line, kernel, patience
        self._has_told = False
        self._is_asked_to_end = False
        self._heard = time.monotonic()

    def to_the_end(self) -> int:
        """Serve until the kernel has ended; return its status, raise `KernelDied` for an end nobody asked for."""
        while (status := self._kernel.poll()) is None:
            try:
                self._take_turn()
            except KeyboardInterrupt as stop:
                # A plain one is meant for the kernel, which is of the same group and has got it too.
                if type(stop) is not KeyboardInterrupt:
                    raise
        if status and not self._is_asked_to_end:
            raise KernelDied(status)
        return status

    def _take_turn(self) -> None:
        asked = self._line.receive(LOOK if self._has_told else STARTING_LOOK)
        if asked is not None:
            self._heard = time.monotonic()
            self._answer(asked)
        elif time.monotonic() - self._heard > self._patience:
            logger.warning("nobody has asked for %g s; the kernel ends", self._patience)
            self._signal(signal.SIGKILL)
        if not self._has_told and (connection := self._kernel.connection()) is not None:
            self._line.send(Started(connection))
            self._has_told = True

    def _answer(self, asked: Begin | Ping | Signal) -> None:
        if isinstance(asked, Signal):
            self._signal(asked.number)
        elif isinstance(asked, Ping):
            self._line.send(Pong())

    def _signal(self, number: int) -> None:
        self._is_asked_to_end |= number in ENDING
        self._kernel.signal(number)
