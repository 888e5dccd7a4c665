"""The websocket of a front end: what it sends goes to its kernel, what the kernel says comes back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from dcengine.endpoints import EndpointRoute
from dcengine.server.access import GRANT

from .framing import V1, Framing, Garbled, Message, framing_of
from .kernels import Kernels
from .refusing import Refused, refusing

if TYPE_CHECKING:
    from .kernel import Kernel
    from .links import Link

logger = logging.getLogger(__name__)

LARGEST_FRAME = 512 << 20  #: bytes; widgets send pictures and tables
HEARTBEAT_SECONDS = 60.0  #: between pings; who does not answer for half as long has gone
GOODBYE_SECONDS = 2.0  #: to answer the closing of a websocket
GARBLED = 1007  #: closes a websocket that sent no message
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
        await websocket.prepare(request)
        await _converse(websocket, kernel, kernel.link(request.query.get("session_id", "")))
        return websocket

    return [EndpointRoute("GET", "/api/kernels/{id}/channels", "submit", refusing(channels))]


class _Websocket:
    """The websocket as a link knows it."""

    def __init__(self, websocket: web.WebSocketResponse, framing: Framing) -> None:
        self._websocket, self._framing = websocket, framing

    async def send(self, message: Message) -> None:
        try:
            data, is_text = self._framing.write(message)
        except Garbled as error:
            logger.warning("what a kernel said was no message: %s", error)
            return
        await self._websocket.send_frame(data, WSMsgType.TEXT if is_text else WSMsgType.BINARY)

    async def hang_up(self, code: int, reason: str) -> None:
        await self._websocket.close(code=code, message=reason.encode("ascii", "backslashreplace")[:120])


async def _converse(websocket: web.WebSocketResponse, kernel: Kernel, link: Link) -> None:
    """Carry messages both ways until the websocket ends; *link* stays for who comes back to it."""
    framing = framing_of(websocket.ws_protocol)
    taker = _Websocket(websocket, framing)
    await link.attach(taker)
    try:
        async for frame in websocket:
            if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await _pass_on(framing.read(frame.data), kernel, link)
    except Garbled as error:
        await taker.hang_up(GARBLED, f"this is no message: {error}")
    finally:
        await link.detach(taker, said_goodbye=websocket.close_code in GOODBYES)
        kernel.left(link)


async def _pass_on(message: Message, kernel: Kernel, link: Link) -> None:
    if kernel.state == "dead":
        link.say("status", {"execution_state": "dead"}, message.parts[0])
    else:
        await link.send(message)
