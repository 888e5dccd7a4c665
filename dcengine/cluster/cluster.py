"""The cluster as the engine sees it: workers with their tags, ready slots, and the way to run a unit there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import ClusterError, ClusterFailed
from ..jobs import Worker
from ..loading import loading
from ..runner.units import Live, Unit, UnitReport
from ..verbs import JoinTicket
from .carrier import Carrier, Source
from .crew import Crew, Launched, new_crew
from .membership import Membership
from .settings import ClusterGone, ClusterSettings, Slot, WorkerGone

if TYPE_CHECKING:
    from .link import Link
    from .member import Member

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0  #: that the first workers have to join
START_TRIES = 3  #: to start our own cluster, if it is lost before it has begun
LOOK_SECONDS = 2.0  #: between looks at the scheduler's list of workers, beside what it tells by itself
GONE_SECONDS, GONE_LOOKS = 0.3, 15  #: to learn whether a worker has gone alone or with the cluster; looks meanwhile
STOP_SECONDS = 0.5  #: that workers have to end our slots when we leave
LONGEST_PAUSE = 30.0  #: between attempts to get a cluster back


class Cluster(Membership):
    """A Dask cluster, our own or somebody else's. Lives in one asyncio loop, in whatever thread."""

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        engine_id: str,
        on_change: Callable[[], None],
        on_live: Callable[[Live], None],
        values: Source | None = None,
    ) -> None:
        super().__init__(settings, on_change=on_change, on_live=on_live, values=values)
        self._engine = engine_id
        self._keeper: asyncio.Task[None] | None = None
        self._is_closing = False
        self._lost = asyncio.Event()

    async def start(self, launched: Launched | None = None) -> None:
        """Start or join the cluster, by the launcher that was *launched* already; its workers may be on their way then.

        Raises `ClusterFailed` or `SchedulerUnreachable`.
        """
        for left in reversed(range(START_TRIES)):
            try:
                await self._begin(launched if left == START_TRIES - 1 else None)
                break
            except BaseException as error:
                was_lost = self._lost.is_set() and isinstance(error, ClusterError)
                await self._end()
                if not (was_lost and left):
                    raise
                logger.warning("the cluster was lost while it started (%s); trying again", error)
        self._keeper = asyncio.create_task(self._keep())
        asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)

    async def close(self) -> None:
        """Leave the cluster, or end it if it is our own; no process is left behind."""
        self._is_closing = True
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._end()

    def ticket(self) -> JoinTicket:
        """Return what another machine needs to bring a worker."""
        if self._link is None:
            raise ClusterError("the cluster is starting; ask again in a second")
        pair = self._crew.certificate if self._crew else None
        return JoinTicket(
            scheduler=self._link.scheduler,
            ca=pair.ca if pair else None,
            certificate=pair.certificate if pair else None,
            key=pair.key if pair else None,
            version=__version__,
        )

    @property
    def address(self) -> str | None:
        """The scheduler's address, None while there is none."""
        return self._link.scheduler if self._link else None

    # ---- units ---------------------------------------------------------------------------------

    def run(self, unit: Unit, slot: Slot) -> Coroutine[Any, Any, UnitReport]:
        """Run *unit* on *slot*, after what was sent there before; raises `WorkerGone`, or even `ClusterGone`."""
        try:
            return self._home(slot).run(unit, slot)
        except WorkerGone as gone:
            raise ClusterGone(gone.worker) if self._lost.is_set() else gone from None

    async def _judge(self, link: Link, crew: Crew | None, member: Member) -> None:
        """Raise `ClusterGone` if *member*, which is gone, has not gone alone: *link* and *crew* too."""
        for _ in range(GONE_LOOKS):
            if self._lost.is_set() or self._link is not link or not link.is_alive:
                raise ClusterGone(member.name)
            if crew and crew.ends[member.name] != member.ends_before:
                return  # the launcher says that its process has ended
            await asyncio.sleep(GONE_SECONDS / GONE_LOOKS)

    async def cancel(self, unit: int, slot: Slot) -> None:
        """Stop *unit* if it runs on *slot*, by force after its grace; drop it if it waits there."""
        await self._tell(slot, "cancel", unit)

    async def interrupt(self, unit: int, slot: Slot) -> None:
        """Raise KeyboardInterrupt in *unit* if it runs on *slot*, drop it if it waits there."""
        await self._tell(slot, "interrupt", unit)

    async def kill(self, unit: int, slot: Slot) -> None:
        """End *unit* and its process at once if it runs on *slot*, drop it if it waits there."""
        await self._tell(slot, "kill", unit)

    async def tell(self, unit: int, slot: Slot, item: int, message: bytes) -> bool:
        """Hand *message* to call *item* of *unit* if it runs on *slot*; return whether its process has it."""
        try:
            return bool(await self._home(slot).ask("tell", slot=slot.number, unit=unit, item=item, message=message))
        except WorkerGone:
            return False

    def carrier(self, worker: str) -> Carrier | None:
        """Return the way by which values come to and from the *worker* of that name, None if it is not here."""
        for member in self._members.values():
            if member.name == worker and member.worker is not None and not member.worker.unfit:
                return member.carrier
        return None

    async def vacate(self, slot: Slot) -> None:
        """Have *slot* end a child that holds devices and has nothing to do; when this returns it is gone."""
        with suppress(WorkerGone):  # so is the child
            await self._home(slot).ask("vacate", slot=slot.number)

    async def end_session(self, name: str, slot: Slot) -> None:
        """End the process of session *name* on *slot*; when this returns it is gone."""
        with suppress(WorkerGone):  # so is the process
            await self._home(slot).ask("end_session", slot=slot.number, name=name)

    async def drop_values(self, keys: list[bytes]) -> None:
        """Have all workers forget values that are kept no longer."""
        with suppress(WorkerGone):
            for member in [*self._members.values()]:
                if member.worker is not None and not member.worker.unfit:
                    await member.carrier.drop(keys)

    async def _tell(self, slot: Slot, operation: str, unit: int) -> None:
        with suppress(WorkerGone):  # then the unit's run() says so
            await self._home(slot).ask(operation, slot=slot.number, unit=unit)

    async def recall(self, unit: int, slot: Slot) -> bool:
        """Take *unit* back from *slot* unless it has begun; return whether that worked."""
        try:
            return bool(await self._home(slot).ask("recall", slot=slot.number, unit=unit))
        except WorkerGone:
            return False

    async def cut(self, unit: int, slot: Slot) -> int:
        """Let *unit* end with the call that runs on *slot*; return how many of its calls can have begun then.

        With 0 its report says what became of it: it has ended, or it had to wait on *slot* and none has begun.
        """
        try:
            return int(await self._home(slot).ask("cut", slot=slot.number, unit=unit))
        except WorkerGone:
            return 0

    def want(self, matching: Callable[[Worker], bool]) -> None:
        """Take slots of somebody else's cluster on workers that *matching* accepts, as far as we may.

        On our own cluster all slots are ours anyway.
        """
        if not self._settings.is_foreign:
            return
        fit = [member for member in self._members.values() if member.worker and not member.worker.unfit]
        total = sum(member.worker.slots for member in fit if member.worker)
        free = max(1, int(total * self._settings.share)) - sum(len(member.pilots) for member in fit)
        for member, number in _unused(member for member in fit if member.worker and matching(member.worker)):
            if free <= 0:
                return
            member.open_slot(number, processes=self._settings.processes, idle=self._settings.pilot_idle)
            free -= 1

    def _home(self, slot: Slot) -> Member:
        """Return the worker that *slot* is on; raises `WorkerGone`."""
        try:
            return self._homes[slot]
        except KeyError:
            raise WorkerGone(slot.worker.name) from None

    # ---- beginning, and beginning again --------------------------------------------------------

    async def _begin(self, launched: Launched | None = None) -> None:
        """Connect to a scheduler, our own one started first."""
        self._lost.clear()
        # Dask takes half a second to import: in a thread, for the loop has others to serve, and beside the launcher
        link_loaded = asyncio.create_task(asyncio.to_thread(_load_link))
        if self._settings.scheduler is None:
            self._crew = new_crew(self._settings, self._lose, launched)
            await self._crew.start()
        link = await link_loaded
        address = self._crew.address if self._crew else self._settings.scheduler
        certificate = self._crew.certificate if self._crew else None
        assert address is not None
        self._link = await self._unless_lost(link.connect(address, engine=self._engine, certificate=certificate))
        self._link.listen(on_worker=self._hear_of_worker, on_word=self._hear)

    async def _unless_lost(self, connecting: Coroutine[Any, Any, Link]) -> Link:
        """Return what *connecting* brings, unless our scheduler is lost first: it would go on trying for seconds."""
        link, lost = asyncio.create_task(connecting), asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({link, lost}, return_when=asyncio.FIRST_COMPLETED)
            if link.done():
                return link.result()
            raise ClusterFailed("the Dask scheduler", "its process ended, or that of its launcher did")
        finally:
            lost.cancel()
            link.cancel()
            await asyncio.wait({link, lost})

    async def _keep(self) -> None:
        """Keep the table of workers true; get the cluster back when it is lost."""
        while True:
            await self._watch()
            if self._is_closing:
                return
            logger.warning("the Dask scheduler is gone; what ran there runs again once it is back")
            await self._put_away()
            await self._begin_again()

    async def _begin_again(self) -> None:
        pause = 0.25
        while not self._is_closing:
            try:
                await self._begin()
                return
            except Exception as error:  # without a cluster nothing would run until somebody starts the engine anew
                is_known = isinstance(error, (ClusterError, OSError))
                logger.warning("%s; trying again in %g s", error, pause, exc_info=not is_known)
                await self._put_away()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _put_away(self) -> None:
        """End the cluster that was lost; whatever hinders that, a new one is needed."""
        try:
            await self._end()
        except Exception:
            logger.exception("the lost cluster did not end as it should")

    async def _end(self) -> None:
        """Give up all members, leave the scheduler, and end it if it is our own."""
        link, self._link = self._link, None
        crew, self._crew = self._crew, None
        members = list(self._members.values())
        for task in [*self._joining, *self._asking]:
            task.cancel()
        if link and link.is_alive:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(member.stop() for member in members)), STOP_SECONDS)
        for member in members:
            self._forget(member)
        try:
            if link:
                await link.close()
        finally:
            if crew:
                await crew.close()

    def _lose(self) -> None:
        self._lost.set()
        self._look_now.set()

    # ---- the table of workers ------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow the scheduler's workers until the scheduler is gone."""
        while self._link and self._link.is_alive and not self._lost.is_set() and not self._is_closing:
            self._look_now.clear()
            with suppress(OSError, RuntimeError, asyncio.TimeoutError):  # a link that just went down
                self._compare(await self._link.addresses())
            # not wait_for(): before Python 3.12 it loses a cancellation that comes together with the event
            timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_now.set)
            await self._look_now.wait()
            timer.cancel()


def _load_link() -> type[Link]:
    with loading():
        from .link import Link
    return Link


def _unused(members: Iterable[Member]) -> list[tuple[Member, int]]:
    """Return the slots of *members* without a pilot, spread over the workers."""
    free = [
        (number, member.name, member)
        for member in members
        for number in range(member.worker.slots if member.worker else 0)
        if number not in member.pilots
    ]
    return [(member, number) for number, _, member in sorted(free, key=lambda slot: slot[:2])]
