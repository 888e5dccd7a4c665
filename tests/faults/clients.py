"""Clients that ask an engine for everything at once, go on with the next one, and note what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from dcengine.calls import batch_of, submission_of
from dcengine.client import Client
from dcengine.codec import pack, pack_json
from dcengine.connection import Answer, Gone, Question
from dcengine.errors import EngineClosed, EngineUnreachable
from dcengine.verbs import (
    Completion,
    Heartbeat,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    ProjectSpec,
    StageSpec,
    TaskAnswer,
    TaskFailure,
    TaskFlag,
    TokenSpec,
)
from dcengine.worker import AsyncWorker
from tests.faults.promises import Promises

PROJECT = "kills"
STAGES = [
    StageSpec(name="a", kind="lease", retries=2, lease_seconds=30, back_off=0.05),
    StageSpec(name="b", kind="lease", retries=1, lease_seconds=1, votes=1, back_off=0.05),
]
PAUSE = 0.02  #: seconds before an engine that did not answer is asked again

T = TypeVar("T")
Address = Callable[[], tuple[str, str]]


class Lost(Exception):
    """No answer came: nobody knows whether it was done."""


class Impatient(Client):
    """Asks once; who has no answer then has to see for himself."""

    async def _answer(self, question: Question) -> Answer:
        try:
            return self._good(await self._send(question))
        except (Gone, EngineClosed) as error:
            raise Lost from error


class Patient(Client):
    """Asks again until an engine answers, as the client does by itself."""

    async def _answer(self, question: Question) -> Answer:
        try:
            return await super()._answer(question)
        except (EngineClosed, EngineUnreachable) as error:
            raise Lost from error


class Crowd:
    """All of them, and the engine that they ask."""

    def __init__(self, url: str, token: str, promises: Promises, dice: random.Random) -> None:
        self._url, self._token = url, token
        self._promises, self._dice = promises, dice
        self._items = 0
        self.is_over = False  #: no new work; what there is is brought to its end

    async def declare(self) -> None:
        """Declare the project, and let it run."""
        client = Client(self._url, self._token)
        await client.declare_project(ProjectSpec(name=PROJECT, stages=STAGES))
        await client.run_project(PROJECT)
        await client.close()

    async def live(self, kind: type[Client], number: int) -> None:
        """Ask for this and that, as the dice say, until it is over."""
        dice = random.Random(self._dice.random())
        client = kind(self._url, self._token, self._resolve)
        doings = [self._work] * 8 + [self._add, self._submit, self._submit, self._map, self._make_token]
        try:
            while not self.is_over:
                try:
                    await dice.choice(doings)(client, dice, f"w{number}")
                except Lost:
                    await asyncio.sleep(PAUSE * dice.random())
        finally:
            await client.close()

    async def loop(self, number: int) -> None:
        """Be a worker of the library, which knows how to wait for an engine that comes back."""
        while not self.is_over:
            with suppress(EngineUnreachable):  # nobody has answered its first question for long
                await self._loop(f"loop{number}")

    async def _loop(self, name: str) -> None:
        async with AsyncWorker(
            self._url, self._token, project=PROJECT, stage="a", nickname=name, wait=0.2, idle_exit=1.0
        ) as worker:
            while not self.is_over and (held := await worker.next()):
                await held.complete(held.input)
                token = held.holding.token
                task, attempt = (int(part, 16) for part in token.split("-")[:2])
                self._promises.answered("complete", task, attempt, token, is_accepted=await held.accepted())

    async def finish(self) -> None:
        """Do all that is left."""
        client = Client(self._url, self._token)
        while (await client.project(PROJECT)).open:
            if not [await self._take(client, stage, "late", 50, "complete") for stage in "ab"]:
                await asyncio.sleep(PAUSE)
        await client.close()

    async def _resolve(self) -> tuple[str, str]:
        await asyncio.sleep(PAUSE)
        return self._url, self._token

    # ---- what one of them does --------------------------------------------------------------

    async def _work(self, client: Client, dice: random.Random, name: str) -> None:
        word = dice.choice(["complete"] * 6 + ["fail", "flag", "release"])
        await self._take(client, dice.choice("ab"), name, dice.choice([1, 1, 1, 4]), word)

    async def _take(self, client: Client, stage: str, name: str, n: int, word: str) -> int:
        """Lease up to *n* tasks, and say *word* of each until that is answered; return how many there were."""
        request = LeaseRequest(project=PROJECT, stage=stage, worker=name, n=n)
        tasks = await client.lease(request)
        for task in tasks:
            self._promises.note("lease", task.task, task.attempt)
        if len(tasks) == 1:
            await insisting(lambda: client.heartbeat([Heartbeat(token=tasks[0].token, done=0.5)]))
            self._promises.acknowledged["heartbeat"] += 1
        if tasks:
            answers = await insisting(lambda: say(client, word, tasks))
            for task, answer in zip(tasks, answers, strict=True):
                is_accepted = answer.is_accepted
                self._promises.answered(word, task.task, task.attempt, task.token, is_accepted=is_accepted)
        return len(tasks)

    async def _add(self, client: Client, dice: random.Random, name: str) -> None:
        count = dice.randrange(1, 8)
        keys = [str(self._items + n) for n in range(count)]
        self._items += count
        block = pack([pack_json(key, what="an item") for key in keys])
        submission = ItemsSubmission(project=PROJECT, blocks=[block], count=count, keys=keys, request=f"add {keys[0]}")
        added = await insisting(lambda: client.add_jobs(submission))
        assert added.count == count, "asked again under the same key, it was told of fewer"
        self._promises.note("items", added.first_id, added.first_id + count - 1, count)

    async def _submit(self, client: Client, dice: random.Random, name: str) -> None:
        """Submit a call, and perhaps cancel it, and then have it done all the same."""
        job = await client.submit(submission_of(abs, (-dice.randrange(99),), {}, {}))
        self._promises.note("job", job.id)
        if dice.random() < 0.3:
            cancelled = await insisting(lambda: client.cancel(job.id))
            if cancelled.state == "cancelled":
                self._promises.note("cancelled", job.id)
                if await client.retry([job.id]):
                    self._promises.note("reopened", job.id)

    async def _map(self, client: Client, dice: random.Random, name: str) -> None:
        batch = await client.submit_batch(batch_of(abs, [(-n,) for n in range(dice.randrange(1, 20))], {}))
        self._promises.note("batch", batch.id, batch.count)

    async def _make_token(self, client: Client, dice: random.Random, name: str) -> None:
        made = await client.create_token(TokenSpec(role="view", note=name))
        self._promises.note("token", made.status.id)


async def say(client: Client, word: str, tasks: list[LeasedTask]) -> list[TaskAnswer]:
    """Say *word* of *tasks*."""
    if word == "complete":
        return await client.complete([Completion(token=task.token, output=task.input) for task in tasks])
    tokens = [task.token for task in tasks]
    if word == "fail":
        return await client.fail([TaskFailure(token=token, reason="no luck") for token in tokens])
    if word == "flag":
        return await client.flag([TaskFlag(token=token) for token in tokens])
    return await client.release(tokens)


async def insisting(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer, whichever engine gives it."""
    while True:
        try:
            return await ask()
        except Lost:
            await asyncio.sleep(PAUSE)
