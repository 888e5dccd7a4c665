"""Who is at the other end of a connection: a worker or a commander, each answered to its end."""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from typing import Any

from dcengine.protocols import Listener
from dcengine.verbs import Verbs

from . import pictures
from .clients import Client
from .farm import Farm
from .stand_ins import StandIns
from .wire import ID_LENGTH, Ended, Malformed, Room, Wire, bytes_in, fields_in, number_in
from .workers import OldWorker

logger = logging.getLogger(__name__)

WORKER, COMMANDER = "worker", "commander"
FRAME_LIMIT = 96 << 20  #: bytes of a message with a frame


def listener(verbs: Verbs) -> Listener:
    """Return who answers on the port."""
    switchboard = Switchboard(verbs)
    return Listener(switchboard.answer, switchboard.close)


class Switchboard:
    """Takes connections, and what they have in common."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs, self._room = verbs, Room()
        self._farm = Farm(verbs)
        self._stand_ins = StandIns(verbs, self._farm)

    async def close(self) -> None:
        """End what goes on without connections."""
        await self._stand_ins.close()
        await self._farm.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection to its end."""
        wire = Wire(reader, writer, self._room)
        try:
            role, id = await wire.hello()
            id = id or uuid.uuid4().hex[:ID_LENGTH]
            if role == WORKER:
                await self._serve(OldWorker(wire, id), wire)
            elif role == COMMANDER:
                await Client(wire, id, self._verbs, self._farm.scenes).serve()
            else:
                raise Malformed(f"no hello, but {ascii(role)[:50]}")
        except Malformed as problem:
            logger.warning("p2p: %s is hung up on: %s", wire.peer, problem)
        except (Ended, OSError, asyncio.TimeoutError, TimeoutError):
            pass  # it has gone without a word, or never said any

    async def _serve(self, worker: OldWorker, wire: Wire) -> None:
        """Take the frames of *worker* until it goes."""
        self._farm.join(worker)
        reason = "the engine stopped"
        try:
            while True:
                await self._take(worker, fields_in(await wire.receive(FRAME_LIMIT)))
        except Ended:
            reason = "it closed the connection"
        except OSError as error:
            reason = f"the connection broke ({error.strerror or error})"
        except Malformed as problem:
            reason = str(problem)
            raise
        finally:
            await self._farm.leave(worker, worker.reason or reason)

    async def _take(self, worker: OldWorker, fields: dict[str, Any]) -> None:
        if "frame" not in fields:
            logger.info("p2p: worker %s says something that is no frame", worker.name)
            return
        frame = number_in(fields, "frame_num")
        picture = await asyncio.to_thread(_picture, fields)
        if not await self._farm.take(worker, frame, picture):
            logger.info("p2p: worker %s sent frame %d, which nobody waits for", worker.name, frame)


def _picture(fields: dict[str, Any]) -> str:
    """Return the PNG in a message, in base64; raises `Malformed`."""
    content = bytes_in(fields, "frame")
    pictures.check(content)
    return base64.b64encode(content).decode()
