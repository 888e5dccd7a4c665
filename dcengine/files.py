"""Files as packed values: bytes that are pickled without being read, and found again without being unpickled."""

from __future__ import annotations

import struct

_HEAD = b"\x80\x05\x8e"  # protocol 5, and bytes with a size of eight bytes
_SIZES = {b"\x8e": struct.Struct("<Q"), b"B": struct.Struct("<I"), b"C": struct.Struct("<B")}
_FRAME = b"\x95"  # says how much follows; eight bytes that nobody needs
HEAD_SIZE = 32  #: bytes at the beginning of a value that `place_of` needs, at most
TAIL = b"."
TAILS = (TAIL, b"\x94.")  #: the second, with which nothing comes of it, is what Python writes


def head_of(size: int) -> bytes:
    """Return what comes before *size* bytes, so that they and `TAIL` behind them are their own pickle."""
    return _HEAD + struct.pack("<Q", size)


def place_of(head: bytes) -> tuple[int, int] | None:
    """Return where the bytes begin, and how many they are, in a value that begins by *head*.

    None for a value that is something else than bytes.
    """
    at = 2 if head[:1] == b"\x80" else len(head)
    if head[at : at + 1] == _FRAME:
        at += 9
    size = _SIZES.get(head[at : at + 1])
    if size is None or len(head) < at + 1 + size.size:
        return None
    return at + 1 + size.size, size.unpack_from(head, at + 1)[0]
