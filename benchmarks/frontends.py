"""Front ends: kernels behind HTTP, asked over their websockets; the same code for every server. All of it blocks."""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

import websocket
from yarl import URL

from .rounds import Served, serving

PROTOCOL = "v1.kernel.websocket.jupyter.org"
PATIENCE = 60.0  #: seconds for any one answer
TOKEN = "of-the-stock-server"
PLACES = {"IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
OPTIONS = {
    "IdentityProvider.token": TOKEN,
    "ServerApp.port": 0,
    "ServerApp.open_browser": False,
    "ServerApp.allow_root": True,
    "ServerApp.log_level": 50,
    "ZMQChannelsWebsocketConnection.limit_rate": False,  # it drops what is printed fast
}


class Server(NamedTuple):
    """What has kernels behind HTTP."""

    url: str
    token: str
    process: int


class Heard(NamedTuple):
    """A message from a kernel."""

    channel: str
    kind: str
    request: str  #: the id of the message that it answers
    content: dict[str, Any]


class Frontend:
    """One websocket to one kernel."""

    def __init__(self, server: Server, kernel: str) -> None:
        self.kernel, self.session = kernel, uuid.uuid4().hex
        address = f"{server.url.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels?session_id={self.session}"
        headers = {"Authorization": f"token {server.token}"}
        self._socket = websocket.create_connection(
            address, timeout=PATIENCE, header=headers, subprotocols=[PROTOCOL], suppress_origin=True
        )

    def ask(self, code: str) -> str:
        """Ask for *code* to be executed; return the id of the request."""
        request = uuid.uuid4().hex
        header = {"msg_id": request, "session": self.session, "username": "", "version": "5.3", "date": "",
                  "msg_type": "execute_request"}  # fmt: skip
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        self._socket.send_binary(packed("shell", [json.dumps(part).encode() for part in (header, {}, {}, content)]))
        return request

    def hear(self) -> Heard:
        """Return the next message."""
        frame = self._socket.recv()
        assert isinstance(frame, bytes), "the server does not know the newer framing"
        channel, parts = unpacked(frame)
        header, parent, _, content = map(json.loads, parts[:4])
        return Heard(channel, header["msg_type"], parent.get("msg_id", ""), content)

    def cell(self, code: str) -> tuple[float, str]:
        """Run *code*; return how long it takes until the kernel is idle again and the reply there, and all its text."""
        started = time.perf_counter()
        said = self.finish(self.ask(code))
        for heard in said:
            assert heard.kind != "execute_reply" or heard.content["status"] == "ok", heard.content
        return time.perf_counter() - started, "".join(map(text_of, said))

    def finish(self, request: str) -> list[Heard]:
        """Return what is still said to *request*, until its reply is there and the kernel is idle again."""
        said, ends = [], set[str]()
        while len(ends) < 2:
            heard = self.hear()
            if heard.request != request:
                continue
            if heard.kind == "execute_reply" or heard.content.get("execution_state") == "idle":
                ends.add(heard.kind)
            said.append(heard)
        return said

    def close(self) -> None:
        self._socket.close()

    def cut(self) -> None:
        """Be gone without a goodbye."""
        self._socket.shutdown()  # type: ignore[no-untyped-call]


def text_of(heard: Heard) -> str:
    """Return what a message shows as text."""
    if heard.kind == "stream":
        return str(heard.content["text"])
    return str(heard.content["data"]["text/plain"]) if heard.kind == "execute_result" else ""


def packed(channel: str, parts: Sequence[bytes]) -> bytes:
    """Return a message as a frame: how many offsets there are, the offsets, the channel, the parts."""
    pieces = [channel.encode(), *parts]
    offsets = [8 * (len(pieces) + 2)]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(pieces)


def unpacked(frame: bytes) -> tuple[str, list[bytes]]:
    """Return the channel and the parts of a frame."""
    (count,) = struct.unpack_from("<Q", frame)
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    channel, *parts = (frame[begin:end] for begin, end in itertools.pairwise(offsets))
    return channel.decode(), parts


# ---- servers and their kernels -------------------------------------------------------------


@contextmanager
def engine() -> Iterator[Server]:
    """``dcengine serve`` without workers."""
    with serving(workers=0) as served:
        yield server_of(served)


def server_of(served: Served) -> Server:
    address = URL(served.url)
    return Server(str(address.origin()), address.query["token"], served.process)


@contextmanager
def stock() -> Iterator[Server]:
    """A stock jupyter_server without anybody's settings; it sends as much as there is."""
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        environment = {**os.environ, **{name: f"{folder}/{place}" for name, place in PLACES.items()}}
        options = [f"--{name}={value}" for name, value in {**OPTIONS, "ServerApp.root_dir": folder}.items()]
        command = [sys.executable, "-m", "jupyter_server", *options]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield Server(_address(Path(folder, PLACES["JUPYTER_RUNTIME_DIR"]), process), TOKEN, process.pid)
            finally:
                process.terminate()


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Return where the server that writes its address into *folder* answers, once it does."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for file in folder.glob("jpserver-*.json"):
            try:
                address = f"http://127.0.0.1:{json.loads(file.read_text())['port']}"
                urlopen(f"{address}/api", timeout=5).close()
            except (URLError, ValueError):  # not written to its end, or not listening yet
                break
            return address
        time.sleep(0.05)
    raise RuntimeError("jupyter_server did not start")


@contextmanager
def kernel(server: Server) -> Iterator[str]:
    """The id of a kernel of its own behind *server*."""
    id = _asked(server, "POST", "/api/kernels", {"name": "dcengine"})["id"]
    try:
        yield id
    finally:
        _asked(server, "DELETE", f"/api/kernels/{id}")


@contextmanager
def frontend(server: Server) -> Iterator[Frontend]:
    """A front end with a kernel of its own behind *server*."""
    with kernel(server) as id:
        running = Frontend(server, id)
        try:
            yield running
        finally:
            running.close()


def _asked(server: Server, method: str, path: str, body: object = None) -> Any:
    headers = {"Authorization": f"token {server.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(server.url + path, data, headers, method=method), timeout=PATIENCE) as response:
        answer = response.read()
    return json.loads(answer) if answer else None
