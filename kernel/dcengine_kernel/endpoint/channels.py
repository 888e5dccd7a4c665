"""The websocket of a front end: what it sends goes to its kernel, what the kernel says comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from dcengine.endpoints import EndpointRoute
from dcengine.server.access import ACCESS, GRANT, token_of

from .framing import V1, Garbled, Message, framing_of
from .kernels import Kernels
from .refusing import Refused, refusing

if TYPE_CHECKING:
    from .kernel import Kernel
    from .links import Link

logger = logging.getLogger(__name__)

LARGEST_FRAME = 512 << 20  #: bytes; widgets send pictures and tables
HEARTBEAT_SECONDS = 60.0  #: between pings; who does not answer for half as long has gone
GOODBYE_SECONDS = 2.0  #: to answer the closing of a websocket
LOOK_SECONDS = 2.0  #: between two looks whether a token is still good
GARBLED = 1007  #: closes a websocket that sent no message
REFUSED = 1008  #: closes a websocket whose token is good no more
GOODBYES = (1000, 1001)  #: codes by which a front end says that it wanted to go


def routes(kernels: Kernels) -> list[EndpointRoute]:
    """Return the address of the websockets."""

    async def channels(request: web.Request) -> web.StreamResponse:
        """Speak with a kernel."""
        kernel = kernels.get(request.match_info["id"], request[GRANT])
        websocket = web.WebSocketResponse(
            protocols=(V1,), heartbeat=HEARTBEAT_SECONDS, timeout=GOODBYE_SECONDS, max_msg_size=LARGEST_FRAME,
            compress=False,
        )  # fmt: skip
        if not websocket.can_prepare(request):
            raise Refused(400, "this is an address for websockets", "Bad Request")
        link = kernels.link(kernel, request.query.get("session_id", ""))
        access, token = request.app[ACCESS], token_of(request)
        try:
            await websocket.prepare(request)
            taker = _Websocket(websocket, request.transport)
            await _converse(taker, kernel, link, lambda: access.grant_of(token) is not None)
        finally:
            kernel.left(link)
        return websocket

    return [EndpointRoute("GET", "/api/kernels/{id}/channels", "submit", refusing(channels))]


class _Websocket:
    """The websocket as a link knows it."""

    def __init__(self, websocket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.websocket, self._transport = websocket, transport
        self.framing = framing_of(websocket.ws_protocol)

    async def send(self, message: Message) -> None:
        try:
            data, is_text = self.framing.write(message)
        except Garbled as error:
            logger.warning("what a kernel said was no message: %s", error)
            return
        await self.websocket.send_frame(data, WSMsgType.TEXT if is_text else WSMsgType.BINARY)

    async def hang_up(self, code: int, reason: str) -> None:
        """Close the websocket, within seconds also where the other side takes nothing."""
        message = reason.encode("ascii", "backslashreplace")[:120]
        try:
            await asyncio.wait_for(self.websocket.close(code=code, message=message, drain=False), 2 * GOODBYE_SECONDS)
        except asyncio.TimeoutError:
            logger.debug("a websocket took no goodbye")
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()


async def _converse(taker: _Websocket, kernel: Kernel, link: Link, is_allowed: Callable[[], bool]) -> None:
    """Carry messages both ways until the websocket ends; *link* stays for who comes back to it."""
    await link.attach(taker)
    watch = asyncio.get_running_loop().create_task(_hang_up_unless(is_allowed, taker))
    try:
        async for frame in taker.websocket:
            if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY) and is_allowed():
                await _pass_on(taker.framing.read(frame.data), kernel, link)
    except Garbled as error:
        await taker.hang_up(GARBLED, f"this is no message: {error}")
    finally:
        if is_allowed():
            watch.cancel()  # else it is saying goodbye
        await asyncio.wait([watch])
        await link.detach(taker, said_goodbye=taker.websocket.close_code in GOODBYES)


async def _hang_up_unless(is_allowed: Callable[[], bool], taker: _Websocket) -> None:
    """Hang up once who speaks is no longer allowed to: nothing that a kernel says goes to a token that was revoked."""
    while is_allowed():
        await asyncio.sleep(LOOK_SECONDS)
    await taker.hang_up(REFUSED, "the token is wrong, expired or revoked")


async def _pass_on(message: Message, kernel: Kernel, link: Link) -> None:
    if kernel.state == "dead":
        link.say("status", {"execution_state": "dead"}, message.parts[0])
    else:
        await link.send(message)
