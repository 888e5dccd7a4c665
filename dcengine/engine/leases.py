"""Tasks in the hands of outside workers: lease, renew, complete, fail, flag, release, and what is late."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .. import tags
from ..cluster import ClusterSettings
from ..codec import JSON, Failure, failure_from, is_json, json_text, pack_failure
from ..errors import DcengineError, InvalidOption, NotFound, StaleLease
from ..jobs import Stage, State, Task, Vote
from ..store import now
from ..store.leasing import Holder
from ..store.moving import Move
from ..tags import explain
from ..verbs import (
    Completion,
    Heartbeat,
    LeasedTask,
    LeaseRequest,
    Progress,
    TaskAnswer,
    TaskFailure,
    TaskFlag,
)
from .outcomes import Outcome, after_error, after_vanishing, failed, released, succeeded
from .projects import Projects
from .submissions import check_size
from .tasks import UNITS_LIMIT

S = TypeVar("S")

LEASE_LIMIT = 1000  #: tasks in one lease
LOOK_SECONDS = 0.2  #: between two looks at what is late
GONE = "its lease has ended: somebody else has it, or nobody wants it any more"
DONE = frozenset({State.SUCCEEDED, State.RETURNED})  #: where a completion leaves a task
NOT_DONE = frozenset({State.QUEUED, State.WAITING, State.FAILED, State.RETURNED})  #: where everything else does
HEX = frozenset("0123456789abcdef")


class Held(msgspec.Struct):
    """A task in an outside worker's hands."""

    task: Task
    stage: Stage
    worker: str
    contributor: str
    voter: str
    since: float  #: by the monotonic clock: nothing is late because somebody has set the clock
    until: float

    def renew(self) -> None:
        """Move the deadline, as far as the stage's time-out lets it."""
        limit = math.inf if self.task.timeout is None else self.since + self.task.timeout
        self.until = min(time.monotonic() + self.stage.lease_seconds, limit)

    @property
    def deadline(self) -> float:
        """When the lease ends, in Unix seconds."""
        return time.time() + self.until - time.monotonic()


class Leases(Projects):
    """Hands tasks to outside workers and takes in what they say of them."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._leases: dict[str, Held] = {}  #: by token
        self._words: dict[str, asyncio.Future[None]] = {}  #: by token, while what was said under it is being stored
        self._seen: dict[int, float] = {}  #: when somebody last asked for tasks of a stage

    # ---- verbs -----------------------------------------------------------------------------

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        """Hand up to *n* tasks of a lease stage to an outside worker, after its waiting time at most.

        Raises `NotFound` for an unknown stage, and `InvalidOption` for one that Dask does or that it does not fit.
        """
        deadline = time.monotonic() + request.wait
        while True:
            stage = self._lease_stage(request)
            self._seen[stage.id] = time.monotonic()
            news = self._bus.news(("stage", stage.id))
            taken = await self._lease_now(stage, request)
            left = deadline - time.monotonic()
            if taken or left <= 0 or self._is_closing:
                news.cancel()
                return taken
            await self._bus.within(news, left)

    async def heartbeat(self, beats: list[Heartbeat]) -> list[TaskAnswer]:
        """Renew leases and take in progress."""
        return [self._renewed(beat) for beat in beats]

    async def complete(self, completions: list[Completion]) -> list[TaskAnswer]:
        """Take in what outside workers have done."""
        return await self._each(self._completed, completions)

    async def fail(self, failures: list[TaskFailure]) -> list[TaskAnswer]:
        """Take in that tasks could not be done; they are tried again as their stage says."""
        return await self._each(self._failed, failures)

    async def flag(self, flags: list[TaskFlag]) -> list[TaskAnswer]:
        """Take in that the inputs of tasks are bad."""
        return await self._each(self._voted, flags)

    async def release(self, tokens: list[str]) -> list[TaskAnswer]:
        """Put tasks back in the queue."""
        return await self._each(self._put_back_leased, tokens)

    async def _each(self, take_in: Callable[[S], Coroutine[Any, Any, TaskAnswer]], said: list[S]) -> list[TaskAnswer]:
        """Take all that was *said* in, side by side, whether or not the caller still waits for an answer."""

        async def all_of_it() -> list[TaskAnswer]:
            return list(await asyncio.gather(*map(take_in, said)))

        return await self._to_the_end(all_of_it())

    # ---- handing out -----------------------------------------------------------------------

    def _lease_stage(self, request: LeaseRequest) -> Stage:
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

    async def _lease_now(self, stage: Stage, request: LeaseRequest) -> list[LeasedTask]:
        """Lease what there is, from all submitters by turns; flagged tasks last, or first in their turn."""
        flagged = self._feed.flagged_at(stage.id, request.voter)
        is_first = flagged is not None and self._feed.is_flagged_turn()
        taken = await self._lease_what_is_flagged(stage, request, request.n) if is_first else []
        while (room := request.n - len(taken)) > 0 and (source := self._feed.choose_at(stage.id)) is not None:
            n = source.take(max(1, room // self._feed.submitters_at(stage.id)))
            leased = self._lease(source, n, self._holder(stage, request))
            taken += await self._to_the_end(self._hand_over(stage, request, leased))
        return taken + await self._lease_what_is_flagged(stage, request, request.n - len(taken))

    async def _lease_what_is_flagged(self, stage: Stage, request: LeaseRequest, n: int) -> list[LeasedTask]:
        """Lease up to *n* tasks that others have flagged."""
        taken: list[LeasedTask] = []
        voter = request.voter
        while (room := n - len(taken)) > 0 and (found := self._feed.flagged_at(stage.id, voter)) is not None:
            some = self._lease_flagged(found, voter, room, self._holder(stage, request))
            taken += await self._to_the_end(self._hand_over(stage, request, some))
        return taken

    def _holder(self, stage: Stage, request: LeaseRequest) -> Holder:
        deadline = now() + int(stage.lease_seconds * 1_000_000)
        return Holder(request.worker, request.contributor, deadline)

    async def _hand_over(
        self, stage: Stage, request: LeaseRequest, leased: Coroutine[Any, Any, list[Task]]
    ) -> list[LeasedTask]:
        """Note who holds what *leased* brings; return it for them."""
        handed, tasks = [], await leased
        numbers = await self._store.reads.numbers_of([task.job for task in tasks])
        for task in tasks:
            held = Held(task, stage, request.worker, request.contributor, request.voter, time.monotonic(), math.inf)
            held.renew()
            self._leases[_token(task)] = held
            try:
                handed.append(await self._for_worker(held, numbers[task.job]))
            except DcengineError as error:  # its input is lost, or nothing for an outside worker
                self._taken_back(task)
                await self._move(task, failed(task, failure_from(error)))
        return handed

    async def _for_worker(self, held: Held, number: int) -> LeasedTask:
        task, value = held.task, await self._values.get(held.task.input)
        if not is_json(value):
            raise InvalidOption(f"the input of job {task.job}", "a pickled value", "a JSON value: edit the job")
        return LeasedTask(
            task=task.id, job=task.job, number=number, token=_token(task),
            deadline=held.deadline, lease_seconds=held.stage.lease_seconds, input=msgspec.Raw(json_text(value)),
            generation=task.generation, attempt=task.attempt,
        )  # fmt: skip

    def _last_seen_at(self, stage: int) -> float | None:
        return self._seen.get(stage)

    # ---- what is said of a task ------------------------------------------------------------

    def _renewed(self, beat: Heartbeat) -> TaskAnswer:
        held = self._leases.get(beat.token)
        if held is None:
            return TaskAnswer(token=beat.token, is_accepted=False, problem=GONE, cancel=True)
        held.renew()
        if beat.done is not None or beat.total is not None or beat.text:
            progress = Progress(beat.done or 0.0, beat.total, beat.text)
            self._transcripts.hear(held.task.job, "progress", msgspec.msgpack.encode(progress))
            self._bus.publish(("job", held.task.job))
        return TaskAnswer(token=beat.token, is_accepted=True, deadline=held.deadline)

    async def _completed(self, said: Completion) -> TaskAnswer:
        held = self._leases.get(said.token)
        if held is None:
            return await self._said_before(said.token, DONE)
        output = JSON + bytes(said.output)
        units = 1 if held.stage.credit == "task" or said.units is None else said.units
        try:
            check_size("the output", len(output))
            if not 0 <= units <= UNITS_LIMIT:
                raise InvalidOption("units", str(units), f"a number from 0 to {UNITS_LIMIT}")
        except DcengineError as error:
            return TaskAnswer(token=said.token, is_accepted=False, problem=str(error))
        following = self._stages.after(held.task.stage)
        return await self._say(said.token, held, succeeded(held.task, output, following=following), units=units)

    async def _failed(self, said: TaskFailure) -> TaskAnswer:
        held = self._leases.get(said.token)
        if held is None:
            return await self._said_before(said.token, NOT_DONE)
        failure = pack_failure(Failure("WorkerFailure", f"{held.worker}: {said.reason}"))
        return await self._say(said.token, held, after_error(held.task, failure, stage=held.stage))

    async def _voted(self, said: TaskFlag) -> TaskAnswer:
        held = self._leases.get(said.token)
        if held is None:
            return await self._said_before(said.token, NOT_DONE)
        outcome = await self._flagged(held.task, held.stage, Vote(held.voter, said.reason))
        return await self._say(said.token, held, outcome)

    async def _put_back_leased(self, token: str) -> TaskAnswer:
        held = self._leases.get(token)
        if held is None:
            return await self._said_before(token, NOT_DONE)
        return await self._say(token, held, released(held.task, f"{held.worker} gave it back"))

    async def _say(self, token: str, held: Held, outcome: Outcome, *, units: int = 1) -> TaskAnswer:
        """Store what a worker said of what it holds; it holds it no longer then."""
        if self._leases.pop(token, None) is None:  # said twice at once
            return await self._said_before(token, DONE | NOT_DONE)
        move = Move(
            held.task, outcome.task, outcome.kind, now(), worker=held.worker, contributor=held.contributor,
            reason=outcome.reason, units=units, seconds=time.monotonic() - held.since, keeps_token=True,
        )  # fmt: skip
        stored = self._words[token] = asyncio.get_running_loop().create_future()
        try:
            await self._store_move(move, outcome)
        except StaleLease:
            return TaskAnswer(token=token, is_accepted=False, problem=GONE)
        except DcengineError:
            self._leases[token] = held  # nothing was stored: it may say it again
            raise
        finally:
            del self._words[token]
            stored.set_result(None)
        return TaskAnswer(token=token, is_accepted=True)

    async def _said_before(self, token: str, states: frozenset[State]) -> TaskAnswer:
        """Answer for a token that nobody holds: yes if its holder has said this before, and the answer was lost."""
        if token in self._words:  # being stored just now: wait whether it comes to that
            await asyncio.wait([self._words[token]])
        place = _place_of(token)
        state = None if place is None else await self._store.reads.state_under(*place)
        if state is not None and state in states:
            return TaskAnswer(token=token, is_accepted=True)
        return TaskAnswer(token=token, is_accepted=False, problem=GONE)

    # ---- what is late, and what another engine had handed out --------------------------------

    async def _look_after_leases(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            late = time.monotonic()
            for token, held in [(token, held) for token, held in self._leases.items() if held.until <= late]:
                del self._leases[token]
                self._own(self._move(held.task, after_vanishing(held.task, held.worker)))

    async def _take_up_leases(self) -> None:
        """Know the leases that an ended engine had given; each gets its whole time again."""
        for task, worker, contributor in await self._store.reads.held():
            stage = self._stages.get(task.stage)
            if stage is None:
                continue
            request = LeaseRequest(project="", stage="", worker=worker, nickname=contributor or "")
            held = Held(task, stage, worker, request.contributor, request.voter, time.monotonic(), math.inf)
            held.renew()
            self._leases[_token(task)] = held

    def _forget_leases_of(self, stages: set[int]) -> None:
        """Know nothing of what outside workers hold of *stages*: whoever speaks of it is told that it is gone."""
        gone = [token for token, held in self._leases.items() if held.stage.id in stages]
        for token in gone:
            del self._leases[token]

    def _taken_back(self, task: Task) -> None:
        self._leases.pop(_token(task), None)


def _token(task: Task) -> str:
    """Return what proves that somebody holds *task* in this attempt."""
    return f"{task.id:x}-{task.attempt:x}-{task.token:x}"


def _place_of(token: str) -> tuple[int, int, int] | None:
    """Return task, attempt and secret of a token; None for a text that is none."""
    parts = token.split("-")
    if len(parts) != 3 or not all(0 < len(part) <= 16 and set(part) <= HEX for part in parts):
        return None
    task, attempt, secret = (int(part, 16) for part in parts)
    return (task, attempt, secret) if max(task, attempt, secret) < 1 << 63 and secret else None
