"""Questions about one contributor: when it has earned how much, where, and what for."""

from __future__ import annotations

from typing import NamedTuple

from ..verbs import Earned, ProjectCredit, StageCredit
from .find_reads import FindReads

LOOKED_AT = 100_000  #: entries of credit, of all contributors, in which those of one are looked for: it has no index
SHOWN = 20  #: of its newest entries

OF_LATE = f"credit.id > (SELECT coalesce(max(id), 0) FROM credit) - {LOOKED_AT}"
WHERE_EARNED = f"""
FROM credit
JOIN project ON project.id = credit.project AND project.is_deleted = 0
LEFT JOIN task ON task.id = credit.task
LEFT JOIN stage ON stage.id = task.stage
LEFT JOIN job ON job.id = task.job
WHERE {OF_LATE} AND credit.contributor = ?1 AND credit.void = 0
    AND (?2 IS NULL OR project.name = ?2)
"""
STAGE = "coalesce(stage.name, CASE WHEN credit.chunk IS NULL THEN '' ELSE 'call' END)"
SELECT_BY_STAGE = f"""
SELECT project.name, {STAGE}, sum(credit.units)
{WHERE_EARNED}
GROUP BY 1, 2
ORDER BY 3 DESC, 1, 2
"""
SELECT_NEWEST = f"""
SELECT project.name, {STAGE}, job.id, job.number, credit.units, credit.at
{WHERE_EARNED}
ORDER BY credit.id DESC
LIMIT {SHOWN}
"""
SELECT_PROJECTS = """
SELECT project.name, standing.units, standing.month, standing.week, standing.day
FROM project
CROSS JOIN standing ON standing.project = project.id AND standing.contributor = ?1
WHERE project.is_deleted = 0 AND standing.units > 0 AND (?2 IS NULL OR project.name = ?2)
ORDER BY standing.units DESC, project.name
"""
# The hours come first in the key, so each is looked up for each project of the contributor's.
SELECT_HOURS = """
WITH RECURSIVE
hours (hour) AS (SELECT ?3 UNION ALL SELECT hour + 1 FROM hours WHERE hour < ?4),
mine (project) AS MATERIALIZED (
    SELECT project.id
    FROM project
    CROSS JOIN standing ON standing.project = project.id AND standing.contributor = ?1
    WHERE project.is_deleted = 0 AND (?2 IS NULL OR project.name = ?2)
)
SELECT hours.hour, sum(earning.units)
FROM hours
CROSS JOIN mine
CROSS JOIN earning ON earning.hour = hours.hour AND earning.project = mine.project
    AND earning.contributor = ?1
GROUP BY 1
"""


class Credited(NamedTuple):
    """What one contributor has earned."""

    banned: float | None  #: Unix seconds
    projects: list[ProjectCredit]
    stages: list[StageCredit]
    newest: list[Earned]
    hours: list[int]


class ContributorReads(FindReads):
    """Answers what one contributor has done too."""

    async def credited(self, nickname: str, *, project: str | None, hour: int, hours: int) -> Credited | None:
        """Return what *nickname* has earned, in *project* alone if it is given, also in each of *hours* up to *hour*.

        None for one that was never met.
        """
        async with self._page():
            row = await self._one("SELECT id, banned FROM contributor WHERE nickname = ?", nickname)
            if row is None:
                return None
            scope = row[0], project
            given = dict(await self._all(SELECT_HOURS, *scope, hour - hours + 1, hour))
            return Credited(
                banned=None if row[1] is None else row[1] / 1e6,
                projects=[ProjectCredit(*each) for each in await self._all(SELECT_PROJECTS, *scope)],
                stages=[StageCredit(*each) for each in await self._all(SELECT_BY_STAGE, *scope)],
                newest=[_earned(*each) for each in await self._all(SELECT_NEWEST, *scope)],
                hours=[given.get(each, 0) for each in range(hour - hours + 1, hour + 1)],
            )


def _earned(project: str, stage: str, job: int | None, number: int | None, units: int, at: int) -> Earned:
    return Earned(project, stage, job, number, units, at / 1e6)
