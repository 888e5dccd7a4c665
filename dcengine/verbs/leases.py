"""What outside workers ask for, and what they are answered. Values are JSON here, never pickles."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec

AT_ONCE = 1000  #: tasks leased, or spoken of, in one request
LENGTHS = {"token": 200, "worker": 200, "nickname": 200, "reason": 2000, "text": 500}  #: characters, at most
MOST_TAGS, TAG_LENGTH = 200, 200
NULL = msgspec.Raw(b"null")


def _in_schema(**limits: Any) -> msgspec.Meta:
    """Say limits in the schema alone: the server checks them in words of its own."""
    return msgspec.Meta(extra_json_schema=limits)


def _at_most(what: str, **limits: Any) -> msgspec.Meta:
    return _in_schema(maxLength=LENGTHS[what], **limits)


Token = Annotated[str, _at_most("token")]
_Tag = Annotated[str, _in_schema(maxLength=TAG_LENGTH)]
Tags = Annotated[dict[_Tag, _Tag | None], _in_schema(maxProperties=MOST_TAGS)]


class LeaseWish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a worker says when it wants tasks."""

    worker: Annotated[str, _at_most("worker", minLength=1)]  #: its own name, unique among the project's workers
    n: Annotated[int, _in_schema(minimum=1, maximum=AT_ONCE)] = 1  #: tasks, at most
    #: Who earns the credit and votes; without one, or for "anonymous", each worker votes by itself.
    nickname: Annotated[str, _at_most("nickname")] = ""
    tags: Tags = {}  #: what it offers; a tag without value is None
    wait: Annotated[float, _in_schema(minimum=0)] = 0.0  #: seconds to wait for the first task


class LeaseRequest(LeaseWish, frozen=True, kw_only=True):
    """A worker that wants tasks of one stage."""

    project: str
    stage: str
    is_volunteer: bool = False  #: it has shown no token; said by whoever lets it in, never by itself
    grant: int | None = None  #: the id of the token that it has shown, said likewise; None where that has none

    @property
    def holder(self) -> object:
        """Whose tasks are counted together where there is a limit to them: those under one token, or of one name."""
        return self.voter if self.grant is None else self.grant

    @property
    def contributor(self) -> str:
        """Who earns the credit."""
        return self.nickname or self.worker

    @property
    def voter(self) -> str:
        """Who votes: nobody knows how many people "anonymous" is."""
        return self.worker if self.nickname in ("", "anonymous") else self.nickname


class LeasedTask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A sign of life for one task."""

    token: Token
    done: float | None = None  #: progress, if there is news of it
    total: float | None = None
    text: Annotated[str, _at_most("text")] = ""


class Completion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task that was done."""

    token: Token
    output: msgspec.Raw = msgspec.field(default_factory=lambda: NULL)  #: a JSON value
    units: int | None = None  #: what it counts for where the stage gives credit by units; 1 if not said


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task that could not be done, through a fault of the code or the machine."""

    token: Token
    reason: Annotated[str, _at_most("reason")]


class TaskFlag(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task whose input is bad."""

    token: Token
    reason: Annotated[str, _at_most("reason")] = ""


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of what a worker said of one task. The same word said twice is answered alike."""

    token: str
    is_accepted: bool
    problem: str | None = None  #: why not
    deadline: float | None = None  #: after a heartbeat
    cancel: bool = False  #: after a heartbeat: nobody wants it any more; stop, and release it


class LeaseVerbs(Protocol):
    """Questions about leases."""

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        """Hand tasks of a lease stage to an outside worker; none if there are none after its waiting time."""
        ...

    # *project*: the only one whose tasks the caller may speak of. Over HTTP its token says that, not the client.
    async def heartbeat(self, beats: list[Heartbeat], *, project: str | None = None) -> list[TaskAnswer]:
        """Renew leases, and say how far their tasks are; an answer may tell to stop."""
        ...

    async def complete(self, completions: list[Completion], *, project: str | None = None) -> list[TaskAnswer]:
        """Hand in what tasks came to."""
        ...

    async def fail(self, failures: list[TaskFailure], *, project: str | None = None) -> list[TaskAnswer]:
        """Say that tasks could not be done; they are tried again as their stage says."""
        ...

    async def flag(self, flags: list[TaskFlag], *, project: str | None = None) -> list[TaskAnswer]:
        """Say that the inputs of tasks are bad; enough voters send a job back."""
        ...

    async def release(self, tokens: list[str], *, project: str | None = None) -> list[TaskAnswer]:
        """Put tasks back that a worker will not do; that counts against nobody."""
        ...
