"""What running calls say: order, coalescing, progress; and the streams that take it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from dcengine.errors import PayloadTooLarge
from dcengine.runner import capture, live
from dcengine.runner.live import LIMIT, LiveChannel
from dcengine.runner.progress import progress, track
from dcengine.runner.tail import Tail, left_out_line
from dcengine.runner.units import Live
from dcengine.verbs import Progress


class Listener:
    def __init__(self) -> None:
        self.messages: list[Live] = []
        self.heard = threading.Condition()

    def __call__(self, message: Live) -> None:
        with self.heard:
            self.messages.append(message)
            self.heard.notify_all()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def channel(listener: Listener) -> Iterator[LiveChannel]:
    channel = LiveChannel(listener)
    channel.begin(7)
    yield channel
    channel.end()


def test_neighbours_are_joined_and_streams_keep_their_order(channel: LiveChannel, listener: Listener) -> None:
    for stream, data in [(0, b"a"), (0, b"b"), (1, b"c"), (0, b"d")]:
        channel.write(stream, data)

    assert channel.end() == 3
    assert [(message.number, message.kind, message.data) for message in listener.messages] == [
        (1, "stdout", b"ab"),
        (2, "stderr", b"c"),
        (3, "stdout", b"d"),
    ]
    assert {message.unit for message in listener.messages} == {7}


def test_text_is_sent_by_itself_after_a_moment(channel: LiveChannel, listener: Listener) -> None:
    channel.write(0, b"soon")

    with listener.heard:
        assert listener.heard.wait_for(lambda: listener.messages, timeout=10)


def test_much_text_is_sent_at_once_in_pieces_of_whole_characters(channel: LiveChannel, listener: Listener) -> None:
    text = "ä€😀" * LIMIT
    channel.write(0, text.encode())

    assert "".join(message.data.decode() for message in listener.messages) == text
    assert max(len(message.data) for message in listener.messages) <= LIMIT


def test_a_rich_message_is_sent_at_once_after_the_text_before_it(channel: LiveChannel, listener: Listener) -> None:
    channel.write(0, b"before")
    channel.show("display", b"{}")
    channel.show("display", b"[]")
    channel.write(0, b"after")

    assert [(message.kind, message.data) for message in listener.messages] == [
        ("stdout", b"before"),
        ("display", b"{}"),
        ("display", b"[]"),
    ]


def test_a_rich_message_above_the_limit_is_refused(channel: LiveChannel, listener: Listener) -> None:
    with pytest.raises(PayloadTooLarge, match="limit"):
        channel.show("display", bytes(live.SHOW_LIMIT + 1))

    assert listener.messages == []


def test_what_is_shown_while_a_message_goes_out_comes_after_it(listener: Listener) -> None:
    def emit(message: Live) -> None:
        if not listener.messages:
            channel.show("update", b"{}")  # as a signal handler of the user's may
        listener(message)

    channel = LiveChannel(emit)
    channel.begin(7)
    channel.show("display", b"{}")

    assert [(message.number, message.kind) for message in sorted(listener.messages, key=lambda m: m.number)] == [
        (1, "display"),
        (2, "update"),
    ]


def test_above_the_limit_head_and_tail_are_kept_and_what_is_left_out_is_told(
    channel: LiveChannel, listener: Listener
) -> None:
    channel.begin(8, limit=20)
    channel.write(0, b"0123456")
    channel.write(1, b"789ab")
    channel.flush()
    assert [message.data for message in listener.messages] == [b"0123456", b"789"]

    for number in range(5):
        channel.write(0, b"line %d\n" % number)
    channel.show("display", b"{}")
    channel.end_item()
    channel.write(0, b"next call")
    channel.end()

    text = b"".join(message.data for message in listener.messages if message.kind != "display")
    assert text == b"0123456789" + left_out_line(30) + b"line 4\nnext call"


def test_text_within_the_limit_is_whole(channel: LiveChannel, listener: Listener) -> None:
    channel.begin(8, limit=20)
    for number in range(10):
        channel.write(0, b"%d\n" % number)
    channel.end()

    assert b"".join(message.data for message in listener.messages) == b"".join(b"%d\n" % n for n in range(10))


def test_half_a_character_at_the_end_of_a_call_does_not_reach_the_next(
    channel: LiveChannel, listener: Listener
) -> None:
    channel.write(0, "ä".encode()[:1])
    channel.end_item()
    channel.write(0, b"next")
    channel.end()

    assert [message.data.decode() for message in listener.messages] == ["\ufffd", "next"]


def test_a_character_cut_in_two_is_put_together(channel: LiveChannel, listener: Listener) -> None:
    first, second = "ä".encode()[:1], "ä".encode()[1:]
    channel.write(0, first)
    channel.flush()
    channel.write(0, second)
    channel.write(0, b"\xff")
    channel.end()

    assert b"".join(message.data for message in listener.messages).decode() == "ä\ufffd"


def test_a_closed_channel_says_nothing(channel: LiveChannel, listener: Listener) -> None:
    channel.end()
    channel.write(0, b"late")
    channel.progress(Progress(1))
    channel.flush()

    assert listener.messages == []


def test_numbers_begin_anew_with_each_unit(channel: LiveChannel, listener: Listener) -> None:
    channel.write(0, b"one")
    channel.end()
    channel.begin(8)
    channel.write(0, b"two")

    assert channel.end() == 1
    assert [(message.unit, message.number) for message in listener.messages] == [(7, 1), (8, 1)]


def test_progress_that_came_too_soon_is_sent_later_by_itself(channel: LiveChannel, listener: Listener) -> None:
    for done in range(100):
        channel.progress(Progress(done))

    with listener.heard:
        assert listener.heard.wait_for(lambda: sent(listener)[-1:] == [99], timeout=10)
    assert len(listener.messages) < 10


def test_each_call_sends_its_last_progress(channel: LiveChannel, listener: Listener) -> None:
    for channel.item in (0, 1):
        for done in (1, 2, 3):
            channel.progress(Progress(done))
        channel.end_item()

    assert [(message.item, done) for message, done in zip(listener.messages, sent(listener), strict=True)][-1] == (1, 3)
    assert (0, 3) in [(message.item, done) for message, done in zip(listener.messages, sent(listener), strict=True)]


def test_track_counts_what_was_consumed(channel: LiveChannel, listener: Listener) -> None:
    said: list[Progress] = []
    channel.progress = said.append  # type: ignore[method-assign]
    context = threading.Thread(target=lambda: (live.use_in_this_context(channel), list(track("abc", text="t"))))
    context.start()
    context.join()

    assert said == [Progress(done, 3, "t") for done in (0, 1, 2, 3)]


def test_outside_a_job_progress_and_track_do_nothing() -> None:
    progress(1, 2, "x")

    assert live.current() is None
    assert list(track(iter([1, 2]))) == [1, 2]


def test_a_captured_stream_leaves_what_no_call_says_to_the_original() -> None:
    original = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = capture.CapturedStream(0, original)
    print("plain", file=stream)
    stream.writelines(["a", "b\n"])
    stream.flush()
    stream.buffer.write(b"binary\n")
    stream.close()

    assert original.buffer.getvalue() == b"plain\nab\nbinary\n"  # type: ignore[attr-defined]
    assert not stream.closed


def test_a_captured_stream_takes_only_text() -> None:
    with pytest.raises(TypeError, match="must be str, not bytes"):
        capture.CapturedStream(0, io.StringIO()).write(b"x")  # type: ignore[arg-type]


def test_a_tail_keeps_the_newest_bytes_of_both_streams() -> None:
    tail = Tail(12)
    for stream, text in [(0, b"first\n"), (1, b"err\n"), (0, b"a\n"), (0, b"b\n"), (1, b"c\n")]:
        tail.add(stream, text)

    assert tail.pieces() == [(1, b"err\n"), (0, b"a\nb\n"), (1, b"c\n")]
    assert tail.left_out == 6


def test_a_tail_without_a_line_begins_with_a_whole_character() -> None:
    tail = Tail(5)
    tail.add(0, "€€€".encode())

    assert tail.pieces() == [(0, "€".encode())]
    assert tail.left_out == 6


def test_a_tail_of_nothing_counts() -> None:
    tail = Tail(0)
    tail.add(0, b"text")

    assert (tail.pieces(), tail.left_out) == ([], 4)


def test_many_threads_lose_no_line(channel: LiveChannel, listener: Listener) -> None:
    def speak(name: int) -> None:
        for number in range(200):
            channel.write(0, f"{name}:{number}\n".encode())
            if number % 50 == 0:
                time.sleep(0)

    threads = [threading.Thread(target=speak, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.end()

    lines = b"".join(message.data for message in listener.messages).decode().splitlines()
    assert sorted(lines) == sorted(f"{name}:{number}" for name in range(4) for number in range(200))
    assert [message.number for message in listener.messages] == list(range(1, len(listener.messages) + 1))


def sent(listener: Listener) -> list[float]:
    """Return how much was done according to each progress message."""
    return [msgspec.msgpack.decode(message.data, type=Progress).done for message in listener.messages]
