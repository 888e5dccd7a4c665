"""Jupyter front ends for tests: they speak to an engine over HTTP and websockets, in both framings."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import aiohttp

import dcengine

V1 = "v1.kernel.websocket.jupyter.org"
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}  # fmt: skip
PATIENCE = 60.0  #: seconds for anything that a kernel should do

Said = dict[str, Any]  #: a message, with its channel and its buffers


@contextmanager
def jupyter_engine(folder: Path, **options: Any) -> Iterator[dcengine.Engine]:
    """An engine in this process that is a Jupyter server, with *folder* for its files."""
    chosen = {"workers": 0, "processes": False, "kernels": True, "files": str(folder), **options}
    with dcengine.Engine(folder / "jobs.db", **chosen) as engine:
        yield engine


def ask(engine: Any, path: str, body: Any = None, method: str | None = None) -> Any:
    """Ask the Jupyter endpoint of *engine* and wait for its answer."""
    address, _, token = engine.url.partition("/?token=")
    data = None if body is None else json.dumps(body).encode()
    request = Request(address + path, data, {"Authorization": f"token {token}"}, method=method)
    with urlopen(request, timeout=PATIENCE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class FrontEnd:
    """A front end with a token; `channels` opens websockets."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Return the status of the answer and what it says."""
        given = {} if body is None else {"json": body}
        async with self._session.request(method, self._url + path, **given, **options) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json and text else text

    @asynccontextmanager
    async def channels(
        self, kernel: str, session_id: str | None = None, *, framing: str | None = V1, **options: Any
    ) -> AsyncIterator[Channels]:
        """A websocket to *kernel*."""
        query = {} if session_id is None else {"session_id": session_id}
        protocols = () if framing is None else (framing,)
        address = f"{self._url}/api/kernels/{kernel}/channels"
        async with self._session.ws_connect(
            address, params=query, protocols=protocols, max_msg_size=0, **options
        ) as websocket:
            yield Channels(websocket, session_id or uuid4().hex)


@asynccontextmanager
async def front_end(engine: Any, *, token: str | None = None, prefix: str = "") -> AsyncIterator[FrontEnd]:
    """A front end of *engine*, which acts with its own token or another."""
    address, _, own = engine.url.partition("/?token=")
    headers = {"Authorization": f"token {own if token is None else token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield FrontEnd(session, address + prefix)


class Channels:
    """An open websocket of a kernel."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, session_id: str) -> None:
        self.websocket, self.session_id = websocket, session_id
        self.heard: list[Said] = []

    async def send(self, kind: str, content: Any, channel: str = "shell", buffers: tuple[bytes, ...] = ()) -> str:
        """Send a request; return its id."""
        header = {
            "msg_id": uuid4().hex, "msg_type": kind, "session": self.session_id, "username": "ada",
            "version": "5.3", "date": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        parts = [header, {}, {}, content]
        if self.websocket.protocol == V1:
            encoded = [json.dumps(part).encode() for part in parts]
            await self.websocket.send_bytes(v1_frame(channel.encode(), *encoded, *buffers))
        else:
            names = ("header", "parent_header", "metadata", "content")
            document = {**dict(zip(names, parts, strict=True)), "channel": channel, "buffers": []}
            await self._send_legacy(document, buffers)
        return header["msg_id"]

    async def _send_legacy(self, document: Any, buffers: tuple[bytes, ...]) -> None:
        if not buffers:
            await self.websocket.send_str(json.dumps(document))
            return
        await self.websocket.send_bytes(legacy_frame(json.dumps(document).encode(), *buffers))

    async def execute(self, code: str, **options: Any) -> str:
        """Ask for *code* to be run; return the id of the request."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True}  # fmt: skip
        return await self.send("execute_request", content | options)

    async def hear(self, wanted: Callable[[Said], bool], patience: float = PATIENCE) -> Said:
        """Wait for a message that is *wanted*; return it."""
        until = time.monotonic() + patience
        while True:
            message = await self.next(max(0.01, until - time.monotonic()))
            if wanted(message):
                return message

    async def next(self, patience: float = PATIENCE) -> Said:
        """Return the next message."""
        frame = await self.websocket.receive(timeout=patience)
        assert frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), frame
        message = read_v1(frame.data) if self.websocket.protocol == V1 else read_legacy(frame.data)
        self.heard.append(message)
        return message

    async def run(self, code: str, **options: Any) -> list[Said]:
        """Run *code* to its end; return what was said of it."""
        return await self.finish(await self.execute(code, **options))

    async def finish(self, request: str) -> list[Said]:
        """Wait for the reply to *request* and for its idle; return what was said of it."""
        open = {"reply", "idle"} - set(filter(None, map(_end, self.of(request))))
        while open:
            message = await self.next()
            if message["parent_header"].get("msg_id") == request:
                open.discard(_end(message) or "")
        return self.of(request)

    def of(self, request: str) -> list[Said]:
        """Return what was said of *request*."""
        return [message for message in self.heard if message["parent_header"].get("msg_id") == request]


def _end(message: Said) -> str | None:
    if message["channel"] == "shell":
        return "reply"
    return "idle" if message["content"].get("execution_state") == "idle" else None


def kinds(messages: list[Said]) -> list[str]:
    """Return the types of *messages*."""
    return [message["header"]["msg_type"] for message in messages]


def text_of(messages: list[Said]) -> str:
    """Return what *messages* print."""
    return "".join(m["content"]["text"] for m in messages if m["header"]["msg_type"] == "stream")


def results(messages: list[Said]) -> list[str]:
    """Return the plain text of the results in *messages*."""
    return [m["content"]["data"]["text/plain"] for m in messages if m["header"]["msg_type"] == "execute_result"]


def v1_frame(channel: bytes, *parts: bytes) -> bytes:
    """Return a frame as the v1 subprotocol has it."""
    place = 8 * (len(parts) + 3)
    offsets = [place]
    for part in (channel, *parts):
        place += len(part)
        offsets.append(place)
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + channel + b"".join(parts)


def read_v1(frame: bytes) -> Said:
    """Return the message in a frame of the v1 subprotocol."""
    (count,) = struct.unpack_from("<Q", frame)
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    channel, header, parent, metadata, content, *buffers = (
        frame[start:end] for start, end in pairwise(offsets)
    )  # fmt: skip
    return {
        "channel": channel.decode(), "header": json.loads(header), "parent_header": json.loads(parent),
        "metadata": json.loads(metadata), "content": json.loads(content), "buffers": buffers,
    }  # fmt: skip


def legacy_frame(document: bytes, *buffers: bytes) -> bytes:
    """Return a binary frame as older clients send it."""
    place, offsets = 4 * (len(buffers) + 2), []
    for piece in (document, *buffers):
        offsets.append(place)
        place += len(piece)
    return struct.pack(f"!{len(offsets) + 1}I", len(offsets), *offsets) + document + b"".join(buffers)


def read_legacy(frame: str | bytes) -> Said:
    """Return the message in a frame as older clients get it."""
    if isinstance(frame, str):
        return dict(json.loads(frame))
    (count,) = struct.unpack_from("!I", frame)
    ends = [*struct.unpack_from(f"!{count}I", frame, 4), len(frame)]
    document, *buffers = (frame[start:end] for start, end in pairwise(ends))
    return {**json.loads(document), "buffers": buffers}


async def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until the coroutine that *condition* makes gives something true; return that."""
    until = time.monotonic() + patience
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < until, f"{condition} did not come true within {patience:g} s"
        await asyncio.sleep(0.05)
