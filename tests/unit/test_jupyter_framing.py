from __future__ import annotations

import json
import struct

import pytest

from dcengine_kernel.endpoint.framing import Garbled, LegacyFraming, Message, V1Framing, framing_of
from tests.front_ends import V1, legacy_frame, read_legacy, read_v1, v1_frame

HEADER = json.dumps({"msg_id": "1", "msg_type": "execute_request", "session": "s", "version": "5.3"}).encode()
PARTS = [HEADER, b"{}", b'{"m": 1}', b'{"code": "1+1"}']


def said(message: Message) -> tuple[str, list[bytes]]:
    return message.channel, [bytes(part) for part in message.parts]


@pytest.mark.parametrize("buffers", [[], [b""], [b"\0\xff" * 1000, b"x"]])
def test_a_v1_frame_carries_channel_parts_and_buffers_both_ways(buffers: list[bytes]) -> None:
    frame = v1_frame(b"shell", *PARTS, *buffers)

    assert said(V1Framing().read(frame)) == ("shell", [*PARTS, *buffers])
    assert V1Framing().write(Message("shell", [*PARTS, *buffers])) == (frame, False)


def test_a_legacy_frame_without_buffers_is_text_that_says_what_the_header_says() -> None:
    data, is_text = LegacyFraming().write(Message("iopub", PARTS))

    message = read_legacy(data.decode())
    assert is_text
    assert message["channel"] == "iopub"
    assert (message["msg_id"], message["msg_type"]) == ("1", "execute_request")
    assert (message["metadata"], message["content"], message["buffers"]) == ({"m": 1}, {"code": "1+1"}, [])


def test_a_legacy_frame_with_buffers_is_binary() -> None:
    data, is_text = LegacyFraming().write(Message("iopub", [*PARTS, b"\0\1", b"", b"xyz"]))

    assert not is_text
    assert read_legacy(data)["buffers"] == [b"\0\1", b"", b"xyz"]


@pytest.mark.parametrize("buffers", [(), (b"\0\1", b"", b"xyz")])
def test_a_legacy_frame_is_read_as_it_was_written(buffers: tuple[bytes, ...]) -> None:
    document = b'{"header":%s,"parent_header":null,"metadata":{"m": 1},"content":{"code": "1+1"},"channel":"stdin"}'
    frame = legacy_frame(document % HEADER, *buffers) if buffers else (document % HEADER).decode()

    assert said(LegacyFraming().read(frame)) == ("stdin", [*PARTS, *buffers])


def test_a_legacy_frame_without_a_channel_is_for_the_shell() -> None:
    assert LegacyFraming().read(b'{"header":%s,"content":{}}'.decode() % HEADER.decode()).channel == "shell"


def test_a_script_that_names_no_version_speaks_one_that_kernels_read() -> None:
    frame = '{"header":{"msg_id":"1","msg_type":"execute_request","own":[1]%s},"content":{}}'
    for given, version in (("", "5.0"), (',"version":null', "5.0"), (',"version":"5.3"', "5.3")):
        header = json.loads(bytes(LegacyFraming().read(frame % given).parts[0]))

        assert header == {"msg_id": "1", "msg_type": "execute_request", "own": [1], "version": version}


GARBLED_V1 = {
    "text": "{}",
    "empty": b"",
    "short": b"\0\0\0",
    "no offsets": struct.pack("<Q", 0),
    "more offsets than bytes": struct.pack("<Q", 2**60),
    "too few parts": v1_frame(b"shell", HEADER),
    "offsets that go back": struct.pack("<7Q", 6, 56, 60, 50, 70, 80, 90) + b" " * 60,
    "offsets that lead out of it": struct.pack("<7Q", 6, 56, 60, 70, 80, 90, 2**63) + b" " * 60,
    "offsets that lead into themselves": struct.pack("<7Q", 6, 0, 8, 16, 24, 32, 40) + b" " * 60,
    "a channel that is no text": v1_frame(b"\xff\xfe", *PARTS),
    "a channel of the kernel's own": v1_frame(b"iopub", *PARTS),
    "a header that is no JSON": v1_frame(b"shell", b"moon", *PARTS[1:]),
    "a header without a type": v1_frame(b"shell", b'{"msg_id": "1"}', *PARTS[1:]),
    "a header as deep as can be": v1_frame(b"shell", b'{"msg_id":' + b"[" * 10**6, *PARTS[1:]),
    "a content that is no object": v1_frame(b"shell", *PARTS[:3], b"[]"),
}


@pytest.mark.parametrize("frame", GARBLED_V1.values(), ids=GARBLED_V1)
def test_what_is_no_v1_frame_is_refused(frame: str | bytes) -> None:
    with pytest.raises(Garbled):
        V1Framing().read(frame)


GARBLED_LEGACY = {
    "no JSON": "moon",
    "another JSON": "[1, 2]",
    "no header": '{"content": {}}',
    "a header that is none": '{"header": [], "content": {}}',
    "deep": "[" * 10**6,
    "a channel there is not": '{"header": {"msg_id": "1", "msg_type": "x"}, "content": {}, "channel": "moon"}',
    "empty": b"",
    "no pieces": struct.pack("!II", 0, 0),
    "more pieces than bytes": struct.pack("!II", 2**31, 0),
    "offsets that lead out of it": struct.pack("!III", 2, 12, 2**31) + b"{}",
    "offsets that go back": struct.pack("!III", 2, 13, 12) + b"{}",
    "a first piece that is no JSON": legacy_frame(b"\xff", b"x"),
}


@pytest.mark.parametrize("frame", GARBLED_LEGACY.values(), ids=GARBLED_LEGACY)
def test_what_is_no_legacy_frame_is_refused(frame: str | bytes) -> None:
    with pytest.raises(Garbled):
        LegacyFraming().read(frame)


def test_the_subprotocol_decides_the_framing() -> None:
    assert isinstance(framing_of(V1), V1Framing)
    assert isinstance(framing_of(None), LegacyFraming)
    assert read_v1(v1_frame(b"shell", *PARTS))["content"] == {"code": "1+1"}
