"""Questions about credit: leaderboards, and one contributor's place."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from ..errors import NotFound
from ..verbs import LeaderboardRow, Span, Standing
from .names import FUNCTIONS
from .project_reads import ProjectReads

COLUMNS: dict[Span, str] = {"all": "units", "month": "month", "week": "week", "day": "day"}
# CROSS JOIN keeps the order of the index, so that nothing is sorted.
SELECT_LEADERBOARD = """
SELECT contributor.nickname, standing.{span}, standing_total.{span}
FROM project
CROSS JOIN standing_total ON standing_total.project = project.id
CROSS JOIN standing ON standing.project = project.id
CROSS JOIN contributor ON contributor.id = standing.contributor
WHERE project.name = ? AND project.is_deleted = 0 AND standing.{span} > 0
ORDER BY standing.{span} DESC, standing.contributor
LIMIT ?
"""
# Going through an index takes 50 ns a row, so the rows between a place and the nearer end are counted. A look at
# 32 contributors says which end that is; where it errs, both are far away alike.
SELECT_STANDING = """
WITH
mine AS MATERIALIZED (
    SELECT project.id AS project, standing.{span} AS units, standing_total.{span}_contributors AS contributors
    FROM project
    CROSS JOIN contributor
    CROSS JOIN standing ON standing.project = project.id AND standing.contributor = contributor.id
    CROSS JOIN standing_total ON standing_total.project = project.id
    WHERE project.name = ? AND project.is_deleted = 0 AND contributor.nickname = ? AND standing.units > 0
),
ends AS MATERIALIZED (
    SELECT (SELECT min(contributor) FROM standing WHERE project = mine.project) AS first,
        (SELECT max(contributor) FROM standing WHERE project = mine.project) AS last
    FROM mine
),
probe (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM probe WHERE n < 31),
seen (units) AS (
    SELECT (
        SELECT standing.{span}
        FROM standing
        WHERE standing.project = mine.project
            AND standing.contributor >= ends.first + (ends.last - ends.first) * probe.n / 32
        ORDER BY standing.contributor
        LIMIT 1
    )
    FROM mine, ends, probe
)
SELECT mine.units, mine.contributors,
    CASE
        WHEN mine.units = 0 THEN mine.contributors
        WHEN (SELECT avg(seen.units > mine.units) > 0.5 FROM seen, mine WHERE seen.units > 0) THEN mine.contributors - (
            SELECT count(*)
            FROM standing
            WHERE standing.project = mine.project AND standing.{span} > 0 AND standing.{span} <= mine.units
        )
        ELSE (
            SELECT count(*)
            FROM standing
            WHERE standing.project = mine.project AND standing.{span} > mine.units
        )
    END
FROM mine
"""
OF_ALL = f"""
SELECT standing.contributor, sum(standing.{{span}}) AS units, sum(standing.units) AS ever
FROM project
CROSS JOIN standing ON standing.project = project.id
WHERE project.is_deleted = 0 AND project.id <> {FUNCTIONS}
GROUP BY standing.contributor
"""
SELECT_LEADERBOARD_OF_ALL = f"""
WITH given AS MATERIALIZED ({OF_ALL})
SELECT contributor.nickname, given.units, (SELECT sum(units) FROM given)
FROM given
JOIN contributor ON contributor.id = given.contributor
WHERE given.units > 0
ORDER BY given.units DESC, given.contributor
LIMIT ?
"""
SELECT_STANDING_IN_ALL = f"""
WITH given AS MATERIALIZED ({OF_ALL})
SELECT mine.units, (SELECT count(*) FROM given WHERE units > 0), (SELECT count(*) FROM given WHERE units > mine.units)
FROM contributor
JOIN given AS mine ON mine.contributor = contributor.id
WHERE contributor.nickname = ? AND mine.ever > 0
"""
SELECT_EARNED = """
SELECT hour, sum(units)
FROM earning
WHERE hour > ? AND hour <= ? AND project = ?
GROUP BY hour
"""


class StandingReads(ProjectReads):
    """Answers questions about credit too."""

    async def leaderboard(self, project: str, *, span: Span = "all", limit: int = 1000) -> list[LeaderboardRow]:
        """Return who earned how much in *span*, most first, equals by name; raises `NotFound`."""
        await self._known(project)
        return _ranked(await self._all(SELECT_LEADERBOARD.format(span=COLUMNS[span]), project, limit))

    async def leaderboard_of_all(self, *, span: Span, limit: int) -> list[LeaderboardRow]:
        """Return the same of all projects together, but for calls."""
        return _ranked(await self._all(SELECT_LEADERBOARD_OF_ALL.format(span=COLUMNS[span]), limit))

    async def standing_in_all(self, nickname: str, *, span: Span) -> Standing:
        """Return the place of *nickname* there; raises `NotFound` for one without credit."""
        row = await self._one(SELECT_STANDING_IN_ALL.format(span=COLUMNS[span]), nickname)
        if row is None:
            raise NotFound("contributor", f"{nickname!r} with credit of any project")
        units, contributors, above = row
        return Standing(nickname, above + 1, units, contributors)

    async def standing(self, project: str, nickname: str, *, span: Span = "all") -> Standing:
        """Return the place of *nickname*; raises `NotFound` for an unknown project or one without credit."""
        row = await self._one(SELECT_STANDING.format(span=COLUMNS[span]), project, nickname)
        if row is None:
            await self._known(project)
            raise NotFound("contributor", f"{nickname!r} with credit of project {project!r}")
        units, contributors, above = row
        return Standing(nickname, above + 1, units, contributors)

    async def earned(self, project: int, hour: int, hours: int) -> list[int]:
        """Return the credit given in each of the *hours* up to *hour*, since 1970, the oldest first."""
        rows = await self._all(SELECT_EARNED, hour - hours, hour, project)
        given = dict(rows)
        return [given.get(each, 0) for each in range(hour - hours + 1, hour + 1)]

    async def _known(self, project: str) -> None:
        """Raise `NotFound` for an unknown project."""
        if await self._one("SELECT 1 FROM project WHERE name = ? AND is_deleted = 0", project) is None:
            raise NotFound("project", project)


def _ranked(rows: list[Any]) -> list[LeaderboardRow]:
    """Return *rows* of (nickname, units, units of all), most units first, with their ranks."""
    leaderboard, rank = list[LeaderboardRow](), 1
    for units, alike in groupby(rows, key=lambda row: row[1]):
        for nickname, _, total in sorted(alike):
            leaderboard.append(LeaderboardRow(nickname, units, units / total, rank))
        rank = len(leaderboard) + 1
    return leaderboard
