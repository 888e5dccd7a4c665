"""The table of a cluster's workers: who is there, what each offers, and the slots that are ready on them."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, WorkerUnfit
from ..jobs import Worker
from ..runner.units import Live
from ..tags import parse_offer
from .carrier import Nowhere, Source
from .crew import Crew
from .settings import ClusterSettings, Slot, WorkerGone

if TYPE_CHECKING:
    from .link import Link
    from .member import Member

logger = logging.getLogger(__name__)

REST_SECONDS = 1.0  #: before a worker that was lost from sight may join again


class Membership(ABC):
    """Knows the workers of a cluster. Lives in one asyncio loop, in whatever thread."""

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        on_change: Callable[[], None],
        on_live: Callable[[Live], None],
        values: Source | None = None,
    ) -> None:
        for tags in settings.worker_tags:
            parse_offer(tags)  # a mistake is the caller's to hear, now
        self.workers: dict[str, Worker] = {}  #: by name, unfit ones included
        self.slots: list[Slot] = []  #: ready ones
        self.settled = False  #: the first workers had time to join
        self._settings = settings
        self._on_change = on_change
        self._on_live = on_live
        self._values: Source = values or Nowhere()
        self._crew: Crew | None = None
        self._link: Link | None = None
        self._members: dict[str, Member] = {}
        self._homes: dict[Slot, Member] = {}
        self._joining: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._names: frozenset[str] = frozenset()  # of tags that workers are asked for on demand
        self._retagged: dict[str, str] = {}  # worker of our own -> the tags that it was given since it was started
        self._resting: set[str] = set()
        self._look_now = asyncio.Event()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of our own scheduler and workers, by name."""
        return self._crew.pids if self._crew else {}

    @abstractmethod
    async def _judge(self, link: Link, crew: Crew | None, member: Member) -> None:
        """Raise `ClusterGone` if *member*, which is gone, has not gone alone: *link* and *crew* too."""

    # ---- who is there --------------------------------------------------------------------------

    def _compare(self, present: set[str]) -> None:
        """Make the members those at the addresses *present*."""
        for address in self._members.keys() - present:
            self._members[address].leave()
        for address in present - self._members.keys() - self._resting:
            self._admit(address)

    def _admit(self, address: str) -> None:
        from .member import Member  # loaded by now, and not before `start`

        assert self._link
        member = self._members[address] = Member(
            self._link, address, lease=self._settings.lease, on_change=self._update, on_live=self._on_live,
            values=self._values, judge=partial(self._judge, self._link, self._crew),
        )  # fmt: skip
        member.gone.add_done_callback(lambda _: self._forget(member))
        task = asyncio.create_task(self._join(member))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, member: Member) -> None:
        """Get to know *member*; on our own cluster take all its slots."""
        try:
            await member.join(self._names)
            if member.name in self._retagged and member.worker and not member.worker.unfit:
                await member.tag(self._retagged[member.name])  # it was started again, with its old tags
        except Exception as error:
            logger.info("worker at %s did not answer: %s: %s", member.address, type(error).__name__, error)
            member.leave()
            return
        assert member.worker
        member.ends_before = self._crew.ends[member.name] if self._crew else 0
        self.workers[member.name] = member.worker
        self._ask(member)  # what was mentioned meanwhile
        if not member.worker.unfit and not self._settings.is_foreign:
            for number in range(member.worker.slots):
                member.open_slot(number, processes=self._settings.processes, idle=None)
        expected = 1 if self._settings.is_foreign else max(1, self._settings.workers)
        others = [task for task in self._joining if task is not asyncio.current_task() and not task.done()]
        if len(self.workers) >= expected and not others:
            self.settled = True
        self._on_change()

    def heard_of(self) -> dict[str, tuple[float, float]]:
        """Return of each worker when it came, and when it last answered, in Unix seconds."""
        return {member.name: (member.joined, member.heard) for member in self._members.values()}

    async def tag(self, name: str, tags: str) -> None:
        """Give worker *name* these tags of its owner's making, in place of those that it had.

        Raises `InvalidTags`, `NotFound`, `WorkerUnfit` and `WorkerGone`.
        """
        parse_offer(tags)
        member = next((member for member in self._members.values() if member.worker and member.name == name), None)
        if member is None or member.worker is None:
            raise NotFound("worker", name)
        if member.worker.unfit:
            raise WorkerUnfit(name, member.worker.unfit)
        await member.tag(tags)
        if name in self.pids:
            self._retagged[name] = tags
        self._relearn(member)

    def look_up(self, names: Iterable[str]) -> None:
        """Have all workers asked what they have of *names*, also those that join later; a change when one answers."""
        self._names |= frozenset(names)
        for member in self._members.values():
            self._ask(member)

    def _ask(self, member: Member) -> None:
        """Have *member* asked for what it was not asked for yet."""
        if member.not_asked(self._names):
            task = asyncio.create_task(self._learn(member))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _learn(self, member: Member) -> None:
        with suppress(WorkerGone):
            await member.look_up(self._names)
            self._relearn(member)

    def _relearn(self, member: Member) -> None:
        """Take note that *member* has other tags now."""
        if member.worker and member.name in self.workers and self._members.get(member.address) is member:
            self.workers[member.name] = member.worker
            self._update()

    def _forget(self, member: Member) -> None:
        """Take *member* off the table; it may join again after a moment."""
        if self._members.get(member.address) is not member:
            return
        del self._members[member.address]
        member.leave()
        if member.worker and self.workers.get(member.name) is member.worker:
            del self.workers[member.name]
        self._resting.add(member.address)
        asyncio.get_running_loop().call_later(REST_SECONDS, self._let_join, member.address)
        self._update()

    def _let_join(self, address: str) -> None:
        self._resting.discard(address)
        self._look_now.set()

    def _settle(self) -> None:
        if not self.settled:
            self.settled = True
            self._on_change()

    def _update(self) -> None:
        """Make the list of slots from the members' slots, and say so."""
        self._homes = {slot: member for member in self._members.values() for slot in member.slots.values()}
        self.slots = list(self._homes)
        self._on_change()

    # ---- what is heard -------------------------------------------------------------------------

    def _hear_of_worker(self, event: dict[str, Any]) -> None:
        """Take note that the scheduler says a worker came or went."""
        member = self._members.get(event.get("worker", ""))
        if member and event.get("action") == "remove-worker":
            member.leave()
        self._look_now.set()

    def _hear(self, word: dict[str, Any]) -> None:
        """Take note of the pilot that our side on a worker says is ready."""
        for member in self._members.values():
            member.ready(word["ready"])
