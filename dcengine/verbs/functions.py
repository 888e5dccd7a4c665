"""What is asked for when a function is to be called."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..jobs import How

OnNoMatch = Literal["wait", "fail"]


class Function(msgspec.Struct, frozen=True):
    """A function ready to travel."""

    digest: bytes  #: sha256 of *code*
    name: str  #: for people: module and qualified name
    code: bytes  #: cloudpickle of the callable


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is to be run."""

    tags: str = ""  #: tag expression; empty matches every worker
    retries: int = 0  #: n allows n + 1 runs
    crash_retries: int = 2  #: the same for runs whose process ended under them; single calls only
    timeout: float | None = None
    priority: int = 0  #: higher runs earlier
    on_no_match: OnNoMatch = "wait"
    not_before: float | None = None  #: Unix seconds; it waits until then
    keep: float | None = None  #: seconds after its end that its values are kept; None for ever
    speculative: bool = False  #: safe to run twice at once: a straggler gets a second worker, the first result counts
    isolate: bool = True  #: in a process of its slot; False: in the worker's own, where nothing can be interrupted
    remote: bool = False  #: the result stays on the worker until it is asked for
    session: str | None = None  #: one living process, in which state stays from call to call; single calls only

    @property
    def how(self) -> int:
        """The bits of `How` that the store keeps."""
        return (
            (How.SPECULATIVE if self.speculative else 0)
            | (0 if self.isolate else How.SHARED)
            | (How.REMOTE if self.remote else 0)
        )


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One call to store and run."""

    function: Function
    input: bytes  #: packed ``(args, kwargs)``
    options: Options = Options()
    key: str | None = None  #: the same key gives the same job
    packages: dict[str, str] = {}  #: that the function uses, with their versions: to be compared with the workers'
    request: str | None = None  #: idempotency key: a repeated request gets the same answer
    submitter: str = ""
    origin: str = ""  #: the id of the kernel that sends it, which does not end for being idle before it has ended


class BatchSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one map to store and run."""

    function: Function
    blocks: list[bytes]  #: inputs in order, each block packed by `codec.pack`
    count: int
    options: Options = Options()
    packages: dict[str, str] = {}  #: that the function uses, with their versions: to be compared with the workers'
    request: str | None = None
    submitter: str = ""
    origin: str = ""  #: as in `Submission`
