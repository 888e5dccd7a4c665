"""What a kernel says until a front end takes it: in order, bounded, and honest about what was left out. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from .framing import Garbled, Message, Part, header_of

MOST_MESSAGES = 100_000
BYTES_AWAY, BYTES_THERE = 64 << 20, 128 << 20  #: for a front end that is away, and for one that takes what it can
ENTRY_BYTES = 500  #: what keeping a message takes beside its parts
OUTPUT = frozenset({"stream", "display_data", "update_display_data", "clear_output", "execute_result", "comm_msg"})


class LeftOut(NamedTuple):
    """Output that did not fit."""

    messages: int
    bytes: int
    parent: Part  #: the header of the request that the last of it belongs to


class Buffer:
    """Messages in order; above its limits the oldest output is left out, but no reply and no state.

    The newest stays, however large it is.
    """

    def __init__(self, most_bytes: int = BYTES_AWAY, most_messages: int = MOST_MESSAGES) -> None:
        self.most_bytes, self._most_messages = most_bytes, most_messages
        self._kept: deque[Message] = deque()  #: what stood among output that was left out
        self._recent: deque[Message] = deque()
        self._left_out: LeftOut | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept) + len(self._recent) + (self._left_out is not None)

    def put(self, message: Message) -> None:
        """Add *message* at the end."""
        self._recent.append(message)
        self.bytes += size_of(message.parts)
        self._shrink()

    def keep_at_most(self, most_bytes: int) -> None:
        """Keep no more than *most_bytes* from now on."""
        self.most_bytes = most_bytes
        self._shrink()

    def _shrink(self) -> None:
        while self._is_full() and len(self._recent) > 1:
            self._make_room(self._recent.popleft())
        while self._is_full() and self._kept:
            self._forget(self._kept.popleft())

    def put_back(self, message: Message) -> None:
        """Put *message*, which was taken last, back to the beginning."""
        (self._kept if self._kept or self._left_out else self._recent).appendleft(message)
        self.bytes += size_of(message.parts)

    def take(self) -> Message | LeftOut | None:
        """Return what comes next; None when that is nothing."""
        if not self._kept and self._left_out is not None:
            told, self._left_out = self._left_out, None
            return told
        queue = self._kept or self._recent
        if not queue:
            return None
        message = queue.popleft()
        self.bytes -= size_of(message.parts)
        return message

    def _is_full(self) -> bool:
        return self.bytes > self.most_bytes or len(self._kept) + len(self._recent) > self._most_messages

    def _make_room(self, oldest: Message) -> None:
        if is_output(oldest):
            self._forget(oldest)
        else:
            self._kept.append(oldest)

    def _forget(self, message: Message) -> None:
        size = size_of(message.parts)
        self.bytes -= size
        before = self._left_out or LeftOut(0, 0, b"{}")
        self._left_out = LeftOut(before.messages + 1, before.bytes + size - ENTRY_BYTES, message.parts[1])


def size_of(parts: Sequence[Part]) -> int:
    """Return the bytes that a message takes."""
    return ENTRY_BYTES + sum(map(len, parts))


def is_output(message: Message) -> bool:
    """Tell whether a front end gets along without *message*: it is something shown, not a reply or a state."""
    try:
        return message.channel == "iopub" and header_of(message.parts).msg_type in OUTPUT
    except Garbled:
        return True
