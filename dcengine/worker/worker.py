"""A worker that leases tasks over HTTP: holds some ahead, keeps their leases, says what became of them."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace
from yarl import URL

from ..errors import DcengineError, LeaseLimitReached
from ..verbs import Completion, LeasedTask, TaskAnswer, TaskFailure
from ..verbs.leases import LENGTHS
from .asking import Asking, pause_before, within
from .held import HeldTask, Holding, Release, Telling, Word
from .options import WorkerOptions, shows_options, wish_of
from .outbox import Outbox
from .pulse import Pulse
from .signals import Ending

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 300.0  #: for what was done to be handed in, where a loop ends while the engine is away
HAND_BACK_SECONDS = 0.8  #: for what is held to be handed back
FIRST_SECONDS = 5.0  #: for the first answer, if it is under way; an engine may be busy for longer than *idle_exit*
FIRST_LOOK = 0.05  #: seconds between two looks for it
EMPTY_PAUSE = 1.0  #: seconds on average before asking again, where the engine does not let a worker wait


class AsyncWorker:
    """Leases tasks of a stage: ``async for task in AsyncWorker(url, project="laion", stage="b"): ...``.

    It belongs to the event loop that first used it. See `Worker` for what it can be told.
    """

    @shows_options
    def __init__(self, url: str, token: str | None = None, **options: Unpack[WorkerOptions]) -> None:
        self._asking = Asking(url, token)
        options["nickname"] = options.get("nickname") or URL(url).user
        self._wish = wish_of(options)
        self._outbox = Outbox(self._asking, self._answered, self._deny)
        self._pulse = Pulse(self._asking.url, self._asking.token, self._beaten)
        self._held: dict[str, Holding] = {}  #: by token, until the engine has answered to the last that was said
        self._ahead: deque[Holding] = deque()  #: those that nobody works on yet
        self._waiting = 0  #: callers of `next`
        self._leased = 0  #: tasks, so far
        self._used = 0.0  #: when it last held a task, by the monotonic clock
        self._unsaid = 0  #: tasks in a row that a loop has left without a word
        self._filling: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._denied: DcengineError | None = None
        self._is_stopping = False
        self._is_closed = False
        self._is_entered = False

    @property
    def name(self) -> str:
        """Its own name, unique among the project's workers."""
        return self._wish.request.worker

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to take no more tasks."""
        return self._is_stopping

    def widen(self, concurrency: int) -> None:
        """Let *concurrency* tasks be worked on at a time."""
        self._wish = replace(self._wish, concurrency=concurrency)

    # ---- tasks -----------------------------------------------------------------------------

    async def next(self) -> HeldTask | None:
        """Return the next task once there is one; None when the worker has come to its end.

        That is after *limit* tasks, *idle_exit* seconds without one, or `stop`. Raises what waiting does not change,
        such as `AccessDenied` or `NotFound`, and `EngineUnreachable` if nobody ever answered.
        """
        self._begin()
        self._waiting += 1
        self._tell_all()
        try:
            while not self._ahead:
                self._check()
                if self._is_over():
                    return None
                await self._change(self._idle_left() or FIRST_LOOK)
            self._check()
            holding = self._ahead.popleft()
        finally:
            self._waiting -= 1
        self._pulse.begin(holding.token)
        self._tell_all()
        return HeldTask(holding, self)

    async def flush(self) -> None:
        """Wait until the engine has answered to all that was said."""
        await self._outbox.flush()

    def stop(self) -> None:
        """Take no more tasks: hand back those that nobody works on; a loop ends when its body is done."""
        self._is_stopping = True
        self._hand_back([*self._ahead])
        self._tell_all()

    async def hand_back(self, seconds: float = HAND_BACK_SECONDS, *, kept: bool = True) -> None:
        """Say what was left to say and hand back what is held, those that are *kept* too, within *seconds*."""
        await self._end_filling()
        self._hand_back([each for each in self._held.values() if each.word is None and (kept or not each.is_kept)])
        self._asking.hurry()
        await within(seconds, self._outbox.flush())

    async def close(self, seconds: float | None = None) -> None:
        """Hand in what was done, hand back what was not, and end.

        While the engine is away it waits minutes for what was done to be taken, *seconds* if given.
        """
        self._is_closed = True
        self._tell_all()
        await self._end_filling()
        if any(holding.is_worth_telling for holding in self._held.values()):
            await self._flush_within(FLUSH_SECONDS if seconds is None else seconds)
        await self.hand_back()
        await self._outbox.close()
        await self._pulse.stop()
        await self._asking.close()
        if self._held:
            logger.warning("%d task(s) could not be handed in or back: %s", len(self._held), self._asking.trouble)
        for holding in list(self._held.values()):
            self._settle(holding, is_accepted=False)

    async def __aenter__(self) -> AsyncWorker:
        self._is_entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        await self.close()

    async def __aiter__(self) -> AsyncIterator[HeldTask]:
        loop = asyncio.get_running_loop()
        try:
            with Ending(lambda: asyncio.run_coroutine_threadsafe(self.hand_back(), loop)):
                while (task := await self.next()) is not None:
                    yield task
                    self.leave(task)
                await self.ended()
        finally:
            await self.leave_loop()

    def leave(self, task: Telling[Any]) -> None:
        """Put *task* back if a loop goes on without a word about it, and nobody keeps it."""
        holding = task.holding
        if holding.is_kept or holding.word is not None:
            self._unsaid = 0
            return
        logger.warning(
            "task %s was neither completed, failed, flagged nor released, so it is put back; task.keep() lets a loop "
            "go on without a task that is ended later",
            holding.name,
        )
        self._unsaid += 1
        self._hand_back([holding])

    async def ended(self) -> None:
        """Wait until all that was taken has ended."""
        while any(holding.word is None for holding in self._held.values()):
            await self._change()

    async def leave_loop(self) -> None:
        """Hand in and back what a loop leaves behind; unless the worker itself is entered, it ends with its loop."""
        if self._is_entered:
            await self.hand_back(kept=False)
        else:
            await self.close()

    # ---- what is said of tasks -------------------------------------------------------------

    def tell(self, holding: Holding) -> None:
        """Send the newest progress with one of the next signs of life."""
        news, holding.news = holding.news, None
        if news and holding.word is None:
            self._pulse.progress(holding.token, news)

    def send(self, holding: Holding) -> None:
        """Send the last that was said of a task, in the background."""
        assert holding.word is not None
        if holding.is_lost or holding.token not in self._held:
            self._settle(holding, is_accepted=False)
        else:
            self._outbox.put(holding, holding.word)
        self._tell_all()

    def _hand_back(self, holdings: list[Holding]) -> None:
        for holding in holdings:
            if holding.claim(Release(holding.token)):
                self.send(holding)
            with suppress(ValueError):
                self._ahead.remove(holding)

    def _answered(self, holding: Holding, word: Word, answer: TaskAnswer) -> None:
        """Take in what the engine made of a word."""
        if not answer.is_accepted and word is holding.word and isinstance(word, Completion) and not self._denied:
            # Where the lease goes on, the output cannot be taken: it must not stand still until its time is over.
            reason = f"its output was not taken: {answer.problem}"[: LENGTHS["reason"]]
            self._outbox.put(holding, TaskFailure(token=holding.token, reason=reason))
            return
        if word is not holding.word and answer.is_accepted:
            logger.error("task %s failed: %s", holding.name, cast(TaskFailure, word).reason)
        elif not answer.is_accepted:
            holding.is_lost = True
            logger.log(_level(word), "task %s was lost: %s", holding.name, answer.problem)
        self._settle(holding, is_accepted=answer.is_accepted and word is holding.word)

    def _settle(self, holding: Holding, *, is_accepted: bool) -> None:
        """Hold a task no longer."""
        holding.settle(is_accepted=is_accepted)
        if self._held.pop(holding.token, None) is not None:
            self._pulse.drop([holding.token])
        self._used = time.monotonic()
        self._tell_all()

    def _beaten(self, lost: list[str], unwanted: list[str]) -> None:
        """Take in what was answered to a sign of life."""
        for token in {*lost, *unwanted} & self._held.keys():
            holding = self._held[token]
            if holding.word is not None:
                continue  # its end was on its way meanwhile
            holding.is_lost, holding.is_cancelled = token in lost, token in unwanted
            if holding in self._ahead:
                self._hand_back([holding])
            else:
                logger.warning(
                    "task %s is not wanted any more: its job was cancelled, or its lease has ended", holding.name
                )

    def _deny(self, error: DcengineError) -> None:
        """Have the next caller of `next` know that nothing is given, or taken, any more."""
        self._denied = error
        self._tell_all()

    # ---- leasing ---------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._filling is None:
            self._used, self._leased, self._denied, self._is_closed = time.monotonic(), 0, None, False
            self._filling = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        """Hold tasks ahead for those who ask for the next one."""
        try:
            while not (self._is_stopping or self._is_closed):
                if n := self._wanted():
                    await self._lease(n)
                else:
                    await self._change()
        except DcengineError as error:
            self._deny(error)

    def _wanted(self) -> int:
        """Return how many tasks to ask for now: as many as there is room for, and few requests for them."""
        wish = self._wish
        room = wish.capacity - len(self._held)
        if wish.limit is not None:
            room = min(room, wish.limit - self._leased)
        least = 1
        if self._waiting <= len(self._ahead):
            if len(self._ahead) >= wish.prefetch:
                return 0
            least = min(wish.request.n, (wish.prefetch + 1) // 2)
        return min(wish.request.n, room) if room >= least else 0

    async def _lease(self, n: int) -> None:
        if self._unsaid:
            # A loop that ends none of its tasks gets the same ones again and again.
            await asyncio.sleep(pause_before(self._unsaid))
        wait, began = min(self._wish.request.wait, self._idle_left()), time.monotonic()
        try:
            tasks = await self._asking.lease(replace(self._wish.request, n=n, wait=wait))
        except LeaseLimitReached:
            tasks = []  # until some have ended, here or in another worker of the same contributor
        self._take(tasks)
        if not tasks and (wait == 0 or time.monotonic() - began < min(EMPTY_PAUSE, 0.9 * wait)):
            await self._change(random.uniform(0, 2 * EMPTY_PAUSE))

    def _take(self, tasks: list[LeasedTask]) -> None:
        """Hold *tasks* that were leased."""
        for leased in tasks:
            holding = Holding(leased, f"{self._wish.request.project}/{leased.number}")
            self._held[leased.token] = holding
            self._ahead.append(holding)
        if tasks:
            self._leased += len(tasks)
            self._pulse.hold({leased.token: leased.lease_seconds for leased in tasks})
            if self._is_stopping:  # they were on their way when it was told to stop
                self._hand_back([*self._ahead])
            self._tell_all()

    async def _end_filling(self) -> None:
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.cancel()
            await asyncio.wait({filling})
            self._take(await self._asking.collect())

    # ---- waiting ---------------------------------------------------------------------------

    def _check(self) -> None:
        if self._denied is not None:
            raise self._denied

    def _is_over(self) -> bool:
        """Tell whether there is no next task."""
        if self._is_stopping or self._is_closed or (self._wish.limit is not None and self._leased >= self._wish.limit):
            return True
        if self._idle_left() > 0:
            return False
        if self._asking.has_answered:
            return True
        if self._asking.trouble or time.monotonic() > self._used + FIRST_SECONDS:
            raise self._asking.unreachable()
        return False

    def _idle_left(self) -> float:
        """Return the seconds for which it may stay without a task."""
        if self._wish.idle_exit is None or self._held:
            return math.inf
        return max(0.0, self._used + self._wish.idle_exit - time.monotonic())

    async def _change(self, seconds: float = math.inf) -> None:
        """Wait until something has changed, *seconds* at most."""
        await within(seconds, self._changed.wait())

    def _tell_all(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _flush_within(self, seconds: float) -> None:
        """Wait until what was said has been answered; say so where that takes long."""
        if not await within(min(seconds, 1.0), self._outbox.flush()) and seconds > 1.0:
            logger.warning("waiting up to %g s to hand in what was done: %s", seconds, self._asking.trouble)
            await within(seconds - 1.0, self._outbox.flush())


def _level(word: Word) -> int:
    return logging.DEBUG if isinstance(word, Release) else logging.WARNING
