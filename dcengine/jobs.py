"""Jobs, tasks and their states: plain frozen data and the moves they may make. No I/O."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from .errors import InvalidOption, InvalidTransition

VANISHED_LIMIT = 10  #: workers that may disappear under one task before it fails
NAME_LIMIT = 100  #: characters in the name of a project or stage
FORBIDDEN = frozenset("/{}")  #: in such names: they divide addresses
CRASH_RETRIES = 2  #: ends of the child process (segfault, out of memory) forgiven, unless its submitter says otherwise


class State(IntEnum):
    """Where a task is."""

    QUEUED = 0  #: could run now, no worker has it
    WAITING = 1  #: not before a time: back-off, schedule
    BLOCKED = 2  #: waits for its parts
    LEASED = 3  #: in a worker's hands
    SUCCEEDED = 4  #: its output is stored
    FAILED = 5  #: attempts used up; the reason is stored
    CANCELLED = 6  #: somebody did not want it any more

    @property
    def is_final(self) -> bool:
        return self >= State.SUCCEEDED


NEXT: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.LEASED, State.CANCELLED, State.FAILED}),
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    State.BLOCKED: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    State.LEASED: frozenset({State.QUEUED, State.WAITING, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),  # somebody asked for another try
    State.CANCELLED: frozenset({State.QUEUED}),
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


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One job at one stage: what is leased, run and retried."""

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
    input: bytes = b""  #: packed arguments; one pickled value at a project's stage

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


def check_name(what: str, name: object) -> None:
    """Refuse a name of a project or stage that could not be part of an address, or would steer a terminal."""
    is_good = isinstance(name, str) and 0 < len(name) <= NAME_LIMIT and name.isprintable() and name == name.strip()
    if not is_good or name in (".", "..") or not FORBIDDEN.isdisjoint(str(name)):
        allowed = f"1 to {NAME_LIMIT} printable characters, none of {' '.join(sorted(FORBIDDEN))}"
        raise InvalidOption(what, repr(name)[: NAME_LIMIT + 3], f"{allowed}, not just dots or spaces")


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a project: what its tasks run, and on whom."""

    id: int
    name: str
    need: int
    tags: str
    function: bytes
    priority: int = 0
    retries: int = 0
    timeout: float | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A named row of stages that jobs travel through."""

    id: int
    name: str
    is_paused: bool  #: its tasks are not handed out
    stages: tuple[Stage, ...]  #: in order


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever runs tasks, as the engine knows it."""

    name: str
    address: str
    contributor: str  #: the nickname that earns credit
    tags: dict[str, str | None]  #: what it offers; a tag without value is None
    slots: int
    host: str = ""
    version: str = ""
    unfit: str | None = None  #: why it cannot be used, if so
