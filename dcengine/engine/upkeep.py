"""What is put away: hours that are over, expired values, deleted projects, free space; and copies of the file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from ..cluster import ClusterSettings
from ..errors import BlobCorrupt, BlobMissing, StoreError
from ..store import now
from ..store.copying import Copy, ForgetBlobs, vacuum
from ..store.deleting import MarkDeleted, MarkedDeleted, Removal
from ..store.expiring import Expired, ExpireValues
from ..store.standings import RollHours
from ..store.values import ExpirePut
from ..verbs import BackupDone, Deletion, VacuumDone
from .bans import Bans

logger = logging.getLogger(__name__)

KEEP_UP_SECONDS = 1.0  #: between two looks at what is to be put away
SLICE_PAUSE_SECONDS = 0.01  #: between two slices of what cannot be put away at once: others write too
AGAIN_SECONDS = 5.0  #: after a slice that failed
EXPIRE_LIMIT = 100  #: jobs, or rows of a batch, whose values are removed in one transaction
IDLE_SECONDS = 3600.0  #: a value outside the file that nothing refers to is kept so long: somebody may be about to
FORGET_LIMIT = 500  #: such values forgotten in one transaction


class Upkeep(Bans):
    """Keeps the file in order."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._upkeep_turn = asyncio.Lock()  #: copies and vacuum, one after the other
        self._removal_turn = asyncio.Lock()

    # ---- verbs -----------------------------------------------------------------------------

    async def deletion(self, name: str) -> Deletion:
        """Return what `delete_project` would delete; raises `NotFound` or `InvalidOption`."""
        return await self._store.reads.deletion(name)

    async def delete_project(self, name: str) -> Deletion:
        """Delete project *name*: it is gone and its name free when this returns, its rows go bit by bit."""
        marked: MarkedDeleted = await self._submit(MarkDeleted(name, now()), 0, self._marked_deleted)
        return marked.deletion

    async def backup(self, path: str) -> BackupDone:
        """Copy the file, and the values outside it beside the copy; raises `BackupFailed` or `DiskFull`."""
        async with self._upkeep_turn:
            began, is_wanted = time.monotonic(), True
            copy = await asyncio.to_thread(Copy, path)
            try:
                digests = await asyncio.to_thread(copy.fill, self.db, lambda: is_wanted and not self._is_closing)
                blobs = await self._copy_blobs(Path(f"{copy.target}.blobs"), digests)
                size = await asyncio.to_thread(copy.publish)
            finally:
                is_wanted = False
                copy.abandon()
            logger.info("copied %s to %s: %d bytes, %d values beside it", self.db, copy.target, size, blobs)
            return BackupDone(path=str(copy.target), bytes=size, blobs=blobs, seconds=time.monotonic() - began)

    async def vacuum(self) -> VacuumDone:
        """Write the file anew without what was deleted, and remove the values outside it that nothing refers to."""
        async with self._upkeep_turn, self._removal_turn:  # first, what is being deleted has to be gone
            began = time.monotonic()
            before, after = await self._store.maintain(vacuum)
            sizes = await self._collect_blobs()
            logger.info("%s had %d bytes, now %d; %d values beside it removed", self.db, before, after, len(sizes))
            return VacuumDone(
                before=before, after=after, blobs=len(sizes), blob_bytes=sum(sizes), seconds=time.monotonic() - began
            )

    # ---- again and again -------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Put away what is due, as long as the engine runs; nothing that goes wrong ends this."""
        for project in await self._store.reads.being_deleted():
            self._own(self._remove(project))
        while self._store.broken is None:
            try:
                await self._store.apply(RollHours(now()))
                await self._expire()
            except StoreError as error:  # a full disk, say: the next look tries again
                logger.warning("%s", error)
            except Exception:
                logger.exception("upkeep of %s stumbled", self.db)
            await asyncio.sleep(KEEP_UP_SECONDS)

    async def _expire(self) -> None:
        """Remove the values whose time is over, slice by slice."""
        at, is_all = now(), False
        while not is_all:
            expired: Expired = await self._store.apply(ExpireValues(at, EXPIRE_LIMIT))
            is_all = expired.is_all
            for job in expired.jobs:
                self._ends.forget(job)
            if expired.batches:
                self._ends.clear()
            if not is_all:
                await asyncio.sleep(SLICE_PAUSE_SECONDS)
        if gone := await self._store.apply(ExpirePut(at)):
            await self._forget_values(gone)

    # ---- deleted projects ------------------------------------------------------------------

    def _marked_deleted(self, marked: MarkedDeleted) -> None:
        """Know nothing of a deleted project any more; end what runs, and answer those who wait for it."""
        self._stages.forget(marked.deletion.project)
        self._hold_back(marked.stages)
        self._forget_leases_of(marked.stages)
        self._forget_tokens_of(marked.project)
        self._cancel_running(lambda running: any(task.stage in marked.stages for task in running.tasks))
        self._ends.clear()  # which of them are of this project, nobody knows
        self._take_note(marked.consequences)
        self._bus.publish_all()
        self._own(self._remove(marked.project))
        logger.info(
            "project %r was deleted; its %d jobs are being removed", marked.deletion.project, marked.deletion.jobs
        )

    def _hold_back(self, stages: Iterable[int]) -> None:
        """Hand out nothing of the deleted *stages*, whatever is queued there until it is removed."""
        self._feed.paused.update(stages)
        self._feed.forget(set(stages))

    async def _load_projects(self) -> None:
        await super()._load_projects()
        self._feed.paused.update(await self._store.reads.deleted_stages())

    async def _remove(self, project: int) -> None:
        """Remove the rows of a deleted project slice by slice; one project at a time."""
        async with self._removal_turn:
            removal, is_more = Removal(project), True
            while is_more and self._store.broken is None:
                try:
                    is_more = await self._store.maintain(removal.remove_some)
                    await asyncio.sleep(SLICE_PAUSE_SECONDS)
                except StoreError as error:
                    logger.warning("removing a deleted project: %s", error)
                    await asyncio.sleep(AGAIN_SECONDS)
            if not is_more:
                logger.info("the rows of deleted project %d are removed", project)

    # ---- values outside the file -----------------------------------------------------------

    async def _copy_blobs(self, folder: Path, digests: Iterable[bytes]) -> int:
        """Copy values into *folder*, where an engine on the copy looks for them; return how many could be copied."""
        copied = 0
        for digest in digests:
            try:
                copied += await self._values.blobs.copy_to(folder, [digest])
            except (BlobMissing, BlobCorrupt) as lost:  # all the more is the rest worth a copy
                logger.warning("%s", lost)
        return copied

    async def _collect_blobs(self) -> list[int]:
        """Remove the values that nothing refers to and nobody has put lately; return their sizes."""
        until, sizes, gone = now() - int(IDLE_SECONDS * 1_000_000), list[int](), list[bytes]()
        for digest, size in await self._store.reads.idle_blobs(until):
            if await self._values.blobs.delete(digest, unless_put_within=IDLE_SECONDS):
                sizes.append(size)
                gone.append(digest)
        for start in range(0, len(gone), FORGET_LIMIT):
            await self._store.apply(ForgetBlobs(gone[start : start + FORGET_LIMIT], until))
        return sizes
