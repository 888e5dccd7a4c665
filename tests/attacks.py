"""What tests send that no honest client would: bytes over a bare socket, and how they are answered."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LONGEST = 20.0  #: seconds without a byte after which a server counts as hanging


class Reply(NamedTuple):
    """An answer as it came."""

    status: int
    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Target:
    """An engine's HTTP side, by the URL that carries its token."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.url, self.host, self.port = url, parts.hostname, parts.port
        self.token = parts.query.removeprefix("token=")

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), LONGEST)

    def say(self, *parts: bytes, patience: float = LONGEST) -> list[Reply]:
        """Send *parts*; return what is answered until the connection is closed, or silent for so long."""
        with self.connect() as line:
            try:
                for part in parts:
                    line.sendall(part)
            except OSError:
                pass  # it has hung up already: what it answered can be read all the same
            line.settimeout(patience)
            return replies_in(everything_from(line))

    def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Send one request with JSON, as the administrator unless told; return status and JSON of the answer."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        (reply,) = self.say(self.request(method, path, data, token=token, **headers))
        return reply.status, reply.json if reply.body else None

    def request(
        self, method: str, path: str, body: bytes = b"", *, token: str | None = None, host: str = "", **headers: str
    ) -> bytes:
        """Return the bytes of a request that is the last one of its connection."""
        named = {
            "Host": host or f"{self.host}:{self.port}",
            "Authorization": f"Bearer {self.token if token is None else token}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def everything_from(line: socket.socket) -> bytes:
    """Return what comes until the other side hangs up, or has nothing more to say."""
    got = b""
    try:
        while part := line.recv(1 << 16):
            got += part
    except (ConnectionResetError, TimeoutError):
        pass
    return got


def replies_in(data: bytes) -> list[Reply]:
    """Return the answers in *data*, each of which says how long it is."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = next(
            (int(line.split(":")[1]) for line in text.split("\r\n") if line.lower().startswith("content-length:")), 0
        )
        found.append(Reply(int(text.split(" ")[1]), text, rest[:length]))
        data = rest[length:]
    return found
