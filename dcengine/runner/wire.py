"""What the slot and its child say to each other, and the nursery and its fork server: frames of bytes.

Slot and child exchange ``size, kind, body`` over one stream socket; nursery and fork server
exchange notes of fixed size, since sockets travel with them.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Protocol

HEADER = struct.Struct("<QB")
JOIN_BELOW = 64 * 1024  #: a header is copied in front of a body up to this size, to save a system call


class Kind(IntEnum):
    """What a frame between a slot and its child is about."""

    UNIT = 1  #: slot: run this unit; its code is left out
    CODE = 2  #: slot: the code that was asked for
    NEED_CODE = 3  #: child: send the code of the unit's function
    LIVE = 4  #: child: a `Live`
    PART = 5  #: child: a `UnitReport` of the next finished calls, more will follow
    REPORT = 6  #: child: a `UnitReport` of the last finished calls; the unit is over
    TELL = 7  #: slot: a `Told` for a call that runs


def frame(kind: Kind, body: bytes) -> list[bytes]:
    """Return the pieces of a frame, to be written one after the other."""
    header = HEADER.pack(len(body), kind)
    return [header + body] if len(body) < JOIN_BELOW else [header, body]


class Readable(Protocol):
    """A buffered binary stream."""

    def read(self, size: int, /) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        ...


def read_frame(stream: Readable) -> tuple[Kind, bytes]:
    """Return the next frame of a blocking *stream*; raises `EOFError` when the other side is gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    size, kind = HEADER.unpack(header)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return Kind(kind), body


class FrameReader:
    """Cuts a stream that arrives in pieces into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Return the frames completed by *data*."""
        self._buffer += data
        frames = []
        at = 0
        while len(self._buffer) >= at + HEADER.size:
            size, kind = HEADER.unpack_from(self._buffer, at)
            end = at + HEADER.size + size
            if end > len(self._buffer):
                break
            with memoryview(self._buffer) as view:
                frames.append((Kind(kind), bytes(view[at + HEADER.size : end])))
            at = end
        del self._buffer[:at]
        return frames


# ---- between the nursery and its fork server -----------------------------------------------

NOTE = struct.Struct("<BQi")  #: what, number of the child, and a number that depends on what
FORK_DESCRIPTORS = 6  #: that travel with the order to fork: a socket, a journal, both ends of two pipes


class Note(IntEnum):
    """What a note between the nursery and its fork server is about."""

    FORK = 1  #: nursery: fork a child; its socket, its journal and its pipes come along
    SIGNAL = 2  #: nursery: send this signal to the child; SIGKILL goes to all that it started
    FORKED = 3  #: fork server: the child has this process id
    REFUSED = 4  #: fork server: the system would not fork; this is its errno
    ENDED = 5  #: fork server: the child ended with this wait status
