"""The calls of old clients, which look at nothing but the status of an answer.

What each status is to them: 200 well, 400 a mistake of theirs, 403 no job, 404 the worker is gone; anything else ends
them, and a connection that breaks has them ask again. Before they end they say "Crashed", whatever it was.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from functools import wraps
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web

from dcengine.errors import LeaseLimitReached, NotFound
from dcengine.jobs import Project, Stage
from dcengine.protocols import Visit
from dcengine.verbs import Completion, LeasedTask, OutsideWorker, Registration, TaskAnswer, TaskFlag

from . import wire
from .repeats import Acquaintance, Acquaintances, Word, is_end_repeated, is_new_job_repeated

LETTERS = "abcde"
NICKNAME_LENGTH, PROGRESS_LENGTH = 128, 255  #: characters
CRASHED, WAITING = "Crashed", "waiting for jobs"
FLAGGED = "its data are invalid"  #: the reason: old clients give none
DONE = "200 OK"


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(status, problem)
        self.status, self.problem = status, problem


Call = Callable[["Tracker", Visit], Awaitable[web.Response]]


def answered(call: Call) -> Call:
    """Have *call* refuse by raising."""

    @wraps(call)
    async def answering(tracker: Tracker, visit: Visit) -> web.Response:
        try:
            return await call(tracker, visit)
        except Refused as refused:
            return web.Response(text=refused.problem, status=refused.status)
        except wire.Malformed as malformed:
            return web.Response(text=str(malformed), status=422)
        except NotFound as unknown:
            return web.Response(text=str(unknown), status=404)

    return answering


class Tracker:
    """Answers for one application; what it remembers of workers helps it to tell repetitions, and may be lost."""

    def __init__(self) -> None:
        self._workers = Acquaintances()
        self._spoken: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  #: the token last shown on a connection

    # ---- coming and going --------------------------------------------------------------------

    @answered
    async def new(self, visit: Visit) -> web.Response:
        """Register a worker."""
        nickname, stage = _asked(visit, "nickname"), _stage(visit.project, _asked(visit, "stage"))
        if visit.grant is not None and visit.grant.nickname:
            nickname = visit.grant.nickname
        if len(nickname) > NICKNAME_LENGTH:
            raise Refused(400, f"the nickname has {len(nickname):,} characters, at most {NICKNAME_LENGTH} are taken")
        registration = Registration(project=visit.project.name, stage=stage.name, nickname=nickname.strip())
        registered = await visit.verbs.register_worker(registration)
        self._meet(visit, registered.secret, stage.name)
        return _json(
            {
                "token": registered.secret,
                "display_name": registered.name,
                "project": visit.project.name,
                "stage_name": stage.title or stage.name,
            }
        )

    @answered
    async def validate_worker(self, visit: Visit) -> web.Response:
        """Say whether a worker is known still."""
        token = wire.token_in(wire.fields_of(visit.body))
        try:
            await self._worker(visit, token)
        except NotFound:
            return web.Response(text="False")
        self._note(visit, token, "validateWorker")
        return web.Response(text="True")

    @answered
    async def bye(self, visit: Visit) -> web.Response:
        """Let a worker go, and put back what it holds."""
        token = wire.token_in(wire.fields_of(visit.body))
        async with self._workers.of(token).turn:
            worker = await self._worker(visit, token)
            await visit.verbs.leave_worker(token)
        self._workers.forget(token)
        return web.Response(text=f"{worker.name} has left")

    @answered
    async def update_progress(self, visit: Visit) -> web.Response:
        """Keep what a worker says of what it does."""
        fields = wire.fields_of(visit.body)
        token, progress = wire.token_in(fields), wire.text_in(fields, "progress")
        await self._worker(visit, token)
        last = self._workers.of(token).last
        if progress == CRASHED and last is not None and last.status == 403:
            progress = WAITING  # the client says so after any refusal
        await visit.verbs.say_progress(token, progress[:PROGRESS_LENGTH])
        self._note(visit, token, "updateProgress")
        return web.Response(text=DONE)

    @answered
    async def job_count(self, visit: Visit) -> web.Response:
        """Say how many jobs could be had at a stage."""
        stage = _stage(visit.project, _asked(visit, "stage"))
        await self._hear_who_counts(visit, stage.name)
        status = await visit.verbs.project(visit.project.name)
        counts = next((each.counts for each in status.stages if each.name == stage.name), {})
        return web.Response(text=str(counts.get("queued", 0)))

    # ---- jobs --------------------------------------------------------------------------------

    @answered
    async def new_job(self, visit: Visit) -> web.Response:
        """Hand out a job; one that is still held is put back, unless this is asked because the answer was lost."""
        token = wire.token_in(wire.fields_of(visit.body))
        word = Word("newJob", _connection(visit), time.monotonic())
        known = self._workers.of(token)
        async with known.turn:
            worker = await self._worker(visit, token)
            if worker.tokens and is_new_job_repeated(word, known.last):
                found = await visit.verbs.held_tasks(token)
                times = known.last.times + 1 if known.last is not None else 1
            else:
                found, times = await self._another(visit, token, worker), 1
            known.last = msgspec.structs.replace(word, status=200 if found else 403, times=times)
            known.is_idle = not found
        if not found:
            raise Refused(403, "there is no job free at this stage")
        return _job(found[0])

    @answered
    async def complete_job(self, visit: Visit) -> web.Response:
        """Take in what a worker has made of its job."""
        fields = wire.fields_of(visit.body)
        output = wire.from_client(wire.text_in(fields, "data"))

        async def complete(lease: str) -> list[TaskAnswer]:
            said = Completion(token=lease, output=msgspec.Raw(output))
            return await visit.verbs.complete([said], project=visit.project.name)

        return await self._end(visit, wire.token_in(fields), "completeJob", complete, output)

    @answered
    async def flag_invalid_data(self, visit: Visit) -> web.Response:
        """Take in that the data of a job are bad."""

        async def flag(lease: str) -> list[TaskAnswer]:
            return await visit.verbs.flag([TaskFlag(token=lease, reason=FLAGGED)], project=visit.project.name)

        return await self._end(visit, wire.token_in(wire.fields_of(visit.body)), "flagInvalidData", flag)

    async def _another(self, visit: Visit, token: str, worker: OutsideWorker) -> list[LeasedTask]:
        """Lease another job than the one that *worker* holds, which is put back then; that one if there is no other."""
        taken: list[LeasedTask] = []
        if worker.tokens:
            try:
                taken = await _lease(visit, token)
            except LeaseLimitReached:  # it may not hold two, not for a moment
                pass
            await visit.verbs.release(worker.tokens, project=visit.project.name)
        return taken or await _lease(visit, token)

    async def _end(
        self,
        visit: Visit,
        token: str,
        what: str,
        say: Callable[[str], Awaitable[list[TaskAnswer]]],
        output: bytes = b"",
    ) -> web.Response:
        """Have *say* the last word on the job that a worker holds; said again, it is answered as the first time."""
        word = Word(what, _connection(visit), time.monotonic(), digest=sha256(output).digest())
        known = self._workers.of(token)
        async with known.turn:
            worker = await self._worker(visit, token)
            problem = "this worker holds no job"
            lease = worker.tokens[-1] if worker.tokens else ""
            if not lease and is_end_repeated(word, known.last):
                lease = worker.last_said
            if lease:
                (answer,) = await say(lease)
                problem = answer.problem or "" if not answer.is_accepted else ""
            known.last = msgspec.structs.replace(word, status=403 if problem else 200)
            known.is_idle = True
        if problem:
            raise Refused(403, problem)
        return web.Response(text=DONE)

    # ---- who it is ---------------------------------------------------------------------------

    async def _worker(self, visit: Visit, token: str) -> OutsideWorker:
        """Return the worker with this *token*, for whom that is a sign of life; raises `NotFound`."""
        try:
            worker: OutsideWorker = await visit.verbs.registered_worker(token)
            if worker.project != visit.project.name:
                raise NotFound("worker", "with this token")
        except NotFound:
            self._workers.forget(token)
            raise
        self._meet(visit, token, worker.stage).is_idle = not worker.tokens
        return worker

    def _meet(self, visit: Visit, token: str, stage: str) -> Acquaintance:
        known = self._workers.of(token)
        known.address, known.place = visit.request.remote, (visit.project.name, stage)
        self._spoken[visit.request.transport] = token
        return known

    def _note(self, visit: Visit, token: str, what: str) -> None:
        self._workers.of(token).last = Word(what, _connection(visit), time.monotonic())

    async def _hear_who_counts(self, visit: Visit, stage: str) -> None:
        """Take a question without a token for a sign of life of whoever may have asked it.

        That is the worker that spoke last on the same connection; on a new one, all those of its address that hold
        nothing, for a job must not be kept by another's question.
        """
        token = self._spoken.get(visit.request.transport)
        if token is not None:
            await self._hear(visit, token)
            return
        for token in self._workers.idle_at(visit.request.remote, (visit.project.name, stage)):
            await self._hear(visit, token)

    async def _hear(self, visit: Visit, token: str) -> None:
        try:
            await visit.verbs.registered_worker(token)
        except NotFound:
            self._workers.forget(token)


async def _lease(visit: Visit, token: str) -> list[LeasedTask]:
    grant = visit.grant
    leased: list[LeasedTask] = await visit.verbs.lease_as(
        token, is_volunteer=grant is None, grant=None if grant is None else grant.id
    )
    return leased


def _asked(visit: Visit, name: str) -> str:
    """Return the text *name* of the query."""
    text = visit.request.query.get(name)
    if text is None:
        raise wire.Malformed(f"{name} is missing")
    return text


def _stage(project: Project, letter: str) -> Stage:
    """Return the lease stage that old clients know by this *letter*: by name, or else by its place among them."""
    stages = [stage for stage in project.stages if stage.kind == "lease"]
    named = {**dict(zip(LETTERS, stages, strict=False)), **{stage.name: stage for stage in stages}}
    if len(letter) != 1 or letter not in LETTERS or letter not in named:
        has = ", ".join(letter for letter in LETTERS if letter in named) or "none"
        raise Refused(400, f"there is no stage {letter[:20]!a} here; there is {has}")
    return named[letter]


def _connection(visit: Visit) -> Hashable:
    """Return what tells the connection of a request from all others; behind a proxy it tells nothing."""
    transport = visit.request.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return peer if isinstance(peer, tuple) else id(transport)


def _job(task: LeasedTask) -> web.Response:
    return _json({"data": wire.to_client(bytes(task.input)), "number": task.number})


def _json(value: dict[str, object]) -> web.Response:
    return web.Response(body=wire.json_of(value), content_type="application/json")
