"""A shorter way to a worker on the same machine: a Unix socket, for what passes between engine and slots.

What is asked and answered is the same as over Dask's own connections, which take half a millisecond longer for each
question: they are encrypted, and made for more than this. Frames are MessagePack behind their length.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec

logger = logging.getLogger(__name__)

LONGEST_PATH = 100  #: bytes; that of a Unix socket cannot be much longer
_LENGTH = struct.Struct(">I")

Answer = Callable[..., Coroutine[Any, Any, Any]]

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder()


class _Frames(asyncio.Protocol):
    """One end of a lane."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for frame in self._whole_frames():
            self._hear(*_decoder.decode(frame))

    def _whole_frames(self) -> Iterator[bytes]:
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield bytes(self._buffer[start + _LENGTH.size : end])
            start = end
        del self._buffer[:start]

    def _say(self, *what: Any) -> None:
        frame = _encoder.encode(what)
        self._transport.writelines((_LENGTH.pack(len(frame)), frame))

    def _hear(self, number: int, *what: Any) -> None:
        """Take in what was said under *number*; each end hears something else."""
        raise NotImplementedError


class Lane(_Frames):
    """The engine's end."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self.is_open = False

    @classmethod
    async def connect(cls, path: str) -> Lane | None:
        """Return a lane to the worker that listens at *path*; None where that is not on this machine."""
        try:
            _, lane = await asyncio.get_running_loop().create_unix_connection(cls, path)
        except OSError as reason:
            logger.debug("no short way to the worker at %s: %s", path, reason)
            return None
        return lane

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.is_open = True

    def ask(self, operation: str, **facts: Any) -> asyncio.Future[Any]:
        """Ask the worker; raises `ConnectionError` if it is gone, and the future fails with that when it goes."""
        if not self.is_open:
            raise ConnectionError("the worker has hung up")
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._say(number, operation, facts)
        return answer

    def _hear(self, number: int, *what: Any) -> None:
        answer, problem = what
        future = self._asked.pop(number)
        if future.done():
            return  # nobody waits any more
        if problem is None:
            future.set_result(answer)
        else:
            future.set_exception(RuntimeError(problem))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(ConnectionError(f"the worker has hung up: {error or 'it is gone'}"))

    def close(self) -> None:
        """Hang up; whatever was asked fails."""
        self._transport.abort()


class LaneServer:
    """The worker's end, for all engines on this machine; *answers* by their operation."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers
        self._server: asyncio.Server | None = None
        self.path = ""  #: where it listens; empty where it cannot

    async def open(self, folder: Path) -> None:
        """Listen in *folder*, where only this user can enter, from now on."""
        place = folder / "dcengine-lane"
        path = str(place / "socket")
        if not hasattr(socket, "AF_UNIX") or len(os.fsencode(path)) > LONGEST_PATH:
            return
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            self._server = await asyncio.get_running_loop().create_unix_server(self._end, path)
            self.path = path
        except OSError as reason:  # Dask's connection does it too
            logger.info("engines on this machine take the long way: %s", reason)

    def _end(self) -> _LaneEnd:
        return _LaneEnd(self._answers)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                os.unlink(self.path)


class _LaneEnd(_Frames):
    """The worker's end of one lane."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__()
        self._answers = answers
        self._answering: set[asyncio.Task[None]] = set()

    def _hear(self, number: int, *what: Any) -> None:
        operation, facts = what
        answering = asyncio.ensure_future(self._answer(number, operation, facts))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, number: int, operation: str, facts: dict[str, Any]) -> None:
        try:
            answer, problem = await self._answers[operation](**facts), None
        except Exception as error:
            logger.exception("a question of an engine was not answered")
            answer, problem = None, f"{type(error).__name__}: {error}"
        if not self._transport.is_closing():
            self._say(number, answer, problem)
