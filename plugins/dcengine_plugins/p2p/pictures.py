"""Whether what a worker sends is a picture: a PNG that is whole, and no larger than pictures are."""

from __future__ import annotations

import struct
import zlib

from .wire import Malformed

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 1 << 28  #: such as 16,384 x 16,384


def check(content: bytes) -> None:
    """Raise `Malformed` for anything but a PNG."""
    if not content.startswith(SIGNATURE):
        raise Malformed("a frame is no PNG")
    at, names = len(SIGNATURE), []
    while at < len(content):
        name, data, at = _chunk(content, at)
        names.append(name)
        if len(names) == 1:
            _check_size(name, data)
    if names[-1:] != [b"IEND"] or b"IDAT" not in names:
        raise Malformed("a frame is a PNG that breaks off")


def _chunk(content: bytes, at: int) -> tuple[bytes, memoryview, int]:
    """Return name and data of the chunk that begins *at*, and where the next one begins."""
    if len(content) < at + 12:
        raise Malformed("a frame is a PNG that breaks off")
    (length,) = struct.unpack_from(">I", content, at)
    end = at + 8 + length
    if len(content) < end + 4:
        raise Malformed("a frame is a PNG that breaks off")
    name = content[at + 4 : at + 8]
    data = memoryview(content)[at + 8 : end]
    if struct.unpack_from(">I", content, end)[0] != zlib.crc32(data, zlib.crc32(name)):
        raise Malformed("a frame is a PNG that is damaged")
    return name, data, end + 4


def _check_size(name: bytes, data: memoryview) -> None:
    width, height = struct.unpack_from(">II", data) if name == b"IHDR" and len(data) == 13 else (0, 0)
    if not 1 <= width * height <= MOST_PIXELS:
        raise Malformed(f"a frame has {width} x {height} pixels")
