"""The newest text of a call that has said more than may go out as it comes."""

from __future__ import annotations

from collections import deque

BLOCK = 64 * 1024  #: bytes of neighbouring pieces that are kept as one


class Tail:
    """Keeps the newest *size* bytes of what is added, and counts the rest."""

    def __init__(self, size: int) -> None:
        self.left_out = 0  #: bytes that are not kept
        self._size = size
        self._blocks: deque[tuple[int, bytearray]] = deque()  #: stream and text
        self._held = 0

    def add(self, stream: int, data: bytes) -> None:
        """Add text of *stream*; the oldest makes room for it."""
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last[0] == stream and len(last[1]) < BLOCK:
            last[1].extend(data)
        else:
            self._blocks.append((stream, bytearray(data)))
        self._held += len(data)
        if self._held > self._size:
            self._drop(self._held - self._size)

    def pieces(self) -> list[tuple[int, bytes]]:
        """Return what is kept; where something is missing before it, from the beginning of a line on."""
        if self.left_out and self._blocks:
            oldest = self._blocks[0][1]
            end = oldest.find(b"\n") + 1
            self._drop(end if 0 < end < self._held else _to_next_character(oldest))
        return [(stream, bytes(text)) for stream, text in self._blocks]

    def _drop(self, size: int) -> None:
        """Drop the oldest *size* bytes."""
        self.left_out += size
        self._held -= size
        while size:
            oldest = self._blocks[0][1]
            if len(oldest) > size:
                del oldest[:size]
                return
            self._blocks.popleft()
            size -= len(oldest)


CUT_OFF = b"\n... what comes after this is left out: the setting output_limit says how much is kept ...\n"


def left_out_line(size: int) -> bytes:
    """Return the line that stands where *size* bytes are missing."""
    return f"\n... {size:,} bytes are left out here: the setting output_limit says how much is kept ...\n".encode()


def _to_next_character(text: bytearray) -> int:
    """Return how many bytes stand before the first whole character in UTF-8."""
    return next((place for place, byte in enumerate(text[:4]) if byte & 0xC0 != 0x80), 0)
