"""Ports of their own, for protocols that are no HTTP: opened with the engine's HTTP side, and closed with it."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from .. import protocols
from ..errors import EngineError, InsecureAddress, InvalidOption
from ..loops import ended
from ..protocols import Listener
from ..verbs import Verbs
from .listening import is_loopback, refused

logger = logging.getLogger(__name__)

OPTION = "--protocol-port"
LOOPBACK = "127.0.0.1"
ENTRY = re.compile(r"(?P<protocol>[\w.-]+)=(?:(?P<host>[^=\s]+):)?(?P<port>\d{1,5})")
EXPECTED = "PROTOCOL=PORT or PROTOCOL=ADDRESS:PORT, such as p2p=9000"
MOST_CONNECTIONS = 1000  #: on one port; more are closed at once
BUFFER = 1 << 20  #: bytes of a connection that are read ahead


class Place(NamedTuple):
    """Where a protocol is to be answered."""

    protocol: str
    host: str
    port: int  #: 0: a free one


def places_of(entries: Iterable[str]) -> list[Place]:
    """Return what *entries* such as ``p2p=9000`` say; raises `InvalidOption`."""
    return [_place_of(entry) for entry in entries]


def _place_of(entry: str) -> Place:
    match = ENTRY.fullmatch(entry)
    if match is None or int(match["port"]) > 65535:
        raise InvalidOption("protocol_port", repr(entry)[:100], EXPECTED)
    return Place(match["protocol"], (match["host"] or LOOPBACK).strip("[]"), int(match["port"]))


class Port:
    """A port on which a protocol's listener answers."""

    def __init__(self, place: Place, listener: Listener) -> None:
        self.protocol = place.protocol
        self._place, self._listener = place, listener
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def open(self) -> None:
        """Take connections; raises what `open_ports` raises."""
        host, port = self._place.host, self._place.port
        try:
            self._server = await asyncio.start_server(self._answer, host, port, limit=BUFFER)
        except OSError as error:
            raise refused(error, host, port, port_option=OPTION, host_option=OPTION) from error

    @property
    def address(self) -> str:
        """Where it is, as ADDRESS:PORT."""
        host, port = self._place.host, self._server.sockets[0].getsockname()[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_in_use(self) -> bool:
        """Whether somebody is connected."""
        return bool(self._open)

    async def close(self) -> None:
        """Take no more connections, end those that there are, then the listener."""
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await ended(self._open)
        await self._listener.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MOST_CONNECTIONS:
            logger.warning("%s: there are %d connections; one more was closed", self.protocol, MOST_CONNECTIONS)
            writer.transport.abort()
            return
        self._open[task] = writer
        try:
            _notice_the_dead(writer)
            await self._listener.answer(reader, writer)
        except asyncio.CancelledError:
            pass  # the port is being closed
        except Exception:  # of a package of somebody else's
            logger.exception("%s: a connection was ended", self.protocol)
        finally:
            self._open.pop(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()


async def open_ports(places: Iterable[Place], verbs: Verbs, *, insecure: bool) -> list[Port]:
    """Open a port for each of *places*, all or none.

    Raises `InsecureAddress` for one beyond this machine, `PortInUse`, and `InvalidOption` for a protocol that is not
    installed, or has no use for a port.
    """
    ports: list[Port] = []
    try:
        for place in places:
            ports.append(await _opened(place, verbs, insecure=insecure))
    except BaseException:
        await close_ports(ports)
        raise
    return ports


async def close_ports(ports: Iterable[Port]) -> None:
    """Close all of *ports*, whatever goes wrong with one of them."""
    for port in ports:
        try:
            await port.close()
        except Exception:  # of a package of somebody else's
            logger.exception("the port of %s was not closed well", port.protocol)


async def _opened(place: Place, verbs: Verbs, *, insecure: bool) -> Port:
    if not insecure and not is_loopback(place.host):
        raise InsecureAddress(place.host, place.protocol)
    make = protocols.load(place.protocol).listener
    if make is None:
        with_port = "one that is no HTTP; this one is answered at /p/PROJECT/ of the engine's own address"
        raise InvalidOption("protocol_port", f"for {place.protocol!r}", with_port)
    listener = make(verbs)
    port = Port(place, listener)
    try:
        await port.open()
    except (EngineError, InvalidOption):
        await listener.close()
        raise
    return port


def _notice_the_dead(writer: asyncio.StreamWriter) -> None:
    """Have the system ask after a minute whether the other machine is still there."""
    connected: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # where the system has no such options it asks after two hours
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
