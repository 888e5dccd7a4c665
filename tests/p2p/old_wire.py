"""The old farm's messages as its programs wrote and read them, with blocking sockets; knows nothing of dcengine."""

from __future__ import annotations

import json
import socket
from typing import Any

HEADER = 256


def connected(address: str) -> socket.socket:
    """A connection to ADDRESS:PORT."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def send(line: socket.socket, message: Any) -> None:
    """Send one message."""
    body = json.dumps(message).encode()
    line.sendall(str(len(body)).encode().ljust(HEADER, b" "))
    line.sendall(body)


def receive(line: socket.socket) -> Any:
    """The next message; None once the other side has gone."""
    head = _exactly(line, HEADER)
    if head is None:
        return None
    body = _exactly(line, int(head))
    return None if body is None else json.loads(body)


def _exactly(line: socket.socket, length: int) -> bytes | None:
    content = b""
    while len(content) < length:
        piece = line.recv(min(length - len(content), 1 << 16))
        if not piece:
            return None
        content += piece
    return content
