"""Values on their way into the file and out of it.

What is too big for a row lies outside, what was to stay on its worker lies there; a record stands for each.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import codec, references
from ..blobs import ROW_LIMIT, Blobs, digest_of, is_reference, reference_of, size_of
from ..buffered import Piece, Pieces
from ..cluster import WorkerGone
from ..cluster.carrier import PIECE, Carrier, Located
from ..errors import InvalidOption, PayloadTooLarge, ResultLost, ValueGone
from ..runner.values import SPOOLED, NewFile, spooled_in
from ..store import Store, now
from ..store.saying import NoteBlob
from .submissions import PUT_LIMIT, VALUE_LIMIT, check_size

# Begins the record of a result on a worker: its digest, its size, the worker's name. No frame of values begins so:
# it would be one of four thousand million.
STAYS = b"W\xff\xff\xff"
STAYS_RECORD = struct.Struct(">4s32sQ")
HEAD = 64 * 1024  #: bytes at the beginning of a value in which the keys of what it refers to are looked for

CarrierOf = Callable[[str], "Carrier | None"]
OutputOf = Callable[[int], Awaitable[bytes]]


def left_on(worker: str, value: bytes) -> bytes:
    """Return the record of a result that stays on *worker*, which has reported *value* for it."""
    spooled = spooled_in(value)
    return value if spooled is None else STAYS_RECORD.pack(STAYS, spooled.digest, spooled.size) + worker.encode()


def is_left(data: bytes) -> bool:
    """Tell whether the stored *data* is the record of a result that stays on a worker."""
    return data[:4] == STAYS


def is_apart(value: bytes) -> bool:
    """Tell whether a reported *value* or its record stands for one that is elsewhere."""
    return is_left(value) or spooled_in(value) is not None


def check_value(what: str, data: bytes) -> None:
    """Raise for a packed value that is too large, or that would stand for one which somebody else has stored."""
    check_size(what, len(data))
    check_itself(what, data)


def check_itself(what: str, data: bytes) -> None:
    """Raise `InvalidOption` for what is no value, but would stand for one; only the engine and its workers say so."""
    if is_reference(data) or data[:4] in (STAYS, SPOOLED):
        raise InvalidOption(what, "a reference to a stored value", "the value itself, packed")


class Values:
    """Keeps packed values wherever they fit, and finds them again; for workers it is where values come from."""

    def __init__(self, store: Store, place: str, limit: int, carrier_of: CarrierOf, output_of: OutputOf) -> None:
        self._store, self._place = store, place
        self._carrier_of, self._output_of = carrier_of, output_of
        self.limit = limit  #: bytes that a worker may keep
        self.home = ""
        self.folder: str | None = None  #: where calls on this machine may leave large results

    async def start(self) -> None:
        """Learn what the file is called, so that several may share one place."""
        self.home = await self._store.reads.store_id()
        self.blobs = Blobs(self._place, self.home)
        self.folder = self.blobs.folder

    async def close(self) -> None:
        await self.blobs.close()

    # ---- in -----------------------------------------------------------------------------------

    async def keep(self, data: bytes) -> bytes:
        """Return what to store for *data*: itself, or a reference to where it lies safely now.

        What a worker has left in a file is taken from there.
        """
        if (spooled := spooled_in(data)) is not None:
            assert self.folder is not None  # else nobody is asked to leave something there
            return await self._taken_in(Path(self.folder, spooled.name), spooled.digest, spooled.size)
        if len(data) <= ROW_LIMIT:
            return data
        if self.folder is not None:
            digest, size = await self.put(Pieces([data]))
            return reference_of(digest, size)
        reference = await self.blobs.reference_to(data)
        # Written down first: so it can be removed whatever happens from here on.
        await self._store.apply(NoteBlob(digest_of(reference), size_of(reference), now()))
        return await self.blobs.put(data, reference)

    async def put(self, pieces: AsyncIterable[Piece]) -> tuple[bytes, int]:
        """Keep the value that comes in *pieces*, however small it is; return its digest and size."""
        if self.folder is None:  # such places take a value as a whole
            data = await _joined(pieces)
            reference = await self.blobs.reference_to(data)
            await self._store.apply(NoteBlob(digest_of(reference), len(data), now()))
            await self.blobs.put(data, reference)
            return digest_of(reference), len(data)
        file = await self.blobs.do(NewFile, await self.blobs.new_file())
        try:
            async for piece in pieces:
                check_size("the value", file.size + len(piece), PUT_LIMIT)
                await self.blobs.do(file.write, piece)
            await self.blobs.do(file.finish)
            await self._taken_in(file.path, file.digest, file.size)
            return file.digest, file.size
        finally:
            await self.blobs.do(file.close)

    async def _taken_in(self, file: Path, digest: bytes, size: int) -> bytes:
        await self._store.apply(NoteBlob(digest, size, now()))
        return await self.blobs.take_in(file, digest, size)

    # ---- out ----------------------------------------------------------------------------------

    async def get(self, data: bytes) -> bytes:
        """Return the value that was kept as *data*; raises `BlobMissing`, `BlobCorrupt` or `ResultLost`."""
        if is_left(data):
            return await self._from_worker(data)
        return await self.blobs.get(data) if is_reference(data) else data

    async def _from_worker(self, record: bytes) -> bytes:
        located = self._on_worker(record)
        assert located.at is not None
        carrier = self._carrier_of(located.at[0])
        with _lost_with(located.at[0]):
            there = None if carrier is None else await carrier.mapped(located.at[1])
        if there is not None and len(there) == located.size:
            return there  # type: ignore[return-value]  # bytes for whoever only reads them
        return b"".join([await located.read(at, PIECE) for at in range(0, max(1, located.size), PIECE)])

    async def frame(self, data: bytes, count: int) -> bytes:
        """Return the frame of *count* values that was kept as *data*; a large one was kept without a frame."""
        found = await self.get(data)
        is_bare = count == 1 and (is_reference(data) or is_left(data)) and found[:4] != ONE
        return codec.pack([found]) if is_bare else found

    async def sent(self, data: bytes) -> bytes:
        """Return what a call is sent for *data*: itself, or what stands for it, since workers can read large ones."""
        if not is_reference(data):
            return data
        head = await self.blobs.head(data, HEAD)
        try:
            keys = codec.keys_in_head(head)
        except ValueError:  # so many that they go on behind it
            keys = codec.keys_in(await self.blobs.get(data))
        return codec.standing_for(references.key_of_input(digest_of(data)), keys)

    async def is_bare(self, data: bytes) -> bool:
        """Tell whether *data*, of a frame with one value, is a reference to that value without a frame."""
        return is_reference(data) and await self.blobs.head(data, len(ONE)) != ONE

    # ---- for workers --------------------------------------------------------------------------

    async def locate(self, key: bytes) -> Located:
        """Return where the value of *key* is; raises `ValueGone`, `BlobMissing` or `ResultLost`."""
        job = references.job_of(key)
        if job is not None:
            return await self._located(await self._output_of(job))
        digest = references.digest_of(key)
        if digest is not None and await self._store.reads.value(digest) is None:
            raise ValueGone(digest.hex())
        digest = digest or references.input_of(key)
        if digest is None:
            raise ValueGone(key.hex())
        return await self._outside(digest)

    async def _located(self, data: bytes) -> Located:
        """Return where the value is that was kept as *data*."""
        if is_left(data):
            return self._on_worker(data)
        if is_reference(data):
            return await self._outside(digest_of(data))
        return _in_memory(data)

    async def _outside(self, digest: bytes) -> Located:
        size, path = await self.blobs.find(digest)
        return Located(size, lambda at, some: self.blobs.piece(digest, at, some), path)

    def _on_worker(self, record: bytes) -> Located:
        _, digest, size = STAYS_RECORD.unpack_from(record)
        worker = record[STAYS_RECORD.size :].decode()
        key = references.key_of_result(digest)

        async def read(at: int, some: int) -> bytes:
            carrier = self._carrier_of(worker)
            if carrier is None:
                raise ResultLost(worker, "is gone")
            with _lost_with(worker):
                data = await carrier.fetch(key, at, min(some, size - at))
            if data is None:
                raise ResultLost(worker, "has it no more: it was started anew, or had no room for it")
            return data

        return Located(size, read, at=(worker, key))


ONE = struct.pack("<I", 1)  #: begins a frame of one value, and no value


@contextmanager
def _lost_with(worker: str) -> Iterator[None]:
    """Say of what *worker* has that it is lost if the worker goes."""
    try:
        yield
    except WorkerGone:
        raise ResultLost(worker, "is gone") from None


def _in_memory(data: bytes) -> Located:
    async def read(at: int, some: int) -> bytes:
        return data[at : at + some]

    return Located(len(data), read)


async def _joined(pieces: AsyncIterable[Piece]) -> bytes:
    collected, size = list[Piece](), 0
    async for piece in pieces:
        collected.append(piece)
        size += len(piece)
        if size > VALUE_LIMIT:
            raise PayloadTooLarge("the value", size, VALUE_LIMIT)
    return b"".join(collected)
