"""Where the children of a worker come from: the worker's side of its fork server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from ..errors import ClusterFailed
from .code_cache import CodeCache
from .forkserver import end_group
from .journal import Journal, shared_memory
from .pipes import Pipes
from .wire import NOTE, FrameReader, Kind, Note, frame

PATIENCE = 5.0  #: seconds for the fork server to end by itself


class ChildProcess(asyncio.Protocol):
    """One child as its slot sees it.

    *on_frame* and *on_end* are called with the child first; after *on_end* nothing more comes.
    """

    def __init__(
        self,
        nursery: Nursery,
        number: int,
        connection: socket.socket,
        journal: Journal,
        pipes: Pipes,
        on_frame: Callable[[ChildProcess, Kind, bytes], None],
        on_end: Callable[[ChildProcess, int], None],
    ) -> None:
        self.number, self.journal, self.pipes = number, journal, pipes
        self.process = 0  #: its process id, once it was forked
        self.devices: dict[str, list[int]] | None = None  #: those of its first unit, for all its life; None before it
        self.is_bereft = False  #: it ended with its fork server, not by itself
        self.forked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._nursery, self._connection = nursery, connection
        self._on_frame, self._on_end = on_frame, on_end
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def hand_over(
        self, on_frame: Callable[[ChildProcess, Kind, bytes], None], on_end: Callable[[ChildProcess, int], None]
    ) -> None:
        """Tell others from now on."""
        self._on_frame, self._on_end = on_frame, on_end

    def send(self, kind: Kind, body: bytes) -> None:
        """Send a frame; one that a dying child does not read is lost."""
        if self._transport is not None and not self._transport.is_closing():
            for piece in frame(kind, body):
                self._transport.write(piece)

    @property
    def age(self) -> float:
        """How many seconds ago it was asked for."""
        return time.monotonic() - self._began

    @property
    def unread(self) -> int:
        """How many bytes it was sent and its side of the connection has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def signal(self, number: int) -> None:
        """Send a signal, also to all that the child has started."""
        self._nursery.signal(self.number, number)

    def kill(self) -> None:
        """End the child and all that it has started."""
        self.signal(signal.SIGKILL)

    async def connect(self) -> None:
        """Begin to listen to the child."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self, self._connection)

    def finish(self, status: int) -> None:
        """Take in what the child said last, then report its end; called by the nursery."""
        self._drain()
        self._hang_up()
        if not self.forked.done():
            self.forked.set_exception(ClusterFailed("a child process", "its fork server ended"))
        if not self.ended.done():
            self.ended.set_result(status)
        self._on_end(self, status)
        for stream, text in self.pipes.read():  # of no call; it belongs to the worker's log
            with suppress(OSError):
                os.write(stream + 1, text)
        self.journal.close()
        self.pipes.close()

    def refuse(self, reason: str) -> None:
        """Say why there is no child; called by the nursery."""
        self._hang_up()
        self.journal.close()
        self.pipes.close()
        self.forked.set_exception(ClusterFailed("a child process", reason))

    def _hang_up(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def _drain(self) -> None:
        """Read what lies in the socket of a child that has ended."""
        while self._connection.fileno() >= 0:
            try:
                data = self._connection.recv(1 << 20)
            except (BlockingIOError, ConnectionError):
                return
            if not data:
                return
            self.data_received(data)

    # ---- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for kind, body in self._frames.feed(data):
            self._on_frame(self, kind, body)


class Nursery:
    """Forks children for the slots of one worker, through a fork server that it starts again if it ends."""

    def __init__(self, worker: str, codes: CodeCache | None = None) -> None:
        self.codes = codes if codes is not None else CodeCache()  #: one for all slots of the worker
        self._worker = worker
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._children: dict[int, ChildProcess] = {}
        self._last_number = 0
        self._is_closed = False

    async def start(self) -> None:
        """Start the fork server, unless it runs."""
        async with self._starting:
            if self._is_closed:
                raise ClusterFailed("the fork server", "its worker is closing")
            if self._control is None:
                await self._start_server()

    async def spawn(
        self,
        on_frame: Callable[[ChildProcess, Kind, bytes], None],
        on_end: Callable[[ChildProcess, int], None],
    ) -> ChildProcess:
        """Return a new child; raises `ClusterFailed` where there can be none."""
        ours, theirs = socket.socketpair()
        memory, pipes = shared_memory(), Pipes()
        try:
            ours.setblocking(False)
            self._last_number += 1
            child = ChildProcess(self, self._last_number, ours, Journal(memory), pipes, on_frame, on_end)
            await child.connect()
            await self.start()
            self._children[child.number] = child
            self._tell(Note.FORK, child.number, 0, theirs.fileno(), memory, *pipes.ends)
        finally:
            theirs.close()
            os.close(memory)
            pipes.hand_over()
        await child.forked
        return child

    def signal(self, number: int, signum: int) -> None:
        """Send a signal to child *number* and to what it has started, if it still runs.

        The fork server sends it: only who reaps a process can know that its id is not another's by now.
        """
        if number in self._children and self._control is not None:
            self._tell(Note.SIGNAL, number, signum)

    async def close(self) -> None:
        """End all children and the fork server; when this returns, none of them is left."""
        self._is_closed = True
        async with self._starting:  # one that is just being started has to be ended too
            pass
        server = self._server
        self._lose_server()
        if server is not None:
            await asyncio.to_thread(_wait_or_kill, server)

    # ---- the fork server -------------------------------------------------------------------

    async def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            self._server = await asyncio.to_thread(_start_server, theirs, self._worker)
        except OSError as error:
            ours.close()
            raise ClusterFailed("the fork server", str(error)) from error
        finally:
            theirs.close()
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    def _tell(self, what: Note, number: int, argument: int, *descriptors: int) -> None:
        assert self._control is not None
        try:
            socket.send_fds(self._control, [NOTE.pack(what, number, argument)], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            # Not at once: the caller is in the middle of its own bookkeeping.
            asyncio.get_running_loop().call_soon(self._lose_server)

    def _hear(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(NOTE.size)
        except ConnectionResetError:
            data = b""
        if len(data) < NOTE.size:
            self._lose_server()
            return
        what, number, argument = NOTE.unpack(data)
        if what == Note.FORKED:
            self._children[number].process = argument
            self._children[number].forked.set_result(None)
        elif what == Note.REFUSED:
            self._children.pop(number).refuse(os.strerror(argument))
        else:
            self._children.pop(number).finish(argument)

    def _lose_server(self) -> None:
        """Forget the fork server, which has ended or is to end, and all its children with it."""
        control, self._control, self._server = self._control, None, None
        if control is None:
            return
        asyncio.get_running_loop().remove_reader(control.fileno())
        control.close()
        children, self._children = self._children, {}
        for child in children.values():
            child.is_bereft = True
            if child.process:
                end_group(child.process)
            child.finish(signal.SIGKILL)


def _start_server(control: socket.socket, worker: str) -> subprocess.Popen[bytes]:
    """Start a fork server on *control* that finds the modules which this process finds.

    It does not look for garbage while it loads them: there is none.
    """
    program = (
        f"import gc, sys; gc.disable(); sys.path[:] = {[str(path) for path in sys.path]!r}; "
        f"from dcengine.runner.forkserver import serve; serve({control.fileno()}, {worker!r})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        pass_fds=[control.fileno()],
        start_new_session=True,  # Ctrl-C in the terminal is the worker's to answer
    )


def _wait_or_kill(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
