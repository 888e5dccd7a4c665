"""What a packed value looks like to people: read without being unpickled, so that nothing in it can run.

Of pickles the instructions are read that put plain data together: texts, numbers, bytes, lists, tuples, dicts, sets.
Whatever calls something is shown by its name. What is meant by them: CPython, `Lib/pickletools.py`.
"""

from __future__ import annotations

import json
import pickletools
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from . import grids
from .buffered import BUFFERED, COUNT, SECTION
from .codec import JSON, keys_in, unpack, unpack_failure
from .files import HEAD_SIZE, TAILS, place_of
from .references import REFERRING

LOOKED_AT = 64 * 1024  #: bytes of a pickle, beyond which only plain bytes and texts are told
LARGEST = 16 << 20  #: bytes, beyond which nothing is looked at
TEXT_LIMIT = 4000  #: characters
DEPTH_LIMIT = 20
MOST_STEPS = 20_000
PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}

MOVIES = frozenset({b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash"})

Kind = Literal["json", "python", "picture", "movie", "bytes", "object", "failure", "nothing"]


class Glance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a packed value looks like."""

    kind: Kind
    text: str = ""  #: its JSON or Python form, the sentence of a failure; for an object its class
    size: int = 0  #: bytes, packed
    is_cut: bool = False  #: there is more of it than *text*
    media: str = ""  #: of a picture or a movie
    traceback: str = ""  #: of a failure
    table: grids.Grid | None = None  #: the same as a table, where it is a list of rows


class Opaque:
    """Something that only running code could make."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


def glance(data: bytes | None) -> Glance:
    """Return what the packed value in *data* looks like; None for one that is not there (yet, or any more)."""
    if not data:
        return Glance(kind="nothing")
    if data[:1] == JSON:
        text = data[1 : 1 + 4 * TEXT_LIMIT].decode("utf-8", "replace")
        return _of_text("json", text, len(data), is_cut=len(data) > 4 * TEXT_LIMIT, table=_json_table(data))
    try:
        found = _read(data)
    except Exception:  # whatever is wrong with it: it is only looked at
        return Glance(kind="object", text="something that cannot be read", size=len(data))
    if isinstance(found, bytes):
        return _of_bytes(media_of(found), len(found), len(data))
    if isinstance(found, Opaque):
        return Glance(kind="object", text=found.name, size=len(data))
    return _of_text("python", _shown(found), len(data), table=grids.grid_of(found, _shown, _pairs_of))


def glance_at_failure(data: bytes | None) -> Glance:
    """Return what the packed `codec.Failure` in *data* says."""
    if not data:
        return Glance(kind="nothing")
    failure = unpack_failure(data)
    return Glance(kind="failure", text=failure.sentence, size=len(data), traceback=failure.traceback)


def bytes_in(data: bytes) -> bytes | None:
    """Return the bytes, the text or the JSON text that the packed value in *data* is, None for another value."""
    if data[:1] == JSON:
        return data[1:]
    place = place_of(data[:HEAD_SIZE])
    if place is not None and data[sum(place) :] in TAILS:  # however large it is
        return data[place[0] : sum(place)]
    try:
        found = _read(data)
    except Exception:
        return None
    return found.encode(errors="replace") if isinstance(found, str) else found if isinstance(found, bytes) else None


def media_of(content: bytes) -> str:
    """Return the media type of a picture or a movie by how it begins, "" for anything else."""
    if content[4:8] == b"ftyp" and content[8:12] in MOVIES:
        return "video/mp4"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media for magic, media in PICTURES.items() if content.startswith(magic)), "")


def glance_at_beginning(head: bytes, size: int) -> Glance:
    """Return what a value of *size* bytes looks like that begins by *head*: of bytes, what they are."""
    place = place_of(head[:HEAD_SIZE])
    if place is None:
        return Glance(kind="object", text="a large value", size=size)
    return _of_bytes(media_of(head[place[0] :]), place[1], size)


def _of_bytes(media: str, count: int, size: int) -> Glance:
    kind: Kind = "movie" if media.startswith("video/") else "picture" if media else "bytes"
    return Glance(kind=kind, text=f"{count:,} bytes", size=size, media=media)


def _of_text(kind: Kind, text: str, size: int, *, is_cut: bool = False, table: grids.Grid | None = None) -> Glance:
    is_cut = is_cut or len(text) > TEXT_LIMIT
    return Glance(kind=kind, text=text[:TEXT_LIMIT], size=size, is_cut=is_cut, table=table)


def _json_table(data: bytes) -> grids.Grid | None:
    if data[1:2] not in (b"[", b"{") or len(data) > grids.LARGEST:
        return None
    try:
        return grids.grid_of(msgspec.json.decode(data[1:]), lambda value: json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):  # it is only looked at
        return None


def _pairs_of(value: Any) -> list[tuple[Any, Any]] | None:
    return list(value) if isinstance(value, _Pairs) else None


def _read(data: bytes) -> Any:
    if len(data) > LARGEST:
        return Opaque("a large value")
    if data[:1] == REFERRING:
        keys = keys_in(data)
        return _read(unpack(data[1:])[-1]) if not keys else Opaque(f"refers to {len(keys)} value(s) elsewhere")
    if data[:1] == BUFFERED:
        start, size, _ = SECTION.unpack_from(data, COUNT.size)
        return _read(data[start : start + size])
    return _Reader().value(data)


# ---- pickles -------------------------------------------------------------------------------


class _Reader:
    """Puts together what a pickle says, as far as that is plain data."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def value(self, data: bytes) -> Any:
        """Return the value of the pickle in *data*: plain data, or `Opaque`."""
        is_large = len(data) > LOOKED_AT
        for step, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP":
                return self._stack[-1]
            if is_large and step > 6:  # more than one large text or bytes
                return Opaque("a large value")
            if step > MOST_STEPS:
                return Opaque("a long value")
            self._do(opcode.name, argument)
        raise ValueError("a pickle without an end")

    def _do(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        else:
            self._put_together(name, argument)

    def _put_together(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("TUPLE", "LIST", "DICT", "FROZENSET"):
            stack.append(_MADE[name](self._marked()))
        elif name in _TUPLES:
            parts = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(parts[::-1]))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._marked()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._marked()
            if isinstance(stack[-1], _Pairs):
                stack[-1].extend(zip(items[::2], items[1::2], strict=True))
        elif name == "ADDITEMS":
            items = self._marked()
            if isinstance(stack[-1], _Members):
                stack[-1].extend(items)
        else:
            self._call(name, argument)

    def _call(self, name: str, argument: Any) -> None:
        """Take note of what would run: only its name is of interest."""
        stack = self._stack
        if name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(Opaque(f"{module}.{attribute}"))
        elif name in ("GLOBAL", "INST"):
            stack.append(Opaque(str(argument).replace(" ", ".")))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.pop()
            called = stack.pop()
            stack.append(called if isinstance(called, Opaque) else Opaque("an object"))
        elif name == "NEWOBJ_EX":
            del stack[-2:]
        elif name == "BUILD":
            stack.pop()
        elif name == "NEXT_BUFFER":
            stack.append(Opaque("a buffer"))
        elif name not in ("READONLY_BUFFER",):
            raise ValueError(f"an instruction that is not known: {name}")

    def _marked(self) -> list[Any]:
        """Take all above the last mark from the stack."""
        begin = self._marks.pop()
        found = self._stack[begin:]
        del self._stack[begin:]
        return found


class _Pairs(list[Any]):
    """A dict, as pairs: its keys may be anything here."""


class _Members(list[Any]):
    """A set."""


_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": _Pairs, "EMPTY_SET": _Members,
}  # fmt: skip
_LITERALS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MADE: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple, "LIST": list, "FROZENSET": _Members,
    "DICT": lambda items: _Pairs(zip(items[::2], items[1::2], strict=True)),
}  # fmt: skip


# ---- how it is shown -----------------------------------------------------------------------


def _shown(value: Any) -> str:
    """Return the Python form of plain data, no longer than it has to be."""
    parts: list[str] = []
    _show(value, parts, [TEXT_LIMIT + 1], 0)
    return "".join(parts)


def _show(value: Any, parts: list[str], left: list[int], depth: int) -> None:
    def say(text: str) -> None:
        parts.append(text)
        left[0] -= len(text)

    if left[0] <= 0:
        return
    if depth > DEPTH_LIMIT:
        say("...")
    elif isinstance(value, (list, tuple)):
        begin, end = _BRACKETS.get(type(value), ("[", "]"))
        say(begin)
        for n, each in enumerate(value):
            say(", " if n else "")
            if isinstance(value, _Pairs):
                _show(each[0], parts, left, depth + 1)
                say(": ")
                each = each[1]
            _show(each, parts, left, depth + 1)
            if left[0] <= 0:
                return
        say(",)" if end == ")" and len(value) == 1 else end)
    elif isinstance(value, str):
        say(json.dumps(value[: left[0]], ensure_ascii=False))
    elif isinstance(value, (bytes, bytearray)):
        say(repr(bytes(value[:64]))[:-1] + ("...'" if len(value) > 64 else "'"))
    elif isinstance(value, int) and value.bit_length() > 4000:
        say("a large number")
    else:
        say(repr(value))


_BRACKETS = {tuple: ("(", ")"), _Pairs: ("{", "}"), _Members: ("{", "}")}
