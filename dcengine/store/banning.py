"""Banning a contributor: its tokens are revoked, its votes count no more. Of its work `voiding` takes care."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import NotFound, StageRetired
from ..events import Kind
from ..jobs import State
from .handing import Consequences, Queued
from .ledger import Ledger
from .names import Names
from .outsiders import OutsiderReads
from .reopening import Reopened, Reopening
from .tokens import SELECT_TOKENS, StoredToken

LOOK_LIMIT = 50_000  #: votes that one slice goes through
UNFINISHED = "ban:"  #: begins the key under which `meta` has a ban that is not at its end, by contributor

IS_KNOWN = """
SELECT EXISTS (SELECT 1 FROM contributor WHERE nickname = :nickname)
    OR EXISTS (SELECT 1 FROM token WHERE nickname = :nickname)
    OR EXISTS (SELECT 1 FROM worker WHERE nickname = :nickname)
"""
NOTE_BAN = """
INSERT INTO meta (key, value)
VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET value = min(value, excluded.value)
"""
SELECT_LAST_VOTE = """
SELECT task, voter
FROM flag
WHERE (task, voter) > (:task, :voter)
ORDER BY task, voter
LIMIT 1 OFFSET :limit
"""
# Those that count for something still: on what is not ended, or has failed for them.
WITHDRAW = f"""
DELETE FROM flag
WHERE (task, voter) > (:task, :voter) AND (task, voter) <= (:last_task, :last_voter) AND voter = :contributor
    AND at >= :since AND task IN (
        SELECT id FROM task WHERE task.id = flag.task AND (state < {State.SUCCEEDED:d} OR state = {State.FAILED:d})
    )
RETURNING task
"""
COUNT_DOWN = """
UPDATE task
SET flags = flags - 1
WHERE id = ?
RETURNING job, stage, submitter, priority, state, flags, (SELECT votes FROM stage WHERE stage.id = task.stage)
"""
SELECT_BANNED = """
SELECT nickname, banned
FROM contributor
WHERE banned IS NOT NULL
ORDER BY banned DESC, id DESC
"""
SELECT_UNFINISHED = f"""
SELECT contributor.id, contributor.nickname, meta.value
FROM meta
JOIN contributor ON contributor.id = CAST(substr(meta.key, {len(UNFINISHED) + 1}) AS INTEGER)
WHERE meta.key GLOB '{UNFINISHED}*'
"""
SELECT_TODAY = """
SELECT standing.day
FROM project
CROSS JOIN contributor
CROSS JOIN standing ON standing.project = project.id AND standing.contributor = contributor.id
WHERE project.name = ? AND contributor.nickname = ?
"""


@dataclass(slots=True)
class BanBegun:
    """A contributor that is banned, and how far its work is to be gone through."""

    contributor: int
    since: int
    last_credit: int
    tokens: list[StoredToken]  #: of its own that were revoked with this


@dataclass(slots=True)
class BanContributor:
    """Ban a contributor and revoke its tokens; the result is `BanBegun`, or `NotFound` for a nickname never met."""

    rank: ClassVar[int] = 1
    nickname: str
    since: int  #: microseconds; its work from then on is to be voided
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[BanContributor]) -> list[Any]:
        return [operation._ban(connection, names) for operation in operations]

    def _ban(self, connection: sqlite3.Connection, names: Names) -> BanBegun | NotFound:
        if not connection.execute(IS_KNOWN, {"nickname": self.nickname}).fetchone()[0]:
            return NotFound("contributor", repr(self.nickname))
        contributor = names.contributor(connection, self.nickname)
        connection.execute("UPDATE contributor SET banned = coalesce(banned, ?) WHERE id = ?", (self.at, contributor))
        connection.execute(NOTE_BAN, (f"{UNFINISHED}{contributor}", self.since))
        revoked = connection.execute(
            "UPDATE token SET revoked = ? WHERE nickname = ? AND revoked IS NULL RETURNING id", (self.at, self.nickname)
        ).fetchall()
        tokens = [connection.execute(f"{SELECT_TOKENS} WHERE token.id = ?", row).fetchone() for row in revoked]
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM credit").fetchone()
        ledger = Ledger(connection, names, self.at)
        ledger.event(Kind.BANNED, contributor=contributor, units=0)
        ledger.write()
        return BanBegun(contributor, self.since, last, [StoredToken(*row) for row in tokens])


@dataclass(slots=True)
class EndBan:
    """Note that all of a banned contributor's work was gone through."""

    rank: ClassVar[int] = 1
    contributor: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[EndBan]) -> list[Any]:
        for operation in operations:
            connection.execute("DELETE FROM meta WHERE key = ?", (f"{UNFINISHED}{operation.contributor}",))
        return [None] * len(operations)


@dataclass(slots=True)
class UnbanContributor:
    """Take a ban back; the result is whether there was one, or `NotFound`. What was voided stays so."""

    rank: ClassVar[int] = 1
    nickname: str
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[UnbanContributor]) -> list[Any]:
        return [operation._unban(connection, names) for operation in operations]

    def _unban(self, connection: sqlite3.Connection, names: Names) -> bool | NotFound:
        row = connection.execute("SELECT id, banned FROM contributor WHERE nickname = ?", (self.nickname,)).fetchone()
        if row is None:
            return NotFound("contributor", repr(self.nickname))
        contributor, banned = row
        if banned is None:
            return False
        connection.execute("UPDATE contributor SET banned = NULL WHERE id = ?", (contributor,))
        ledger = Ledger(connection, names, self.at)
        ledger.event(Kind.WELCOMED, contributor=contributor, units=0)
        ledger.write()
        return True


# ---- votes ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Withdrawn:
    """What one slice of votes came to."""

    consequences: Consequences = field(default_factory=Consequences)
    again: Reopened = field(default_factory=Reopened)  #: jobs that would not have failed without them
    last: tuple[int, str] | None = None  #: the last one that was looked at; None at the end


@dataclass(slots=True)
class WithdrawVotes:
    """Have the votes of a voter count no more, where they have not moved a job; the result is `Withdrawn`.

    A job that has failed for them is tried again, so that others may look at its input once more.
    """

    rank: ClassVar[int] = 1
    voter: str
    since: int
    after: tuple[int, str]
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[WithdrawVotes]) -> list[Any]:
        return [operation._withdraw(connection, names) for operation in operations]

    def _withdraw(self, connection: sqlite3.Connection, names: Names) -> Withdrawn:
        ledger, result = Ledger(connection, names, self.at), Withdrawn()
        reopening = Reopening(connection, ledger)
        result.again = reopening.result
        scope = {"task": self.after[0], "voter": self.after[1]}
        result.last = connection.execute(SELECT_LAST_VOTE, {**scope, "limit": LOOK_LIMIT}).fetchone()
        last_task, last_voter = result.last or (1 << 62, "")
        scope = {**scope, "last_task": last_task, "last_voter": last_voter, "contributor": self.voter}
        for task in connection.execute(WITHDRAW, {**scope, "since": self.since}).fetchall():
            job, stage, submitter, priority, state, flags, votes = connection.execute(COUNT_DOWN, task).fetchone()
            if state == State.QUEUED and not flags:
                result.consequences.queued.append(Queued(stage, submitter, priority))
            elif state == State.FAILED and flags + 1 >= votes > flags:
                with suppress(StageRetired):
                    reopening.retry(job)
        ledger.write()
        return result


# ---- questions -----------------------------------------------------------------------------


class BanReads(OutsiderReads):
    """Answers who is banned too."""

    async def banned(self) -> list[tuple[str, int]]:
        """Return the nicknames that are banned, and since when, the newest first."""
        return [tuple(row) for row in await self._all(SELECT_BANNED)]

    async def unfinished_bans(self) -> list[tuple[int, str, int]]:
        """Return contributor, nickname and beginning of the bans that are not at their end."""
        return [tuple(row) for row in await self._all(SELECT_UNFINISHED)]

    async def accepted_today(self, project: str, nickname: str) -> int:
        """Return what *nickname* has earned in *project* in the last 24 hours."""
        row = await self._one(SELECT_TODAY, project, nickname)
        return 0 if row is None else int(row[0])
