"""A small process without threads that forks children for a worker, and ends them when the worker is gone.

Workers have threads and open connections, so they must not fork; starting a new interpreter for
each child would take ten times as long as forking one that has the usual imports loaded.
"""

from __future__ import annotations

import errno
import gc
import importlib.util
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from . import child
from .orphans import adopt_orphans, children, ended_children
from .wire import FORK_DESCRIPTORS, NOTE, Note

ORPHAN_CHECK = 1.0  #: seconds between looks at who our parent is
END_SECONDS = 1.0  #: after which whatever is left is left


class ForkServer:
    """Serves one worker over *control* until that closes."""

    def __init__(self, control: socket.socket, worker: str) -> None:
        self._control, self._worker = control, worker
        self._process, self._parent = os.getpid(), os.getppid()
        self._children: dict[int, int] = {}  # number -> process id
        self._wakeup, self._wakeup_end = socket.socketpair()
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written to the wake-up socket
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Follow the worker's notes until it is gone, then end all children, and what they have left behind."""
        adopt_orphans()
        while True:
            readable, _, _ = select.select([self._control, self._wakeup], [], [], ORPHAN_CHECK)
            if self._wakeup in readable:
                self._wakeup.recv(4096)
                self._reap()
            # A process that the worker forked may hold the other end open after the worker died.
            if os.getppid() != self._parent or (self._control in readable and not self._follow_note()):
                break
        self._end()

    def _end(self) -> None:
        for process in self._children.values():
            end_process(process)
        begun = time.monotonic()
        while (left := children()) and time.monotonic() - begun < END_SECONDS:
            for process in left:
                end_process(process)
            time.sleep(0.005)
            ended_children()

    def _follow_note(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, NOTE.size, FORK_DESCRIPTORS)
        except ConnectionResetError:  # the worker died before it had heard all we said
            return False
        if len(data) < NOTE.size:
            return False
        what, number, argument = NOTE.unpack(data)
        if what == Note.FORK:
            self._fork(number, *descriptors)
        elif number in self._children:
            self._signal(self._children[number], argument)
        return True

    def _fork(self, number: int, connection: int, memory: int, *pipes: int) -> None:
        try:
            process = os.fork()
        except OSError as error:
            self._tell(Note.REFUSED, number, error.errno or errno.EAGAIN)
            process = -1
        if process == 0:
            self._become_child(connection, memory, pipes)
        for descriptor in (connection, memory, *pipes):
            os.close(descriptor)
        if process > 0:
            self._children[number] = process
            self._tell(Note.FORKED, number, process)

    def _become_child(self, connection: int, memory: int, pipes: Sequence[int]) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._control, self._wakeup, self._wakeup_end):
                end.close()
            child.main(connection, memory, pipes, self._worker, server=self._process)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def _signal(self, process: int, number: int) -> None:
        if number == signal.SIGKILL:
            end_process(process)
        else:
            signal_group(process, number)

    def _reap(self) -> None:
        numbers = {process: number for number, process in self._children.items()}
        for process, status in ended_children():
            if process in numbers:  # else a process that one of them had left behind
                del self._children[numbers[process]]
                end_group(process)
                self._tell(Note.ENDED, numbers[process], status)

    def _tell(self, what: Note, number: int, argument: int) -> None:
        try:
            self._control.sendall(NOTE.pack(what, number, argument))
        except BrokenPipeError:
            pass  # the worker is gone; the next read says so


def end_process(process: int) -> None:
    """Kill a child that was not yet reaped, and all that it started."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
    end_group(process)


def signal_group(process: int, number: int) -> None:
    """Send a signal to a child that was not yet reaped and to what it started, as a terminal does with Ctrl-C."""
    try:
        os.killpg(process, number)
    except (ProcessLookupError, PermissionError):  # it leads no group yet, or on macOS has only zombies in it
        os.kill(process, number)


def end_group(process: int) -> None:
    """Kill what a child, the leader of its session, has started."""
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS answers with the latter where only zombies are left
        pass


def serve(descriptor: int, worker: str) -> None:
    """Serve the worker called *worker* over the socket *descriptor*: the whole life of this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _preload()
    ForkServer(socket.socket(fileno=descriptor), worker).serve()


def _preload() -> None:
    """Load what most functions need, once for all children."""
    # Forking is safe here: the only threads are those of OpenBLAS, which looks after itself.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=__name__.replace(".", r"\."))
    if sys.platform == "linux" and importlib.util.find_spec("numpy"):
        importlib.import_module("numpy.random")
    gc.freeze()  # so that collections in the children do not copy these pages
    gc.enable()
