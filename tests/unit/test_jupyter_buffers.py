from __future__ import annotations

import json
from typing import Any

from dcengine_kernel.endpoint.buffers import ENTRY_BYTES, Buffer, LeftOut
from dcengine_kernel.endpoint.framing import Message


def message(kind: str, text: str = "", *, channel: str = "iopub", parent: str = "p") -> Message:
    header = {"msg_id": f"{kind} {text}", "msg_type": kind}
    return Message(channel, [json.dumps(part).encode() for part in (header, {"msg_id": parent}, {}, {"text": text})])


def taken(buffer: Buffer) -> list[Any]:
    found = []
    while (next := buffer.take()) is not None:
        found.append(next if isinstance(next, LeftOut) else json.loads(next.parts[0])["msg_id"])
    return found


def test_messages_come_out_in_the_order_in_which_they_went_in() -> None:
    buffer = Buffer()
    for number in range(5):
        buffer.put(message("stream", str(number)))

    assert taken(buffer) == [f"stream {number}" for number in range(5)]
    assert (len(buffer), buffer.bytes) == (0, 0)


def test_what_is_kept_shrinks_at_once_when_less_may_be() -> None:
    buffer = Buffer()
    for number in range(20):
        buffer.put(message("stream", str(number)))

    buffer.keep_at_most(5 * ENTRY_BYTES)

    assert buffer.bytes <= 5 * ENTRY_BYTES
    told, *newest = taken(buffer)
    assert isinstance(told, LeftOut)
    assert newest[-1] == "stream 19"


def test_what_was_taken_in_vain_comes_out_first_again() -> None:
    buffer = Buffer()
    buffer.put(message("stream", "a"))
    first = buffer.take()
    assert isinstance(first, Message)
    buffer.put(message("stream", "b"))
    buffer.put_back(first)

    assert taken(buffer) == ["stream a", "stream b"]
    assert buffer.bytes == 0


def test_too_many_messages_push_the_oldest_output_out_and_it_is_told_where_it_stood() -> None:
    buffer = Buffer(most_messages=3)
    for number in range(6):
        buffer.put(message("stream", str(number), parent=f"cell {number}"))

    left_out, *rest = taken(buffer)
    assert left_out.messages == 3
    assert json.loads(left_out.parent) == {"msg_id": "cell 2"}
    assert rest == ["stream 3", "stream 4", "stream 5"]


def test_too_many_bytes_do_as_well_and_are_counted() -> None:
    buffer = Buffer(most_bytes=3 * (2000 + ENTRY_BYTES))
    for _ in range(9):
        buffer.put(message("display_data", "x" * 1900))

    assert buffer.bytes <= 3 * (2000 + ENTRY_BYTES)
    left_out, *rest = taken(buffer)
    assert left_out.messages + len(rest) == 9
    assert left_out.bytes > left_out.messages * 1900


def test_replies_and_states_stay_when_output_goes() -> None:
    buffer = Buffer(most_messages=4)
    buffer.put(message("status", "busy"))
    buffer.put(message("stream", "1"))
    buffer.put(message("execute_reply", channel="shell"))
    for number in range(2, 9):
        buffer.put(message("stream", str(number)))
    buffer.put(message("status", "idle"))

    found = taken(buffer)
    assert found[:2] == ["status busy", "execute_reply "]
    assert isinstance(found[2], LeftOut)
    assert found[3:] == ["stream 8", "status idle"]


def test_even_replies_alone_stay_within_the_limits() -> None:
    buffer = Buffer(most_messages=10)
    for number in range(100):
        buffer.put(message("execute_reply", str(number), channel="shell"))

    assert len(buffer) <= 11


def test_one_message_above_the_limit_stays_until_the_next_comes() -> None:
    buffer = Buffer(most_bytes=1000)
    buffer.put(message("display_data", "x" * 5000))
    assert len(buffer) == 1

    buffer.put(message("stream", "y"))
    left_out, rest = taken(buffer)
    assert left_out.messages == 1
    assert rest == "stream y"
