"""A proxy on loopback that loses requests and answers, by a seed.

It passes HTTP/1.1 on byte by byte, one request after the other, and before each it draws what goes wrong with it. It
can be told to pass nothing for a while, too: connections stay, new ones are taken, and nobody hears anything.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from enum import Enum

from dcengine.loops import LoopThread

LONGEST_HEAD = 1 << 20
BODILESS = frozenset({204, 304})


class Fault(Enum):
    """What goes wrong with one request."""

    NONE = "passed on"
    BEFORE = "cut before the request"
    WITHIN = "cut within the request"
    AFTER = "cut after the request"  #: the server may answer, but nobody listens
    ANSWERED = "cut after the answer was made"  #: what it says has been committed
    HALF = "cut within the answer"
    DELAY = "delayed"


ODDS: Mapping[Fault, float] = {
    Fault.NONE: 0.76,
    Fault.BEFORE: 0.03,
    Fault.WITHIN: 0.03,
    Fault.AFTER: 0.04,
    Fault.ANSWERED: 0.06,
    Fault.HALF: 0.04,
    Fault.DELAY: 0.04,
}
CALM: Mapping[Fault, float] = {Fault.NONE: 1.0}
LONGEST_DELAY = 0.1  #: seconds


class Cut(Exception):
    """The connection is to be cut now."""


class Chaos:
    """Stands between clients and the server at *host* and *port*."""

    def __init__(
        self,
        host: str,
        port: int,
        dice: random.Random,
        *,
        cuts_heads: bool = True,
        odds: Mapping[Fault, float] = ODDS,
    ) -> None:
        self._host, self._port = host, port
        self._dice, self._cuts_heads, self._odds = dice, cuts_heads, odds
        self._there, self._back = asyncio.Event(), asyncio.Event()  #: whether anything is passed on, each way
        self._loop: asyncio.AbstractEventLoop | None = None
        self._talks = set[asyncio.Task[None]]()
        self.met = Counter[Fault]()  #: how often each fault was drawn

    @property
    def losses(self) -> int:
        """How many requests or answers were lost."""
        return sum(n for fault, n in self.met.items() if fault not in (Fault.NONE, Fault.DELAY))

    def __str__(self) -> str:
        return ", ".join(f"{self.met[fault]:,} {fault.value}" for fault in self._odds)

    def let(self, *, there: bool, back: bool) -> None:
        """Pass on what clients say, and what they are answered, or not; from any thread."""
        assert self._loop is not None
        for way, is_open in ((self._there, there), (self._back, back)):
            self._loop.call_soon_threadsafe(way.set if is_open else way.clear)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen on a free port; yields it."""
        self._loop = asyncio.get_running_loop()
        self.let(there=True, back=True)
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LONGEST_HEAD)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for talk in self._talks:
                talk.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.ensure_future(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the requests of one client on until somebody hangs up or dice say so."""
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._there.wait()
            server, upstream = await asyncio.open_connection(self._host, self._port, limit=LONGEST_HEAD)
            while True:
                await self._exchange(reader, writer, server, upstream)
        except (Cut, OSError, asyncio.IncompleteReadError):
            await self._back.wait()  # an end is not heard of either
        finally:
            # Not politely: a client behind a broken line is not told either.
            writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (fault,) = self._dice.choices([*self._odds], [*self._odds.values()])
        self.met[fault] += 1
        await self._there.wait()
        if fault is Fault.BEFORE:
            raise Cut
        if fault is Fault.DELAY:
            await asyncio.sleep(self._dice.uniform(0, LONGEST_DELAY))
        await self._send_request(head, reader, upstream, fault)
        if fault is Fault.AFTER:
            await asyncio.sleep(self._dice.uniform(0, 0.01))
            raise Cut
        await self._send_answer(head, server, writer, fault)

    async def _send_request(
        self, head: bytes, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, fault: Fault
    ) -> None:
        parts = chain_of(head, body_of(head, reader))
        await self._pass_on(parts, upstream, half=fault is Fault.WITHIN, all_of_it=fault is not Fault.WITHIN)

    async def _send_answer(
        self, asked: bytes, server: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        head = await server.readuntil(b"\r\n\r\n")
        await self._back.wait()
        has_body = not asked.startswith(b"HEAD ") and status_of(head) not in BODILESS
        parts = chain_of(head, body_of(head, server) if has_body else None)
        lost = fault in (Fault.ANSWERED, Fault.HALF)
        await self._pass_on(parts, writer, half=fault is Fault.HALF, all_of_it=not lost)

    async def _pass_on(
        self, parts: AsyncIterator[bytes], writer: asyncio.StreamWriter, *, half: bool, all_of_it: bool
    ) -> None:
        """Pass *parts* on as they come; else take them all in, pass on some *half* of them or nothing, and cut."""
        if all_of_it:
            async for part in parts:
                writer.write(part)
                await writer.drain()
            return
        head, *rest = [part async for part in parts]
        whole = b"".join([head, *rest])
        if half and (self._cuts_heads or rest):
            least = 1 if self._cuts_heads else len(head)
            writer.write(whole[: self._dice.randrange(least, len(whole))])
            await writer.drain()
        raise Cut


async def chain_of(head: bytes, body: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    yield head
    if body is not None:
        async for part in body:
            yield part


def status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of header *name*, empty if there is none."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


async def body_of(head: bytes, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the body that follows *head*, as it travels."""
    if header(head, b"transfer-encoding").lower() == b"chunked":
        while True:
            size = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(size, 16) + 2)
            yield size + chunk
            if int(size, 16) == 0:
                return
    left = int(header(head, b"content-length") or 0)
    while left:
        part = await reader.read(min(left, 1 << 16))
        if not part:
            raise Cut
        left -= len(part)
        yield part


@contextmanager
def between(
    url: str, dice: random.Random, *, cuts_heads: bool = True, odds: Mapping[Fault, float] = ODDS
) -> Iterator[tuple[str, Chaos]]:
    """A proxy on a thread of its own before the server at *url*, ``http://host:port...``; yields the URL through it.

    Unless it *cuts_heads*, an answer that is cut has its whole head: some clients take half a head for a whole one.
    """
    authority, slash, rest = url.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")
    chaos, thread = Chaos(host, int(port), dice, cuts_heads=cuts_heads, odds=odds), LoopThread("chaos")
    opened = chaos.open()
    try:
        through = thread.run(opened.__aenter__())
        try:
            yield f"http://127.0.0.1:{through}{slash}{rest}", chaos
        finally:
            thread.run(opened.__aexit__(None, None, None))
    finally:
        thread.stop()
