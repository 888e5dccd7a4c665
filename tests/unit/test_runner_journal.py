"""The memory that a child shares with its slot."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dcengine.runner.journal import Journal, shared_memory
from dcengine.runner.units import Ending


@pytest.fixture
def sides() -> Iterator[tuple[Journal, Journal]]:
    """Give the journal as the slot and as the child see it."""
    memory = shared_memory()
    slot, child = Journal(memory), Journal(memory)
    os.close(memory)
    slot.begin_unit(1, 12.5)
    child.restart(0)
    child.forget_text(0)
    yield slot, child
    slot.close()
    child.close()


def test_the_slot_reads_what_the_child_wrote(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    child.append(Ending.SUCCEEDED, b"one")
    child.append(Ending.RAISED, b"")

    assert slot.records_from(0) == [(Ending.SUCCEEDED, b"one"), (Ending.RAISED, b"")]
    assert slot.began == 12.5


def test_records_that_were_sent_already_are_not_read_again(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    child.append(Ending.SUCCEEDED, b"sent, not yet forgotten")
    child.append(Ending.SUCCEEDED, b"two")

    assert slot.records_from(1) == [(Ending.SUCCEEDED, b"two")]

    child.restart(2)
    child.append(Ending.SUCCEEDED, b"three")

    assert slot.records_from(2) == [(Ending.SUCCEEDED, b"three")]


def test_a_full_journal_takes_no_more_until_it_is_restarted(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    written = 0
    while child.append(Ending.SUCCEEDED, b"x" * 1000):
        written += 1

    assert written > 60
    assert slot.records_from(0) == [(Ending.SUCCEEDED, b"x" * 1000)] * written
    assert not child.append(Ending.SUCCEEDED, b"x" * 100_000)

    child.restart(written)

    assert child.append(Ending.SUCCEEDED, b"x" * 1000)


def test_only_the_unit_that_is_asked_to_stop_is_asked(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    slot.ask_to_stop(1)

    assert child.is_asked
    assert child.signals == 1

    slot.begin_unit(2, 0.0)

    assert not child.is_asked


def test_text_is_read_until_it_is_sent(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    child.append_text(0, b"out")
    child.append_text(1, b"error")

    assert slot.text_after(0) == [(0, b"out"), (1, b"error")]
    assert slot.text_after(2) == []  # they were heard, the child only died before it could forget them

    child.forget_text(2)
    child.append_text(0, b"later")

    assert slot.text_after(2) == [(0, b"later")]


def test_of_more_text_than_there_is_room_for_the_newest_is_read(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    for number in range(20_000):
        child.append_text(number % 2, b"%06d\n" % number, is_beyond=True)

    pieces = slot.text_after(0)
    assert [data for _, data in pieces] == [b"%06d\n" % number for number in range(20_000 - len(pieces), 20_000)]
    assert len(pieces) > 64 * 1024 // 20
    assert slot.left_out_before(pieces) == 7 * (20_000 - len(pieces))

    child.note_said(3)
    assert slot.text_after(3) == pieces
    child.forget_text(4)
    assert slot.text_after(4) == []
    assert slot.left_out_before([]) == 0


def test_of_a_text_larger_than_the_room_the_end_is_read(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    child.append_text(0, b"x" * 100_000 + b"end")

    ((_, text),) = slot.text_after(0)
    assert text.endswith(b"end")
    assert 60_000 < len(text) < 70_000


def test_a_crash_report_is_what_was_written_behind_the_memory(sides: tuple[Journal, Journal]) -> None:
    slot, child = sides
    assert slot.crash_report() == ""

    os.write(child.crash_file(), b"Fatal Python error")

    assert slot.crash_report() == "Fatal Python error"
