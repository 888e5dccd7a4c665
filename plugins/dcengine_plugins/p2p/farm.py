"""Who renders what: chunks of consecutive frames for old workers, as projects of the protocol have them waiting.

A worker says of a frame only which number it has. So it has one chunk at a time, gets the next one when it owes no
frame of that, and whoever is silent for too long is hung up on: what it says later could be taken for another job's.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from dcengine.errors import ContributorBanned, DcengineError
from dcengine.loops import ended
from dcengine.verbs import Completion, Heartbeat, LeasedTask, LeaseRequest, ProjectStatus, TaskFailure, Verbs

from ..render.old_farm import PROTOCOL, STAGE, Order
from .scenes import Scenes
from .workers import Chunk, OldWorker

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  #: between two looks for frames that wait
BEAT_SECONDS = 4.0  #: between two signs of life for what is held
LOSSES = 5  #: workers that may go away over one frame before that counts as its fault
WORTHWHILE_SECONDS = 5.0  #: of rendering, for which another Blender is started
AT_ONCE = 1000  #: tasks in one request

Frame = tuple[str, int]  #: project and number


class Farm:
    """The workers that are connected, and the frames in their hands."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self.scenes = Scenes(verbs)
        self._workers: dict[str, OldWorker] = {}
        self._held: dict[Frame, LeasedTask] = {}  #: what is leased and not done, whoever has it
        self._losses: Counter[Frame] = Counter()
        self._paces: dict[str, float] = {}  #: by project: how many seconds a frame takes, lately
        self._turns: dict[str, int] = {}  #: by project: when it was last served, in turns
        self._news = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._tasks = [asyncio.create_task(each) for each in (self._hand_out(), self._keep_alive())]

    @property
    def is_empty(self) -> bool:
        """Whether no worker is connected."""
        return not self._workers

    async def close(self) -> None:
        """Put back what is held, and hand out no more."""
        await ended([*self._tasks, *self._sending])
        await self._release(list(self._held))

    # ---- coming and going --------------------------------------------------------------------

    def join(self, worker: OldWorker) -> None:
        """Let *worker* take part, under a name that no other has."""
        name, number = worker.name, 1
        while worker.name in self._workers:
            number += 1
            worker.name = f"{name}-{number}"
        self._workers[worker.name] = worker
        logger.info("p2p: worker %s has come from %s", worker.name, worker.peer)
        self._news.set()

    async def leave(self, worker: OldWorker, reason: str) -> None:
        """Put back at once what only *worker* was to do; the frame that it was at may be to blame."""
        self._workers.pop(worker.name, None)
        logger.info("p2p: worker %s has gone: %s", worker.name, reason)
        chunk, worker.chunk = worker.chunk, None
        if chunk is None:
            return
        left = [(chunk.project, frame) for frame in sorted(chunk.owed - self._owed_by_others(chunk))]
        blamed = [frame for frame in left[:1] if self._is_to_blame(frame, chunk)]
        await self._fail(blamed, f"worker {worker.name} was lost: {reason}")
        await self._release(left[len(blamed) :])
        self._news.set()

    def _is_to_blame(self, frame: Frame, chunk: Chunk) -> bool:
        self._losses[frame] += 1
        return chunk.is_overdue or self._losses[frame] > LOSSES

    def _owed_by_others(self, chunk: Chunk) -> set[int]:
        """Return the frames of *chunk* that another worker has too."""
        others = [each.chunk for each in self._workers.values() if each.chunk is not None and each.chunk is not chunk]
        return {frame for other in others if other.project == chunk.project for frame in other.owed}

    # ---- frames that come in -----------------------------------------------------------------

    async def take(self, worker: OldWorker, frame: int, picture: str) -> bool:
        """Take a *picture*, a PNG in base64, for *frame* of what *worker* has; False if nobody waits for it."""
        chunk = worker.chunk
        if chunk is None or frame not in chunk.owed:
            return False
        self._learn(chunk.project, chunk.done(frame))
        if not chunk.owed:
            worker.chunk = None
            self._news.set()
        task = self._held.pop((chunk.project, frame), None)
        if task is None:  # another was faster, or nobody wants it any more
            return False
        self._losses.pop((chunk.project, frame), None)
        output = msgspec.Raw(b'{"png":"%s"}' % picture.encode())
        try:
            (answer,) = await self._verbs.complete([Completion(token=task.token, output=output)])
        except DcengineError as error:  # no room on the disk, say: it is to be rendered again
            logger.warning("p2p: frame %d of %s could not be stored: %s", frame, chunk.project, error)
            await self._quietly_release([task.token])
            return False
        return answer.is_accepted

    def _learn(self, project: str, seconds: float | None) -> None:
        if seconds is not None:
            self._paces[project] = (self._paces.get(project, seconds) + seconds) / 2

    # ---- handing out -------------------------------------------------------------------------

    async def _hand_out(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._one_round()
            except DcengineError as error:
                logger.warning("p2p: no frames are handed out just now: %s", error)
            with suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    async def _one_round(self) -> None:
        """Give each idle worker a chunk, of each project by turns, as far as there are frames."""
        idle = [worker for worker in self._workers.values() if worker.chunk is None]
        if not idle:
            return
        waiting = {status.name: queued_in(status) for status in await self._verbs.projects() if is_ours(status)}
        for worker in idle:
            open = [name for name, frames in waiting.items() if frames > 0]
            if open:
                name = min(open, key=lambda name: self._turns.get(name, 0))
                self._turns[name] = max(self._turns.values(), default=0) + 1
                size = size_of_chunk(waiting[name], len(self._workers), self._paces.get(name))
                waiting[name] -= await self._given(worker, name, size)
            else:
                self._help(worker)
        for known in (self._turns, self._paces):
            for name in known.keys() - waiting.keys():
                known.pop(name)

    async def _given(self, worker: OldWorker, project: str, size: int) -> int:
        """Do as `_give`; a project that cannot be had frames of keeps nobody from the others."""
        try:
            return await self._give(worker, project, size)
        except DcengineError as error:
            logger.warning("p2p: no frames of %s are handed out: %s", project, error)
            return 1 << 62

    async def _give(self, worker: OldWorker, project: str, size: int) -> int:
        """Give *worker* up to *size* consecutive frames of *project*; return how many fewer wait there."""
        request = LeaseRequest(project=project, stage=STAGE, worker=worker.name, n=size)
        try:
            leased = await self._verbs.lease(request)
        except ContributorBanned as banned:
            logger.info("p2p: %s", banned)
            worker.hang_up(str(banned))
            return 0
        orders = await orders_in(self._verbs, leased)
        run = first_run(orders)
        await self._quietly_release([task.token for order, task in orders if order.frame not in run])
        if self._workers.get(worker.name) is not worker:  # it has gone meanwhile
            await self._quietly_release([task.token for order, task in orders if order.frame in run])
            return 0
        if not run:
            return size  # there were none, or none that can be rendered
        first = next(order for order, _ in orders if order.frame in run)
        self._held.update({(project, order.frame): task for order, task in orders if order.frame in run})
        self._begin(worker, Chunk(project, first, set(run)))
        return len(run)

    def _help(self, worker: OldWorker) -> None:
        """Have *worker* render the second half of what the one has that owes most; whoever is first counts."""
        chunks = [other.chunk for other in self._workers.values() if other.chunk is not None and other.chunk.is_slow]
        chunk = max(chunks, key=lambda chunk: len(chunk.owed), default=None)
        if chunk is not None:
            frames = sorted(chunk.owed)
            chunk.is_shared = True
            self._begin(worker, Chunk(chunk.project, chunk.order, set(frames[len(frames) // 2 :]), is_shared=True))

    def _begin(self, worker: OldWorker, chunk: Chunk) -> None:
        """Send *chunk* to *worker*, beside everything else."""
        worker.chunk = chunk
        task = asyncio.create_task(self._send(worker, chunk))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, worker: OldWorker, chunk: Chunk) -> None:
        try:
            scene = await self.scenes.text_of(chunk.order.scene)
        except DcengineError as error:
            owed, worker.chunk = sorted(chunk.owed), None
            await self._fail([(chunk.project, frame) for frame in owed], f"the scene is gone: {error}")
            self._news.set()
            return
        try:
            await worker.order(chunk, scene, f"{uuid.uuid4().hex}")
            logger.info("p2p: worker %s renders frames %s of %s", worker.name, chunk.shown, chunk.project)
        except (OSError, asyncio.TimeoutError, TimeoutError) as error:
            logger.info("p2p: worker %s took no chunk: %s", worker.name, error)
            worker.hang_up("it took no chunk")  # which puts back what it was to have

    # ---- what is held ------------------------------------------------------------------------

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for worker in [each for each in self._workers.values() if each.is_overdue]:
                logger.warning("p2p: worker %s owes frames, and has been silent for long", worker.name)
                worker.hang_up("it was silent for too long")
            try:
                await self._beat()
            except DcengineError as error:
                logger.warning("p2p: no sign of life could be given: %s", error)

    async def _beat(self) -> None:
        held = {task.token: frame for frame, task in self._held.items()}
        for tokens in _slices(list(held)):
            for answer in await self._verbs.heartbeat([Heartbeat(token=token) for token in tokens]):
                if not answer.is_accepted:  # its job was cancelled, say
                    self._held.pop(held[answer.token], None)

    async def _release(self, frames: Iterable[Frame]) -> None:
        held = [self._held.pop(frame) for frame in frames if frame in self._held]
        await self._quietly_release([task.token for task in held])

    async def _quietly_release(self, tokens: list[str]) -> None:
        for some in _slices(tokens):
            with suppress(DcengineError):  # then they come back when their time is over
                await self._verbs.release(some)

    async def _fail(self, frames: Iterable[Frame], reason: str) -> None:
        held = [self._held.pop(frame) for frame in frames if frame in self._held]
        for tokens in _slices([task.token for task in held]):
            with suppress(DcengineError):
                await self._verbs.fail([TaskFailure(token=token, reason=reason[:1000]) for token in tokens])


async def orders_in(verbs: Verbs, leased: list[LeasedTask]) -> list[tuple[Order, LeasedTask]]:
    """Return what is to be done for each task, by frame; one that is no order of a frame fails."""
    orders = []
    for task in leased:
        try:
            orders.append((msgspec.json.decode(task.input, type=Order), task))
        except (msgspec.DecodeError, RecursionError) as error:
            said = TaskFailure(token=task.token, reason=f"this is no frame that could be rendered: {error}")
            await verbs.fail([said])
    return sorted(orders, key=lambda each: each[0].frame)


def is_ours(status: ProjectStatus) -> bool:
    """Tell whether frames of a project are for old workers, now."""
    first = status.stages[0]
    is_paused = status.is_paused or first.is_paused
    return status.protocol == PROTOCOL and first.kind == "lease" and first.name == STAGE and not is_paused


def queued_in(status: ProjectStatus) -> int:
    """Return how many frames of a project wait for a worker."""
    return status.stages[0].counts.get("queued", 0)


def size_of_chunk(left: int, workers: int, pace: float | None = None) -> int:
    """Return how many of the frames that are *left* one of *workers* is to have, where one takes *pace* seconds.

    They are fewer towards the end, but always worth the start of a Blender.
    """
    worthwhile = 1 if pace is None else min(left, int(WORTHWHILE_SECONDS / max(pace, 0.001)))
    return min(AT_ONCE, max(-(-left // max(1, workers)), worthwhile))


def first_run(orders: list[tuple[Order, LeasedTask]]) -> range:
    """Return the consecutive frames of one scene with which *orders*, sorted by frame, begin."""
    if not orders:
        return range(0)
    first = orders[0][0]
    end = first.frame
    for order, _ in orders:
        if order.frame != end or (order.scene, order.file_name) != (first.scene, first.file_name):
            break
        end += 1
    return range(first.frame, end)


def _slices(tokens: list[str]) -> Iterable[list[str]]:
    return [tokens[at : at + AT_ONCE] for at in range(0, len(tokens), AT_ONCE)]
