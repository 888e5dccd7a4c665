"""Commands side by side, each for a task of its own, until there is a reason to end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from ..errors import DcengineError, InvalidOption
from . import idle
from .commands import INVALID_INPUT, CommandLine, Judgement, Verdict
from .errands import Assignment, Cut, Errand, Rules
from .held import HeldTask
from .idle import Watch
from .keeper import Keeper
from .worker import AsyncWorker

LOOK_SECONDS = 0.25  #: between two looks at what commands say of themselves, and whether they are wanted
EXIT_CODES = {Verdict.COMPLETE: 0, Verdict.FAIL: 1, Verdict.FLAG: INVALID_INPUT, Verdict.RETURN: 1}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How long a workshop is open, and when."""

    jobs: int = 1  #: commands side by side
    once: bool = False  #: one task, then the end
    max_time: float | None = None  #: seconds after which no task is begun
    exit_when_idle: float | None = None  #: seconds without a task after which it ends
    idle_after: float = 300.0  #: seconds that the machine's owner is away before commands run


class Happening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something for those who watch."""

    event: str  #: begun, progress, message, paused, resumed, or the value of a `Verdict`
    time: float = msgspec.field(default_factory=time.time)
    job: int = 0
    number: int = 0
    text: str = ""
    done: float | None = None
    total: float | None = None
    seconds: float | None = None  #: that it took


class Workshop:
    """Runs *command* for what *worker* leases; *tell* hears of all that happens.

    With *watch*, nothing runs while the owner of the machine uses it.
    """

    def __init__(
        self,
        worker: AsyncWorker,
        command: CommandLine,
        *,
        rules: Rules,
        terms: Terms,
        tell: Callable[[Happening], None],
        watch: Watch | None = None,
    ) -> None:
        self.tally: Counter[Verdict] = Counter()
        self._worker, self._command, self._rules, self._terms = worker, command, rules, terms
        self._tell, self._watch = tell, watch
        self._loop = asyncio.get_running_loop()
        self._running: dict[Errand, HeldTask] = {}
        self._is_ending = asyncio.Event()  #: no task is begun any more
        self._is_open = asyncio.Event()  #: the owner is away
        self._idle_timer: asyncio.TimerHandle | None = None
        self._problem: Exception | None = None

    async def run(self) -> None:
        """Work until there is a reason to end; raises `InvalidOption` where the command cannot be run at all."""
        keeper = Keeper()
        watchers = [asyncio.ensure_future(self._look_after_tasks())]
        if self._watch is None:
            self._is_open.set()
        else:
            watchers.append(asyncio.ensure_future(self._look_after_owner(self._watch)))
        if self._terms.max_time is not None:
            self._loop.call_later(self._terms.max_time, self._end)
        self._wait_for_work()
        lanes = [asyncio.ensure_future(self._work(keeper)) for _ in range(1 if self._terms.once else self._terms.jobs)]
        work: asyncio.Future[Any] = asyncio.gather(*lanes)  # ends with the first that fails
        try:
            await asyncio.wait({work, *watchers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            for watcher in watchers:
                watcher.cancel()
            ended = await asyncio.gather(work, *lanes, *watchers, return_exceptions=True)
            await asyncio.to_thread(keeper.close)
        for problem in (self._problem, *ended):
            if isinstance(problem, Exception):
                raise problem

    @property
    def exit_code(self) -> int:
        """What a program that did one task tells of it; of many it tells nothing."""
        if not self._terms.once or not self.tally:
            return 0
        return EXIT_CODES[next(iter(self.tally))]

    def stop(self) -> None:
        """Begin no task any more, end those that run, hand them back."""
        self._end()
        for errand in self._running:
            errand.cut(Cut.STOPPED)

    def kill(self) -> None:
        """The same, at once."""
        self.stop()
        for errand in self._running:
            errand.kill()

    def _end(self) -> None:
        """Begin no task any more."""
        self._is_ending.set()
        self._worker.stop()

    # ---- taking tasks ----------------------------------------------------------------------

    async def _work(self, keeper: Keeper) -> None:
        """Do one task after the other."""
        while (task := await self._next()) is not None:
            if self._terms.once:
                self._end()
            await self._do(task, keeper)

    async def _next(self) -> HeldTask | None:
        """Return the next task; None when no more is begun."""
        taking, ending = asyncio.ensure_future(self._take()), asyncio.ensure_future(self._is_ending.wait())
        try:
            await asyncio.wait({taking, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            taking.cancel()  # does nothing to one that is done
        with suppress(asyncio.CancelledError):
            task = await taking
            if not self._is_ending.is_set():
                return task
            if task is not None:
                await task.release()
        return None

    async def _take(self) -> HeldTask | None:
        await self._is_open.wait()
        task = await self._worker.next()
        if task is None:
            self._end()
        await self._is_open.wait()
        return task

    def _wait_for_work(self) -> None:
        """End when there is no task for too long, from now on."""
        self._stop_waiting()
        if self._terms.exit_when_idle is not None:
            self._idle_timer = self._loop.call_later(self._terms.exit_when_idle, self._end)

    def _stop_waiting(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    # ---- doing them ------------------------------------------------------------------------

    async def _do(self, task: HeldTask, keeper: Keeper) -> None:
        self._stop_waiting()
        began = time.monotonic()
        errand = Errand(
            self._command,
            self._rules,
            keeper,
            on_line=lambda line: self._tell_of("message", task, text=line),
        )
        if not self._is_open.is_set():
            errand.hold_up()
        self._running[errand] = task
        self._tell_of("begun", task)
        try:
            judgement = await errand.run(Assignment(task.raw, task.job, task.number))
        except OSError as error:  # the program is gone, or this machine has no room: that is no task's fault
            self._problem = InvalidOption("the command", repr(str(self._command)), f"one that can be started ({error})")
            self.stop()
            judgement = Judgement(Verdict.RETURN, reason=str(error))
        finally:
            del self._running[errand]
        judgement = await _handed_in(task, judgement)
        self.tally[judgement.verdict] += 1
        self._tell_of(judgement.verdict.value, task, text=judgement.reason, seconds=time.monotonic() - began)
        if not self._running:
            self._wait_for_work()

    def _tell_of(
        self,
        event: str,
        task: HeldTask,
        *,
        text: str = "",
        done: float | None = None,
        total: float | None = None,
        seconds: float | None = None,
    ) -> None:
        self._tell(
            Happening(event=event, job=task.job, number=task.number, text=text, done=done, total=total, seconds=seconds)
        )

    # ---- meanwhile -------------------------------------------------------------------------

    async def _look_after_tasks(self) -> None:
        """Pass on how far commands are, and end those whose tasks nobody wants any more."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for errand, task in list(self._running.items()):
                if task.is_cancelled or task.is_lost:
                    errand.cut(Cut.CANCELLED)
                if (news := errand.news()) is not None:
                    # Without a total, 0 to 1 would count as a share.
                    done = None if news.total is None and news.done <= 1 else news.done
                    await task.progress(done, news.text, total=news.total)
                    self._tell_of("progress", task, text=news.text, done=news.done, total=news.total)

    async def _look_after_owner(self, watch: Watch) -> None:
        """Hold all up while the owner of the machine uses it."""
        was_away = None
        while True:
            is_away = await asyncio.to_thread(watch.idle_seconds) >= self._terms.idle_after
            if is_away is not was_away:
                self._open() if is_away else self._close()
            was_away = is_away
            await asyncio.sleep(idle.LOOK_SECONDS)

    def _open(self) -> None:
        self._is_open.set()
        for errand in self._running:
            errand.go_on()
        if not self._running:
            self._wait_for_work()
        self._tell(Happening(event="resumed"))

    def _close(self) -> None:
        self._is_open.clear()
        for errand in self._running:
            errand.hold_up()
        self._stop_waiting()
        self._tell(Happening(event="paused"))


async def _handed_in(task: HeldTask, judgement: Judgement) -> Judgement:
    """Say of *task* what was found of it; return what was said."""
    try:
        if judgement.verdict is Verdict.COMPLETE:
            await task.complete(raw=judgement.output)
        elif judgement.verdict is Verdict.FLAG:
            await task.flag(judgement.reason)
        elif judgement.verdict is Verdict.FAIL:
            await task.fail(judgement.reason)
        else:
            await task.release()
    except DcengineError as error:
        judgement = Judgement(Verdict.FAIL, reason=str(error))
        await task.fail(judgement.reason)
    return judgement
