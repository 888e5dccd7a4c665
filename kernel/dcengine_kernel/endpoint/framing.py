"""Websocket frames to the frames of a kernel's sockets and back, in Jupyter's two framings. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import msgspec

V1 = "v1.kernel.websocket.jupyter.org"  #: the subprotocol of clients that know the newer framing
PARTS = 4  #: of a message at least: header, parent header, metadata, content; its buffers follow
MOST_PARTS = 100_000
VERSION = "5.0"  #: of the protocol, where a script does not say which it speaks
IN_CHANNELS = frozenset({"shell", "control", "stdin"})  #: on which front ends speak

Part = bytes | memoryview


class Garbled(ValueError):
    """A frame that is no message."""


class Header(msgspec.Struct):
    """What is looked at of a message's header, the rest travels as it is."""

    msg_id: str
    msg_type: str
    session: str = ""
    version: str | None = None


class Message(NamedTuple):
    """A message of a kernel's channel, as it travels: header, parent header, metadata, content, then buffers."""

    channel: str
    parts: Sequence[Part]


class Payload(NamedTuple):
    """A frame for a websocket."""

    data: bytes
    is_text: bool = False


class Framing(Protocol):
    """How messages and the frames of a websocket become each other."""

    def read(self, frame: str | bytes) -> Message:
        """Return the message in *frame*; raises `Garbled`."""
        ...

    def write(self, message: Message) -> Payload:
        """Return *message* as a frame."""
        ...


_HEADER = msgspec.json.Decoder(Header)


def header_of(parts: Sequence[Part]) -> Header:
    """Return the header of a message; raises `Garbled`."""
    try:
        return _HEADER.decode(parts[0])
    except (ValueError, RecursionError) as error:
        raise Garbled(f"its header is none: {error}") from None


def checked(channel: str, parts: Sequence[Part]) -> Message:
    """Return the message of *parts* if a kernel can read it; raises `Garbled`."""
    if channel not in IN_CHANNELS:
        raise Garbled(f"{channel[:50]!a} is no channel to speak on; those are {', '.join(sorted(IN_CHANNELS))}")
    header_of(parts)
    for name, part in zip(("parent header", "metadata", "content"), parts[1:PARTS], strict=True):
        if not (part[:1] == b"{" and part[-1:] == b"}"):  # all of it is the kernel's to read
            raise Garbled(f"its {name} is no JSON object")
    return Message(channel, parts)


class V1Framing:
    """Binary frames, in which a message stands part by part, as on the kernel's sockets."""

    def read(self, frame: str | bytes) -> Message:
        if isinstance(frame, str):
            raise Garbled(f"text, where {V1} has binary frames")
        view = memoryview(frame)
        ends = _offsets(frame)
        parts = [view[start:end] for start, end in pairwise(ends)]
        try:
            channel = bytes(parts[0]).decode()
        except UnicodeDecodeError:
            raise Garbled("its channel is no text") from None
        return checked(channel, parts[1:])

    def write(self, message: Message) -> Payload:
        channel = message.channel.encode()
        lengths = [len(channel), *map(len, message.parts)]
        place = 8 * (len(lengths) + 2)
        offsets = [place]
        for length in lengths:
            place += length
            offsets.append(place)
        head = struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets)
        return Payload(b"".join((head, channel, *message.parts)))


def _offsets(frame: bytes) -> tuple[int, ...]:
    """Return where the channel and the parts of *frame* begin, and where the last ends; raises `Garbled`."""
    if len(frame) < 8:
        raise Garbled("it is too short")
    (count,) = struct.unpack_from("<Q", frame)
    if not PARTS + 2 <= count <= MOST_PARTS or 8 * (count + 1) > len(frame):
        raise Garbled(f"it should have {PARTS + 2} offsets or more, and says {count}")
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    ordered = all(start <= end for start, end in pairwise(offsets))
    if not ordered or offsets[0] < 8 * (count + 1) or offsets[-1] > len(frame):
        raise Garbled("its offsets lead out of it")
    return offsets


class _Legacy(msgspec.Struct):
    header: msgspec.Raw
    content: msgspec.Raw
    parent_header: msgspec.Raw = msgspec.Raw(b"{}")
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    channel: str = "shell"


_LEGACY = msgspec.json.Decoder(_Legacy)


class LegacyFraming:
    """One JSON document for a message; with buffers, a binary frame of which it is the first piece."""

    def read(self, frame: str | bytes) -> Message:
        if isinstance(frame, str):
            return self._message(frame, [])
        pieces = _pieces(frame)
        return self._message(pieces[0], pieces[1:])

    def _message(self, document: str | Part, buffers: list[memoryview]) -> Message:
        try:
            found = _LEGACY.decode(document)
        except (ValueError, RecursionError) as error:
            raise Garbled(f"it is no message in JSON: {error}") from None
        parts: list[Part] = [bytes(part) for part in (found.header, found.parent_header, found.metadata, found.content)]
        # Some clients send null for what is empty.
        filled = [b"{}" if part == b"null" else part for part in parts]
        return checked(found.channel or "shell", [_versioned(filled[0]), *filled[1:], *buffers])

    def write(self, message: Message) -> Payload:
        header, parent, metadata, content, *buffers = message.parts
        known = header_of(message.parts)
        names = msgspec.json.encode({"msg_id": known.msg_id, "msg_type": known.msg_type, "channel": message.channel})
        document = b"".join(
            (names[:-1], b',"header":', header, b',"parent_header":', parent, b',"metadata":', metadata,
             b',"content":', content, b"}" if buffers else b',"buffers":[]}')
        )  # fmt: skip
        if not buffers:
            return Payload(document, is_text=True)
        lengths = [len(document), *map(len, buffers)]
        place = 4 * (len(lengths) + 1)
        offsets = []
        for length in lengths:
            offsets.append(place)
            place += length
        return Payload(b"".join((struct.pack(f"!{len(lengths) + 1}I", len(lengths), *offsets), document, *buffers)))


def _versioned(header: Part) -> Part:
    """Return *header* with a version: without one a kernel takes the message for one of a protocol long gone."""
    if header_of([header]).version:
        return header
    return msgspec.json.encode({**msgspec.json.decode(header), "version": VERSION})


def _pieces(frame: bytes) -> list[memoryview]:
    """Return the pieces of a binary *frame*; raises `Garbled`."""
    if len(frame) < 8:
        raise Garbled("it is too short")
    (count,) = struct.unpack_from("!I", frame)
    if not 1 <= count <= MOST_PARTS or 4 * (count + 1) > len(frame):
        raise Garbled(f"it says that it has {count} pieces")
    ends = [*struct.unpack_from(f"!{count}I", frame, 4), len(frame)]
    if ends[0] < 4 * (count + 1) or not all(start <= end for start, end in pairwise(ends)):
        raise Garbled("its offsets lead out of it")
    view = memoryview(frame)
    return [view[start:end] for start, end in pairwise(ends)]


def framing_of(subprotocol: str | None) -> Framing:
    """Return how a websocket with *subprotocol* speaks."""
    return V1Framing() if subprotocol == V1 else LegacyFraming()


def as_parts(header: dict[str, Any], parent: Part, content: dict[str, Any]) -> list[Part]:
    """Return a message of ours as it travels."""
    return [msgspec.json.encode(header), parent, b"{}", msgspec.json.encode(content)]
