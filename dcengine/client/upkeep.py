"""Questions that keep the file in order."""

from __future__ import annotations

from ..connection import Connection
from ..verbs import BackupDone, VacuumDone


class AboutUpkeep(Connection):
    """Asks for what may take long; each is begun once, and its end is come back for."""

    async def backup(self, path: str) -> BackupDone:
        return await self._long_post(BackupDone, "v1/backup", value={"path": path})

    async def vacuum(self) -> VacuumDone:
        return await self._long_post(VacuumDone, "v1/vacuum")
