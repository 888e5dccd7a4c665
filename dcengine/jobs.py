"""Jobs, tasks and their states: plain frozen data and the moves they may make. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import Literal

import msgspec

from .errors import InvalidOption, InvalidTransition

VANISHED_LIMIT = 10  #: workers that may disappear under one task before it fails
NAME_LIMIT = 100  #: characters in the name of a project or stage
FORBIDDEN = frozenset("/{}")  #: in such names: they divide addresses
LEASE_SECONDS = 600.0  #: how long an outside worker may keep a task without a word
BACK_OFF, BACK_OFF_LIMIT = 0.1, 60.0  #: seconds before the second run, and between any two, at most
LEASE_VOTES = 3  #: distinct voters that send a job back from a lease stage, unless its author says otherwise
GENERATIONS = 3  #: times that one stage may send a job back before the job fails
CRASH_RETRIES = 2  #: ends of the child process (segfault, out of memory) forgiven, unless its submitter says otherwise


class State(IntEnum):
    """Where a task is."""

    QUEUED = 0  #: could run now, no worker has it
    WAITING = 1  #: not before a time: back-off, schedule
    BLOCKED = 2  #: waits for its parts, or for jobs whose results are its arguments
    LEASED = 3  #: in a worker's hands
    SUCCEEDED = 4  #: its output is stored
    FAILED = 5  #: attempts used up; the reason is stored
    CANCELLED = 6  #: somebody did not want it any more
    RETURNED = 7  #: superseded: a later stage sent the job back, or its input was edited

    @property
    def is_final(self) -> bool:
        return self >= State.SUCCEEDED


NEXT: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.LEASED, State.CANCELLED, State.FAILED}),
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    State.BLOCKED: frozenset({State.QUEUED, State.WAITING, State.CANCELLED, State.FAILED}),
    State.LEASED: frozenset(
        {State.QUEUED, State.WAITING, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.RETURNED}
    ),
    State.SUCCEEDED: frozenset({State.RETURNED}),  # its output turned out to be bad
    # Somebody asked for another try; a gather waits for its parts again.
    State.FAILED: frozenset({State.QUEUED, State.BLOCKED, State.RETURNED}),
    State.CANCELLED: frozenset({State.QUEUED, State.BLOCKED, State.RETURNED}),
    State.RETURNED: frozenset(),
}  #: the moves a task may make; everything else is an `InvalidTransition`


class JobState(IntEnum):
    """What became of a job as a whole."""

    OPEN = 0
    SUCCEEDED = 1
    FAILED = 2
    CANCELLED = 3

    @property
    def text(self) -> str:
        return self.name.lower()


JOB_STATE: dict[State, JobState] = {
    State.SUCCEEDED: JobState.SUCCEEDED,
    State.FAILED: JobState.FAILED,
    State.CANCELLED: JobState.CANCELLED,
}  #: the job's state once its last task is in this state


class How(IntFlag):
    """What is special about the way calls are run; the store keeps the bits."""

    USUAL = 0
    SPECULATIVE = 1  #: safe to run twice at once: a straggler is given to a second worker, the first result counts
    SHARED = 2  #: not isolated: in the worker's own process
    REMOTE = 4  #: the result stays on the worker until it is asked for


class Task(msgspec.Struct, frozen=True, gc=False):
    """One job at one stage: what is leased, run and retried.

    The store makes it from a row, so its columns there are in the order of the fields here.
    """

    id: int
    job: int
    stage: int
    batch: int | None = None  #: the batch whose item this is
    generation: int = 0
    state: State = State.QUEUED
    attempt: int = 0  #: goes up with each lease; the fence against stale reports
    errors: int = 0  #: what the code itself did wrong
    vanished: int = 0  #: workers that disappeared under it
    crashes: int = 0  #: child processes that ended under it
    retries: int = 0  #: errors forgiven before it fails
    crash_retries: int = CRASH_RETRIES  #: crashes forgiven before it fails
    timeout: float | None = None  #: seconds one run may take
    priority: int = 0  #: higher runs earlier
    tags: str = ""  #: the tag expression a worker must satisfy
    function: bytes = b""  #: sha256 of the code
    input: bytes = b""  #: packed arguments; one packed value at a project's stage; nothing for a gather
    submitter: int = 0  #: id of who brought the job, for fair turns
    flags: int = 0  #: voters who said that its input is bad, in this generation
    origin: int | None = None  #: the task whose output is its input
    token: int = 0  #: known to its holder alone; only outside workers have one
    how: int = 0  #: bits of `How`
    number: int = 0  #: the job's, within its project

    def to(self, state: State, **changes: object) -> Task:
        """Return this task moved to *state*.

        Raises `InvalidTransition` if the table does not allow the move.
        """
        if state not in NEXT[self.state]:
            raise InvalidTransition(self.id, self.state.name, state.name)
        return msgspec.structs.replace(self, state=state, **changes)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive items of a batch that run together on one slot."""

    batch: int
    first: int  #: index of the first item within the batch, from 0
    count: int
    first_job: int  #: job id of the first item

    @property
    def indexes(self) -> range:
        return range(self.first, self.first + self.count)


class Bundle(msgspec.Struct, frozen=True):
    """Short tasks of one stage that run together on one slot."""

    tasks: tuple[Task, ...]


class BatchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change about a batch."""

    id: int
    stage: int
    need: int
    tags: str
    first_job: int
    count: int
    priority: int
    retries: int
    timeout: float | None
    function: bytes
    name: str
    submitter: int = 0
    not_before: float | None = None  #: Unix seconds
    how: int = 0  #: bits of `How`


def check_name(what: str, name: object) -> None:
    """Refuse a name of a project or stage that could not be part of an address, or would steer a terminal."""
    is_good = isinstance(name, str) and 0 < len(name) <= NAME_LIMIT and name.isprintable() and name == name.strip()
    if not is_good or name in (".", "..") or not FORBIDDEN.isdisjoint(str(name)):
        allowed = f"1 to {NAME_LIMIT} printable characters, none of {' '.join(sorted(FORBIDDEN))}"
        raise InvalidOption(what, repr(name)[: NAME_LIMIT + 3], f"{allowed}, not just dots or spaces")


StageKind = Literal["function", "lease"]  #: who does a stage: Dask workers, or outside workers that lease its tasks
Shape = Literal["map", "expand", "gather"]  #: one output; a job for each item of it; one input from all parts
OnFailedPart = Literal["fail", "skip", "wait"]  #: what a gather does about a part that failed
CreditBy = Literal["task", "unit"]  #: one for each accepted task, or the units that its worker reported


def check_shapes(stages: Sequence[tuple[str, Shape]]) -> None:
    """Refuse a row of stages, given by names and shapes, in which expands and gathers do not nest like brackets.

    One gather may be without its expand: it waits for all that one add adds.
    """
    open_expands: list[str] = []
    alone: str | None = None  #: the gather without an expand
    before: tuple[str, Shape] | None = None
    for name, shape in stages:
        if shape == "gather" and (before is None or before[1] == "expand"):
            made = "the first stage" if before is None else f"right after the expand {before[0]!r}"
            raise InvalidOption(f"the gather {name!r}", made, "a stage before it whose outputs it gathers")
        if shape == "gather" and not open_expands:
            if alone is not None:
                expected = f"an expand for one of them: {alone!r} gathers all that was added already"
                raise InvalidOption(f"the gather {name!r}", "without an expand before it", expected)
            alone = name
        elif shape == "gather":
            open_expands.pop()
        elif shape == "expand":
            open_expands.append(name)
        before = name, shape
    if before is not None and before[1] == "expand":
        raise InvalidOption(f"the expand {before[0]!r}", "the last stage", "a stage after it that takes its parts")


def gathered(shapes: Sequence[Shape]) -> list[bool]:
    """Tell of each of the stages whether a gather waits for the jobs that are there.

    At an expand those are the jobs that it makes parts of, at a gather those that it has made whole again.
    """
    waits: list[bool] = []
    open_gathers = 0  #: seen from the end: behind this stage, their expands before it
    for shape in reversed(shapes):
        if shape == "expand":
            open_gathers = max(0, open_gathers - 1)
        waits.append(open_gathers > 0)
        if shape == "gather":
            open_gathers += 1
    return waits[::-1]


def gathers_all(shapes: Sequence[Shape]) -> bool:
    """Tell whether one of the gathers is without an expand, so that all items of one add are parts of one job."""
    return bool(shapes) and gathered(shapes)[0]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a project: what its tasks run, and on whom."""

    id: int
    name: str
    need: int
    tags: str
    function: bytes = b""  #: sha256 of the code; empty for a lease stage
    priority: int = 0
    retries: int = 0
    crash_retries: int = CRASH_RETRIES
    timeout: float | None = None  #: seconds one run may take
    title: str = ""  #: for people, where it is not the name
    kind: StageKind = "function"
    shape: Shape = "map"
    lease_seconds: float = LEASE_SECONDS
    back_off: float = BACK_OFF
    back_off_limit: float = BACK_OFF_LIMIT
    votes: int = 1  #: distinct voters that send a job back from here
    generations: int = GENERATIONS  #: times that this stage may send a job back
    credit: CreditBy = "task"
    on_failed_part: OnFailedPart = "fail"
    how: int = 0  #: bits of `How`
    is_paused: bool = False  #: its tasks are not handed out


def closing_gather(stages: Sequence[Stage], start: int = 0) -> Stage | None:
    """Return the gather that closes what is open at *start*: expands and gathers nest like brackets.

    From the beginning that is the one which waits for all items of one add.
    """
    depth = 0
    for stage in stages[start:]:
        if stage.shape == "expand":
            depth += 1
        elif stage.shape == "gather":
            if not depth:
                return stage
            depth -= 1
    return None


class Vote(msgspec.Struct, frozen=True):
    """A voter's word that a task's input is bad."""

    voter: str
    reason: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A named row of stages that jobs travel through."""

    id: int
    name: str
    is_paused: bool  #: its tasks are not handed out
    stages: tuple[Stage, ...]  #: in order
    protocol: str = ""  #: what old clients speak to it
    is_open: bool = False  #: anybody may lease its tasks


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever runs tasks, as the engine knows it."""

    name: str
    address: str
    contributor: str  #: the nickname that earns credit
    tags: dict[str, str | None]  #: what it offers; a tag without value is None
    slots: int
    own: frozenset[str] = frozenset()  #: names of those tags that its owner has given it
    host: str = ""
    version: str = ""
    unfit: str | None = None  #: why it cannot be used, if so
    asked: frozenset[str] = frozenset()  #: names of tags looked for on demand: those that it was asked for
