"""A kernel's zmq sockets on the event loop, read in turns with everything else that happens there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.session import DELIM, Session

from .framing import Part, as_parts

TURN_MESSAGES, TURN_SECONDS = 100, 0.002  #: that one socket takes before others have their turn
MOST_SOCKETS = 32_768  #: four for each front end of each kernel
WAITING_MESSAGES = 100_000  #: in a socket, before zmq itself leaves out
NUDGE_SECONDS, LONGEST_NUDGE_SECONDS = 0.05, 1.0  #: between two questions to a kernel that is not heard yet
BIG = 1 << 16  #: bytes from which a part is not copied on its way to a kernel


def new_context() -> Any:
    """Return a context whose sockets take what a kernel says even while the loop is busy."""
    context = zmq.asyncio.Context()  # what managers of jupyter_client ask for
    context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
    context.setsockopt(zmq.RCVHWM, WAITING_MESSAGES)
    return context


class Wire:
    """One socket; *hear* is called with the parts of each message that comes, on the loop.

    It reads in its own turns: with a future for each message, as zmq's own sockets for asyncio do it, a kernel that
    prints much would take several times as long.
    """

    def __init__(self, socket: Any, hear: Callable[[bytes, list[bytes]], None]) -> None:
        self._socket, self._hear = socket, hear
        self._plain: Any = zmq.Socket.shadow(socket.underlying)
        self._loop = asyncio.get_running_loop()
        self._descriptor = self._plain.FD
        self._next: asyncio.Handle | None = None
        self._loop.add_reader(self._descriptor, self._look)
        self._look_soon()

    def send(self, parts: Sequence[Part]) -> bool:
        """Send a message, signed already; False when as much as may be waits for the kernel."""
        copy = all(len(part) < BIG for part in parts)
        try:
            self._plain.send_multipart(parts, zmq.NOBLOCK, copy=copy)
        except zmq.Again:
            return False
        self._look_soon()  # sending may have swallowed the news that something came
        return True

    def narrow(self, *topics: bytes) -> None:
        """Hear from now on only what a kernel says of *topics*."""
        for topic in topics:
            self._plain.setsockopt(zmq.SUBSCRIBE, topic)
        self._plain.setsockopt(zmq.UNSUBSCRIBE, b"")

    def close(self) -> None:
        """Hear and say no more."""
        if self._next is not None:
            self._next.cancel()
        self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=0)

    def _look_soon(self) -> None:
        if self._next is None:
            self._next = self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Take what has come, as much as one turn allows."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        until = time.perf_counter() + TURN_SECONDS
        for _ in range(TURN_MESSAGES):
            try:
                frames = self._plain.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if DELIM in frames:
                start = frames.index(DELIM)
                self._hear(frames[0] if start else b"", frames[start + 2 :])
            if self._socket.closed:  # by who heard it
                return
            if time.perf_counter() > until:
                break
        self._look_soon()


def signed(session: Session, parts: Sequence[Part]) -> list[Part]:
    """Return a message as a kernel takes it from *session*."""
    return [DELIM, session.sign(list(parts[:4])), *parts]


async def nudge(session: Session, control: Wire, heard: asyncio.Event) -> None:
    """Ask a kernel something until it is *heard*: what it says before it knows who listens is lost.

    Kernels greet the first who listens, and some nobody.
    """
    seconds = NUDGE_SECONDS
    while not heard.is_set():
        header = session.msg_header("kernel_info_request")
        header["date"] = header["date"].isoformat()
        control.send(signed(session, as_parts(header, b"{}", {})))
        try:
            await asyncio.wait_for(heard.wait(), seconds)
        except asyncio.TimeoutError:
            seconds = min(2 * seconds, LONGEST_NUDGE_SECONDS)
