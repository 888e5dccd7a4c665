"""Somebody whom webhooks are told something: a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from dcengine.loops import LoopThread


class Message(NamedTuple):
    """A message as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.said["type"])


class Receiver:
    """A real HTTP server that writes down what it is told, and answers as the path says."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.released = False
        self.statuses: dict[str, int] = {}
        self._thread = LoopThread("receiver")
        self.port = 0

    def start(self, port: int = 0) -> Receiver:
        async def begin() -> web.AppRunner:
            application = web.Application()
            application.router.add_route("*", "/{tail:.*}", self._take)
            runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)  # its URLs are secrets of others
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            return runner

        self._runner = self._thread.run(begin())
        self.port = self._runner.addresses[0][1]
        return self

    def stop(self) -> None:
        self.released = True
        self._thread.run(self._runner.cleanup())
        self._thread.stop()

    async def _take(self, request: web.Request) -> web.Response:
        self.messages.append(Message(request.path, dict(request.headers), await request.read()))
        while request.path.startswith("/hang") and not self.released:
            await asyncio.sleep(0.02)
        if request.path.startswith("/redirect"):
            return web.Response(status=307, headers={"Location": self.url("/target")})
        return web.Response(status=self.statuses.get(request.path, 204), text="\x1b[31mno room")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Message]:
        return [message for message in list(self.messages) if message.path == path]
