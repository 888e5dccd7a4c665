"""Why jobs have failed, those alike together, and all of them queued again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from ..verbs import FailureGroup, FailureGroups
from .alike import pattern_of
from .telling import Telling

LOOKED_AT = 3000  #: failed jobs
SHOWN, WORKERS_SHOWN = 20, 10  #: of a group
RETRIED_AT_ONCE = 200

Failed = tuple[int, str, str, float, str, str | None]  #: as `FindReads.failed` returns them


class Failures(Telling):
    """Answers what has failed, and why."""

    async def failure_groups(self, *, project: str | None = None) -> FailureGroups:
        """Return the newest failed jobs, grouped by reason, the largest group first."""
        if project is not None:
            await self._store.reads.project_id(project)  # raises for an unknown one
        groups: dict[tuple[str, str, str], list[Failed]] = {}
        looked_at = 0
        async for page in self._pages_of_failed(project):
            for failed in page:
                groups.setdefault((failed[1], failed[2], pattern_of(failed[4])), []).append(failed)
            looked_at += len(page)
            if looked_at >= LOOKED_AT:
                break
        found = sorted(groups.values(), key=len, reverse=True)
        return FailureGroups(
            groups=[_group(alike) for alike in found], looked_at=looked_at, is_all=looked_at < LOOKED_AT
        )

    async def retry_failures(self, project: str, stage: str, pattern: str) -> int:
        """Queue every failed job of a group again; return how many those were."""
        await self._store.reads.project_id(project)  # raises for an unknown one
        again = 0
        async for page in self._pages_of_failed(project):
            alike = [id for id, _, at, _, reason, _ in page if at == stage and pattern_of(reason) == pattern]
            for start in range(0, len(alike), RETRIED_AT_ONCE):
                again += await self.retry(alike[start : start + RETRIED_AT_ONCE])
        return again

    async def _pages_of_failed(self, project: str | None) -> AsyncIterator[list[Failed]]:
        """Yield the failed jobs, the newest first, page after page."""
        before = 1 << 62
        while page := await self._store.reads.failed(project, before=before):
            before = page[-1][0]
            yield page
            await asyncio.sleep(0)


def _group(alike: list[Failed]) -> FailureGroup:
    _, project, stage, newest, reason, _ = alike[0]
    workers = Counter(failed[5] for failed in alike if failed[5])
    return FailureGroup(
        project=project, stage=stage, pattern=pattern_of(reason), count=len(alike), reason=reason,
        jobs=[failed[0] for failed in alike[:SHOWN]], newest=newest, oldest=alike[-1][3],
        workers=dict(workers.most_common(WORKERS_SHOWN)),
    )  # fmt: skip
