"""Clients of the old farm: each sends a scene, hears of its frames, and gets them as a zip and a movie."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import tempfile
import zipfile
from collections.abc import AsyncIterator
from typing import BinaryIO

import msgspec

from dcengine.errors import DcengineError
from dcengine.glances import bytes_in
from dcengine.loops import ended
from dcengine.verbs import Verbs

from ..render.old_farm import MOVIE, STAGE, frame_of
from . import jobs
from .scenes import Scenes
from .wire import Ended, Malformed, Wire, around

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  #: between two looks at how far a job is
PAGE = 16  #: frames in memory at once
READ_AT_ONCE = 3 << 18  #: bytes; divided by three they are whole in base64


class Client:
    """One connection of a commander; one job after another."""

    def __init__(self, wire: Wire, id: str, verbs: Verbs, scenes: Scenes) -> None:
        self._wire, self._id, self._verbs, self._scenes = wire, id, verbs, scenes

    async def serve(self) -> None:
        """Answer it until it goes; what it has asked for goes on without it."""
        coming: asyncio.Task[bytes] = asyncio.create_task(self._wire.receive(jobs.JOB_LIMIT))
        try:
            while True:
                body = await coming
                coming = asyncio.create_task(self._wire.receive(jobs.JOB_LIMIT))
                if not await self._answer(body, coming):
                    return
        except (Ended, OSError, asyncio.TimeoutError, TimeoutError) as error:
            logger.info("p2p: client %s has gone%s", self._id, f": {error}" if str(error) else "")
        finally:
            await ended([coming])
            if not coming.cancelled():
                coming.exception()  # it is known by now

    async def _answer(self, body: bytes, coming: asyncio.Task[bytes]) -> bool:
        """Do the job that *body* asks for; False where it came to nothing. Raises `Ended` once the client has gone."""
        try:
            job = await asyncio.to_thread(jobs.job_in, body)
            del body
            name = await jobs.begin(self._verbs, self._scenes, job, self._id)
        except (Malformed, DcengineError) as error:
            return await self._refuse(str(error))
        logger.info("p2p: client %s wants frames %d-%d: project %s", self._id, job.start, job.end, name)
        del job
        try:
            await self._tell(name, coming)
            if problem := await jobs.problem_of(self._verbs, name):
                return await self._refuse(problem)
            await self._hand_over(name)
        except DcengineError as error:  # the project was deleted, say
            return await self._refuse(str(error))
        return True

    async def _refuse(self, problem: str) -> bool:
        """Say why there will be no movie. Old clients have no word for that; they end with the connection."""
        logger.warning("p2p: the job of client %s (%s) came to nothing: %s", self._id, self._wire.peer, problem)
        await self._wire.send({"message": "failed", "error": problem})
        return False

    async def _tell(self, name: str, coming: asyncio.Task[bytes]) -> None:
        """Say of each frame that it is there, until no more will come."""
        told = 0
        while True:
            status = await self._verbs.project(name)
            for _ in range(jobs.rendered_in(status) - told):
                await self._wire.send({"message": "frame_rendered"})
                told += 1
            if not status.open:
                return
            if coming.done():
                coming.result()  # it raises what ended the connection; another job waits for its turn
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await asyncio.wait([coming], timeout=LOOK_SECONDS)

    async def _hand_over(self, name: str) -> None:
        """Send the frames as a zip, and the movie."""
        await self._wire.send({"message": "rendered"})
        with tempfile.TemporaryFile(prefix="dcengine-p2p-") as archive:
            await self._fill(archive, name)
            movie = await self._movie(name)
            head, middle, tail = around(
                {"file_name": "results.zip", "file": "", "video_name": "results.mp4", "video": ""}, "file", "video"
            )
            text = base64.b64encode(movie)
            size = archive.seek(0, 2)
            length = len(head) + (size + 2) // 3 * 4 + len(middle) + len(text) + len(tail)

            async def pieces() -> AsyncIterator[bytes]:
                yield head
                archive.seek(0)
                while piece := await asyncio.to_thread(archive.read, READ_AT_ONCE):
                    yield binascii.b2a_base64(piece, newline=False)
                for rest in (middle, text, tail):
                    yield rest

            await self._wire.send_pieces(length, pieces())

    async def _fill(self, file: BinaryIO, name: str) -> None:
        """Write a zip of all frames, named by their numbers."""
        frames = await self._frames(name)
        after = 0
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            while page := await self._verbs.outputs(name, STAGE, after=after, limit=PAGE):
                after = page[-1].number
                for output in page:
                    if output.state == "succeeded" and output.number in frames:
                        content = await asyncio.to_thread(_picture, output.data)
                        await asyncio.to_thread(archive.writestr, f"{frames[output.number]}.png", content)

    async def _frames(self, name: str) -> dict[int, int]:
        """Return which frame each part of the job is, by its number."""
        frames: dict[int, int] = {}
        before: int | None = None
        while page := await self._verbs.jobs(project=name, before=before, limit=1000):
            before = page[-1].id
            frames.update({job.number: frame_of(job.key) for job in page if job.key})
        return frames

    async def _movie(self, name: str) -> bytes:
        (output,) = await self._verbs.outputs(name, MOVIE, limit=1)
        return await asyncio.to_thread(bytes_in, output.data) or b""


def _picture(data: bytes) -> bytes:
    """Return the PNG in what the stage made, packed JSON."""
    return base64.b64decode(msgspec.json.decode(data[1:])["png"])
