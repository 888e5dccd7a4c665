"""Events: what happened, published to listeners in this process only after it was committed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Iterable
from enum import IntEnum


class Kind(IntEnum):
    """What an event row says."""

    JOB_SUBMITTED = 1
    BATCH_SUBMITTED = 2
    LEASED = 3
    SUCCEEDED = 4
    FAILED = 5
    RETRIED = 6  #: the code erred, another run is allowed
    RELEASED = 7  #: back in the queue through no fault of the code
    CANCELLED = 8
    REOPENED = 9  #: somebody asked for another try
    RECOVERED = 10  #: a new engine took over what an ended one had leased
    FLAGGED = 11  #: a voter said that the input is bad; the task is queued for another
    RETURNED = 12  #: the job goes back a stage, or on with an edited input; this task counts no more
    OPENED = 13  #: a job's next task came into being, queued or blocked
    WOKEN = 14  #: its waiting time is over
    GATHERED = 15  #: the last part of a gather is in, or the last argument of a call
    BLOCKED = 16  #: a gather waits for its parts again, or a call for its arguments
    DELETED = 17  #: a project was removed, with its jobs
    EXPIRED = 18  #: the values of an ended job were removed
    DECLARED = 19  #: a project is new, or its stages are others
    PAUSED = 20  #: no more tasks of a stage are handed out
    RESUMED = 21  #: they are again
    PRIORITIZED = 22  #: a job is to run earlier or later than others
    BANNED = 23  #: a contributor: nothing is taken from it any more
    WELCOMED = 24  #: a contributor may come again
    WORKER_CAME = 25
    WORKER_WENT = 26
    KERNEL_STARTED = 27
    KERNEL_ENDED = 28


class Bus:
    """Wakes those who wait for news of a subject, such as ``("job", 17)``."""

    def __init__(self) -> None:
        self._listeners: defaultdict[Hashable, set[asyncio.Future[None]]] = defaultdict(set)

    def publish(self, *subjects: Hashable) -> None:
        """Wake everybody who waits for one of *subjects*. Call it after the commit."""
        for subject in subjects:
            for listener in self._listeners.pop(subject, ()):
                if not listener.done():
                    listener.set_result(None)

    def publish_all(self) -> None:
        """Wake everybody: there will be no more news."""
        self.publish(*list(self._listeners))

    def news(self, *subjects: Hashable) -> asyncio.Future[None]:
        """Return a future that ends with the next news of any of *subjects*.

        Take it before looking at the state, then wait: nothing said in between is missed.
        """
        listener = asyncio.get_running_loop().create_future()
        for subject in subjects:
            self._listeners[subject].add(listener)
        listener.add_done_callback(lambda done: self._forget(subjects, done))
        return listener

    def within(self, listener: asyncio.Future[None], seconds: float) -> asyncio.Future[None]:
        """Return *listener*, a future of `news`, which now ends after *seconds* at the latest."""
        timer = asyncio.get_running_loop().call_later(seconds, _end, listener)
        listener.add_done_callback(lambda _: timer.cancel())
        return listener

    def _forget(self, subjects: Iterable[Hashable], listener: asyncio.Future[None]) -> None:
        for subject in subjects:
            waiting = self._listeners.get(subject)
            if waiting is not None:
                waiting.discard(listener)
                if not waiting:
                    del self._listeners[subject]


def _end(listener: asyncio.Future[None]) -> None:
    if not listener.done():
        listener.set_result(None)
