"""Values that are put once, for many calls to refer to."""

from __future__ import annotations

import hashlib
from typing import Any

from . import codec, modules, references
from .buffered import Pieces
from .errors import BlobCorrupt, InvalidOption
from .handles import Link
from .verbs import StoredValue

READ_AT_ONCE = 16 << 20  #: bytes


def pieces_to_put(value: object) -> Pieces:
    """Return *value* packed, in pieces that are not copied; raises `NotPicklable`, `InvalidOption` for a reference."""
    modules.ship_local_modules_by_value()
    with references.collected() as found:
        pieces = codec.pieces_of(value, what="the value")
    if found:
        expected = "a value without such: put each part alone"
        raise InvalidOption("the value", "one with a reference or a handle inside", expected)
    return Pieces(pieces)


class Reference:
    """Stands in the arguments of calls for a value that was put; the function gets the value.

    Made by `dcengine.put`, found again by `dcengine.reference` from any process. It may stand by itself, in lists and
    dictionaries, in closures, in `functools.partial` and among the items of a map.
    """

    def __init__(self, link: Link, stored: StoredValue) -> None:
        self.digest = stored.digest  #: sha256 of the packed value, as hex
        self.size = stored.size  #: bytes of it
        self._link, self._stored = link, stored

    def __repr__(self) -> str:
        return f"<dcengine reference {self.digest[:12]}, {_shown(self.size)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        if references.is_collecting():
            return references.reduced(references.key_of_value(bytes.fromhex(self.digest)))
        return Reference, (self._link, self._stored)

    def result(self) -> Any:
        """Return the value; raises `ValueGone` once it was deleted or its time is over."""
        packed = bytearray(self.size)
        for at in range(0, self.size, READ_AT_ONCE):
            piece = self._link.call("read_value", self.digest, at=at, size=min(READ_AT_ONCE, self.size - at))
            packed[at : at + len(piece)] = piece
        if hashlib.sha256(packed).hexdigest() != self.digest:
            raise BlobCorrupt("the engine's place for values", self.digest, "its content is another than its name says")
        return codec.loads(packed)

    get = result

    def status(self) -> StoredValue:
        """Return what the engine knows of the value; raises `NotFound` if it is not kept."""
        stored: StoredValue = self._link.call("value", self.digest)
        return stored

    def delete(self) -> bool:
        """Keep the value no longer; calls that refer to it and have not begun fail. Return False if it was gone."""
        return bool(self._link.call("delete_value", self.digest))


def _shown(size: float) -> str:
    """Return *size* bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
