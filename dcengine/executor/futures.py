"""The futures of `concurrent.futures` for jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .. import api
from ..cautions import warn_of
from ..ends import error_of, value_of
from ..handles import JobHandle
from ..verbs import JobResult, JobStatus, Submission
from ..watching import Told, watch_of
from .teller import Teller

T = TypeVar("T")


class JobFuture(Future[T]):
    """The future of a job, which can be followed, interrupted and found again through its `job`.

    It ends on the thread of *teller*, and there its callbacks are called.
    """

    def __init__(self, teller: Teller) -> None:
        super().__init__()
        self.stored: Future[JobHandle] = Future()  #: ends when the job is stored, or when it cannot be
        self._teller = teller
        self._cancelling = threading.RLock()

    @property
    def job(self) -> JobHandle:
        """The handle of the job, once it is stored; raises what kept it from that."""
        return self.stored.result()

    def running(self) -> bool:
        """Tell whether a worker has it now; asks the engine."""
        if self.done() or not self.stored.done() or self.stored.exception() is not None:
            return False
        return self.job.status().task_state == "leased"

    def cancel(self) -> bool:
        """Cancel the call unless a worker has it or it has ended; tell whether it is cancelled.

        What runs is left alone, as the standard has it; ``future.job.cancel()`` interrupts it.
        """
        if not self.done():
            cancel_waiting([self])
        return self.cancelled()

    # ---- from the call to its end ----------------------------------------------------------

    def send(self, link: api.ThreadLink, submission: Submission) -> None:
        """Have the call stored, and end as its job does; returns at once."""
        asked = link.start("submit", submission)
        asked.add_done_callback(partial(self._learn, link, submission))

    def refuse(self, error: BaseException) -> None:
        """End with *error*: the call cannot be stored."""
        self.stored.set_exception(error)
        self._teller.tell(partial(self._take, error))

    def _learn(self, link: api.ThreadLink, submission: Submission, asked: Future[JobStatus]) -> None:
        """Learn whether the job was stored; called on the engine's thread."""
        try:
            status = asked.result()
        except CancelledError:
            self.refuse(link.closed())
        except Exception as error:
            self.refuse(error)
        else:
            self.stored.set_result(JobHandle(link, status.id))
            self._teller.tell(partial(warn_of, link.told, submission, status))
            watch_of(link).add([status.id], self._hear)

    def _hear(self, _: int, told: Told) -> None:
        self._teller.tell(partial(self._take, told))

    def _take(self, told: Told) -> None:
        """End as the job did."""
        with suppress(InvalidStateError):  # it was cancelled through this future meanwhile
            if isinstance(told, JobResult):
                self._take_end(told)
            else:
                self.set_exception(told)

    def _take_end(self, end: JobResult) -> None:
        if end.state == "cancelled":
            self.be_cancelled()
            return
        try:
            value = value_of(self.job.id, end) if end.state == "succeeded" else None
        except Exception as error:  # it cannot be made again here, or has expired
            self.set_exception(error)
            return
        if end.state == "succeeded":
            self.set_result(value)  # type: ignore[arg-type]  # whatever the function returned
        else:
            self.set_exception(error_of(self.job.id, end))

    def be_cancelled(self) -> None:
        """Be cancelled, for those who wait as well."""
        with self._cancelling:
            if not self.cancelled() and super().cancel():
                self.set_running_or_notify_cancel()


def cancel_waiting(futures: Iterable[JobFuture[Any]]) -> None:
    """Cancel those of *futures* whose jobs no worker has."""
    stored = [future for future in futures if future.stored.exception() is None]
    asked = [(future, future.job._link.start("job", future.job.id)) for future in stored]
    waiting = [future for future, status in asked if status.result().task_state != "leased"]
    told = [(future, future.job._link.start("cancel", future.job.id)) for future in waiting]
    for future, answer in told:
        status: JobStatus = answer.result()
        if status.state in ("open", "cancelled"):  # open: a worker got it just now, and is being interrupted
            future.be_cancelled()
