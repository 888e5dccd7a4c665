"""What a slot is given to run and what it reports: plain data that crosses every process border."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec

Takes = Literal["call", "value", "parts"]  #: arguments; one value; a list of the values in a frame
Gives = Literal["value", "json", "parts", "json parts"]  #: one value, or a frame with each item of what was returned


class Unit(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Calls of one function that run one after the other on one slot."""

    id: int  #: unique within the engine's life
    function: bytes  #: sha256 of the code
    name: str  #: for people
    code: bytes | None  #: None where the worker has it already
    items: bytes  #: one per call, packed by `codec.pack`; what they are, *takes* says
    count: int
    timeout: float | None = None  #: seconds one call may take
    grace: float = 1.0  #: seconds between the interrupt and the kill
    takes: Takes = "call"
    gives: Gives = "value"
    is_shared: bool = False  #: run in the worker's own process, without isolation
    devices: dict[str, list[int]] = {}  #: of the worker's, for the calls alone: kind and places, as in {"gpu": [1]}
    output_limit: int = 16 << 20  #: bytes of what one call says that are kept: half from its beginning, half its end
    values: list[bytes] = []  #: keys of the values that the calls refer to
    stays: bool = False  #: results stay on the worker: what is reported stands for them
    places: dict[bytes, str] = {}  #: the files of those values, as the worker finds them
    lost: dict[bytes, bytes] = {}  #: those that cannot be had, each with a packed `codec.Failure`
    along: dict[bytes, bytes] = {}  #: values that the calls refer to, so small that they come with the unit
    spool: str = ""  #: folder that large results are left in; without one they are reported themselves
    patience: int = 0  #: calls that may fail in a row before the unit ends: then others try the rest; 0 for all
    session: str = ""  #: the session in whose process it is to run; empty for the slot's own
    begins: bool = False  #: the session, which is not there yet


class Ending(IntEnum):
    """How one call ended."""

    SUCCEEDED = 0  #: its value is the packed result, as the unit's *gives* says
    RAISED = 1  #: its value is a packed `codec.Failure`
    TIMED_OUT = 2  #: its value is a packed `codec.Failure` (TaskTimeout)
    CRASHED = 3  #: the child ended under it; its value is a packed `codec.Failure` (TaskCrashed)
    INTERRUPTED = 4  #: somebody asked for it; its value is empty, or says (in UTF-8) that force was needed
    NOT_RUN = 5  #: never begun; its value is empty
    FLAGGED = 6  #: the function says that its input is bad; its value is a packed `codec.Failure` (InvalidInput)
    VANISHED = 7  #: what its child was forked by ended under it, through no fault of the call; its value is empty


class UnitReport(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How every call of a unit ended, in order."""

    endings: bytes  #: one `Ending` per call
    values: bytes  #: packed by `codec.pack`, one per call
    seconds: float = 0.0  #: time spent in the calls
    lines: int = 0  #: live messages sent for this unit; the engine waits for so many
    session: str = ""  #: what its process is called from now on, since something stays there


class Live(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Something a running call says before it ends."""

    unit: int
    number: int  #: 1, 2, 3 ... within the unit
    item: int  #: index of the call within the unit
    kind: str  #: stdout, stderr, progress, or one of `live.RICH`
    data: bytes  #: UTF-8 text; for progress, msgpack of `verbs.Progress`; for rich kinds JSON


class Told(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Something a running call is told before it ends."""

    unit: int
    item: int  #: index of the call within the unit; another one must not hear it
    data: bytes  #: what it means, whoever listens knows
