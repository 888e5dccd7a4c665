"""Values above a row's size: kept outside the file by their digest, and checked when they are read."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..errors import BlobCorrupt, BlobMissing
from .places import UNFINISHED, Folder, explained, place_at

ROW_LIMIT = 1 << 20  #: bytes of a value that the file holds itself
MARK = b"B"  #: begins a reference; a pickle begins with 0x80, JSON with J
REFERENCE = struct.Struct(">1s32sQ")
THREADS = 4  #: values on their way at once
REMEMBERED = 6 * 3600.0  #: seconds for which `Blobs.recently_put` can be asked

T = TypeVar("T")


# ---- references ----------------------------------------------------------------------------


def is_reference(data: bytes) -> bool:
    """Tell whether a packed value in *data* is only a reference to one outside the file."""
    return len(data) == REFERENCE.size and data[:1] == MARK


def digest_of(reference: bytes) -> bytes:
    """Return the sha256 of the value that *reference* leads to."""
    return bytes(REFERENCE.unpack(reference)[1])


def size_of(reference: bytes) -> int:
    """Return the size of the value that *reference* leads to."""
    return int(REFERENCE.unpack(reference)[2])


def reference_of(digest: bytes, size: int) -> bytes:
    """Return the reference to the value with this *digest* and *size*."""
    return REFERENCE.pack(MARK, digest, size)


def _reference(data: bytes) -> bytes:
    return reference_of(hashlib.sha256(data).digest(), len(data))


# ---- blobs ---------------------------------------------------------------------------------


class Blobs:
    """The values that one database keeps outside its file, below ``<url>/<store_id>``.

    Raises `InvalidOption` for a place that cannot be; nothing is read or written before it has to be.
    """

    def __init__(self, url: str, store_id: str) -> None:
        self._place = place_at(url)
        self._store_id = store_id
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="dcengine-blobs")
        # Put and delete of one digest take turns; digests share locks, so that there are few of them.
        self._turns = [threading.Lock() for _ in range(64)]
        self._put_at: OrderedDict[bytes, float] = OrderedDict()  #: by the monotonic clock, the last one at the end
        self._putting = threading.Lock()
        self._damaged: set[bytes] = set()
        self._tidied = False

    @property
    def place(self) -> str:
        """Where they are, for people."""
        return f"{self._place.name}/{self._store_id}"

    async def reference_to(self, data: bytes) -> bytes:
        """Return the reference that *data* will have once it is put."""
        return await self._do(_reference, data)

    async def put(self, data: bytes, reference: bytes | None = None) -> bytes:
        """Keep *data* and return its reference; it is durable then. What is there already is not written again.

        Who has asked for its *reference* before hands it in. Raises `BlobPlaceFailed` or `DiskFull`.
        """
        return await self._do(self._put, data, reference)

    async def get(self, reference: bytes) -> bytes:
        """Return the value that *reference* leads to; raises `BlobMissing`, `BlobCorrupt` or `BlobPlaceFailed`."""
        return await self._do(self._get, digest_of(reference), size_of(reference))

    async def head(self, reference: bytes, size: int) -> bytes:
        """Return the first *size* bytes of a value, unchecked; raises what `get` raises."""
        return await self.piece(digest_of(reference), 0, size)

    async def find(self, digest: bytes) -> tuple[int, str | None]:
        """Return the size of a value, and its file if it has one on this machine; raises `BlobMissing`."""
        return await self._do(self._find, digest)

    async def piece(self, digest: bytes, at: int, size: int) -> bytes:
        """Return *size* bytes of a value, from byte *at* on, unchecked; raises what `get` raises."""
        return await self._do(self._piece, digest, at, size)

    # ---- values that come in pieces ------------------------------------------------------------

    @property
    def folder(self) -> str | None:
        """The folder in which values may be written that `take_in` gets; None where the place is no folder."""
        return self._place.whole_path(f"{self._store_id}/{UNFINISHED}")

    async def new_file(self) -> Path:
        """Return a name for a file to write, and then to take in."""
        assert isinstance(self._place, Folder)
        return await self._do(self._new_file)

    async def take_in(self, file: Path, digest: bytes, size: int) -> bytes:
        """Make *file* in `folder`, which is durable and has this *digest*, one of the values; return its reference."""
        return await self._do(self._take_in, file, digest, size)

    async def delete(self, digest: bytes, *, unless_put_within: float = 0.0) -> bool:
        """Remove a blob and return True, unless it was put in the last so many seconds."""
        return await self._do(self._delete, digest, unless_put_within)

    def recently_put(self, seconds: float) -> set[bytes]:
        """Return the digests put in the last *seconds*, at most `REMEMBERED`, whether they had to be written or not.

        Somebody may be about to store a reference to them.
        """
        since = time.monotonic() - seconds
        with self._putting:
            return {digest for digest, at in self._put_at.items() if at >= since}

    async def copy_to(self, folder: str | Path, digests: Iterable[bytes]) -> int:
        """Copy blobs into a local *folder*, laid out as they are here; return how many.

        Another `Blobs` with this folder as its URL finds them. Raises what `get` and `put` raise.
        """
        target = Folder(folder)
        count = 0
        for digest in digests:
            await self._do(self._copy, digest, target)
            count += 1
        return count

    async def close(self) -> None:
        """Wait for what is under way; nothing can be asked after this."""
        await asyncio.to_thread(self._executor.shutdown)

    async def do(self, work: Callable[..., T], *arguments: object) -> T:
        """Return what *work* does in one of the threads for this place; its errors become ours."""

        def explain() -> T:
            with explained(self._place.name):
                return work(*arguments)

        return await self._do(explain)

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    # ---- in the executor's threads ---------------------------------------------------------

    def _put(self, data: bytes, reference: bytes | None) -> bytes:
        reference = reference or _reference(data)
        digest = digest_of(reference)
        path = self._path(digest)
        with self._turn(digest), explained(self._place.name):
            self._remember(digest)  # first: from here on it must not be collected
            with self._doubted(digest):
                if digest in self._damaged or self._place.size(path) != len(data):
                    self._tidy()
                    self._place.write(path, data)
                else:
                    self._place.keep(path)
        return reference

    @contextmanager
    def _doubted(self, digest: bytes) -> Iterator[None]:
        """Have a blob written again that is not durable after this, though it may be there: a sync has failed."""
        try:
            yield
        except OSError:
            self._damaged.add(digest)
            raise
        self._damaged.discard(digest)

    def _get(self, digest: bytes, size: int | None) -> bytes:
        with explained(self._place.name):
            try:
                data = self._place.read(self._path(digest))
            except FileNotFoundError:
                raise BlobMissing(self.place, digest.hex()) from None
        if size is not None and len(data) != size:
            raise self._damage(digest, f"it has {len(data):,} bytes instead of {size:,}")
        if hashlib.sha256(data).digest() != digest:
            raise self._damage(digest, "its content is another than its name says")
        return data

    def _find(self, digest: bytes) -> tuple[int, str | None]:
        path = self._path(digest)
        with explained(self._place.name):
            size = self._place.size(path)
        if size is None:
            raise BlobMissing(self.place, digest.hex())
        return size, self._place.whole_path(path)

    def _piece(self, digest: bytes, at: int, size: int) -> bytes:
        with explained(self._place.name):
            try:
                return self._place.part(self._path(digest), at, size)
            except FileNotFoundError:
                raise BlobMissing(self.place, digest.hex()) from None

    def _new_file(self) -> Path:
        assert isinstance(self._place, Folder)
        with explained(self._place.name):
            self._tidy()
            return self._place.new_file(self._store_id)

    def _take_in(self, file: Path, digest: bytes, size: int) -> bytes:
        assert isinstance(self._place, Folder)
        path = self._path(digest)
        with self._turn(digest), explained(self._place.name):
            self._remember(digest)
            with self._doubted(digest):
                if digest in self._damaged or self._place.size(path) != size:
                    self._place.take_in(file, path)
                else:
                    file.unlink(missing_ok=True)
                    self._place.keep(path)
        return reference_of(digest, size)

    def _delete(self, digest: bytes, seconds: float) -> bool:
        with self._turn(digest), explained(self._place.name):
            if digest in self.recently_put(seconds):
                return False
            self._place.remove(self._path(digest))
            return True

    def _copy(self, digest: bytes, target: Folder) -> None:
        data, path = self._get(digest, None), self._path(digest)
        with explained(target.name):
            if target.size(path) != len(data):
                target.write(path, data)

    def _path(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._store_id}/{name[:2]}/{name}"

    def _turn(self, digest: bytes) -> threading.Lock:
        return self._turns[digest[0] % len(self._turns)]

    def _remember(self, digest: bytes) -> None:
        now = time.monotonic()
        with self._putting:
            self._put_at[digest] = now
            self._put_at.move_to_end(digest)
            while next(iter(self._put_at.values())) < now - REMEMBERED:
                self._put_at.popitem(last=False)

    def _damage(self, digest: bytes, problem: str) -> BlobCorrupt:
        self._damaged.add(digest)  # so that the same value, put again, takes its place
        return BlobCorrupt(self.place, digest.hex(), problem)

    def _tidy(self) -> None:
        if not self._tidied and isinstance(self._place, Folder):
            self._tidied = True
            self._place.tidy(self._store_id)
