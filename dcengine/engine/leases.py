"""Tasks in the hands of outside workers: handed out, renewed, and taken back when they are late."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from .. import tags
from ..cluster import ClusterSettings
from ..codec import failure_from, is_json, json_text
from ..errors import (
    ContributorBanned,
    DatabaseLocked,
    DcengineError,
    DiskFull,
    InvalidOption,
    LeaseLimitReached,
    NotFound,
)
from ..jobs import Stage, Task
from ..store import now
from ..store.leasing import Holder
from ..tags import explain
from ..verbs import (
    Heartbeat,
    LeasedTask,
    LeaseRequest,
    Progress,
    TaskAnswer,
)
from .allowances import HOLDER_LIMIT, VOLUNTEER_START, Allowances, Promise, allowance
from .clocks import Standstill
from .hands import Hands, Held, held_by, place_of, token_for
from .outcomes import after_vanishing, failed, released
from .projects import Projects

logger = logging.getLogger(__name__)

LEASE_LIMIT = 1000  #: tasks in one lease
PATIENCE_SECONDS = 2.0  #: that an outside worker is kept waiting for room on the disk, before it is refused
LOOK_SECONDS = 0.2  #: between two looks at what is late
GONE = "its lease has ended: somebody else has it, or nobody wants it any more"


class Leases(Projects):
    """Hands tasks to outside workers, and hears whether they still have them."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._allowances = Allowances()
        self._leases = Hands(self._allowances)
        self._banned: set[str] = set()  #: nicknames
        self._reported: dict[str, asyncio.Future[None]] = {}  #: by token, while what was reported is being stored
        self._seen: dict[int, float] = {}  #: when somebody last asked for tasks of a stage

    # ---- verbs -----------------------------------------------------------------------------

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        """Hand up to *n* tasks of a lease stage to an outside worker, after its waiting time at most.

        Raises `NotFound` for an unknown stage, and `InvalidOption` for one that Dask does or that it does not fit.
        """
        taken = await self._lease_allowed(self._lease_stage(request), request)
        return taken or await self._lease_within(request)

    async def _lease_within(self, request: LeaseRequest) -> list[LeasedTask]:
        """Hand tasks to a worker for which there were none a moment ago, as soon as there are some."""
        deadline = time.monotonic() + request.wait
        while request.wait > 0:
            stage = self._lease_stage(request)
            news = self._bus.news(("stage", stage.id))
            taken = await self._lease_allowed(stage, request)
            left = deadline - time.monotonic()
            if taken or left <= 0 or self._is_closing:
                news.cancel()
                return taken
            await self._bus.within(news, left)
        return []

    async def heartbeat(self, beats: list[Heartbeat], *, project: str | None = None) -> list[TaskAnswer]:
        """Renew leases, those of *project* alone if it is given, and take in progress."""
        return [self._foreign(beat.token, project) or self._renewed(beat) for beat in beats]

    def _foreign(self, token: str, project: str | None) -> TaskAnswer | None:
        """Return how somebody is answered who may speak of tasks of *project* alone, and holds one of another."""
        held = None if project is None else self._leases.get(token)
        if held is None or self._stages.project_of(held.stage.id) == project:
            return None
        return self._gone(token, cancel=True)

    async def _is_of(self, token: str, project: str) -> bool:
        """Tell whether the lease of *token* is, or was, of a task of *project*."""
        if token in self._leases:
            return self._foreign(token, project) is None
        place = place_of(token)
        stage = None if place is None else await self._store.reads.stage_of(place[0])
        return stage is not None and self._stages.project_of(stage) == project

    # ---- handing out -----------------------------------------------------------------------

    def _lease_stage(self, request: LeaseRequest) -> Stage:
        self._check_welcome(request.contributor, request.voter)
        stage = self._stages.named(request.project, request.stage)
        if stage is None:
            if not self._stages.of(request.project):
                raise NotFound("project", request.project)
            raise NotFound("stage", f"{request.stage!r} of project {request.project!r}")
        if stage.kind != "lease":
            raise InvalidOption(f"stage {stage.name!r}", "leased", "a lease stage: Dask's workers do this one")
        if not 1 <= request.n <= LEASE_LIMIT:
            raise InvalidOption("n", str(request.n), f"a number from 1 to {LEASE_LIMIT}")
        if not request.worker:
            raise InvalidOption("worker", "empty", "a name of the worker's own")
        if stage.tags and not tags.parse(stage.tags).matches(request.tags):
            lacking = str(explain(tags.parse(stage.tags), {request.worker: request.tags}))
            raise InvalidOption(f"the tags of worker {request.worker!r}", str(request.tags), lacking)
        return stage

    def _check_welcome(self, *names: str) -> None:
        """Raise `ContributorBanned` if one of these *names* is banned."""
        for name in names:
            if name in self._banned:
                raise ContributorBanned(name)

    async def _lease_allowed(self, stage: Stage, request: LeaseRequest) -> list[LeasedTask]:
        """Lease what there is, as far as the worker may hold it; raises `LeaseLimitReached`."""
        holder = request.holder
        allowed = await self._volunteers_allowance(request) if request.is_volunteer else HOLDER_LIMIT
        room = self._allowances.room_of(holder, allowed)
        if not room:
            held = self._allowances.held_by(holder)
            if held >= allowed:
                raise LeaseLimitReached(request.voter, held, allowed, request.is_volunteer)
            return []  # what it may hold besides is on its way to it
        if room < request.n:
            request = msgspec.structs.replace(request, n=room)
        with self._allowances.promise(holder, request.n) as promise:
            return await self._lease_now(stage, request, promise)

    async def _volunteers_allowance(self, request: LeaseRequest) -> int:
        """Return how many tasks a volunteer may hold; what it has done lately is looked up if that matters."""
        if self._allowances.room_of(request.holder, VOLUNTEER_START) >= request.n:
            return VOLUNTEER_START
        accepted = await self._store.reads.accepted_today(request.project, request.voter)
        return allowance(is_volunteer=True, accepted_today=accepted)

    async def _lease_now(self, stage: Stage, request: LeaseRequest, promise: Promise) -> list[LeasedTask]:
        """Lease what there is, from all submitters by turns; flagged tasks last, or first in their turn."""
        self._seen[stage.id] = time.monotonic()
        flagged = self._feed.flagged_at(stage.id, request.voter)
        is_first = flagged is not None and self._feed.is_flagged_turn()
        taken = await self._lease_what_is_flagged(stage, request, promise, request.n) if is_first else []
        while (room := request.n - len(taken)) > 0 and (source := self._feed.choose_at(stage.id)) is not None:
            n = source.take(max(1, room // self._feed.submitters_at(stage.id)))
            leased = self._lease(source, n, self._holder(stage, request), patience=PATIENCE_SECONDS)
            try:
                taken += await self._to_the_end(self._hand_over(stage, request, promise, leased))
            except (DiskFull, DatabaseLocked):
                if not taken:
                    raise
                return taken
        return taken + await self._lease_what_is_flagged(stage, request, promise, request.n - len(taken))

    async def _lease_what_is_flagged(
        self, stage: Stage, request: LeaseRequest, promise: Promise, n: int
    ) -> list[LeasedTask]:
        """Lease up to *n* tasks that others have flagged."""
        taken: list[LeasedTask] = []
        voter = request.voter
        while (room := n - len(taken)) > 0 and (found := self._feed.flagged_at(stage.id, voter)) is not None:
            some = self._lease_flagged(found, voter, room, self._holder(stage, request), PATIENCE_SECONDS)
            taken += await self._to_the_end(self._hand_over(stage, request, promise, some))
        return taken

    def _holder(self, stage: Stage, request: LeaseRequest) -> Holder:
        deadline = now() + int(stage.lease_seconds * 1_000_000)
        return Holder(request.worker, request.contributor, deadline)

    async def _hand_over(
        self, stage: Stage, request: LeaseRequest, promise: Promise, leased: Coroutine[Any, Any, list[Task]]
    ) -> list[LeasedTask]:
        """Note who holds what *leased* brings; return it for them."""
        handed = []
        for task in await leased:
            if request.contributor in self._banned:  # since it asked
                await self._move(task, released(task, f"{request.contributor} was banned"))
                continue
            held = held_by(request, task, stage)
            self._leases[token_for(task)] = held
            promise.keep()
            logger.info("job %d: leased by %r", task.job, request.worker)
            try:
                handed.append(await self._for_worker(held))
            except DcengineError as error:  # its input is lost, or nothing for an outside worker
                self._taken_back(task)
                await self._move(task, failed(task, failure_from(error)))
        return handed

    async def _for_worker(self, held: Held) -> LeasedTask:
        task, value = held.task, await self._values.get(held.task.input)
        if not is_json(value):
            raise InvalidOption(f"the input of job {task.job}", "a pickled value", "a JSON value: edit the job")
        return LeasedTask(
            task=task.id, job=task.job, number=task.number, token=token_for(task),
            deadline=held.deadline, lease_seconds=held.stage.lease_seconds, input=msgspec.Raw(json_text(value)),
            generation=task.generation, attempt=task.attempt,
        )  # fmt: skip

    def _last_seen_at(self, stage: int) -> float | None:
        return self._seen.get(stage)

    # ---- what is said of a task ------------------------------------------------------------

    def _renewed(self, beat: Heartbeat) -> TaskAnswer:
        held = self._leases.get(beat.token)
        if held is None and beat.token in self._reported:  # its holder's last word is being stored, or waits for room
            return TaskAnswer(token=beat.token, is_accepted=True)
        if held is None:
            return self._gone(beat.token, cancel=True)
        held.renew()
        if beat.done is not None or beat.total is not None or beat.text:
            progress = Progress(beat.done or 0.0, beat.total, beat.text)
            self._transcripts.hear(held.task.job, "progress", msgspec.msgpack.encode(progress))
            self._bus.publish(("job", held.task.job))
        return TaskAnswer(token=beat.token, is_accepted=True, deadline=held.deadline)

    def _gone(self, token: str, *, cancel: bool = False) -> TaskAnswer:
        """Refuse what is said under a lease that has ended."""
        self._tallies.refused += 1
        return TaskAnswer(token=token, is_accepted=False, problem=GONE, cancel=cancel)

    def begin_to_hear(self) -> None:
        """Give all leases their whole time from now on: before this, nobody could say that he lives."""
        for held in self._leases.values():
            held.renew()

    # ---- what is late, and what another engine had handed out --------------------------------

    async def _look_after_leases(self) -> None:
        standstill = Standstill(LOOK_SECONDS)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if lost := standstill.seconds():  # who said something meanwhile could not be heard
                self._leases.give_back(lost)
            late = time.monotonic()
            for token, held in [(token, held) for token, held in self._leases.items() if held.until <= late]:
                self._leases.pop(token)
                self._tallies.expired[held.stage.id] += 1
                self._own(self._move(held.task, after_vanishing(held.task, held.worker)))

    async def _take_up_leases(self) -> None:
        """Know the leases that an ended engine had given; each gets its whole time again."""
        for task, worker, contributor in await self._store.reads.held():
            stage = self._stages.get(task.stage)
            if stage is None:
                continue
            request = LeaseRequest(project="", stage="", worker=worker, nickname=contributor or "")
            held = held_by(request, task, stage)
            self._leases[token_for(task)] = held

    def _forget_leases_of(self, stages: set[int]) -> None:
        """Know nothing of what outside workers hold of *stages*: whoever speaks of it is told that it is gone."""
        gone = [token for token, held in self._leases.items() if held.stage.id in stages]
        for token in gone:
            self._leases.pop(token)
        self._tallies.forget(stages)

    def _taken_back(self, task: Task) -> None:
        self._leases.pop(token_for(task))
