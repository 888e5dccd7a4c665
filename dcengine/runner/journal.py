"""Memory that a child shares with its slot, so that what it finished outlives it.

The child writes each result here before it goes on. When it crashes, the slot reads what had not
been sent. A pipe could not do that: a system call per result would cost more than a small call.
Writing in this order makes a kill at any moment harmless: first the record, then the one aligned
number that makes it count.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

from .units import Ending

RECORD = struct.Struct("<BQ")  #: ending, size of the value that follows
TEXT = struct.Struct("<BQ")  #: stream (0 stdout, 1 stderr), size of the text that follows

# Indexes of the 8-byte numbers at the start of the memory.
SEQUENCE = 0  #: written by the slot: which of its units the child runs
ASKED = 1  #: written by the slot: which unit is to stop
SIGNALS = 7  #: written by the slot: how many SIGINTs it has sent
FIRST = 2  #: index of the call that the first record is about
USED = 3  #: bytes of records that count
BEGAN = 4  #: when the current call began: a float, of the clock that all processes share
SAID = 5  #: live messages that the child has sent in this unit
TEXT_USED = 6  #: bytes of text that count: printed, not yet sent
INTERRUPTED = 8  #: written by the slot: in which unit to raise KeyboardInterrupt; by the child: 0 once it has
NUMBERS = 9

RECORDS_AT = 4096
RECORDS_END = RECORDS_AT + 64 * 1024
TEXT_AT = RECORDS_END
SIZE = TEXT_AT + 64 * 1024
CRASH_LIMIT = 16 * 1024  #: bytes that are read of a crash report, which follows behind the memory


def shared_memory() -> int:
    """Return the file descriptor of new memory, large enough for a `Journal`, that no path names."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("dcengine-journal")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Journal:
    """One child's shared memory, as seen from either side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._memory = mmap.mmap(descriptor, SIZE)
        self._view = memoryview(self._memory)
        self._numbers = self._view[: 8 * NUMBERS].cast("Q")
        self._times = self._view[: 8 * NUMBERS].cast("d")
        self._used = 0
        self._text_used = 0

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._numbers, self._times, self._view):
            view.release()
        self._memory.close()
        os.close(self._descriptor)

    # ---- which unit ------------------------------------------------------------------------

    def begin_unit(self, sequence: int, now: float) -> None:
        """Make the journal ready for the next unit; the slot does so before it sends the unit."""
        for index in (USED, FIRST, SAID, TEXT_USED):
            self._numbers[index] = 0
        self._times[BEGAN] = now
        self._numbers[SEQUENCE] = sequence

    def ask_to_stop(self, sequence: int) -> None:
        """Say which unit the coming SIGINT is meant for."""
        self._numbers[ASKED] = sequence
        self._numbers[SIGNALS] += 1

    @property
    def is_asked(self) -> bool:
        """Whether the unit that runs is to be interrupted."""
        return self._numbers[ASKED] == self._numbers[SEQUENCE]

    def expect_interrupt(self, sequence: int) -> None:
        """Say that KeyboardInterrupt is to be raised in that unit, as soon as its code begins."""
        self._numbers[INTERRUPTED] = sequence

    def ask_to_interrupt(self, sequence: int) -> None:
        """Say that the coming SIGINT is to be a KeyboardInterrupt in that unit, which may go on after it."""
        self._numbers[INTERRUPTED] = sequence
        self._numbers[SIGNALS] += 1

    def take_interrupt(self) -> bool:
        """Tell whether KeyboardInterrupt is to be raised in the unit that runs; it is told once."""
        is_due = self._numbers[INTERRUPTED] == self._numbers[SEQUENCE]
        if is_due:
            self._numbers[INTERRUPTED] = 0
        return is_due

    @property
    def signals(self) -> int:
        """How many SIGINTs the slot has sent."""
        return self._numbers[SIGNALS]

    # ---- results ---------------------------------------------------------------------------

    def restart(self, first: int) -> None:
        """Forget the records, which were sent; the next is about call *first*."""
        self._used = 0
        self._numbers[USED] = 0
        self._numbers[FIRST] = first

    def append(self, ending: Ending, value: bytes) -> bool:
        """Write how a call ended; return False where there is no room for it."""
        start = RECORDS_AT + self._used
        end = start + RECORD.size + len(value)
        if end > RECORDS_END:
            return False
        RECORD.pack_into(self._memory, start, ending, len(value))
        self._view[start + RECORD.size : end] = value
        self._used = end - RECORDS_AT
        self._numbers[USED] = self._used
        return True

    def records_from(self, item: int) -> list[tuple[Ending, bytes]]:
        """Return how calls ended, from call *item* on, as far as it is written here."""
        records = []
        at = RECORDS_AT
        end = at + min(self._numbers[USED], RECORDS_END - RECORDS_AT)
        index = self._numbers[FIRST]
        while at < end:
            ending, size = RECORD.unpack_from(self._memory, at)
            at += RECORD.size
            if index >= item:
                records.append((Ending(ending), bytes(self._view[at : at + size])))
            at += size
            index += 1
        return records

    # ---- time ------------------------------------------------------------------------------

    @property
    def began(self) -> float:
        """When the current call began, by `time.monotonic`."""
        return self._times[BEGAN]

    @began.setter
    def began(self, now: float) -> None:
        self._times[BEGAN] = now

    # ---- text that is not sent yet ---------------------------------------------------------

    def append_text(self, stream: int, data: bytes) -> None:
        """Write what was printed, as far as there is room; it only matters if the child crashes now."""
        start = TEXT_AT + self._text_used
        room = SIZE - start - TEXT.size
        if room <= 0:
            return
        data = data[:room]
        TEXT.pack_into(self._memory, start, stream, len(data))
        end = start + TEXT.size + len(data)
        self._view[start + TEXT.size : end] = data
        self._text_used = end - TEXT_AT
        self._numbers[TEXT_USED] = self._text_used

    def forget_text(self, said: int) -> None:
        """Forget the text, which was sent; *said* messages went out in this unit."""
        self._text_used = 0
        self._numbers[TEXT_USED] = 0
        self._numbers[SAID] = said

    def text_after(self, said: int) -> list[tuple[int, bytes]]:
        """Return what was printed and not sent; nothing if the slot heard more than *said* messages of it."""
        if self._numbers[SAID] != said:
            return []  # the child was killed between sending the text and forgetting it
        pieces = []
        at = TEXT_AT
        end = at + min(self._numbers[TEXT_USED], SIZE - TEXT_AT)
        while at < end:
            stream, size = TEXT.unpack_from(self._memory, at)
            at += TEXT.size
            pieces.append((stream, bytes(self._view[at : at + size])))
            at += size
        return pieces

    # ---- what Python says when it dies -----------------------------------------------------

    def crash_file(self) -> int:
        """Return the file descriptor to which a dying interpreter may write; it stays open."""
        os.lseek(self._descriptor, SIZE, os.SEEK_SET)
        return self._descriptor

    def crash_report(self) -> str:
        """Return what the interpreter wrote when it died."""
        return os.pread(self._descriptor, CRASH_LIMIT, SIZE).decode(errors="replace")
