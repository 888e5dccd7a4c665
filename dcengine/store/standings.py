"""Credit over time: what contributors have earned in all, and in the hours, days and weeks behind us.

Each accepted piece of work enters three tables: `credit` has the entry itself, `earning` the sum of an hour,
`standing` the sums that leaderboards show. A span is the current hour and the 23, 167 or 719 before it. Which
hour is the current one stands in the file (`meta`, key `hour`) and never goes back, whatever the clock does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .names import Names

HOUR = 3_600_000_000  #: microseconds
HOURS = {"day": 24, "week": 168, "month": 720}  #: in each span, by the name of its column

ADD_TO_STANDING = """
INSERT INTO standing (project, contributor, units, day, week, month)
VALUES (?1, ?2, ?3, ?3, ?3, ?3)
ON CONFLICT (project, contributor) DO UPDATE SET
    units = units + excluded.units, day = day + excluded.day, week = week + excluded.week,
    month = month + excluded.month
"""
ADD_TO_EARNING = """
INSERT INTO earning (hour, project, contributor, units)
VALUES (?, ?, ?, ?)
ON CONFLICT (hour, project, contributor) DO UPDATE SET units = units + excluded.units
"""
TAKE_FROM_STANDING = """
UPDATE standing
SET units = units - ?, day = day - ?, week = week - ?, month = month - ?
WHERE project = ? AND contributor = ?
"""
TAKE_FROM_EARNING = """
UPDATE earning
SET units = units - ?
WHERE hour = ? AND project = ? AND contributor = ?
"""
#: What fell out of each span while the current hour moved on.
TAKE_WHAT_IS_OVER = tuple(
    f"""
UPDATE standing
SET {span} = {span} - gone.units
FROM (
    SELECT project, contributor, sum(units) AS units
    FROM earning
    WHERE hour > :before - {hours} AND hour <= :now - {hours}
    GROUP BY project, contributor
) AS gone
WHERE standing.project = gone.project AND standing.contributor = gone.contributor
"""
    for span, hours in HOURS.items()
)


def add_credit(connection: sqlite3.Connection, entries: Mapping[tuple[int, int], int], at: int) -> int:
    """Add units to what each (project, contributor) has earned; return the time for which they count.

    That is *at*, or the beginning of the current hour if the clock has gone back behind it: what is stored with an
    entry, so that it can be taken back from the same hour.
    """
    at = max(at, current_hour(connection) * HOUR)
    earned = [(*key, units) for key, units in entries.items() if units]
    connection.executemany(ADD_TO_STANDING, earned)
    connection.executemany(ADD_TO_EARNING, [(at // HOUR, *entry) for entry in earned])
    return at


def void_credit(connection: sqlite3.Connection, project: int, contributor: int, units: int, earned_at: int) -> None:
    """Take *units* back that counted for the time *earned_at*, from every span that they are still in."""
    hour, now = earned_at // HOUR, current_hour(connection)
    still = [units if hour > now - HOURS[span] else 0 for span in ("day", "week", "month")]
    connection.execute(TAKE_FROM_STANDING, (units, *still, project, contributor))
    connection.execute(TAKE_FROM_EARNING, (units, hour, project, contributor))


def current_hour(connection: sqlite3.Connection) -> int:
    """Return the hour, since 1970, with which spans end."""
    (hour,) = connection.execute("SELECT value FROM meta WHERE key = 'hour'").fetchone()
    return int(hour)


@dataclass(slots=True)
class RollHours:
    """Make the hour of *at* the current one, and take what is over from every span; True if the hour is a new one.

    Hours are kept for as long as the longest span, so after years there is no more to take than after a month.
    """

    rank: ClassVar[int] = 1
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[RollHours]) -> list[Any]:
        before, now = current_hour(connection), max(operation.at for operation in operations) // HOUR
        if now > before:
            for statement in TAKE_WHAT_IS_OVER:
                connection.execute(statement, {"before": before, "now": now})
            connection.execute("DELETE FROM earning WHERE hour <= ?", (now - HOURS["month"],))
            connection.execute("UPDATE meta SET value = ? WHERE key = 'hour'", (now,))
        return [now > before] * len(operations)
