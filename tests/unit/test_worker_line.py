"""What a worker says to the process that keeps its leases."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from dcengine.worker.line import Line
from tests.engines import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot tell whether a pipe has room")


@pytest.fixture
def ends() -> Iterator[tuple[int, IO[bytes]]]:
    """The ends of a pipe, to read and to write."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(writing, "wb", buffering=0, closefd=False) as pipe:
        yield reading, pipe
    for descriptor in (reading, writing):
        os.close(descriptor)


@pytest.fixture
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another thread held Python's lock all the time."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)


@pytest.mark.usefixtures("without_threads")
def test_what_is_said_is_written_when_the_sayer_goes_on(ends: tuple[int, IO[bytes]]) -> None:
    reading, pipe = ends
    line = Line(pipe)
    line.say(b"hold\n")
    line.say(b"x" * 30_000 + b"\n")  # more than can be written in one go
    assert os.read(reading, 1 << 16) == b"hold\n" + b"x" * 30_000 + b"\n"


@pytest.mark.usefixtures("without_threads")
def test_nobody_waits_for_one_who_does_not_listen(ends: tuple[int, IO[bytes]]) -> None:
    line = Line(ends[1])
    for _ in range(10):
        line.say(b"x" * 50_000)


def test_what_does_not_fit_follows_in_order_and_then_the_end(ends: tuple[int, IO[bytes]]) -> None:
    reading, pipe = ends
    line = Line(pipe)
    said = [f"{n} {'x' * 9_000}\n".encode() for n in range(100)]
    for each in said:
        line.say(each)
    line.hang_up()

    heard = bytearray()

    def hear() -> int:
        try:
            heard.extend(os.read(reading, 1 << 16))
        except BlockingIOError:
            pass
        return heard.count(b"\n")

    eventually(lambda: hear() == len(said))
    assert bytes(heard) == b"".join(said)
    eventually(lambda: pipe.closed)


def test_one_who_has_gone_is_no_trouble() -> None:
    reading, writing = os.pipe()
    pipe = open(writing, "wb", buffering=0)  # noqa: SIM115 - the line closes it
    line = Line(pipe)
    os.close(reading)
    line.say(b"is anybody there?\n")
    line.hang_up()
    eventually(lambda: pipe.closed)
