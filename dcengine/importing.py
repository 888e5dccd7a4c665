"""Imports: a source's items on their way into a project, block by block, taken up where the last try stopped.

An import has a name. With each block the engine keeps, in the transaction that makes its jobs, how many items of
that import there are and the digest of them all; so the next try knows what to pass over, and that it is the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from hashlib import sha256
from itertools import chain, islice

import msgspec

from .calls import BLOCK_BYTES, BLOCK_ITEMS, submitter
from .codec import json_text, loads, pack, pack_json
from .errors import DcengineError, ImportChanged, InvalidSource
from .handles import Link
from .sources import Source
from .verbs import AddedJobs, ImportRecord, ImportStep, ItemsSubmission, JobStatus

PATIENCE = 10.0  #: seconds that somebody who stops an import is kept waiting for its last block


class Digest:
    """The digest of a row of packed values: of each, its length in 8 bytes (little-endian) and itself, by sha256."""

    def __init__(self) -> None:
        self.items = 0
        self._hash = sha256()

    def add(self, values: list[bytes]) -> None:
        """Take *values* in; it does not matter in how many pieces they come."""
        sizes = struct.pack(f"<{len(values)}Q", *map(len, values))
        sized = zip((sizes[at : at + 8] for at in range(0, len(sizes), 8)), values, strict=True)
        self._hash.update(b"".join(chain.from_iterable(sized)))
        self.items += len(values)

    @property
    def value(self) -> bytes:
        return self._hash.digest() if self.items else b""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the items, as in `ItemsSubmission`."""

    priority: int = 0
    not_before: float | None = None
    keep: float | None = None
    with_keys: bool = False  #: the text of each item is its key


class Import:
    """One source on its way into one project. Without a *name* it cannot be taken up again."""

    def __init__(
        self, link: Link, project: str, source: Source, *, name: str | None = None, options: Options | None = None
    ) -> None:
        self.project, self.source, self.name = project, source, name
        self.record: ImportRecord | None = None  #: how far an earlier try has come
        self.added = 0  #: jobs made
        self.known = 0  #: items whose jobs were there already
        self._link = link
        self._options = options or Options()
        self._digest = Digest()
        self._sent = 0  #: items that the engine has taken, those of earlier tries included
        self._root: int | None = None
        self._pending: tuple[Future[AddedJobs], int] | None = None
        self._submitter = submitter()

    @property
    def items(self) -> int:
        """How many items of the source are in the project, those of earlier tries included."""
        return self._sent

    @property
    def seen(self) -> int:
        """How many items of the source were read, those that are on their way included."""
        return self._digest.items

    def steps(self) -> Iterator[None]:
        """Bring the items in, a step after each block; the next block is made while one is on its way.

        Raises `ImportChanged` before anything is added, if these are not the items that the import began with, and
        `InvalidSource` where the source cannot be read on; the blocks before that are in.
        """
        values = (pack_json(item, what="an item") for item in self.source)
        try:
            yield from self._pass_over(values)
            for block, is_last in _with_last(blocks(values)):
                self._send(block, is_last=is_last)
                yield
            self._settle()
        except InvalidSource as error:
            self._settle()
            raise InvalidSource(error.source, error.problem, self.items, self.name is not None) from None

    def stop(self) -> None:
        """Wait some seconds for the block that is on its way."""
        try:
            self._settle(PATIENCE)
        except (DcengineError, NotYet):
            pass  # whoever goes on asks the engine how far it has come

    def _pass_over(self, values: Iterator[bytes]) -> Iterator[None]:
        """Take what an earlier try has brought off *values*; raises `ImportChanged` if it is something else."""
        self.record = self._link.call("imported", self.project, self.name) if self.name else None
        if self.record is None:
            return
        for block in blocks(islice(values, self.record.items)):
            self._digest.add(block)
            yield
        if (self._digest.items, self._digest.value) != (self.record.items, self.record.digest):
            raise ImportChanged(self.name or "", self.record.items)
        self._sent = self.record.items
        self._root = self._open_root(self.record.root)

    def _open_root(self, root: int | None) -> int | None:
        """Return *root* if more parts can be added to it; once its parts were gathered, a new one is needed."""
        if root is None:
            return None
        job: JobStatus = self._link.call("job", root)
        is_gathered = job.state == "succeeded" or (not job.is_final and job.task_state != "blocked")
        return None if is_gathered else root

    def _send(self, block: list[bytes], *, is_last: bool) -> None:
        """Send *block* on its way, once the one before has arrived."""
        submission = self._submission(block, is_last=is_last)
        self._settle()
        submission = msgspec.structs.replace(submission, root=self._root)
        self._pending = (self._link.start("add_jobs", submission), len(block))

    def _submission(self, block: list[bytes], *, is_last: bool) -> ItemsSubmission:
        offset, before = self._digest.items, self._digest.value
        self._digest.add(block)
        after = self._digest.value
        return ItemsSubmission(
            project=self.project,
            blocks=[pack(block)],
            count=len(block),
            keys=[_key(value) for value in block] if self._options.with_keys else None,
            priority=self._options.priority,
            not_before=self._options.not_before,
            keep=self._options.keep,
            is_last=is_last,
            imported=ImportStep(name=self.name, offset=offset, before=before, after=after) if self.name else None,
            submitter=self._submitter,
        )

    def _settle(self, patience: float | None = None) -> None:
        """Wait until the block that is on its way has arrived."""
        if self._pending is None:
            return
        future, count = self._pending
        added = future.result(patience)
        self._pending = None
        self._sent += count
        self.added += added.count
        self.known += added.known
        self._root = added.root


def unused_name(link: Link, project: str, name: str) -> str:
    """Return *name*, or the first of "name (2)", "name (3)" ... under which nothing was imported yet."""
    number, found = 1, name
    while link.call("imported", project, found) is not None:
        number += 1
        found = f"{name} ({number})"
    return found


def blocks(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield *values* in lists of a size that one submission should have."""
    block: list[bytes] = []
    size = 0
    for value in values:
        if block and (len(block) >= BLOCK_ITEMS or size + len(value) > BLOCK_BYTES):
            yield block
            block, size = [], 0
        block.append(value)
        size += len(value)
    if block:
        yield block


def _with_last(found: Iterator[list[bytes]]) -> Iterator[tuple[list[bytes], bool]]:
    """Yield each block with whether it is the last, as far as they can be read."""
    block = next(found, None)
    while block is not None:
        try:
            following = next(found, None)
        except InvalidSource:
            yield block, False
            raise
        yield block, following is None
        block = following


def _key(value: bytes) -> str:
    """Return the text of a packed item: its own if it is one, else its JSON."""
    item = loads(value)
    return item if isinstance(item, str) else json_text(value).decode()
