"""Answers that are lists, equal to plain ones, and print as small tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .handles import Link
from .plain import clean, table
from .verbs import LeaderboardRow, WorkerStatus

LONGEST = 50  #: rows that are printed


class Leaderboard(list[LeaderboardRow]):
    """The contributors of one project, most credit first, as they stood when they were asked for."""

    def __init__(
        self, rows: Iterable[LeaderboardRow] = (), project: str = "functions", link: Link | None = None
    ) -> None:
        super().__init__(rows)
        self.project = project
        self.link = link  #: where to ask again; a copy in another process has none

    def __repr__(self) -> str:
        if not self:
            return f"no contributor of {clean(self.project)} has credit yet"
        rows = [
            (str(place), clean(row.nickname, 40), f"{row.tasks:,}", f"{row.share:.1%}")
            for place, row in enumerate(self[:LONGEST], 1)
        ]
        printed = table(("", "contributor", "tasks", "share"), rows, numbers=("", "tasks", "share"))
        return printed + _more(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Leaderboard, (list(self), self.project)


class WorkerList(list[WorkerStatus]):
    """The workers of an engine, as they stood when they were asked for."""

    def __init__(self, rows: Iterable[WorkerStatus] = (), link: Link | None = None) -> None:
        super().__init__(rows)
        self.link = link  #: where to ask again; a copy in another process has none

    def __repr__(self) -> str:
        if not self:
            return "no workers"
        rows = [
            (clean(row.name, 40), row.state, f"{row.busy} of {row.slots}", clean(row.contributor, 40), tag_text(row))
            for row in self[:LONGEST]
        ]
        return table(("name", "state", "busy", "contributor", "tags"), rows) + _more(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerList, (list(self),)


def tag_text(worker: WorkerStatus) -> str:
    """Return the tags of *worker* as people write them."""
    return ", ".join(tag if value is None else f"{tag}={value}" for tag, value in worker.tags.items())


def _more(count: int) -> str:
    return "" if count <= LONGEST else f"\nand {count - LONGEST:,} more"
