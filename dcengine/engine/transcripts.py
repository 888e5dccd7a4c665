"""What running jobs say, on its way into the store: output as it comes, progress newest wins."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from ..store import Store, now
from ..store.saying import AddOutput, SaveProgress
from ..verbs import Progress

logger = logging.getLogger(__name__)

OUTPUT_LIMIT = 4 << 20  #: characters kept per job; what comes after is counted, not kept


def _note_loss(written: asyncio.Future[object]) -> None:
    if not written.cancelled() and written.exception() is not None:
        logger.error("output was lost: %s", written.exception())


class Transcripts:
    """Keeps what each job prints, and the last it said of its progress."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._progress: dict[int, Progress] = {}
        self._unsaved: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._last_number = 0

    def hear(self, job: int, kind: str, data: bytes) -> None:
        """Take in one live message of *job*: ``stdout``, ``stderr`` or ``progress``."""
        if kind == "progress":
            self._progress[job] = msgspec.msgpack.decode(data, type=Progress)
            self._unsaved.add(job)
            return
        size = self._sizes.get(job, 0)
        self._sizes[job] = size + len(data)
        if size > OUTPUT_LIMIT:
            return
        text = data.decode("utf-8", "replace")
        if size + len(data) > OUTPUT_LIMIT:
            text += f"\n... output above {OUTPUT_LIMIT >> 20} MiB is not kept ...\n"
        # Larger than any number before it, also of an earlier run and an earlier engine.
        self._last_number = max(self._last_number + 1, now())
        written = self._store.apply(AddOutput([(job, self._last_number, kind, text)]))
        written.add_done_callback(_note_loss)

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
        """Forget *jobs*, their last progress stored."""
        if not self._unsaved.isdisjoint(jobs):
            await self.save()
        for spoken in (self._sizes, self._progress):
            for job in [job for job in spoken if job in jobs]:
                del spoken[job]
