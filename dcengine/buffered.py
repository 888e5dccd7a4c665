"""Values with much memory behind them: a pickle, and beside it the buffers that it refers to, usable where they lie.

Such a packed value is ``O``, a table, then the pickle and the buffers, each at a multiple of 64 bytes; so a file of it
can be mapped into memory, and an array of 100 MB is there without being read.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import cloudpickle

BUFFERED = b"O"  #: begins such a value; a pickle begins with 0x80
PROTOCOL = 5
ALIGNMENT = 64
SENT_AT_ONCE = 4 << 20  #: bytes
LEAST = 64 * 1024  #: bytes of a buffer that is worth a place of its own
COUNT = struct.Struct("<cI")
SECTION = struct.Struct("<QQ?")  #: where it begins, its size, whether it may be written to

Piece: TypeAlias = bytes | bytearray | memoryview
Packed: TypeAlias = bytes | bytearray | memoryview  #: a packed value, in memory or in a file that is mapped


class Pieces:
    """A packed value in pieces that lie where they are, to be sent as often as it takes."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for piece in self._pieces:
            view = memoryview(piece)
            for start in range(0, len(view), SENT_AT_ONCE):
                yield view[start : start + SENT_AT_ONCE]


def pickled(value: object) -> tuple[bytes, list[memoryview]]:
    """Return *value* pickled, and its large buffers, which were left out of the pickle."""
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not in one piece
            return True
        if raw.nbytes < LEAST:
            return True
        buffers.append(raw)
        return False

    return bytes(cloudpickle.dumps(value, PROTOCOL, buffer_callback=stays_inside)), buffers


def pieces_of(pickle: bytes, buffers: Sequence[memoryview], *, at: int = 0) -> list[Piece]:
    """Return the pieces of a packed value that will begin at byte *at* of what it is in; nothing is copied."""
    sections: list[Piece] = [pickle, *buffers]
    end = at + COUNT.size + len(sections) * SECTION.size
    table, pieces = [COUNT.pack(BUFFERED, len(sections))], list[Piece]()
    for section in sections:
        size = len(section)
        gap = -end % ALIGNMENT
        is_writable = isinstance(section, memoryview) and not section.readonly
        table.append(SECTION.pack(end + gap - at, size, is_writable))
        pieces += [bytes(gap), section]
        end += gap + size
    return [b"".join(table), *pieces]


def loads(packed: Packed, *, shared: bool = False) -> Any:
    """Return the value in *packed*, which uses the memory there.

    What could be written to in the original can be here: on a copy, where *packed* cannot. With *shared* nothing is
    copied and nothing can be written to, since others have the same value.
    """
    pickle_section, *buffers = _sections(memoryview(packed))
    usable = [_usable(section, is_writable=is_writable, shared=shared) for section, is_writable in buffers]
    return pickle.loads(pickle_section[0], buffers=usable)


def _usable(section: memoryview, *, is_writable: bool, shared: bool) -> Piece:
    if shared or not is_writable:
        return section.toreadonly()
    return bytearray(section) if section.readonly else section


def _sections(view: memoryview) -> list[tuple[memoryview, bool]]:
    _, count = COUNT.unpack_from(view)
    table = SECTION.iter_unpack(view[COUNT.size : COUNT.size + count * SECTION.size])
    return [(view[start : start + size], is_writable) for start, size, is_writable in table]
