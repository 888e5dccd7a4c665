"""Waiting for the ends of many jobs at once: few questions to their engine, however many wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary, ref

from .verbs import JobResult

Told: TypeAlias = "JobResult | BaseException"  #: how a job ended, or why nobody can tell
Listener: TypeAlias = "Callable[[int, Told], None]"  #: is given a job and that, in whatever thread; to return soon

LANES = 4  #: questions under way at once
SHORTEST, LONGEST = 0.1, 20.0  #: seconds that a question waits
MERGING = 1.0  #: seconds between two times that all are asked anew
AT_ONCE = 10_000  #: jobs in one question


class Link(Protocol):
    """The way to an engine, as far as a watch needs it."""

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Ask for the verb of that name; the future ends with the answer."""
        ...


class Watch:
    """Hears of the ends of jobs of one engine, for all who listen.

    A job that comes while a question is under way gets another question. How long one may wait grows with the time
    since the last job came, so that the questions grow together when no more come.
    """

    def __init__(self, link: Link) -> None:
        self._link = ref(link)  # else neither would ever be forgotten
        self._lock = threading.RLock()
        self._listeners: dict[int, list[Listener]] = {}
        self._unasked: dict[int, None] = {}  #: jobs in no question that is under way, in their order
        self._asked: dict[Future[Any], list[int]] = {}
        self._grown = self._merged = 0.0  #: when a job came last; when all were asked anew

    def add(self, jobs: Iterable[int], listener: Listener) -> None:
        """Have *listener* told of the end of each of *jobs*, once."""
        with self._lock:
            for job in jobs:
                if job not in self._listeners:
                    self._unasked[job] = None
                self._listeners.setdefault(job, []).append(listener)
            self._grown = time.monotonic()
        self._ask()

    def remove(self, jobs: Iterable[int], listener: Listener) -> None:
        """Tell *listener* no more about *jobs*."""
        with self._lock:
            for job in jobs:
                listening = self._listeners.get(job, [])
                if listener in listening:
                    listening.remove(listener)
                if not listening:
                    self._listeners.pop(job, None)
                    self._unasked.pop(job, None)
            unwanted = [asked for asked, ids in self._asked.items() if self._listeners.keys().isdisjoint(ids)]
            for asked in unwanted:
                del self._asked[asked]
        for asked in unwanted:
            asked.cancel()

    def _ask(self) -> None:
        """Ask about the jobs that no question is about."""
        with self._lock:
            superseded = self._merge() if self._unasked and len(self._asked) >= LANES else []
            jobs: list[int] = []
            while self._unasked and len(self._asked) < LANES:
                jobs = list(self._unasked)[:AT_ONCE]
                for job in jobs:
                    del self._unasked[job]
                if not self._put(jobs):
                    break
        for asked in superseded:
            asked.cancel()

    def _merge(self) -> list[Future[Any]]:
        """Take back all questions to ask them as one, unless that was done just now; return them."""
        now = time.monotonic()
        if now - self._merged < MERGING:  # the question that was put last comes back soon
            return []
        self._merged = now
        taken, self._asked = self._asked, {}
        for jobs in taken.values():
            self._unasked.update(dict.fromkeys(job for job in jobs if job in self._listeners))
        return list(taken)

    def _put(self, jobs: list[int]) -> bool:
        """Put a question about *jobs*; tell whether that was possible."""
        link = self._link()
        if link is None:
            return False
        wait = min(LONGEST, max(SHORTEST, time.monotonic() - self._grown))
        try:
            asked = link.start("ends", jobs, wait=wait)
        except Exception as error:
            self._tell(dict.fromkeys(jobs, error))
            return False
        self._asked[asked] = jobs
        asked.add_done_callback(self._answered)
        return True

    def _answered(self, asked: Future[Any]) -> None:
        with self._lock:
            jobs = self._asked.pop(asked, None)
        if jobs is None:  # asked anew, or nobody listens any more
            return
        told: dict[int, Told]
        try:
            told = asked.result()
        except CancelledError:  # with its loop: the next question says so
            told = {}
        except Exception as error:
            told = dict.fromkeys(jobs, error)
        with self._lock:
            self._unasked.update(dict.fromkeys(job for job in jobs if job in self._listeners and job not in told))
        self._tell(told)
        self._ask()

    def _tell(self, told: dict[int, Any]) -> None:
        for job, end in told.items():
            with self._lock:
                listening = self._listeners.pop(job, [])
            for listener in listening:
                listener(job, end)


_watches: WeakKeyDictionary[Link, Watch] = WeakKeyDictionary()
_lock = threading.Lock()


def watch_of(link: Link) -> Watch:
    """Return the one watch over the engine at the end of *link*."""
    with _lock:
        if link not in _watches:
            _watches[link] = Watch(link)
        return _watches[link]


def settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any) -> None:
    """Have *future*, of *loop*, end with *result* unless it has ended; for any thread."""

    def set_result() -> None:
        if not future.done():
            future.set_result(result)

    with suppress(RuntimeError):  # that loop was closed: nobody waits there any more
        loop.call_soon_threadsafe(set_result)


async def end_of(link: Link, job: int) -> JobResult:
    """Return how *job* ended, once it has; raises what keeps its engine from telling."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Told] = loop.create_future()

    def tell(_: int, end: Told) -> None:
        settle(loop, told, end)

    watch = watch_of(link)
    watch.add([job], tell)
    try:
        end = await told
    finally:
        watch.remove([job], tell)
    if isinstance(end, BaseException):
        raise end
    return end
