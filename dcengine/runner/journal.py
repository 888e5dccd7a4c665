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
TEXT_USED = 6  #: bytes that count in the first area of text: printed, not yet sent
INTERRUPTED = 8  #: written by the slot: in which unit to raise KeyboardInterrupt; by the child: 0 once it has
TEXT_USED_2 = 9  #: the same for the second area
NEWEST = 10  #: which of the two areas holds the newest text
BEYOND = 11  #: bytes that the call has said beyond what goes out as it comes
READINGS = 12  #: grows each time that the child reads what was written past Python's streams
CUT = 13  #: written by the slot: in which unit no further call is to begin
ITEM = 14  #: index of the call that runs, or is about to
NUMBERS = 15

RECORDS_AT = 4096
RECORDS_END = RECORDS_AT + 64 * 1024
TEXT_AT = RECORDS_END
AREA = 64 * 1024  #: bytes of each of the two areas of text; when one is full, the newest text replaces the other's
SIZE = TEXT_AT + 2 * AREA
_USED_OF = (TEXT_USED, TEXT_USED_2)
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
        self._area, self._text_used = 0, 0

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._numbers, self._times, self._view):
            view.release()
        self._memory.close()
        os.close(self._descriptor)

    # ---- which unit ------------------------------------------------------------------------

    def begin_unit(self, sequence: int, now: float) -> None:
        """Make the journal ready for the next unit; the slot does so before it sends the unit."""
        for index in (USED, FIRST, SAID, TEXT_USED, TEXT_USED_2, BEYOND, ITEM):
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

    def awaits_interrupt(self, sequence: int) -> bool:
        """Whether KeyboardInterrupt is still to be raised in that unit."""
        return self._numbers[INTERRUPTED] == sequence

    def take_interrupt(self) -> bool:
        """Tell whether KeyboardInterrupt is to be raised in the unit that runs; it is told once."""
        is_due = self._numbers[INTERRUPTED] == self._numbers[SEQUENCE]
        if is_due:
            self._numbers[INTERRUPTED] = 0
        return is_due

    def cut(self, sequence: int) -> None:
        """Say that in that unit no further call is to begin."""
        self._numbers[CUT] = sequence

    def may_begin(self, item: int) -> bool:
        """Tell whether call *item* is to be begun; from then on it is the one that runs."""
        numbers = self._numbers
        numbers[ITEM] = item  # before the look: the slot looks here after it has said so
        return numbers[CUT] != numbers[SEQUENCE]

    @property
    def item(self) -> int:
        """Index of the call that runs, or is about to."""
        return self._numbers[ITEM]

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

    def append_text(self, stream: int, data: bytes, *, is_beyond: bool = False) -> None:
        """Write what was printed; of more than there is room for the newest. It only matters if the child crashes now.

        It *is_beyond* what goes out before the call has ended.
        """
        if is_beyond:
            self._numbers[BEYOND] += len(data)
        data = data[-(AREA - TEXT.size) :]
        if self._text_used + TEXT.size + len(data) > AREA:
            self._area, self._text_used = 1 - self._area, 0
            self._numbers[_USED_OF[self._area]] = 0
            self._numbers[NEWEST] = self._area
        start = TEXT_AT + self._area * AREA + self._text_used
        TEXT.pack_into(self._memory, start, stream, len(data))
        start += TEXT.size
        self._view[start : start + len(data)] = data
        self._text_used += TEXT.size + len(data)
        self._numbers[_USED_OF[self._area]] = self._text_used

    def forget_text(self, said: int) -> None:
        """Forget the text, which was sent; *said* messages went out in this unit."""
        self._text_used = 0
        self._numbers[TEXT_USED] = self._numbers[TEXT_USED_2] = self._numbers[BEYOND] = 0
        self._numbers[SAID] = said

    def note_said(self, said: int) -> None:
        """Note that *said* messages went out in this unit, and not the text."""
        self._numbers[SAID] = said

    def text_after(self, said: int) -> list[tuple[int, bytes]]:
        """Return what was printed and not sent; nothing if the slot heard more than *said* messages of it."""
        if self._numbers[SAID] != said:
            return []  # the child was killed between sending the text and forgetting it
        newest = min(self._numbers[NEWEST], 1)
        return [*self._texts_in(1 - newest), *self._texts_in(newest)]

    def left_out_before(self, pieces: list[tuple[int, bytes]]) -> int:
        """Return how many bytes are missing before *pieces*, which are what `text_after` returned."""
        return max(0, self._numbers[BEYOND] - sum(len(data) for _, data in pieces))

    def _texts_in(self, area: int) -> list[tuple[int, bytes]]:
        pieces = []
        at = TEXT_AT + area * AREA
        end = at + min(self._numbers[_USED_OF[area]], AREA)
        while at < end:
            stream, size = TEXT.unpack_from(self._memory, at)
            at += TEXT.size
            pieces.append((stream, bytes(self._view[at : at + size])))
            at += size
        return pieces

    def note_reading(self) -> None:
        """Note that the child reads what its C code and programs write."""
        self._numbers[READINGS] += 1

    @property
    def readings(self) -> int:
        """A number that grows as long as the child reads what its C code and programs write."""
        return self._numbers[READINGS]

    # ---- what Python says when it dies -----------------------------------------------------

    def crash_file(self) -> int:
        """Return the file descriptor to which a dying interpreter may write; it stays open."""
        os.lseek(self._descriptor, SIZE, os.SEEK_SET)
        return self._descriptor

    def crash_report(self) -> str:
        """Return what the interpreter wrote when it died."""
        return os.pread(self._descriptor, CRASH_LIMIT, SIZE).decode(errors="replace")
