"""Messages of the old farm: whatever comes in is a message or is refused, and what goes out is read by old programs."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcengine_plugins.p2p import pictures, wire
from dcengine_plugins.p2p.farm import first_run, size_of_chunk
from dcengine_plugins.p2p.jobs import job_in
from dcengine_plugins.p2p.wire import Ended, Malformed, Room, Wire
from dcengine_plugins.render.old_farm import Order, safe_name
from tests.p2p import fakes

LIMIT = 1000


class Sink:
    """Where a wire writes to."""

    def __init__(self) -> None:
        self.written = b""

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += bytes(data)

    async def drain(self) -> None:
        pass


def wire_of(incoming: bytes, *, ends: bool = True, room: Room | None = None) -> Wire:
    reader = asyncio.StreamReader()
    reader.feed_data(incoming)
    if ends:
        reader.feed_eof()
    return Wire(reader, Sink(), room or Room())  # type: ignore[arg-type]


async def all_of(incoming: bytes) -> list[bytes]:
    """The messages in what comes in."""
    line, found = wire_of(incoming), []
    while True:
        try:
            found.append(await line.receive(LIMIT))
        except Ended:
            return found


@given(st.lists(st.binary(max_size=50), max_size=5))
async def test_messages_come_out_as_they_went_in(bodies: list[bytes]) -> None:
    assert await all_of(b"".join(map(wire.framed, bodies))) == bodies


@given(st.binary(max_size=3000))
async def test_no_bytes_at_all_bring_anything_but_messages_or_a_refusal(incoming: bytes) -> None:
    try:
        found = await all_of(incoming)
    except Malformed:
        return
    assert sum(wire.HEADER + len(body) for body in found) == len(incoming)


@pytest.mark.parametrize(
    "head",
    [b"-1", b"+5", b"1e9", b"0x10", b"1 2", b"", b"five", b"9" * 200, b"\xff", b"1001", b"5\n", "٥".encode()],
)
async def test_a_header_that_announces_nothing_sensible_is_refused(head: bytes) -> None:
    with pytest.raises(Malformed):
        await all_of(head.ljust(wire.HEADER) + b"x" * 50)


async def test_more_than_is_taken_is_refused_before_it_comes() -> None:
    with pytest.raises(Malformed, match=r"1,001 bytes is announced, 1,000 are taken"):
        await wire_of(wire.header(LIMIT + 1), ends=False).receive(LIMIT)


async def test_a_message_that_breaks_off_is_refused_and_its_room_is_free_again() -> None:
    room = Room(LIMIT)
    with pytest.raises(Malformed, match="breaks off"):
        await wire_of(wire.header(LIMIT) + b"x", room=room).receive(LIMIT)

    with pytest.raises(Malformed, match="all room"), room.of(1):
        await wire_of(wire.framed(b"x" * LIMIT), room=room).receive(LIMIT)
    assert await wire_of(wire.framed(b"x" * LIMIT), room=room).receive(LIMIT) == b"x" * LIMIT


@contextmanager
def quick(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> Iterator[None]:
    with monkeypatch.context() as patched:
        for name, value in seconds.items():
            patched.setattr(wire, name, value)
        yield


async def test_whoever_takes_his_time_with_a_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with quick(monkeypatch, HEADER_SECONDS=0.01, BODY_SECONDS=0.01):
        with pytest.raises(Malformed, match="header breaks off"):
            await wire_of(b"12", ends=False).receive(LIMIT)
        with pytest.raises(Malformed, match="too slowly"):
            await wire_of(wire.header(10) + b"x", ends=False).receive(LIMIT)


@pytest.mark.parametrize("id", [b"abcdefghij", b"0123456789", wire.framed(b'"abcdefghij"'), wire.framed(b"abcdefghij")])
async def test_an_id_comes_as_it_is_or_as_a_message(id: bytes) -> None:
    line = wire_of(wire.framed(b'"worker"') + id + wire.framed(b"{}"))

    role, name = await line.hello()

    assert (role, name) == ("worker", "0123456789" if b"0123" in id else "abcdefghij")
    assert await line.receive(LIMIT) == b"{}"


async def test_without_an_id_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    job = json.dumps({"file_name": "x" * 100}).encode()
    line = wire_of(wire.framed(b'"commander"') + wire.framed(job))

    assert await line.hello() == ("commander", "")
    assert await line.receive(LIMIT) == job
    with quick(monkeypatch, ID_SECONDS=0.01):
        assert await wire_of(wire.framed(b'"worker"'), ends=False).hello() == ("worker", "")


@pytest.mark.parametrize("hello", [b"{}", b"null", b"5", b"worker", b'"x', b"[" * 900])
async def test_a_hello_that_is_no_text_is_refused(hello: bytes) -> None:
    with pytest.raises(Malformed):
        await wire_of(wire.framed(hello)).hello()


@given(st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.integers() | st.lists(st.text())))
def test_no_object_makes_a_job_or_a_frame_but_one_that_is(fields: dict[str, Any]) -> None:
    for read in (lambda: wire.number_in(fields, "frame_num"), lambda: wire.bytes_in(fields, "frame")):
        with pytest.raises(Malformed):
            read()
    with pytest.raises(Malformed):
        job_in(json.dumps(fields).encode())


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), ("0007", 7), (7.0, 7)])
def test_numbers_may_be_texts(value: object, number: int) -> None:
    assert wire.number_in({"frame_num": value}, "frame_num") == number


@pytest.mark.parametrize("value", [True, 7.5, "7.5", "", "1" * 50, float("nan"), float("inf"), [7], {"n": 7}, None])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        wire.number_in({"frame_num": value}, "frame_num")


@pytest.mark.parametrize(
    "fields",
    [
        {"start_frame": 5, "end_frame": 4}, {"start_frame": -1}, {"end_frame": 10**9}, {"fps": 0}, {"fps": "many"},
        {"fps": float("inf")}, {"file": "!!!"}, {"file": "aGVsbG8="}, {"file": None}, {"start_frame": None},
    ],
)  # fmt: skip
def test_a_job_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    good = {"file_name": "a.blend", "file": "QkxFTkRFUi12MzA0RU5EQgAAAAA=", "start_frame": "1", "end_frame": 3}

    assert job_in(json.dumps(good).encode()).end == 3
    with pytest.raises(Malformed):
        job_in(json.dumps({**good, **fields}).encode())


@given(st.text() | st.sampled_from(["../../etc/passwd", "..\\..\\x.blend", "/", "..", ".blend", "a/b\0c.blend"]))
def test_no_name_of_a_file_leads_anywhere(name: str) -> None:
    made = safe_name(name)

    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert made.endswith(".blend")
    assert not made.startswith((".", "-"))
    assert len(made) < 80


# ---- pictures ------------------------------------------------------------------------------


def test_a_picture_is_taken_and_one_that_breaks_off_or_is_damaged_is_not() -> None:
    good = fakes.picture("red")
    pictures.check(good)

    for bad in (b"", b"GIF89a", good[:-1], good[:40], good + b"x", good[:50] + b"\0\0" + good[52:]):
        with pytest.raises(Malformed):
            pictures.check(bad)


@settings(max_examples=50)
@given(st.integers(0, 1 << 32 - 1), st.integers(0, 1 << 32 - 1))
def test_a_picture_larger_than_pictures_are_is_refused(width: int, height: int) -> None:
    good = fakes.picture("red")
    data = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + good[24:29]
    bomb = good[:12] + data + zlib.crc32(data).to_bytes(4, "big") + good[33:]

    if 1 <= width * height <= pictures.MOST_PIXELS:
        pictures.check(bomb)
    else:
        with pytest.raises(Malformed, match="pixels"):
            pictures.check(bomb)


# ---- chunks --------------------------------------------------------------------------------


def test_chunks_are_a_workers_share_of_what_is_left_and_get_smaller() -> None:
    assert size_of_chunk(1200, 30) == 40

    left, sizes = 1200, []
    while left:
        sizes.append(size_of_chunk(left, 30))
        left -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_a_chunk_is_worth_the_start_of_a_blender() -> None:
    assert size_of_chunk(24, 2, pace=0.05) == 24
    assert size_of_chunk(1200, 30, pace=0.5) == 40
    assert size_of_chunk(30, 30, pace=0.5) == 10
    assert size_of_chunk(30, 30, pace=600) == 1


def test_a_chunk_has_consecutive_frames_of_one_scene() -> None:
    orders: list[Any] = [(Order(frame, scene, "a.blend", 24, "c"), None) for frame, scene in
                         [(3, "x"), (4, "x"), (5, "y"), (7, "x")]]  # fmt: skip

    assert list(first_run(orders)) == [3, 4]
    assert list(first_run(orders[2:])) == [5]
    assert list(first_run([])) == []


# ---- what goes out -------------------------------------------------------------------------


@given(st.text(), st.binary(max_size=100))
async def test_what_is_sent_in_pieces_is_read_as_one_message(text: str, file: bytes) -> None:
    message = {"message": {"file_name": text, "file": "", "n": 1}, "more": text}
    head, tail = wire.around(message, "file")

    body = head + file.hex().encode() + tail

    assert json.loads(body) == {"message": {"file_name": text, "file": file.hex(), "n": 1}, "more": text}
