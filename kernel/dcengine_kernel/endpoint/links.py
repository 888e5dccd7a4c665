"""A front end's way to a kernel: it outlives the websocket, so that what is said meanwhile is there when it is back."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol
from uuid import uuid4

from jupyter_client._version import protocol_version
from jupyter_client.session import Session

from .buffers import BYTES_THERE, Buffer, LeftOut
from .framing import Message, Part, as_parts
from .wires import Wire, nudge, signed

FULL_SECONDS = 0.05  #: until a kernel that takes nothing is tried again
TURN_MESSAGES = 50  #: sent before others have their turn
LONGEST_IDENTITY = 200  #: bytes; zmq takes 255
LARGEST_PRINT = 16 << 20  #: bytes of text in one message; passing on a larger one would hold everybody else up
LAST_SECONDS = 0.5  #: for a websocket to take what is left before it is closed
TAKEN_OVER = 4001  #: closes a websocket whose Jupyter session has come by another one


class Taker(Protocol):
    """A front end that takes what a kernel says, over its websocket."""

    async def send(self, message: Message) -> None:
        """Send *message*; raises a `ConnectionError` where that is not possible any more."""
        ...

    async def hang_up(self, code: int, reason: str) -> None:
        """Close the websocket."""
        ...


class Link:
    """The sockets of one Jupyter session id at a kernel, and what waits for its websocket."""

    def __init__(self, session_id: str, heard: Callable[[], None]) -> None:
        self.session_id = session_id or uuid4().hex
        self.is_named = bool(session_id)  #: else nobody can come back to it
        self.left = time.monotonic()  #: when its last websocket went
        self.said_goodbye = False  #: whether that was closed, and not cut
        self.is_closed = False
        self._identity = _identity(self.session_id)
        self._heard = heard
        self._buffer = Buffer()
        self._news = asyncio.Event()
        self._ready = asyncio.Event()  #: set once the kernel is heard, so that nothing it answers is lost
        self._wires: dict[str, Wire] = {}
        self._is_welcome = False
        self._own = b""  #: what stands in the headers of questions that are not the front end's but ours
        self._nudging: asyncio.Task[None] | None = None
        self._pouring: asyncio.Task[None] | None = None
        self._taker: Taker | None = None
        self._leaving: set[asyncio.Future[None]] = set()
        self._session: Session | None = None

    # ---- towards the kernel ----------------------------------------------------------------

    def open(self, manager: Any) -> None:
        """Connect to the kernel of *manager*, anew after a restart."""
        self.shut()
        self._session, self._is_welcome = manager.session, False
        self._own = manager.session.session.encode()
        self._wires["iopub"] = Wire(manager.connect_iopub(self._identity), self._hear_iopub)
        for channel in ("shell", "control", "stdin"):
            socket = getattr(manager, f"connect_{channel}")(self._identity)
            self._wires[channel] = Wire(socket, self._hearer(channel))
        nudging = nudge(manager.session, self._wires["control"], self._ready)
        self._nudging = asyncio.get_running_loop().create_task(nudging)

    def shut(self) -> None:
        """Leave the kernel, which has ended; what it said stays here, and who speaks waits for the next."""
        self._ready.clear()
        if self._nudging is not None:
            self._nudging.cancel()
            self._nudging = None
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    async def send(self, message: Message) -> None:
        """Send *message* once the kernel is heard and has room for it; it is lost with a kernel that ends meanwhile."""
        await self._ready.wait()
        while (wire := self._wires.get(message.channel)) is not None:
            if self._session is not None and wire.send(signed(self._session, message.parts)):
                return
            await asyncio.sleep(FULL_SECONDS)

    def give_up(self) -> None:
        """Let nobody wait for a kernel that will not come back by itself."""
        self.shut()
        self._ready.set()

    # ---- from the kernel -------------------------------------------------------------------

    def _hearer(self, channel: str) -> Callable[[bytes, list[bytes]], None]:
        def hear(_: bytes, parts: list[bytes]) -> None:
            if self._own not in parts[1]:
                self.keep(Message(channel, parts))

        return hear

    def _hear_iopub(self, _: bytes, parts: list[bytes]) -> None:
        self._ready.set()
        if self._own in parts[1]:
            return
        if not self._is_welcome and b'"iopub_welcome"' in parts[0]:
            self._is_welcome = True  # that is for those who subscribe, which is us
            return
        self._heard()
        self.keep(_too_large(parts) or Message("iopub", parts))

    def keep(self, message: Message) -> None:
        """Keep *message* for the websocket, which takes it at once if there is one."""
        self._buffer.put(message)
        self._news.set()

    def say(self, kind: str, content: dict[str, Any], parent: Part = b"{}") -> None:
        """Say something of ours, as if the kernel did."""
        self.keep(_ours(kind, content, parent))

    # ---- the websocket ---------------------------------------------------------------------

    @property
    def is_taken(self) -> bool:
        """Whether a websocket takes what the kernel says."""
        return self._taker is not None

    async def attach(self, taker: Taker) -> None:
        """Have *taker* take what was said and is said from now on, instead of who did so far."""
        before, self._taker = self._taker, taker
        self._buffer.keep_at_most(BYTES_THERE)
        await self._stop_pouring()
        if self._taker is taker:  # else a later one has come meanwhile
            self._pouring = asyncio.get_running_loop().create_task(self._pour(taker))
        if before is not None:  # it may have gone without a word, so nobody waits for its goodbye
            reason = "its Jupyter session goes on over another websocket"
            leaving = asyncio.ensure_future(before.hang_up(TAKEN_OVER, reason))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def detach(self, taker: Taker, *, said_goodbye: bool) -> None:
        """Keep from now on what is said, if *taker* was the last that took it."""
        if taker is self._taker:
            self._taker = None
            self.left, self.said_goodbye = time.monotonic(), said_goodbye
            await self._stop_pouring()

    def keep_at_most(self, most_bytes: int) -> None:
        """Keep no more than that of what is said while no websocket takes it."""
        self._buffer.keep_at_most(most_bytes)

    async def end(self, code: int, reason: str) -> None:
        """End for good: what is left goes to the websocket, which is then closed."""
        self.forget()
        until = time.monotonic() + LAST_SECONDS
        while self._taker is not None and len(self._buffer) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        taker, self._taker = self._taker, None
        await self._stop_pouring()
        if taker is not None:
            await taker.hang_up(code, reason)

    def forget(self) -> None:
        """Have nothing to do with the kernel any more."""
        self.is_closed = True
        self.give_up()

    async def _stop_pouring(self) -> None:
        pouring, self._pouring = self._pouring, None
        if pouring is not None:
            pouring.cancel()
            await asyncio.wait([pouring])

    async def _pour(self, taker: Taker) -> None:
        """Hand to *taker* what is said, in order, until the websocket breaks; what it did not take stays here."""
        turn = 0
        while True:
            next = self._buffer.take()
            if next is None:
                self._news.clear()
                await self._news.wait()
                continue
            message = _told(next) if isinstance(next, LeftOut) else next
            try:
                await taker.send(message)
            except ConnectionError:
                self._buffer.put_back(message)
                return
            except asyncio.CancelledError:
                self._buffer.put_back(message)
                raise
            turn += 1
            if turn % TURN_MESSAGES == 0:
                await asyncio.sleep(0)


def _identity(session_id: str) -> bytes:
    """Return what a kernel's sockets know *session_id* by."""
    identity = session_id.encode(errors="replace")
    return identity if len(identity) <= LONGEST_IDENTITY else hashlib.sha256(identity).hexdigest().encode()


def _ours(kind: str, content: dict[str, Any], parent: Part) -> Message:
    header = {
        "msg_id": uuid4().hex, "msg_type": kind, "username": "dcengine", "session": "dcengine",
        "date": datetime.now(timezone.utc).isoformat(), "version": protocol_version,
    }  # fmt: skip
    return Message("iopub", as_parts(header, parent, content))


def _too_large(parts: Sequence[Part]) -> Message | None:
    """Return what is said in place of a message that prints too much at once; None if it does not."""
    if len(parts[3]) <= LARGEST_PRINT or b'"stream"' not in parts[0]:
        return None
    text = (
        f"dcengine: {len(parts[3]) / 2**20:,.1f} MiB that were printed at once are missing here, "
        f"{LARGEST_PRINT >> 20} MiB are what is passed on: print less, or write to a file.\n"
    )
    return _ours("stream", {"name": "stderr", "text": text}, parts[1])


def _told(left_out: LeftOut) -> Message:
    """Return what is said in place of output that was left out."""
    text = (
        f"dcengine: {left_out.messages:,} messages of output ({left_out.bytes / 2**20:,.1f} MiB) are missing here: "
        "more was said than is kept for a front end that is away or slow.\n"
    )
    return _ours("stream", {"name": "stderr", "text": text}, left_out.parent)
