"""The life of sessions: begun by a call, used by others, lost with their process, which is told once."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Awaitable
from pathlib import Path

import msgspec

from ..cluster import ClusterSettings, Slot, WorkerGone
from ..codec import failure_from
from ..errors import DcengineError, InvalidOption, SessionLost, StoreError, TooManySessions
from ..jobs import Task
from ..runner.units import Ending, UnitReport
from ..store import now
from ..store.leasing import Holder
from ..store.sessions import BeginSession, LoseSession, LoseSessions, SessionRecord
from ..tags import session_of, with_session
from ..verbs import JobStatus, SessionStatus, Submission
from .aftermath import Aftermath
from .feeding import fits
from .outcomes import Outcome, failed
from .running import Running
from .session_places import SESSIONS_LIMIT, UNNAMED, Place
from .waiting import TaskSource

logger = logging.getLogger(__name__)

RECORDS_KNOWN = 2_000  #: sessions, above which those are forgotten whose loss was told, the oldest first
LOOK_SECONDS = 5.0  #: between two looks for sessions that nobody uses


class Sessions(Aftermath):
    """Runs the tasks of a session one after the other where its process is."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._records: dict[str, SessionRecord] = {}  #: also of sessions that are lost

    @abstractmethod
    async def _move(self, before: Task, outcome: Outcome, slot: Slot | None = None) -> None:
        """Store what became of a task."""

    @abstractmethod
    async def kill(self, id: int) -> JobStatus:
        """Cancel job *id*; if it runs, end its process."""

    # ---- verbs -----------------------------------------------------------------------------

    async def sessions(self) -> list[SessionStatus]:
        """Return the sessions that live, and the lost ones of which nobody was told yet."""
        placed = self._sessions.placed
        living = [
            SessionStatus(
                name=one.name, worker=one.slot.worker.name, state="busy" if one.is_busy else "idle",
                began=self._records[one.name].began / 1e6, idle=one.idle, job=one.job,
            )
            for one in placed.values()
            if one.name in self._records
        ]  # fmt: skip
        lost = [
            SessionStatus(name=one.name, worker=one.worker, state="lost", began=one.began / 1e6, lost=one.lost)
            for one in self._records.values()
            if one.lost is not None and one.told is None
        ]
        return sorted([*living, *lost], key=lambda one: one.name)

    async def end_session(self, name: str) -> bool:
        """End a session and what runs in it; return False if there is none. What still waits for it fails."""
        place, record = self._sessions.placed.get(name), self._records.get(name)
        if record is not None and record.told is None:  # first, so that what waits does not begin it anew
            await self._lose(name, "was ended, since somebody asked for it", is_told=True)
        elif place is None:
            return False
        if place is not None:
            self._sessions.remove(place)
            if place.is_busy and place.job:
                await self.kill(place.job)
            await self._end_process(place)
        return True

    def _why_in_session(self, status: JobStatus) -> str | None:
        name = session_of(status.tags)
        place = self._sessions.placed.get(name) if name is not None else None
        if place is None:
            return None
        turn = f"where job {place.job} is running" if place.is_busy else "whose slot has other work at the moment"
        return f"job {status.id} waits for its turn in session {name!r} on {place.slot.worker.name}, {turn}"

    # ---- a call ----------------------------------------------------------------------------

    def _in_session(self, submission: Submission) -> Submission:
        """Return the *submission* of a call in a session with tags that say so; raises `InvalidOption`."""
        options, name = submission.options, submission.options.session or ""
        if not self._settings.processes:
            raise InvalidOption("session", repr(name), "worker processes: with processes=False there is none to keep")
        place = self._sessions.placed.get(name)
        if place is not None:
            worker, tags = place.slot.worker, place.tags
            if not fits(options.tags, worker):
                expected = f"what worker {worker.name} has, where session {name!r} is; or another session"
                raise InvalidOption("tags", repr(options.tags), expected)
        else:
            waiting = self._waiting_for(name) if not options.tags else None
            tags = waiting or with_session(options.tags, name)
        # A crash takes the session along: there is nothing to run again in.
        options = msgspec.structs.replace(options, tags=tags, session=None, crash_retries=0)
        return msgspec.structs.replace(submission, options=options)

    def _waiting_for(self, name: str) -> str | None:
        """Return the tags of what waits for session *name* to begin."""
        return next((one.tags for one in self._feed.sources() if session_of(one.tags) == name), None)

    def _feed_session(self, source: TaskSource, slot: Slot) -> None:
        """Have the next task of *source* run in its session, which begins on *slot* if it is not there yet."""
        assert source.session is not None
        place = self._sessions.placed.get(source.session)
        if place is None:
            place = Place(source.session, slot, source.tags)
            self._devices.take(place.holder, source.tags)
            self._sessions.add(place)
        place.is_busy = True
        source.take(1)
        self._hold(slot, 1)
        self._own(self._run_in_session(self._lease(source, 1, Holder(slot.worker.name)), place))

    async def _run_in_session(self, leased: Awaitable[list[Task]], place: Place) -> None:
        try:
            for task in await leased:
                place.job = task.job
                await self._run_at(place, task)
        finally:
            place.is_busy, place.used = False, time.monotonic()
            if not place.is_begun:
                self._give_up(place)
            self._let_go(place.slot)
            self._hungry.set()

    async def _run_at(self, place: Place, task: Task) -> None:
        try:
            if not place.is_begun:
                await self._begin(place, task)
        except (SessionLost, TooManySessions) as error:
            await self._move(task, failed(task, failure_from(error)), place.slot)
        else:
            await self.run(task, place.slot, second=Running(task, place.slot, place=place))

    async def _begin(self, place: Place, task: Task) -> None:
        """Note durably that *task* begins a session; raises `SessionLost` where it expects one that was."""
        record = self._records.get(place.name)
        if record is not None and record.is_missed_by(task.job):
            await self._lose(place.name, record.lost or "", is_told=True)
            raise _loss_of(record)
        if len(self._sessions.on(place.slot.worker.name)) > SESSIONS_LIMIT:
            raise TooManySessions(place.slot.worker.name, SESSIONS_LIMIT)
        begun = BeginSession(place.name, task.job, place.slot.worker.name, now())
        self._note_session(await self._write(begun))

    def _heard_in_session(self, place: Place, report: UnitReport) -> None:
        """Take note that a call was run at *place*, if it was."""
        place.is_begun = place.is_begun or report.endings[0] != Ending.NOT_RUN

    async def _left_in_session(self, running: Running, name: str) -> None:
        """Take note that the process of *running* stays as session *name*, with its devices."""
        slot, job = running.slot, running.job_of(0)
        others = self._sessions.on(slot.worker.name)
        place = Place(name, slot, with_session("", name))
        place.job, place.is_begun = job, True
        self._devices.hand_on(slot, place.holder)
        self._sessions.add(place)
        if len(others) >= SESSIONS_LIMIT:
            spare = [one for one in others if not one.is_busy and one.name.startswith(UNNAMED)]
            await self._end_for(spare[0] if spare else place, "was ended to make room for another session")
        if name in self._sessions.placed:
            self._note_session(await self._write(BeginSession(name, job, slot.worker.name, now())))

    # ---- its end ---------------------------------------------------------------------------

    async def _failed_in_session(self, place: Place, error: DcengineError) -> None:
        """Take note of *error*, with which the way to the process of *place* ended, before anybody is told."""
        if isinstance(error, SessionLost):
            await self._lose(place.name, error.what, at=error.at, is_told=True)
        elif isinstance(error, WorkerGone) and place.is_begun:
            await self._lose(place.name, "ended with the worker")
        else:
            return
        place.is_begun = False

    async def _end_for(self, place: Place, what: str) -> None:
        """End the session at *place*, for a reason that who uses it next is told."""
        self._know_lost(place.name, what)
        self._sessions.remove(place)
        await self._lose(place.name, what)
        await self._end_process(place)

    async def _end_process(self, place: Place) -> None:
        await self._cluster.end_session(place.name, place.slot)
        self._give_up(place)

    def _give_up(self, place: Place) -> None:
        self._sessions.remove(place)
        self._devices.give_back(place.holder)
        self._hungry.set()

    async def _lose(self, name: str, what: str, *, at: float | None = None, is_told: bool = False) -> None:
        """Note that session *name* is lost, and with *is_told* that somebody hears of it now."""
        lost = LoseSession(name, what, now() if at is None else int(at * 1e6), is_told)
        record: SessionRecord | None = await self._write(lost)
        if record is not None:
            self._note_session(record)
            logger.info("session %s on %s %s", name, record.worker, record.lost)

    def _know_lost(self, name: str, what: str) -> None:
        """Know that session *name* is lost before that is stored: a call that waits may be run at once."""
        record = self._records.get(name)
        if record is not None and record.lost is None:
            self._note_session(msgspec.structs.replace(record, lost=what, lost_at=now()))

    def _note_session(self, record: SessionRecord) -> None:
        self._records[record.name] = record
        if len(self._records) > 2 * RECORDS_KNOWN:
            self._forget_told_sessions()

    def _forget_told_sessions(self) -> None:
        """Forget the oldest sessions whose loss somebody was told of, unless something waits that used them."""
        waited_for = {source.session for source in self._feed.sources()}
        told = [one.name for one in self._records.values() if one.told is not None and one.name not in waited_for]
        for name in told[: len(self._records) - RECORDS_KNOWN]:
            del self._records[name]

    def _lose_with_slots(self) -> None:
        """Give up the sessions whose slots are gone."""
        for place in self._sessions.without_slot(self._cluster.slots):
            what = "ended with the worker"
            self._know_lost(place.name, what)
            self._give_up(place)
            self._own(self._lose(place.name, what))

    async def _lose_all(self) -> None:
        """Take note that sessions of an engine before this one are lost."""
        lost = LoseSessions("ended with the engine that ran it", now())
        self._records = {record.name: record for record in await self._store.apply(lost)}

    async def _look_after_sessions(self) -> None:
        """End the sessions that nobody uses any more, as long as the engine runs."""
        limit = self._settings.session_idle
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, max(limit / 4, 0.05)))
            for place in [one for one in self._sessions.placed.values() if one.is_begun and one.idle > limit]:
                try:
                    await self._end_for(place, f"was ended after {limit:g} s without use (setting session_idle)")
                except StoreError as error:
                    logger.warning("%s", error)


def _loss_of(record: SessionRecord) -> SessionLost:
    return SessionLost(record.name, record.worker, record.lost or "", (record.lost_at or 0) / 1e6)
