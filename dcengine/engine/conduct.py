"""Which workers are set aside for which work: those that fail at it again and again while others do not. No I/O."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection

import msgspec

FAILURES = 3  #: in a row after which a worker is set aside
CHANCE = 1e-5  #: more in a row are needed where others fail often too, until chance alone is as unlikely as this
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 60.0, 1800.0  #: before a worker gets one for trial; doubled each time it fails
MEMORY = 1000  #: calls on one worker that count; older ones fade
SUBJECTS_KNOWN = 10_000
JOBS_KNOWN = 10_000  #: of which it is remembered on whom they failed
LEFT_SECONDS = 5.0  #: for others to take what has failed on one; longer where the run that failed was

Subject = str | bytes  #: a project by its name; a function without one by its digest


class Aside(msgspec.Struct):
    """Why a worker is set aside, and for how long."""

    reason: str
    until: float  #: by the monotonic clock
    pause: float = PAUSE_SECONDS
    is_tried: bool = False  #: it was given one for trial


class Record:
    """How the workers have done at one subject."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.aside: dict[str, Aside] = {}
        self.in_a_row: Counter[str] = Counter()
        self.is_judged = True  #: False while all fail: then it is the code's fault
        self.has_succeeded = False  #: somewhere, since the first was set aside
        self._ended: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def note(self, worker: str, calls: int = 1, *, has_failed: bool) -> None:
        """Note how *calls* calls on *worker* have ended."""
        self._ended[worker] += calls
        self._failed[worker] += calls if has_failed else 0
        if self._ended[worker] > MEMORY:
            self._ended[worker] //= 2
            self._failed[worker] //= 2
        self.in_a_row[worker] = self.in_a_row[worker] + calls if has_failed else 0

    def limit(self, worker: str) -> float:
        """Return how many failures in a row tell that it is *worker*: three, more where others fail often too."""
        others = self._ended.keys() - self.aside.keys() - {worker}
        failed = sum(self._failed[other] for other in others)
        share = failed / (1 + sum(self._ended[other] for other in others))
        return max(FAILURES, math.log(CHANCE) / math.log(share)) if share else FAILURES

    def forget(self, worker: str) -> None:
        """Know nothing of *worker* any more."""
        for known in (self.aside, self.in_a_row, self._ended, self._failed):
            known.pop(worker, None)


class Conduct:
    """Judges workers by how what they are given ends."""

    def __init__(self) -> None:
        self._records: dict[Subject, Record] = {}
        self._failed_on: dict[int, tuple[set[str], float]] = {}  # by job: whom, and until when it is left to others

    def succeeded(self, subject: Subject, worker: str, calls: int, *, name: str) -> None:
        """Note that *calls* calls succeeded: whatever *worker* has done wrong before, it can do this."""
        record = self._record(subject, name)
        record.note(worker, calls, has_failed=False)
        record.is_judged = record.has_succeeded = True
        record.aside.pop(worker, None)

    def failed(
        self, subject: Subject, worker: str, job: int, sentence: str, others: Collection[str], *, name: str,
        seconds: float = 0.0,
    ) -> str | None:  # fmt: skip
        """Note a failure of *job* after so many *seconds*; return why *worker* is set aside, if it is from now on.

        It is only if one of the *others*, who could do the same work, is not. When nobody is left, and nobody has
        succeeded meanwhile, it is the code's fault: then all are let in, and not judged until one succeeds. A job that
        fails again says nothing of a worker. *sentence* says why it failed.
        """
        if self._has_failed_before(job, worker, seconds):
            return None
        record = self._record(subject, name)
        record.note(worker, has_failed=True)
        aside = record.aside.get(worker)
        if aside is not None:
            _try_later(aside, sentence)
            return None
        if not record.is_judged or record.in_a_row[worker] < record.limit(worker):
            return None
        if all(other in record.aside for other in others):
            if others and not record.has_succeeded:
                record.is_judged = False
                record.aside.clear()
            return None
        if not record.aside:
            record.has_succeeded = False
        reason = f"{record.in_a_row[worker]} failures in a row, the last: {sentence}"
        record.aside[worker] = Aside(reason, time.monotonic() + PAUSE_SECONDS)
        return reason

    def _has_failed_before(self, job: int, worker: str, seconds: float) -> bool:
        """Note that *job* failed on *worker* after so many *seconds*; tell whether it has failed before, anywhere."""
        if len(self._failed_on) >= JOBS_KNOWN:
            del self._failed_on[next(iter(self._failed_on))]
        failed_on, _ = self._failed_on.pop(job, (set(), 0.0))
        self._failed_on[job] = failed_on | {worker}, time.monotonic() + max(LEFT_SECONDS, 2 * seconds)
        return bool(failed_on)

    def leaves_to_others(self, job: int, subject: Subject, worker: str, others: Callable[[], Collection[str]]) -> bool:
        """Tell whether *job* is kept from *worker* for a while: it failed there, and one of the *others* may try it."""
        failed_on, until = self._failed_on.get(job, ((), 0.0))
        if worker not in failed_on or time.monotonic() >= until:
            return False
        record = self._records.get(subject)
        return any(each not in failed_on and (record is None or each not in record.aside) for each in others())

    def is_anybody_aside(self, subject: Subject) -> bool:
        """Tell whether any worker is set aside for *subject*."""
        record = self._records.get(subject)
        return record is not None and bool(record.aside)

    def patience(self, subject: Subject, others: Collection[str]) -> int:
        """Return how many calls may fail in a row before *others* should try the rest; 0 where all fail."""
        record = self._records.get(subject)
        return FAILURES if others and (record is None or record.is_judged) else 0

    def spares(self, subject: Subject, worker: str, others: Collection[str]) -> str | None:
        """Return why *worker* is given nothing of *subject* now; None if it may be, or if no other of *others* can."""
        record = self._records.get(subject)
        aside = record.aside.get(worker) if record is not None else None
        if record is None or aside is None or time.monotonic() >= aside.until:
            return None
        return aside.reason if any(other not in record.aside for other in others) else None

    def give(self, subject: Subject, worker: str) -> bool:
        """Note that *worker* is about to be given something of *subject*; tell whether it is just one for trial."""
        record = self._records.get(subject)
        aside = record.aside.get(worker) if record is not None else None
        if aside is None or time.monotonic() < aside.until:
            return False
        aside.until, aside.is_tried = time.monotonic() + aside.pause, True
        return True

    def reasons(self, worker: str) -> dict[str, str]:
        """Return for what *worker* is set aside, and why."""
        return {record.name: record.aside[worker].reason for record in self._records.values() if worker in record.aside}

    def keep(self, workers: Collection[str]) -> None:
        """Forget all but *workers*: who comes back has a new start."""
        for record in self._records.values():
            for worker in record.in_a_row.keys() - set(workers):
                record.forget(worker)

    def _record(self, subject: Subject, name: str) -> Record:
        record = self._records.get(subject)
        if record is None:
            if len(self._records) >= SUBJECTS_KNOWN:
                del self._records[next(iter(self._records))]
            record = self._records[subject] = Record(name)
        return record


def _try_later(aside: Aside, sentence: str) -> None:
    """Take in another failure of a worker that is set aside: after a trial it waits twice as long for the next."""
    if aside.is_tried:
        aside.pause = min(2 * aside.pause, LONGEST_PAUSE_SECONDS)
        aside.until, aside.is_tried = time.monotonic() + aside.pause, False
        aside.reason = f"it has failed again: {sentence}"
