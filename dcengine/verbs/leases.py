"""What outside workers ask for, and what they are answered. Values are JSON here, never pickles."""

from __future__ import annotations

import msgspec


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that wants tasks of one stage."""

    project: str
    stage: str
    worker: str  #: its own name, unique among the project's workers
    n: int = 1  #: tasks, at most
    nickname: str = ""  #: who earns the credit and votes; without one, or for "anonymous", each worker votes by itself
    tags: dict[str, str | None] = {}  #: what it offers; a tag without value is None
    wait: float = 0.0  #: seconds to wait for the first task

    @property
    def contributor(self) -> str:
        """Who earns the credit."""
        return self.nickname or self.worker

    @property
    def voter(self) -> str:
        """Who votes: nobody knows how many people "anonymous" is."""
        return self.worker if self.nickname in ("", "anonymous") else self.nickname


class LeasedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task in a worker's hands."""

    task: int
    job: int
    number: int  #: the job's, within its project
    token: str  #: proves that this worker holds it; needed for everything that follows
    deadline: float  #: Unix seconds; a heartbeat moves it
    lease_seconds: float
    input: msgspec.Raw  #: a JSON value
    generation: int = 0
    attempt: int = 1


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life for one task."""

    token: str
    done: float | None = None  #: progress, if there is news of it
    total: float | None = None
    text: str = ""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was done."""

    token: str
    output: msgspec.Raw = msgspec.Raw(b"null")  #: a JSON value
    units: int | None = None  #: what it counts for where the stage gives credit by units; 1 if not said


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A task that could not be done, through a fault of the code or the machine."""

    token: str
    reason: str


class TaskFlag(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose input is bad."""

    token: str
    reason: str = ""


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of what a worker said of one task. The same word said twice is answered alike."""

    token: str
    is_accepted: bool
    problem: str | None = None  #: why not
    deadline: float | None = None  #: after a heartbeat
    cancel: bool = False  #: after a heartbeat: nobody wants it any more; stop, and release it
