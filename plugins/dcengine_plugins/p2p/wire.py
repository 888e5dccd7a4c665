"""Messages of the old farm: 256 bytes that say how long the next one is, then as many bytes of JSON.

Nobody shows a token here, so all that comes in is bounded: how long a message is, how long it may take, and how much
of all of them is in memory at once.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

HEADER = 256  #: bytes: a number in ASCII, then spaces
LENGTH = re.compile(rb"(\d{1,12}) *")
ID_LENGTH = 10  #: characters
ID_SECONDS = 5.0  #: for it to follow the hello
HELLO_LIMIT = 1024  #: bytes
HEADER_SECONDS = 20.0  #: for the rest of one that has begun
BODY_SECONDS, BODY_RATE = 60.0, 64 << 10  #: for a message, and bytes of it that come in each further second
SEND_SECONDS = 300.0  #: that somebody may take nothing of what is being sent
PIECE = 1 << 20  #: bytes
ROOM = 1 << 30  #: bytes of messages that are under way at once


class Malformed(Exception):
    """Somebody does not speak this protocol."""


class Ended(Exception):
    """The other side has closed the connection, between two messages."""


class Room:
    """How much of what comes in may be in memory at once, over all connections."""

    def __init__(self, size: int = ROOM) -> None:
        self._left = size

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Have room for *size* bytes; raises `Malformed` where there is none."""
        if size > self._left:
            raise Malformed(f"a message of {size:,} bytes comes while others take all room there is")
        self._left -= size
        try:
            yield
        finally:
            self._left += size


def framed(body: bytes) -> bytes:
    """Return *body* behind its header."""
    return header(len(body)) + body


def header(length: int) -> bytes:
    """Return what announces a message of *length* bytes."""
    return str(length).encode().ljust(HEADER)


def length_in(head: bytes, limit: int) -> int:
    """Return the length that *head* announces; raises `Malformed` for none, or one above *limit*."""
    match = LENGTH.fullmatch(head.rstrip(b"\0"))
    if match is None:
        raise Malformed(f"no header, but {head[:20]!a}")
    if int(match[1]) > limit:
        raise Malformed(f"a message of {int(match[1]):,} bytes is announced, {limit:,} are taken")
    return int(match[1])


def value_in(body: bytes) -> Any:
    """Return the JSON value of a message; raises `Malformed`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"no JSON: {error}") from None


def fields_in(body: bytes) -> dict[str, Any]:
    """Return the fields of a message that is an object; raises `Malformed`."""
    value = value_in(body)
    if not isinstance(value, dict):
        raise Malformed(f"no object, but {type(value).__name__}")
    return value


def number_in(fields: dict[str, Any], name: str) -> int:
    """Return the whole number *name*, which may be a text such as ``0007``; raises `Malformed`."""
    value = fields.get(name)
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or len(str(value)) > 20:
            raise ValueError
        number = int(value)
        if isinstance(value, float) and number != value:
            raise ValueError
    except (ValueError, OverflowError):
        raise Malformed(f"{name} is {ascii(value)[:50]}, no whole number") from None
    return number


def bytes_in(fields: dict[str, Any], name: str) -> bytes:
    """Return the bytes that *name* holds as base64; raises `Malformed`."""
    text = fields.get(name)
    if not isinstance(text, str):
        raise Malformed(f"{name} is no text")
    try:
        return base64.b64decode("".join(text.split()) if "\n" in text else text, validate=True)
    except ValueError as error:
        raise Malformed(f"{name} is no base64: {error}") from None


def around(message: dict[str, Any], *holes: str) -> list[bytes]:
    """Return *message* as JSON, cut where the texts of the fields *holes* belong, in their order."""
    mark = uuid.uuid4().hex
    text = msgspec.json.encode(_with(message, dict.fromkeys(holes, mark)))
    return text.split(mark.encode())


def _with(message: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    return {
        name: _with(value, values) if isinstance(value, dict) else values.get(name, value)
        for name, value in message.items()
    }


class Wire:
    """One connection: messages in, messages out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, room: Room) -> None:
        self._reader, self._writer, self._room = reader, writer, room
        self._head = b""  #: of a header, that was taken for something else
        self._turn = asyncio.Lock()
        peer = writer.get_extra_info("peername") or ("?",)
        self.peer = str(peer[0])

    async def hello(self) -> tuple[str, str]:
        """Return what the other side says that it is, and its id, which may be missing; raises `Malformed`."""
        role = value_in(await asyncio.wait_for(self.receive(HELLO_LIMIT), HEADER_SECONDS))
        if not isinstance(role, str):
            raise Malformed("no hello: neither worker nor commander")
        return role.strip().lower(), _plain(await self._id())

    async def _id(self) -> bytes:
        """Return the id, as it is or as a message of its own; nothing where another message comes, or none."""
        try:
            start = await asyncio.wait_for(self._reader.readexactly(ID_LENGTH), ID_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            return b""
        except asyncio.IncompleteReadError:
            raise Ended from None
        if LENGTH.fullmatch(start) is None or b" " not in start:
            return start
        self._head = start
        head = await self._header()
        if length_in(head, 1 << 62) > 4 * ID_LENGTH:
            self._head = head
            return b""
        return await self._body(length_in(head, HELLO_LIMIT))

    async def receive(self, limit: int) -> bytes:
        """Return the next message, whenever it comes, of *limit* bytes at most; raises `Malformed`, `Ended`."""
        return await self._body(length_in(await self._header(), limit))

    async def _header(self) -> bytes:
        if not self._head:
            self._head = await self._reader.read(1)
            if not self._head:
                raise Ended
        left = HEADER - len(self._head)
        try:
            head = self._head + await asyncio.wait_for(self._reader.readexactly(left), HEADER_SECONDS)
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, TimeoutError):
            raise Malformed(f"a header breaks off: {self._head[:20]!a}") from None
        self._head = b""
        return head

    async def _body(self, length: int) -> bytes:
        deadline = time.monotonic() + BODY_SECONDS + length / BODY_RATE
        body = bytearray()
        with self._room.of(length):
            while len(body) < length:
                left = deadline - time.monotonic()
                try:
                    piece = await asyncio.wait_for(self._reader.read(min(length - len(body), PIECE)), left)
                except (asyncio.TimeoutError, TimeoutError):
                    raise Malformed(f"a message comes too slowly: {len(body):,} of {length:,} bytes") from None
                if not piece:
                    raise Malformed(f"a message breaks off: {len(body):,} of {length:,} bytes")
                body += piece
        return bytes(body)

    async def send(self, message: Any) -> None:
        """Send *message*; raises `OSError`, or `TimeoutError` where it is not taken."""
        body = msgspec.json.encode(message)
        await self.send_pieces(len(body), _one(body))

    async def send_pieces(self, length: int, pieces: AsyncIterable[bytes]) -> None:
        """Send a message of *length* bytes that comes in *pieces*; raises what `send` raises."""
        async with self._turn:
            self._writer.write(header(length))
            async for piece in pieces:
                view = memoryview(piece)
                for at in range(0, len(view), PIECE):
                    self._writer.write(view[at : at + PIECE])
                    await asyncio.wait_for(self._writer.drain(), SEND_SECONDS)

    def hang_up(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


def _plain(id: bytes) -> str:
    """Return an id without what has no place in a name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "", id.decode("ascii", "ignore"))[:40]
