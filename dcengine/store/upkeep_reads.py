"""Questions about what is to be put away, or does not wait any more."""

from __future__ import annotations

from ..jobs import State
from ..verbs import Deletion
from .copying import SELECT_IDLE_BLOBS
from .deleting import BEING_DELETED, SELECT_FIGURES, deletion_from
from .dependency_reads import DependencyReads

ANY_QUEUED = f"""
SELECT EXISTS (
    SELECT 1 FROM task WHERE stage = ? AND need = ? AND submitter = ? AND state = {State.QUEUED:d} AND flags = 0
)
"""


class UpkeepReads(DependencyReads):
    """Answers questions about what is to be put away too."""

    async def deletion(self, project: str) -> Deletion:
        """Return what goes with *project*; raises `NotFound`, and `InvalidOption` for the built-in one."""
        return deletion_from(await self._one(SELECT_FIGURES, project), project)

    async def being_deleted(self) -> list[int]:
        """Return the projects whose rows are still to be removed."""
        rows = await self._all("SELECT id FROM project WHERE is_deleted = ? ORDER BY id", BEING_DELETED)
        return [id for (id,) in rows]

    async def deleted_stages(self) -> list[int]:
        """Return the stages of those projects."""
        rows = await self._all(
            "SELECT stage.id FROM stage JOIN project ON project.id = stage.project WHERE project.is_deleted = ?",
            BEING_DELETED,
        )
        return [id for (id,) in rows]

    async def any_queued(self, stage: int, need: int, submitter: int) -> bool:
        """Tell whether a task of *stage* with this *need* is queued that *submitter* has brought."""
        return bool((await self._one(ANY_QUEUED, stage, need, submitter))[0])

    async def idle_blobs(self, until: int) -> list[tuple[bytes, int]]:
        """Return digest and size of the values outside the file, put before *until*, that nothing refers to."""
        return [tuple(row) for row in await self._all(SELECT_IDLE_BLOBS, until)]
