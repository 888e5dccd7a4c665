"""Work in the hands of slots, and which run counts where something is run twice. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ..blobs import is_reference
from ..cluster import Slot
from ..codec import keys_in
from ..jobs import Bundle, Chunk, Task
from ..runner.units import Ending, Live, Unit
from .session_places import Place

Work = Task | Bundle | Chunk

NOTHING = Bundle(())
BUNDLE_BYTES = 1 << 20  #: of the inputs of tasks that run together
UNHEARD_LIMIT = 256 * 1024  #: bytes of what a second run says that are kept until it is known whether it counts


@dataclass(eq=False)
class Running:
    """Work in the hands of a slot.

    What it answers for may become less while it runs: calls that have not begun are given to others, and its last one,
    if that is late, may be run a second time elsewhere. Then the first of the two that succeeds counts, and the other
    answers for it no longer.
    """

    work: Work  #: what it answers for: of a unit's calls the first ones
    slot: Slot
    first: Running | None = None  #: the run whose second this is, as long as both go on
    second: Running | None = None  #: its second run, as long as both go on
    had_second: bool = False
    place: Place | None = None  #: of the session that it runs in
    unit: int = 0  #: 0 until it was sent
    function: bytes = b""
    name: str = ""
    calls: int = 0
    since: float = 0.0  #: when it was sent, or began if it had to wait for others on its slot
    is_cut: bool = False  #: the call that runs is the last it answers for
    lines: int = 0  #: live messages that have arrived
    _unheard: list[Live] = field(default_factory=list)

    def sent(self, unit: Unit) -> None:
        """Note that it goes to its slot as *unit*."""
        self.unit, self.function, self.name, self.calls = unit.id, unit.function, unit.name, unit.count
        self.since = time.monotonic()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it answers for; items of a batch are none."""
        return tasks_of(self.work)

    @property
    def left(self) -> int:
        """How many calls it answers for."""
        return self.work.count if isinstance(self.work, Chunk) else len(self.tasks)

    @property
    def is_alone(self) -> bool:
        """Whether a single call is left of it, or the last of several runs."""
        return self.calls == 1 or self.is_cut

    def job_of(self, item: int) -> int:
        """Return the job that its call number *item*, from 0, is for."""
        return self.work.first_job + item if isinstance(self.work, Chunk) else self.tasks[item].job

    def has(self, job: int) -> bool:
        """Tell whether it answers for *job*."""
        return self.item_of(job) is not None

    def item_of(self, job: int) -> int | None:
        """Return the number, from 0, of the call that is for *job*; None if it answers for no such call."""
        if isinstance(self.work, Chunk):
            return job - self.work.first_job if 0 <= job - self.work.first_job < self.work.count else None
        return next((item for item, task in enumerate(self.tasks) if task.job == job), None)

    @property
    def last(self) -> Task | Chunk:
        """The last call that it answers for."""
        if isinstance(self.work, Chunk):
            last = split(self.work, self.left - 1)[1]
            assert isinstance(last, Chunk)
            return last
        return self.tasks[-1]

    def keep(self, calls: int) -> Work:
        """Answer only for the first *calls* calls; return the others."""
        self.work, others = split(self.work, calls)
        return others

    # ---- two runs of one call --------------------------------------------------------------

    def begin_second(self, slot: Slot) -> Running:
        """Return a run of its last call on *slot* too."""
        self.second, self.had_second = Running(self.last, slot, first=self), True
        return self.second

    def ended(self, endings: bytes | None) -> Running | None:
        """Note how its calls ended, None if nobody knows; return the other run, if that is needed no longer.

        The first run decides however it ends, unless it ends without a result through no fault of the code; the
        second decides by succeeding, or if the first is gone.
        """
        if self.first is not None:
            return self._second_ended(self.first, endings)
        second, self.second = self.second, None
        if second is None:
            return None
        second.first = None
        if endings is None or endings[self.left - 1] in (Ending.NOT_RUN, Ending.VANISHED):
            self.keep(self.left - 1)
            return None
        second.work = NOTHING
        return second

    def _second_ended(self, first: Running, endings: bytes | None) -> Running | None:
        self.first = first.second = None
        if endings is None or endings[0] != Ending.SUCCEEDED:
            self.work = NOTHING
            return None
        first.keep(first.left - 1)
        return first

    # ---- what it says ----------------------------------------------------------------------

    def hear(self, live: Live) -> list[Live]:
        """Take in one live message; return those that may be passed on now.

        What a second run says is kept back until the first is out of the race, so that nothing is told twice.
        """
        self.lines += 1
        if self.first is not None:
            if sum(len(kept.data) for kept in self._unheard) + len(live.data) <= UNHEARD_LIMIT:
                self._unheard.append(live)
            return []
        return [kept for kept in (*self.unheard(), live) if kept.item < self.left]

    def unheard(self) -> list[Live]:
        """Return what was kept back; it is told once."""
        kept, self._unheard = self._unheard, []
        return kept


def tasks_of(work: Work) -> tuple[Task, ...]:
    """Return the tasks that *work* is; items of a batch are none."""
    return (work,) if isinstance(work, Task) else work.tasks if isinstance(work, Bundle) else ()


def split(work: Work, at: int) -> tuple[Work, Work]:
    """Return the first *at* calls of *work*, and the others."""
    if isinstance(work, Chunk):
        others = msgspec.structs.replace(
            work, first=work.first + at, count=work.count - at, first_job=work.first_job + at
        )
        return msgspec.structs.replace(work, count=at), others
    tasks = tasks_of(work)
    return Bundle(tasks[:at]), Bundle(tasks[at:])


def bundles_of(tasks: Iterable[Task]) -> list[Bundle]:
    """Return *tasks* in bundles that can run as one unit each: alike, and small enough to travel together."""
    bundles: list[Bundle] = []
    alike: dict[tuple[bytes, float | None, int], list[Task]] = {}
    for task in tasks:
        if is_reference(task.input) or keys_in(task.input):  # what it needs is big, and may be lost
            bundles.append(Bundle((task,)))
        else:
            alike.setdefault((task.function, task.timeout, task.how), []).append(task)
    for some in alike.values():
        bundle, size = list[Task](), 0
        for task in some:
            if bundle and size + len(task.input) > BUNDLE_BYTES:
                bundles.append(Bundle(tuple(bundle)))
                bundle, size = [], 0
            bundle.append(task)
            size += len(task.input)
        bundles.append(Bundle(tuple(bundle)))
    return bundles
