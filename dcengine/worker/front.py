"""`Worker`: the loop over tasks for code that blocks; an `AsyncWorker` on a thread of its own does the work."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..loops import LoopThread
from .held import HeldTask, Telling, Word
from .options import WorkerOptions, own_name, shows_options
from .signals import Ending
from .worker import AsyncWorker

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXIT_SECONDS = 0.5  #: to hand in what was done when the process ends


class Task(Telling[None]):
    """A task in the hands of a `Worker`: ``task.complete(output)``; its methods may be called from any thread.

    What is said is sent in the background; `accepted` waits for the answer. With ``with task:`` an exception fails it
    with its text, `InvalidInput` flags it, and what is meant to end the program releases it.
    """

    def __init__(self, held: HeldTask, worker: Worker) -> None:
        super().__init__(held.holding)
        self._worker = worker

    def accepted(self) -> bool:
        """Wait until the engine has answered to what was said of it; tell whether it took that in."""
        return self.holding.is_accepted if self.holding.is_settled else self._worker.ask(self.holding.accepted())

    def _tell(self, *, is_first: bool) -> None:
        if is_first:
            self._worker.soon(lambda core: core.tell(self.holding))

    def _say(self, word: Word) -> None:
        if self.holding.claim(word):
            self._worker.soon(lambda core: core.send(self.holding))

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or self.is_ended:
            return False
        self.end_with(error)
        return isinstance(error, Exception)


class Worker:
    """Leases tasks of a stage: ``for task in Worker(url, project="laion", stage="b"): task.complete(...)``.

    Args:
        url: of the engine, which may carry the token (``?token=...``, ``http://nick:TOKEN@host``) and a path prefix.
        nickname: who earns the credit and votes; user@host unless given, and a token's own nickname goes before it.
        tags: what this worker offers, such as ``"gpu,site=lab"``.
        batch: tasks in one lease request.
        prefetch: tasks that are held ahead, so that the next one is there when one ends.
        concurrency: tasks that are worked on at a time; held are as many, or *batch* if that is more, and *prefetch*.
        wait: seconds that one request waits at the engine for the first task.
        idle_exit: seconds without a task after which the loop ends.
        limit: tasks after which it ends.
        name: its own, unique in the project.
    """

    @shows_options
    def __init__(self, url: str, token: str | None = None, **options: Unpack[WorkerOptions]) -> None:
        options["name"] = options.get("name") or own_name()
        self._anew = partial(AsyncWorker, url, token, **options)
        self._core = self._anew()
        self._thread: LoopThread | None = None
        self._is_entered = False
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def name(self) -> str:
        """Its own name, unique among the project's workers."""
        return self._core.name

    # ---- the loop --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Task]:
        with self._looping():
            while (task := self.next()) is not None:
                yield task
                self.ask(self._left(task))
            self.ask(self._core.ended())

    async def _left(self, task: Task) -> None:
        self._core.leave(task)

    def next(self) -> Task | None:
        """Return the next task, from any thread; None when the worker has come to its end.

        Raises what waiting does not change, such as `AccessDenied` or `NotFound`, and `EngineUnreachable` if nobody
        ever answered.
        """
        held = self.ask(self._core.next())
        return None if held is None else Task(held, self)

    def run(self, function: Callable[[Task], object], concurrency: int = 1) -> None:
        """Call *function* for each task, in so many threads; what it returns completes it unless something was said.

        What it raises fails the task, `InvalidInput` flags it. Ends as a loop over the worker does.
        """
        rest = Rest()
        with self._looping():
            self._core.widen(concurrency)
            try:
                with_threads(concurrency, lambda: self._serve(function, rest))
            finally:
                rest.is_over = True
        if rest.problem is not None:
            raise rest.problem

    def _serve(self, function: Callable[[Task], object], rest: Rest) -> None:
        """Do one task after the other on this thread."""
        try:
            while not rest.is_over and (task := self.next()) is not None:
                with task:
                    output = function(task)
                    if not task.is_ended:
                        task.complete(output)
        except BaseException as problem:
            rest.problem = rest.problem or problem
            self.stop()

    def stop(self) -> None:
        """Take no more tasks; a loop ends when its body is done. May be called from signal handlers and threads."""
        if self._thread is None:
            self._core.stop()
        else:
            self.soon(AsyncWorker.stop)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to take no more tasks."""
        return self._core.is_stopping

    def flush(self) -> None:
        """Wait until the engine has answered to all that was said."""
        if self._thread is not None:
            self.ask(self._core.flush())

    def close(self, seconds: float | None = None) -> None:
        """Hand in what was done, hand back what was not, and end.

        While the engine is away it waits minutes for what was done to be taken, *seconds* if given.
        """
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return
        atexit.unregister(self._close_at_exit)
        try:
            thread.run(self._core.close(seconds))
        finally:
            thread.stop()
            self._core = self._anew()

    def _close_at_exit(self) -> None:
        self.close(EXIT_SECONDS)

    def __enter__(self) -> Worker:
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        self.close()

    # ---- the thread ------------------------------------------------------------------------

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Have *question* answered on the worker's own loop."""
        return self._open().run(question)

    def soon(self, act: Callable[[AsyncWorker], None]) -> None:
        """Have the worker's own loop do something; does not wait for it."""
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            logger.warning("the worker was closed, and has handed back what it held; what is said later is not sent")
            return
        with suppress(RuntimeError):  # it is being closed just now
            thread.loop.call_soon_threadsafe(act, self._core)

    def _open(self) -> LoopThread:
        if self._pid != os.getpid():
            raise RuntimeError("a worker stays in the process that made it; make another one after a fork")
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("dcengine-worker")
                atexit.register(self._close_at_exit)
            return self._thread

    @contextmanager
    def _looping(self) -> Iterator[None]:
        """Leave nothing behind when a loop ends, and be heard of should the process be ended meanwhile."""
        thread, core = self._open(), self._core
        try:
            with Ending(lambda: thread.start(core.hand_back())):
                yield
        finally:
            if self._thread is not None and self._pid == os.getpid():
                if self._is_entered:
                    self.ask(core.hand_back(kept=False))
                else:
                    self.close()


class Rest:
    """What ends the threads of a run."""

    def __init__(self) -> None:
        self.is_over = False
        self.problem: BaseException | None = None


def with_threads(number: int, work: Callable[[], None]) -> None:
    """Do *work* in so many threads and wait for their end; whoever is interrupted waits for none."""
    threads = [threading.Thread(target=work, name=f"dcengine-task-{n}", daemon=True) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
