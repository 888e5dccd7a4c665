"""What a .blend file says of itself, read without Blender: which frames it has, and that it is whole.

A file begins with ``BLENDER``, the size of a pointer (``_`` for 4 bytes, ``-`` for 8), the order of bytes (``v`` for
little endian) and a version; then come blocks, each with a code of four letters and the length of its content. Before
those with data there is one ``REND`` for each scene, the first one's first: first and last frame as 32-bit integers and
the scene's name in 64 bytes; the last one is ``ENDB``. A compressed file is all of this in gzip (before Blender 3.0)
or zstd.
Source: https://projects.blender.org/blender/blender/src/branch/main/doc/blender_file_format
"""

from __future__ import annotations

import gzip
import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from .errors import InvalidScene

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
HEADER = 12  #: bytes; 17 since Blender 5.0


def frames_of(content: bytes, name: str) -> tuple[int, int] | None:
    """Return the first and the last frame of the scene; None where only Blender can tell. Raises `InvalidScene`."""
    if content.startswith(ZSTD):
        return None
    if not content.startswith(GZIP):
        return _frames_of(BytesIO(content), name)
    try:
        return _frames_of(gzip.GzipFile(fileobj=BytesIO(content)), name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken(name) from error


def _frames_of(file: BinaryIO | gzip.GzipFile, name: str) -> tuple[int, int] | None:
    header = file.read(HEADER)
    if not header.startswith(b"BLENDER"):
        raise InvalidScene(name, "is no .blend file", "save the scene with Blender and name that file")
    if header[7:8] not in b"_-" or header[8:9] not in b"vV":
        return None  # of a Blender that writes another header
    order = "<" if header[8:9] == b"v" else ">"
    rest = 8 + (4 if header[7:8] == b"_" else 8)  # of a block's header, behind code and length
    frames = None
    while True:
        start = file.read(8)
        if start[:4] == b"ENDB":
            return frames
        if len(start) < 8 or len(file.read(rest)) < rest:
            raise _broken(name)
        code, length = struct.unpack(f"{order}4sI", start)
        content = file.read(length)
        if len(content) < length:
            raise _broken(name)
        if code == b"REND" and frames is None:
            frames = struct.unpack_from(f"{order}ii", content)


def _broken(name: str) -> InvalidScene:
    return InvalidScene(name, "breaks off in the middle", "save or copy the scene again")
