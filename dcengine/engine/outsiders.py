"""Outside workers as such: who they are, when they were last heard of, and those with an identity of their own.

What is heard of them is kept in memory; of those that have registered it is written once a second at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from ..cluster import ClusterSettings
from ..errors import EngineBusy, InvalidOption, NotFound, StoreError
from ..events import Kind
from ..jobs import LEASE_SECONDS, Project, Stage, State, Task
from ..store.noting import Noted
from ..store.outsiders import AddWorker, RemoveWorkers, SaveWorkers
from ..tags import parse
from ..verbs import Heartbeat, LeasedTask, LeaseRequest, OutsideWorker, Registered, Registration, TaskAnswer
from .allowances import Promise
from .clocks import Standstill
from .dispatch import to_the_end
from .hands import Held, token_of
from .outsider import Outsider, status_of, stored_form
from .reports import DONE, Report, Reports
from .worker_names import new_name

logger = logging.getLogger(__name__)

SAVE_SECONDS = 1.0  #: between two looks at what was heard, and at who is silent
REGISTERED_LIMIT = 20_000  #: workers with an identity of their own; above that, those silent for longest have to go
MAKE_ROOM = 200  #: that go at once
KNOWN_LIMIT = 50_000  #: workers that are remembered
NICKNAME_LIMIT, NAME_LIMIT, PROGRESS_LIMIT = 200, 200, 500  #: characters


class OwnRequest(LeaseRequest, frozen=True, kw_only=True):
    """A registered worker's wish for tasks; nobody else may lease under its name."""


class Outsiders(Reports):
    """Knows the outside workers, registers those that ask for it, and forgets who is silent."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._outsiders: dict[tuple[str, str], Outsider] = {}  #: by project and name
        self._registered: dict[bytes, Outsider] = {}  #: by digest

    # ---- verbs -----------------------------------------------------------------------------

    async def register_worker(self, registration: Registration) -> Registered:
        """Give a worker an identity at one lease stage; it is durable when this returns.

        Raises `NotFound` for an unknown stage, `InvalidOption` for another kind, or a name that is taken.
        """
        project, given = registration.project, registration.name
        wish = LeaseRequest(
            project=project, stage=registration.stage, worker=given or "new", nickname=registration.nickname
        )
        stage = self._lease_stage(wish)
        _check_length("nickname", registration.nickname, NICKNAME_LIMIT)
        _check_length("the worker's name", given, NAME_LIMIT)
        if given and (project, given) in self._outsiders:
            raise InvalidOption("the worker's name", repr(given), "one that no other worker of the project has")
        self._make_room_for_outsiders()
        secret, at = str(uuid.uuid4()), time.time()
        name = _whole(given) or new_name(lambda name: (project, name) in self._outsiders)
        outsider = Outsider(
            project, stage.name, name, _whole(registration.nickname) or "anonymous", at, at, time.monotonic(),
            digest=_digest(secret),
        )  # fmt: skip
        self._outsiders[project, name] = outsider
        try:
            await self._submit(AddWorker(stored_form(outsider)), 0, lambda _: self._know_outsider(outsider))
        except BaseException:
            if outsider.digest not in self._registered:
                self._outsiders.pop((project, name), None)
            raise
        self._note_outsider(outsider)
        return Registered(secret=secret, name=name)

    async def registered_worker(self, secret: str) -> OutsideWorker:
        """Return the worker that shows this *secret*, with its leases; that is a sign of life and renews them.

        Raises `NotFound` for one that has left, was silent for too long, or never was.
        """
        outsider = self._outsider_shown_by(secret)
        self._hear_outsider(outsider)
        return status_of(outsider, tokens=list(outsider.holding))

    async def lease_as(
        self, secret: str, *, n: int = 1, wait: float = 0.0, is_volunteer: bool = False, grant: int | None = None
    ) -> list[LeasedTask]:
        """Hand up to *n* tasks to the worker that shows this *secret*; raises `NotFound`, and what `lease` raises.

        *is_volunteer* and *grant* are as in `LeaseRequest`.
        """
        outsider = self._outsider_shown_by(secret)
        self._hear_outsider(outsider)
        request = OwnRequest(
            project=outsider.project, stage=outsider.stage, worker=outsider.name, nickname=outsider.nickname,
            n=n, wait=wait, is_volunteer=is_volunteer, grant=grant,
        )  # fmt: skip
        return await self.lease(request)

    async def held_tasks(self, secret: str) -> list[LeasedTask]:
        """Return once more what the worker that shows this *secret* holds; raises `NotFound`."""
        outsider = self._outsider_shown_by(secret)
        self._hear_outsider(outsider)
        return [await self._for_worker(self._leases[token]) for token in list(outsider.holding)]

    @to_the_end
    async def leave_worker(self, secret: str) -> bool:
        """Put back what the worker that shows this *secret* holds, and forget it; False if nobody knows it."""
        outsider = self._registered.get(_digest(secret))
        if outsider is None:
            return False
        self._forget_outsider(outsider)
        await self.release(list(outsider.holding))
        await self._write(RemoveWorkers([outsider.digest]))
        return True

    async def say_progress(self, secret: str, text: str) -> bool:
        """Keep what the worker that shows this *secret* says of what it does; False if nobody knows it."""
        outsider = self._registered.get(_digest(secret))
        if outsider is None:
            return False
        self._hear_outsider(outsider)
        outsider.progress = _whole(text)[:PROGRESS_LIMIT]
        for token in outsider.holding:
            self._renewed(Heartbeat(token=token, text=outsider.progress))
        return True

    async def outside_workers(
        self, project: str | None = None, *, tags: str = "", name: str | None = None
    ) -> list[OutsideWorker]:
        """Return the outside workers of *project*, or of all, that were heard of lately; raises `NotFound`."""
        if project is not None and self._stages.project(project) is None:
            raise NotFound("project", project)
        wanted = parse(tags)
        found = [each for each in self._outsiders.values() if project in (None, each.project)]
        meant = [each for each in found if name in (None, each.name) and (not tags or wanted.matches(each.tags))]
        return self._statuses_of_outsiders(meant)

    def _statuses_of_outsiders(self, outsiders: list[Outsider]) -> list[OutsideWorker]:
        """Return *outsiders* as people see them."""
        for outsider in outsiders:
            self._drop_ended(outsider)
        in_order = sorted(outsiders, key=lambda each: (each.project, each.stage, each.name))
        return [self._shown(each) for each in in_order]

    def _shown(self, outsider: Outsider) -> OutsideWorker:
        return msgspec.structs.replace(
            status_of(outsider), jobs=[self._leases[token].task.job for token in outsider.holding],
            per_hour=self._per_hour(outsider),
        )  # fmt: skip

    def _per_hour(self, outsider: Outsider) -> float:
        return self._tallies.workers.per_hour((outsider.project, outsider.name), outsider.first_seen)

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        """Hand tasks to an outside worker, as `Leases.lease`; the name of a registered one is its own."""
        known = self._outsiders.get((request.project, request.worker))
        if known is not None and known.digest and not isinstance(request, OwnRequest):
            expected = "another name: this one was given to a worker that has registered"
            raise InvalidOption("worker", repr(request.worker), expected)
        taken = await super().lease(request)
        if not taken:  # else it was noted before it was told
            self._meet_outsider(request)
        return taken

    def known_project(self, name: str) -> Project | None:
        """Return project *name* as it was declared last, from memory; asked for each request of an old client."""
        return self._stages.project(name)

    # ---- what is heard of them ---------------------------------------------------------------

    async def _hand_over(
        self, stage: Stage, request: LeaseRequest, promise: Promise, leased: Coroutine[Any, Any, list[Task]]
    ) -> list[LeasedTask]:
        handed = await super()._hand_over(stage, request, promise, leased)
        outsider = self._meet_outsider(request)
        outsider.holding.update({task.token: task.number for task in handed})
        if handed:  # whoever only asks leaves no trace in the file
            self._note_outsider(outsider)
        return handed

    def _note_outsider(self, outsider: Outsider) -> None:
        if not outsider.is_noted:
            outsider.is_noted = True
            self._note(self._noted_as(Kind.WORKER_CAME, outsider))

    def _noted_as(self, kind: Kind, outsider: Outsider) -> Noted:
        stage = self._stages.named(outsider.project, outsider.stage)
        return Noted(kind, outsider.name, None if stage is None else stage.id)

    def _renewed(self, beat: Heartbeat) -> TaskAnswer:
        outsider = self._holder_under(beat.token)
        if outsider is not None:
            outsider.hear()
            outsider.progress = _whole(beat.text)[:PROGRESS_LIMIT] or outsider.progress
        return super()._renewed(beat)

    def _was_accepted(self, report: Report) -> None:
        super()._was_accepted(report)
        outsider, state = self._outsider_holding(report.held), report.outcome.task.state
        if outsider is not None:
            outsider.holding.pop(report.token, None)  # unless it gave a sign of life while this was being stored
            outsider.hear()
            outsider.last_said = report.token
            outsider.completed += state in DONE
            if state in (State.SUCCEEDED, State.FAILED):
                self._tallies.workers.note((outsider.project, outsider.name))

    def _holder_under(self, token: str) -> Outsider | None:
        """Return who holds the lease with this *token*."""
        held = self._leases.get(token)
        return None if held is None else self._outsider_holding(held)

    def _outsider_holding(self, held: Held) -> Outsider | None:
        project = self._stages.project_of(held.stage.id)
        return None if project is None else self._outsiders.get((project, held.worker))

    def _meet_outsider(self, request: LeaseRequest) -> Outsider:
        """Return the worker that makes this *request*, who may be new."""
        project, name = request.project, request.worker
        outsider = self._outsiders.get((project, name))
        if outsider is None:
            at = time.time()
            outsider = Outsider(project, request.stage, name, "", at, at, 0.0)
            self._outsiders[project, name] = outsider
        if not outsider.digest:
            outsider.stage, outsider.nickname = request.stage, request.contributor
        outsider.tags, outsider.grant = request.tags, request.grant
        outsider.hear()
        return outsider

    def _outsider_shown_by(self, secret: str) -> Outsider:
        outsider = self._registered.get(_digest(secret))
        if outsider is None:
            raise NotFound("worker", "with this secret")
        return outsider

    def _hear_outsider(self, outsider: Outsider) -> None:
        """Take note of a sign of life of a registered worker, which is one for all that it holds."""
        outsider.hear()
        self._drop_ended(outsider)
        for token in outsider.holding:
            self._leases[token].renew()

    def _drop_ended(self, outsider: Outsider) -> None:
        """Forget of the leases of *outsider* those that have ended."""
        for token in [token for token in outsider.holding if token not in self._leases]:
            del outsider.holding[token]

    # ---- those known in advance, those that are gone -------------------------------------------

    def _know_outsider(self, outsider: Outsider) -> None:
        self._outsiders[outsider.project, outsider.name] = self._registered[outsider.digest] = outsider

    def _forget_outsider(self, outsider: Outsider) -> None:
        self._outsiders.pop((outsider.project, outsider.name), None)
        self._registered.pop(outsider.digest, None)
        if outsider.is_noted:
            self._note(self._noted_as(Kind.WORKER_WENT, outsider))
        self._tallies.workers.forget((outsider.project, outsider.name))

    async def _take_up_leases(self) -> None:
        """Know the leases that an ended engine had given, and the workers that it knew."""
        await super()._take_up_leases()
        for stored in await self._store.reads.registered_workers():
            digest, project, stage, name, nickname, first_seen, last_seen, completed, progress = stored
            times = first_seen / 1e6, last_seen / 1e6, time.monotonic()
            self._know_outsider(Outsider(project, stage, name, nickname, *times, completed, progress, digest=digest))
        for token, held in self._leases.items():
            project_of = self._stages.project_of(held.stage.id) or ""
            request = LeaseRequest(
                project=project_of, stage=held.stage.name, worker=held.worker, nickname=held.contributor
            )
            outsider = self._outsiders.get((project_of, held.worker)) or self._meet_outsider(request)
            outsider.holding[token] = held.task.number
        for outsider in self._outsiders.values():
            outsider.is_noted = True  # in an engine before this one
        await self._take_up_last_words()

    async def _take_up_last_words(self) -> None:
        """Know what registered workers have said last: who lost the answer says it again."""
        if not self._registered:
            return
        names = [outsider.name for outsider in self._registered.values()]
        for stage, worker, *place in await self._store.reads.last_spoken_of(names):
            outsider = self._outsiders.get((self._stages.project_of(stage) or "", worker))
            if outsider is not None:
                outsider.last_said = token_of(*place)

    def _forget_leases_of(self, stages: set[int]) -> None:
        super()._forget_leases_of(stages)
        for outsider in [each for each in self._outsiders.values() if self._stages.project(each.project) is None]:
            self._forget_outsider(outsider)

    # ---- again and again -----------------------------------------------------------------------

    async def _look_after_outsiders(self) -> None:
        standstill = Standstill(SAVE_SECONDS)
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            if lost := standstill.seconds():
                for outsider in self._outsiders.values():
                    outsider.heard = min(outsider.heard + lost, time.monotonic())
            try:
                await self._save_outsiders()
                await self._forget_the_silent()
            except StoreError as error:  # a full disk, say: the next look tries again
                logger.warning("%s", error)

    async def _save_outsiders(self) -> None:
        """Write what was heard of registered workers."""
        news = [outsider for outsider in self._registered.values() if outsider.is_unsaved]
        for outsider in news:
            outsider.is_unsaved = False
        if news:
            await self._store.apply(SaveWorkers([outsider.row for outsider in news]))

    async def _forget_the_silent(self) -> None:
        """Forget the workers that were silent for longer than their stage lets them; their leases end by themselves."""
        at = time.monotonic()
        silent = [each for each in self._outsiders.values() if each.heard + self._patience_with(each) <= at]
        if (surplus := len(self._outsiders) - len(silent) - KNOWN_LIMIT) > 0:
            silent += self._longest_silent((each for each in self._outsiders.values() if not each.digest), surplus)
        await self._forget_outsiders(silent)

    async def _forget_outsiders(self, outsiders: list[Outsider]) -> None:
        for outsider in outsiders:
            self._forget_outsider(outsider)
        if digests := [outsider.digest for outsider in outsiders if outsider.digest]:
            logger.info("%d registered worker(s) were silent for too long", len(digests))
            await self._write(RemoveWorkers(digests))

    def _patience_with(self, outsider: Outsider) -> float:
        stage = self._stages.named(outsider.project, outsider.stage)
        return LEASE_SECONDS if stage is None else stage.lease_seconds

    def _make_room_for_outsiders(self) -> None:
        """Have those registered workers go that were silent for longest and hold nothing, if there are too many."""
        if len(self._registered) < REGISTERED_LIMIT:
            return
        idle = self._longest_silent(self._registered.values(), MAKE_ROOM)
        if not idle:
            raise EngineBusy(len(self._registered))
        self._own(self._forget_outsiders(idle))

    def _longest_silent(self, outsiders: Iterable[Outsider], n: int) -> list[Outsider]:
        """Return *n* of *outsiders* that hold nothing, those silent for longest first."""
        idle = [each for each in outsiders if not any(token in self._leases for token in each.holding)]
        return sorted(idle, key=lambda each: each.heard)[:n]


def _check_length(what: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidOption(what, f"{len(text):,} characters long", f"at most {limit}")


def _whole(text: str) -> str:
    """Return *text* without half characters, which the file does not take."""
    return text.encode(errors="backslashreplace").decode()


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="surrogatepass")).digest()
