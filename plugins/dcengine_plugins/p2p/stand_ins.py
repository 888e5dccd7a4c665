"""Dask's workers in place of old ones: they render while no old worker is connected."""

from __future__ import annotations

import asyncio
import base64
import logging
from contextlib import suppress
from typing import Any, cast

import msgspec

from dcengine.calls import submission_of
from dcengine.codec import unpack_failure
from dcengine.errors import DcengineError
from dcengine.glances import bytes_in
from dcengine.loops import ended
from dcengine.values import Reference
from dcengine.verbs import Completion, Heartbeat, JobResult, LeasedTask, LeaseRequest, TaskFailure, Verbs

from ..render import work
from ..render.old_farm import STAGE, Order
from ..render.pictures import Look, Picture
from ..render.planning import BLENDER
from .farm import BEAT_SECONDS, Farm, is_ours, orders_in, queued_in

logger = logging.getLogger(__name__)

NAME = "dask"  #: as contributor and in the dashboard
PATIENCE_SECONDS = 5.0  #: without an old worker, before they begin
LOOK_SECONDS = 1.0
KEEP = "10m"  #: the pictures of calls; the project has them then


class StandIns:
    """Those of Dask's workers that have Blender, for the frames that no old worker renders."""

    def __init__(self, verbs: Verbs, farm: Farm) -> None:
        self._verbs, self._farm = verbs, farm
        self._rendering: set[asyncio.Task[None]] = set()
        self._alone = 0.0  #: seconds since an old worker was connected
        self._task = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Put back what they have, and take no more."""
        await ended([self._task, *self._rendering])

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._alone = self._alone + LOOK_SECONDS if self._farm.is_empty else 0.0
            if self._alone < PATIENCE_SECONDS:
                continue
            try:
                await self._stand_in()
            except DcengineError as error:
                logger.warning("p2p: nobody stands in for old workers just now: %s", error)

    async def _stand_in(self) -> None:
        """Have as many frames rendered as Dask's workers are free for, and as many again so that none is idle."""
        waiting = [status for status in await self._verbs.projects() if is_ours(status) and queued_in(status)]
        room = 2 * await self._slots() - len(self._rendering) if waiting else 0
        for status in waiting:
            if room <= 0:
                return
            request = LeaseRequest(project=status.name, stage=STAGE, worker=NAME, n=-(-room // len(waiting)))
            for order, task in await orders_in(self._verbs, await self._verbs.lease(request)):
                room -= 1
                rendering = asyncio.create_task(self._render(order, task))
                self._rendering.add(rendering)
                rendering.add_done_callback(self._rendering.discard)

    async def _slots(self) -> int:
        """Return how many frames could be rendered at once."""
        able = {worker.name for worker in (await self._verbs.explain(BLENDER)).workers if worker.matches}
        return sum(worker.slots for worker in await self._verbs.workers() if worker.name in able)

    async def _render(self, order: Order, task: LeasedTask) -> None:
        """Render one frame; whatever becomes of it is said."""
        job: int | None = None
        try:
            job = (await self._verbs.submit(await asyncio.to_thread(_call, order, await self._scene(order)))).id
            end = await self._end_of(job, task)
            if end is not None:
                job = None
                await self._say(task, end)
        except DcengineError as error:
            with suppress(DcengineError):
                await self._verbs.fail([TaskFailure(token=task.token, reason=str(error)[:1000])])
        finally:
            with suppress(DcengineError):
                if job is not None:
                    await self._verbs.release([task.token])
                    await self._verbs.cancel(job)

    async def _scene(self, order: Order) -> Reference:
        return Reference(cast(Any, None), await self._verbs.value(order.scene))

    async def _end_of(self, job: int, task: LeasedTask) -> JobResult | None:
        """Return how *job* ended; None once nobody wants its frame any more."""
        while (end := await self._verbs.result(job, wait=BEAT_SECONDS)) is None:
            (answer,) = await self._verbs.heartbeat([Heartbeat(token=task.token)])
            if not answer.is_accepted:
                return None
        return end

    async def _say(self, task: LeasedTask, end: JobResult) -> None:
        picture = await asyncio.to_thread(bytes_in, end.data) if end.state == "succeeded" else None
        if picture is not None:
            output = msgspec.Raw(b'{"png":"%s"}' % base64.b64encode(picture))
            await self._verbs.complete([Completion(token=task.token, output=output)])
        elif end.state == "failed":
            reason = unpack_failure(end.data).message
            await self._verbs.fail([TaskFailure(token=task.token, reason=reason[:1000])])
        else:
            await self._verbs.release([task.token])


def _call(order: Order, scene: Reference) -> Any:
    picture = Picture(order.frame)
    options = {"tags": BLENDER, "keep": KEEP, "versions": "ignore"}
    return submission_of(work.render, (picture, scene, scene.digest, Look()), {}, options)
