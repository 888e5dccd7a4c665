"""Values that calls refer to: the files a worker keeps them in, and what becomes of them where the calls run."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import secrets
import struct
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import references
from ..buffered import Packed, Piece
from ..codec import exception_from, loads, unpack_failure
from ..errors import DcengineError
from .units import Unit

LOADED_BYTES = 512 << 20  #: of packed values that one child keeps loaded
MAPPED_FROM = 1 << 20  #: bytes of a file that is mapped instead of read: each mapping takes a file descriptor
GRACE_SECONDS = 600.0  #: for which a value that came for a call is kept though nobody has used it yet
PIECE = 4 << 20  #: bytes that are hashed and written at once
HASHING = 4  #: pieces written before they are hashed


class UnknownValues(LookupError):
    """A unit came that refers to values which are not here (any more): they have to be sent before it."""

    def __init__(self, keys: list[bytes]) -> None:
        super().__init__(keys)
        self.keys = keys


# ---- in the worker's process ---------------------------------------------------------------


class Kept:
    """A value in a file."""

    def __init__(self, path: Path, size: int, *, is_own: bool, is_only: bool = False) -> None:
        self.path, self.size = path, size
        self.is_own = is_own  #: it is ours to remove
        self.is_only = is_only  #: there is no other
        self.since = time.monotonic()
        self.is_used = is_only


class ValueTable:
    """Values by their keys, in files of *folder* or wherever they lie on this machine.

    Of its own files it keeps *limit* bytes, and above that what running calls need. What can be had again goes first,
    and of that what was not used for longest.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._limit = limit
        self._size = 0
        self._values: OrderedDict[bytes, Kept] = OrderedDict()
        self._pins: Counter[bytes] = Counter()

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def add_file(self, key: bytes, path: str, size: int) -> bool:
        """Take note of a value in a file that others look after; return whether it is there."""
        try:
            is_there = os.stat(path).st_size == size and os.access(path, os.R_OK)
        except OSError:
            return False
        if is_there:
            self._put(key, Kept(Path(path), size, is_own=False))
        return is_there

    def new_file(self, key: bytes) -> Path:
        """Return the file that the value of *key* is to be written into, before it is added."""
        return Path(self.spool()) / key.hex()

    def add_own(self, key: bytes, size: int) -> None:
        """Take note that the value of *key* is in its file now, all of it."""
        self._put(key, Kept(self.folder / key.hex(), size, is_own=True))

    def add_name(self, key: bytes, other: bytes) -> bool:
        """Let *key* mean what *other* does; return whether that is here."""
        kept = self._values.get(other)
        if kept is not None:
            self._put(key, Kept(kept.path, kept.size, is_own=False))
        return kept is not None

    def adopt(self, key: bytes, name: str, size: int) -> None:
        """Keep the file called *name*, which a call here has written, as the value of *key*; nobody else has it."""
        path = self.folder / key.hex()
        (self.folder / name).replace(path)
        self._put(key, Kept(path, size, is_own=True, is_only=True))

    def read(self, key: bytes, at: int, size: int) -> bytes | None:
        """Return *size* bytes of a value, from byte *at* on; None where it is not here."""
        kept = self._values.get(key)
        if kept is None:
            return None
        try:
            with open(kept.path, "rb") as file:
                file.seek(at)
                return file.read(size)
        except OSError:
            return None

    def path_of(self, key: bytes) -> str | None:
        """Return where a value lies, None where it is not here."""
        kept = self._values.get(key)
        return str(kept.path) if kept is not None and kept.path.exists() else None

    def drop(self, key: bytes) -> None:
        """Forget a value."""
        kept = self._values.pop(key, None)
        if kept is not None and kept.is_own:
            self._size -= kept.size
            kept.path.unlink(missing_ok=True)

    @contextmanager
    def at_hand(self, keys: Sequence[bytes]) -> Iterator[dict[bytes, str]]:
        """Keep the values of *keys* while calls use them; gives where each lies. Raises `UnknownValues`."""
        unknown = [key for key in keys if key not in self._values or not self._values[key].path.exists()]
        if unknown:
            for key in unknown:
                self.drop(key)
            raise UnknownValues(unknown)
        self._pins.update(keys)
        for key in keys:
            self._values[key].is_used = True
            self._values.move_to_end(key)
        try:
            yield {key: str(self._values[key].path) for key in keys}
        finally:
            self._pins.subtract(keys)
            self._pins = +self._pins
            self._make_room()

    def spool(self) -> str:
        """Return the folder in which calls leave results that stay."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(self.folder)

    def _put(self, key: bytes, kept: Kept) -> None:
        before = self._values.pop(key, None)
        if before is not None and before.is_own:
            self._size -= before.size
        self._values[key] = kept
        self._size += kept.size if kept.is_own else 0
        self._make_room(but=key)

    def _make_room(self, *, but: bytes | None = None) -> None:
        if self._size <= self._limit:
            return
        own = [(kept.is_only, key) for key, kept in self._values.items() if kept.is_own and key != but]
        for _, key in sorted(own, key=lambda each: each[0]):  # stable: by their last use otherwise
            if self._size <= self._limit:
                return
            if self._may_go(key):
                self.drop(key)

    def _may_go(self, key: bytes) -> bool:
        kept = self._values[key]
        return not self._pins[key] and (kept.is_used or kept.since < time.monotonic() - GRACE_SECONDS)


# ---- where calls run -----------------------------------------------------------------------


class LoadedValues:
    """What references mean in this process; values that were put stay loaded, as long as there is room."""

    def __init__(self, limit: int = LOADED_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._loaded: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._turns: dict[bytes, threading.Lock] = {}  #: values that are being loaded
        self._here = threading.local()  # several slots may be threads of one process

    @contextmanager
    def of(self, unit: Unit) -> Iterator[None]:
        """Have references mean what came along with *unit*."""
        self._here.unit = unit
        try:
            with references.resolved_by(self.resolve):
                yield
        finally:
            self._here.unit = None

    def resolve(self, key: bytes) -> Any:
        """Return the value of *key*; called while the arguments of a call are unpickled."""
        unit: Unit | None = getattr(self._here, "unit", None)
        if unit is None:
            raise DcengineError("a reference stands for its value only in the arguments of a call")
        if (lost := unit.lost.get(key)) is not None:
            raise exception_from(unpack_failure(lost))
        if (data := unit.along.get(key)) is not None:
            return loads(data)
        if references.digest_of(key) is None:  # nobody else's: the call may do with it what it likes
            return loads(mapped(unit.places[key], is_private=True))
        return self._shared(key, unit.places[key])

    def _shared(self, key: bytes, place: str) -> Any:
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:  # others that want it now get the same
            with self._lock:
                found = self._loaded.get(key)
            if found is None:
                packed = mapped(place)
                found = loads(packed, shared=True), len(packed)
            with self._lock:
                self._keep(key, found)
        return found[0]

    def _keep(self, key: bytes, found: tuple[Any, int]) -> None:
        """Make a value the one used last, and drop what was not used for longest if there are too many bytes."""
        self._size += found[1] if key not in self._loaded else 0
        self._loaded[key] = found
        self._loaded.move_to_end(key)
        while self._size > self._limit and len(self._loaded) > 1:
            dropped, (_, size) = self._loaded.popitem(last=False)
            self._turns.pop(dropped, None)
            self._size -= size


loaded = LoadedValues()  #: those of this process


def mapped(path: str, *, is_private: bool = False) -> Packed:
    """Return the content of the file *path*, mapped if it is large; what is written into a private one stays there."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < MAPPED_FROM:
            return file.read()
        access = mmap.ACCESS_COPY if is_private else mmap.ACCESS_READ
        return memoryview(mmap.mmap(file.fileno(), 0, access=access))


# ---- results in files ----------------------------------------------------------------------

# Begins what stands for a result that lies in a file: its digest, its size, the file's name. No frame of values
# begins so: it would be one of four thousand million.
SPOOLED = b"S\xff\xff\xff"
SPOOL_RECORD = struct.Struct(">4s32sQ")
SPOOL_NAME = re.compile(r"result\.[0-9a-f]{32}")


class Spooled:
    """A result in a file."""

    def __init__(self, name: str, digest: bytes, size: int) -> None:
        self.name, self.digest, self.size = name, digest, size

    @property
    def packed(self) -> bytes:
        """What stands for it in a report."""
        return SPOOL_RECORD.pack(SPOOLED, self.digest, self.size) + self.name.encode()


def spooled_in(value: bytes) -> Spooled | None:
    """Return the result in a file that the reported *value* stands for, None for a result that is the value itself."""
    if value[:4] != SPOOLED:
        return None
    _, digest, size = SPOOL_RECORD.unpack_from(value)
    name = value[SPOOL_RECORD.size :].decode()
    if not SPOOL_NAME.fullmatch(name):  # calls run as somebody who may send us anything
        raise DcengineError(f"a worker reported a result in a file called {name!a}, which no result is called")
    return Spooled(name, digest, size)


def spool(pieces: Iterable[Piece], folder: str, *, stays: bool = False) -> Spooled:
    """Write the *pieces* of a packed value into a new file in *folder*.

    It is durable then, unless it *stays* here, where nobody promises that; what stays has a name of its own for digest.
    """
    name = f"result.{secrets.token_hex(16)}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with NewFile(Path(folder, name)) as file:
        for piece in pieces:
            file.write(piece, is_hashed=not stays)
        if not stays:
            file.finish()
        file.is_kept = True
        return Spooled(name, secrets.token_bytes(32) if stays else file.digest, file.size)


class NewFile:
    """A file that is being written and, by another thread, hashed; it is removed at the end unless it is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.is_kept = False
        self._hash = hashlib.sha256()
        self._hashing: deque[Future[None]] = deque()
        self._other = ThreadPoolExecutor(1)
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)

    def write(self, piece: Piece, *, is_hashed: bool = True) -> None:
        """Add *piece*."""
        view = memoryview(piece)
        self.size += len(view)
        for start in range(0, len(view), PIECE):
            part = view[start : start + PIECE]
            if is_hashed:
                self._hashing.append(self._other.submit(self._hash.update, part))
            while part:
                part = part[os.write(self._descriptor, part) :]
        while len(self._hashing) > HASHING:  # what waits for it is in memory
            self._hashing.popleft().result()

    def finish(self) -> None:
        """Make the file durable; its digest is known then."""
        os.fsync(self._descriptor)
        while self._hashing:
            self._hashing.popleft().result()

    @property
    def digest(self) -> bytes:
        """The sha256 of what was written."""
        return self._hash.digest()

    def close(self) -> None:
        """Be done with the file."""
        self._other.shutdown()
        os.close(self._descriptor)
        if not self.is_kept:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> NewFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
