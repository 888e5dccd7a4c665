"""Frames between a slot and its child."""

from __future__ import annotations

import io

import pytest

from dcengine.runner.wire import JOIN_BELOW, FrameReader, Kind, frame, read_frame

FRAMES = [(Kind.UNIT, b""), (Kind.LIVE, b"x" * 1000), (Kind.PART, b"y" * JOIN_BELOW), (Kind.REPORT, b"z")]


def stream() -> bytes:
    return b"".join(piece for kind, body in FRAMES for piece in frame(kind, body))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000, 10**6])
def test_frames_are_found_however_the_stream_is_cut(size: int) -> None:
    data, reader, found = stream(), FrameReader(), []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])

    assert found == FRAMES


def test_a_blocking_reader_finds_the_same_frames_and_then_the_end() -> None:
    blocking = io.BytesIO(stream())

    assert [read_frame(blocking) for _ in FRAMES] == FRAMES
    with pytest.raises(EOFError):
        read_frame(blocking)


def test_a_frame_that_is_cut_short_is_the_end_too() -> None:
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(frame(Kind.UNIT, b"whole")[0][:-1]))
