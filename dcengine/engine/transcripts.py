"""What running jobs say, on its way into the store: output as it comes, progress newest wins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

import msgspec

from ..errors import StoreError
from ..store import Store, now
from ..store.saying import AddOutput, SaveProgress
from ..verbs import Progress

logger = logging.getLogger(__name__)

SHOWN_LIMIT = 256 << 20  #: bytes of one job's lines that are kept at least, with what it shows
RUNS_KEPT = 16  #: times what is kept of one call is what is kept of a job, over all its runs


class Transcripts:
    """Keeps what each job says, and the last of its progress; *on_stored* is called with a job that said more.

    *limit* is how many bytes of what one call prints are kept.
    """

    def __init__(self, store: Store, on_stored: Callable[[int], None], *, limit: int) -> None:
        self._store, self._on_stored = store, on_stored
        self._limit = max(RUNS_KEPT * limit, SHOWN_LIMIT)
        self._progress: dict[int, Progress] = {}
        self._unsaved: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._last_number = 0

    def hear(self, job: int, kind: str, data: bytes) -> None:
        """Take in one live message of *job*, or a ``note`` of the engine's own."""
        if kind == "progress":
            self._progress[job] = msgspec.msgpack.decode(data, type=Progress)
            self._unsaved.add(job)
            return
        size = self._sizes.get(job, 0)
        if size > self._limit:
            return
        self._sizes[job] = size + len(data)
        if size + len(data) > self._limit:
            kind, data = "note", f"what it says above {self._limit:,} bytes is not kept".encode()
        # Larger than any number before it, also of an earlier run and an earlier engine.
        self._last_number = max(self._last_number + 1, now())
        line = AddOutput([(job, self._last_number, kind, data.decode("utf-8", "replace"))])
        self._store.apply(line).add_done_callback(lambda written: self._stored(job, written))

    def note(self, job: int, text: str) -> None:
        """Add a line of the engine's own to what *job* says."""
        self.hear(job, "note", text.encode(errors="backslashreplace"))

    def _stored(self, job: int, written: asyncio.Future[object]) -> None:
        if not written.cancelled() and written.exception() is not None:
            logger.error("output was lost: %s", written.exception())
        self._on_stored(job)

    def progress(self, job: int) -> Progress | None:
        """Return the last that *job* said of its progress in this engine's life."""
        return self._progress.get(job)

    async def save(self) -> None:
        """Store the progress that is not stored yet."""
        if self._unsaved:
            news = {job: self._progress[job] for job in self._unsaved}
            await self._store.apply(SaveProgress(news))
            self._unsaved -= news.keys()

    async def end(self, jobs: range) -> None:
        """Forget *jobs*, their last progress stored if it can be: no job stops for that."""
        if _among(self._unsaved, jobs):
            try:
                await self.save()
            except StoreError as error:
                logger.warning("progress was lost: %s", error)
                self._unsaved.difference_update(_among(self._unsaved, jobs))
        for spoken in (self._sizes, self._progress):
            for job in _among(spoken, jobs):
                del spoken[job]


def _among(known: Collection[int], jobs: range) -> list[int]:
    """Return which of *jobs* are *known*: a call is one job, a batch may be millions."""
    return [job for job in jobs if job in known] if len(jobs) < len(known) else [job for job in known if job in jobs]
