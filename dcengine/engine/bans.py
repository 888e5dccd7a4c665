"""Contributors that are banned: nothing is given to them, nothing taken from them, and what they did is done again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from ..cluster import ClusterSettings
from ..errors import StoreError
from ..store import now
from ..store.banning import BanBegun, BanContributor, EndBan, UnbanContributor, Withdrawn, WithdrawVotes
from ..store.voiding import Voided, VoidWork
from ..times import moment
from ..verbs import BanDone, ContributorStatus
from .dispatch import to_the_end
from .hands import token_of
from .outcomes import released
from .tokens import Tokens

logger = logging.getLogger(__name__)

SLICE = 200  #: tasks voided in one transaction
SLICE_PAUSE_SECONDS = 0.01  #: between two of them: others write too
AGAIN_SECONDS = 5.0  #: after a slice that failed


class Bans(Tokens):
    """Bans contributors, and lets them in again."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._ban_turn = asyncio.Lock()  #: one after the other

    # ---- verbs -----------------------------------------------------------------------------

    @to_the_end
    async def ban_contributor(self, nickname: str, *, since: float | None = None) -> BanDone:
        """Take nothing from *nickname* any more, and have what it did since a time done again; all of it, if not given.

        Raises `NotFound` for a nickname that was never met. Said again, it goes on where it stopped.
        """
        if since is not None:
            since = max(0.0, moment("since", since))
        async with self._ban_turn:
            was_banned = nickname in self._banned
            self._banned.add(nickname)
            try:
                begun = await self._begin_ban(nickname, int((since or 0.0) * 1_000_000))
            except BaseException:
                if not was_banned:
                    self._banned.discard(nickname)
                raise
            leases = await self._take_back_from(nickname)
            voided, requeued = await self._void(nickname, begun)
            logger.info(
                "%r was banned: %d task(s) count no more, %d are done again, %d were in its hands, %d token(s) revoked",
                nickname, voided, requeued, leases, len(begun.tokens),
            )  # fmt: skip
            return BanDone(
                nickname=nickname, since=since, voided=voided, requeued=requeued, leases=leases,
                tokens=len(begun.tokens),
            )  # fmt: skip

    @to_the_end
    async def unban_contributor(self, nickname: str) -> ContributorStatus:
        """Welcome *nickname* again; what was voided stays so. Raises `NotFound`."""
        async with self._ban_turn:
            await self._submit(UnbanContributor(nickname, now()), 0, lambda _: self._banned.discard(nickname))
        return ContributorStatus(nickname=nickname)

    async def banned_contributors(self) -> list[ContributorStatus]:
        """Return who is banned, the newest first."""
        found = await self._store.reads.banned()
        return [ContributorStatus(nickname=nickname, banned=at / 1e6) for nickname, at in found]

    # ---- step by step ----------------------------------------------------------------------

    async def _begin_ban(self, nickname: str, since: int) -> BanBegun:
        """Store the ban; from then on an engine that is killed leaves the rest of it to the next."""
        begun: BanBegun = await self._submit(BanContributor(nickname, since, now()), 0, lambda _: None)
        for token in begun.tokens:
            self._know(token)
        return begun

    async def _take_back_from(self, nickname: str) -> int:
        """Take what *nickname* holds out of its hands; return how many tasks those were."""
        if self._reported:  # what it has said before counts, and is voided like all else
            await asyncio.wait(list(self._reported.values()))
        tokens = [token for token, held in self._leases.items() if nickname in (held.contributor, held.voter)]
        helds = [held for token in tokens if (held := self._leases.pop(token)) is not None]
        for start in range(0, len(helds), SLICE):
            some = helds[start : start + SLICE]
            await asyncio.gather(
                *(self._move(held.task, released(held.task, f"{nickname} was banned")) for held in some)
            )
        return len(helds)

    async def _void(self, nickname: str, begun: BanBegun) -> tuple[int, int]:
        """Void what a banned contributor did; return how many tasks, and how many of them are done again."""
        voided = requeued = 0
        async for done in self._voided(nickname, begun):
            voided, requeued = voided + done.voided, requeued + done.requeued
            self._were_voided(done)
        after: tuple[int, str] | None = (0, "")
        while after is not None:
            withdrawn: Withdrawn = await self._write(WithdrawVotes(nickname, begun.since, after, now()))
            after = withdrawn.last
            self._take_note(withdrawn.consequences)
            await self._reopened(withdrawn.again)
        await self._write(EndBan(begun.contributor))
        return voided, requeued

    async def _voided(self, nickname: str, begun: BanBegun) -> AsyncIterator[Voided]:
        """Yield what each slice of a contributor's work came to."""
        last = 0
        while True:
            done: Voided = await self._write(
                VoidWork(begun.contributor, nickname, begun.since, last, begun.last_credit, SLICE, now())
            )
            yield done
            if done.is_all:
                return
            last = done.last
            await asyncio.sleep(SLICE_PAUSE_SECONDS)

    def _were_voided(self, done: Voided) -> None:
        """Learn what is to be done again, and let nobody go on with what was made of it."""
        gone = {task for task, _, _ in done.taken}
        for place in done.taken:
            self._leases.pop(token_of(*place))
        self._cancel_running(lambda running: any(task.id in gone for task in running.tasks))
        for job in done.jobs:
            self._ends.forget(job)
            self._unwanted.discard(job)
        self._take_note(done.consequences)
        for job in done.jobs:
            self._bus.publish(("job", job))

    # ---- after a restart -------------------------------------------------------------------

    async def _load_bans(self) -> None:
        """Learn who is banned, and go on with what an ended engine had not come to the end of."""
        self._banned = {nickname for nickname, _ in await self._store.reads.banned()}
        for _, nickname, since in await self._store.reads.unfinished_bans():
            self._own(self._go_on_banning(nickname, since))

    async def _go_on_banning(self, nickname: str, since: int) -> None:
        while self._store.broken is None:
            try:
                await self.ban_contributor(nickname, since=since / 1e6)
                return
            except StoreError as error:
                logger.warning("banning %r: %s", nickname, error)
                await asyncio.sleep(AGAIN_SECONDS)
