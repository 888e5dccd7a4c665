"""The line between a kernel's host and whoever asked for it: CurveZMQ, with one key that is let in.

What goes through it is stored nowhere: the environment of the kernel, the engine's token in it, and the keys and ports
of the kernel's own sockets. What goes through the engine, which stores it, are public keys and an address.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from zmq.auth.thread import ThreadAuthenticator

DOMAIN = "dcengine"  #: of the rule that one key is let in
LINGER = 1000  #: milliseconds for the last words to go out


class Asker(msgspec.Struct, frozen=True):
    """Who asks for a kernel, as the job's arguments say it: no secrets, they are stored."""

    key: str  #: its public key of CURVE, the one that is let in
    machine: str
    address: str  #: of its machine, as its engine sees it; empty where the two are on one


class Where(msgspec.Struct, frozen=True):
    """Where the host of a kernel is reached; no secrets, it is stored with what the job says."""

    ip: str
    port: int
    key: str  #: its public key of CURVE


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Start the kernel."""

    env: dict[str, str]
    arguments: list[str]  #: of its command line, beyond the connection file
    folder: str  #: to work in, where the host has it
    patience: float  #: seconds of silence after which it is to end
    before: dict[str, Any] = {}  #: how the kernel was reached in whose place it comes: its clients stay connected


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Somebody is still there."""


class Signal(msgspec.Struct, frozen=True, tag=True):
    """Send the kernel, and what it has started, a signal."""

    number: int


class Started(msgspec.Struct, frozen=True, tag=True):
    """The kernel listens."""

    connection: dict[str, Any]


class Pong(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Ping`."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The kernel's process has ended."""

    status: int


Asked = Begin | Ping | Signal
Told = Started | Pong | Ended

_encode = msgspec.msgpack.Encoder().encode
_decode_asked: Callable[[bytes], Asked] = msgspec.msgpack.Decoder(Asked).decode
_decode_told: Callable[[bytes], Told] = msgspec.msgpack.Decoder(Told).decode


class HostEnd:
    """The end of the kernel's host: listens at *ip* to the one who has the secret of the public key *let_in*."""

    def __init__(self, ip: str, let_in: str) -> None:
        self._let_in = let_in.encode()
        self._peer: bytes | None = None
        self._context = zmq.Context()
        self._guard = ThreadAuthenticator(self._context)
        self._guard.start()
        self._guard.configure_curve_callback(DOMAIN, self)
        self._socket = self._context.socket(zmq.ROUTER)
        public, secret = zmq.curve_keypair()
        self._socket.curve_server = True
        self._socket.curve_publickey, self._socket.curve_secretkey = public, secret
        self._socket.linger = LINGER
        self._socket.zap_domain = DOMAIN.encode()
        port = self._socket.bind_to_random_port(f"tcp://{ip}")
        self.where = Where(ip, port, public.decode())

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether the holder of *key* may connect; pyzmq's authenticator asks."""
        return key == self._let_in

    def receive(self, seconds: float) -> Asked | None:
        """Return what was asked, None if nothing is within *seconds*."""
        if not self._socket.poll(int(1000 * seconds)):
            return None
        self._peer, body = self._socket.recv_multipart()
        return _decode_asked(body)

    def send(self, told: Told) -> None:
        """Tell whoever asked last."""
        if self._peer is not None:
            self._socket.send_multipart([self._peer, _encode(told)])

    def __enter__(self) -> HostEnd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        self._guard.stop()
        self._context.term()


class AskerEnd:
    """The end of whoever asks, on an asyncio loop; its keys are made anew for each kernel."""

    def __init__(self) -> None:
        public, self._secret = zmq.curve_keypair()
        self.key = public.decode()  #: the public one
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket | None = None

    def connect(self, where: Where) -> None:
        """Connect to the host of the kernel."""
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = where.key.encode()
        self._socket.curve_publickey, self._socket.curve_secretkey = self.key.encode(), self._secret
        self._socket.linger = LINGER
        self._socket.connect(f"tcp://{where.ip}:{where.port}")

    async def send(self, asked: Asked) -> None:
        """Ask the host; what is asked while the line is down waits until it is there again."""
        assert self._socket is not None
        await self._socket.send(_encode(asked))

    async def receive(self) -> Told:
        """Return what the host tells next."""
        assert self._socket is not None
        return _decode_told(await self._socket.recv())

    def close(self) -> None:
        """Hang up; what was not sent yet is dropped."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._context.term()
