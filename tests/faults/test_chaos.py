"""Requests and answers that are lost between workers and their engine: no job is lost, and none is done twice.

Each test prints its seed; ``DCENGINE_SEED`` repeats it, ``DCENGINE_OPERATIONS`` makes it longer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec
import pytest

from dcengine.client import Client
from dcengine.codec import JSON, pack, pack_json
from dcengine.connection import split_address
from dcengine.errors import EngineUnreachable
from dcengine.store.checking import check_history
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
)
from tests.engines import serving
from tests.faults.chaos import Chaos, between

OPERATIONS = int(os.environ.get("DCENGINE_OPERATIONS", "5000"))
PROJECT = "laion"
NICKNAMES = ("alice", "bob", "carol")
LEASE_SECONDS = 3.0  #: after which a task whose lease got lost is given to somebody else
AHEAD = 100  #: jobs that are added before others have ended
BLOCK = 50  #: jobs that are added at once

T = TypeVar("T")


class Deed(NamedTuple):
    """An output that an engine has accepted."""

    stage: str
    number: int
    generation: int
    output: str
    nickname: str


@dataclass
class Journal:
    """What clients have done, as they know it."""

    operations: int = 0
    accepted: list[Deed] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    is_over: bool = False
    marks: Iterator[int] = field(default_factory=itertools.count)  #: no two outputs are alike

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer."""
        self.operations += 1
        while True:
            try:
                return await ask()
            except (EngineUnreachable, aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)


class Blind:
    """A worker's side written in an hour: it repeats what was not answered, and says nowhere that it does."""

    def __init__(self, url: str) -> None:
        self._base, token = split_address(url)
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})

    async def close(self) -> None:
        await self._session.close()

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        body = {"worker": request.worker, "nickname": request.nickname, "n": request.n, "wait": request.wait}
        path = f"v1/projects/{request.project}/stages/{request.stage}/lease"
        return msgspec.json.decode(await self._post(path, body), type=list[LeasedTask])

    async def heartbeat(self, said: list[Heartbeat]) -> list[TaskAnswer]:
        return await self._say("heartbeat", said)

    async def complete(self, said: list[Completion]) -> list[TaskAnswer]:
        return await self._say("complete", said)

    async def fail(self, said: list[TaskFailure]) -> list[TaskAnswer]:
        return await self._say("fail", said)

    async def flag(self, said: list[TaskFlag]) -> list[TaskAnswer]:
        return await self._say("flag", said)

    async def release(self, said: list[str]) -> list[TaskAnswer]:
        return await self._say("release", said)

    async def _say(self, what: str, said: Sequence[object]) -> list[TaskAnswer]:
        return msgspec.json.decode(await self._post(f"v1/tasks/{what}", said), type=list[TaskAnswer])

    async def _post(self, path: str, body: object) -> bytes:
        async with self._session.post(
            self._base.joinpath(*path.split("/")),
            data=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
        ) as answer:
            text = await answer.read()
            assert answer.status == 200, text
            return text


@dataclass
class Hand:
    """A worker that does what dice say with the tasks it gets."""

    verbs: Client | Blind
    name: str
    nickname: str
    journal: Journal
    dice: random.Random

    async def work(self) -> None:
        while not self.journal.is_over:
            request = LeaseRequest(
                project=PROJECT, stage=self.dice.choice("ab"), worker=self.name, nickname=self.nickname,
                n=self.dice.randint(1, 5), wait=self.dice.choice([0.0, 0.3]),
            )  # fmt: skip
            tasks = await self.journal.insist(partial(self.verbs.lease, request))
            verdicts = self.dice.choices(self._ways(request.stage), self._odds(request.stage), k=len(tasks))
            for way in dict.fromkeys(verdicts):
                some = [task for task, verdict in zip(tasks, verdicts, strict=True) if verdict == way]
                await way(some, request.stage)

    def _ways(self, stage: str) -> list[Callable[[list[LeasedTask], str], Awaitable[None]]]:
        return [self._complete, self._beat_and_complete, self._fail, self._release, self._flag]

    def _odds(self, stage: str) -> list[float]:
        # At the first stage nobody could mend what is flagged: the job would end.
        return [0.7, 0.14, 0.05, 0.05, 0.06 if stage == "b" else 0.0]

    async def _complete(self, tasks: list[LeasedTask], stage: str) -> None:
        outputs = [f"{self.name} {next(self.journal.marks)}" for _ in tasks]
        said = [
            Completion(token=task.token, output=msgspec.Raw(json.dumps(output).encode()))
            for task, output in zip(tasks, outputs, strict=True)
        ]
        answers = await self.journal.insist(lambda: self.verbs.complete(said))
        for task, output, answer in zip(tasks, outputs, answers, strict=True):
            if answer.is_accepted:
                deed = Deed(stage, task.number, task.generation, output, self.nickname)
                self.journal.accepted.append(deed)
        if self.dice.random() < 0.1:
            assert answers_of(await self.journal.insist(lambda: self.verbs.complete(said))) == answers_of(answers)

    async def _beat_and_complete(self, tasks: list[LeasedTask], stage: str) -> None:
        beats = [Heartbeat(token=task.token, done=1, total=2) for task in tasks]
        await self.journal.insist(lambda: self.verbs.heartbeat(beats))
        await self._complete(tasks, stage)

    async def _fail(self, tasks: list[LeasedTask], stage: str) -> None:
        failures = [TaskFailure(token=task.token, reason="no luck") for task in tasks]
        await self.journal.insist(lambda: self.verbs.fail(failures))
        await self._is_over_for(tasks)

    async def _release(self, tasks: list[LeasedTask], stage: str) -> None:
        tokens = [task.token for task in tasks]
        await self.journal.insist(lambda: self.verbs.release(tokens))
        await self._is_over_for(tasks)

    async def _flag(self, tasks: list[LeasedTask], stage: str) -> None:
        flags = [TaskFlag(token=task.token, reason="blurred") for task in tasks]
        await self.journal.insist(lambda: self.verbs.flag(flags))
        await self._is_over_for(tasks)

    async def _is_over_for(self, tasks: list[LeasedTask]) -> None:
        """Try to complete what has been given away: nothing of it is taken."""
        said = [Completion(token=task.token, output=msgspec.Raw(b'"too late"')) for task in tasks]
        answers = await self.journal.insist(lambda: self.verbs.complete(said))
        assert not any(answers_of(answers))


def answers_of(answers: list[TaskAnswer]) -> list[bool]:
    return [answer.is_accepted for answer in answers]


@pytest.mark.timeout(0 if OPERATIONS > 5000 else 120)
async def test_no_job_is_lost_or_done_twice_whatever_requests_and_answers_are_lost(
    tmp_path: Path, dice: random.Random
) -> None:
    journal = Journal()
    with stormy(tmp_path / "work.db", dice) as (url, through, chaos):
        async with opened(
            Client(url), *(Client(through) for _ in range(6)), *(Blind(through) for _ in range(3))
        ) as everybody:
            calm, filling, *working = everybody
            await declare(calm)
            hands = [
                Hand(verbs, f"w{n}", NICKNAMES[n % len(NICKNAMES)], journal, random.Random(dice.random()))
                for n, verbs in enumerate(working)
            ]
            await asyncio.gather(*(hand.work() for hand in hands), fill_and_wait(filling, calm, journal))
        print(f"{journal.operations:,} operations on {len(journal.keys):,} jobs; requests: {chaos}")

    assert chaos.losses > journal.operations / 10
    check_deeds(tmp_path / "work.db", journal)


@contextmanager
def stormy(db: Path, dice: random.Random, *, cuts_heads: bool = True) -> Iterator[tuple[str, str, Chaos]]:
    """An engine in a process of its own; yields its URL, the one through a proxy that loses things, and the proxy."""
    with (
        serving(db, workers=0) as (_, told),
        between(str(told["url"]), dice, cuts_heads=cuts_heads) as (through, chaos),
    ):
        yield str(told["url"]), through, chaos


@asynccontextmanager
async def opened(*clients: Any) -> AsyncIterator[tuple[Any, ...]]:
    try:
        yield clients
    finally:
        for client in clients:
            await client.close()


async def declare(client: Client, *, lease_seconds: float = LEASE_SECONDS, **more: Any) -> None:
    """Make a project of two stages that forgives everything."""
    stages = [
        StageSpec(
            name=name, kind="lease", lease_seconds=lease_seconds, votes=1, retries=1000, generations=1000,
            back_off=0.01, back_off_limit=0.05,
        )
        for name in "ab"
    ]  # fmt: skip
    await client.declare_project(ProjectSpec(name=PROJECT, stages=stages, **more))
    await client.run_project(PROJECT)


async def fill_and_wait(client: Client, calm: Client, journal: Journal, operations: int = OPERATIONS) -> None:
    """Add jobs, all of them twice at once, as long as there are *operations* to come; wait until they have ended."""
    for start in itertools.count(step=BLOCK):
        if journal.operations >= operations:
            break
        keys = [f"key {number}" for number in range(start, start + BLOCK)]
        journal.keys.update(keys)
        await asyncio.gather(*(journal.insist(partial(client.add_jobs, items(keys))) for _ in range(2)))
        while (await calm.project(PROJECT)).open > AHEAD and journal.operations < operations:
            await asyncio.sleep(0.05)
    while (await calm.project(PROJECT, wait=1.0)).open:
        pass
    journal.is_over = True


def items(keys: list[str]) -> ItemsSubmission:
    block = pack([pack_json({"key": key}, what="an item") for key in keys])
    return ItemsSubmission(project=PROJECT, blocks=[block], count=len(keys), keys=keys)


def check_deeds(db: Path, journal: Journal) -> None:
    """Check that the file tells of the very deeds that clients were told were accepted, each once.

    Clients that are told no generation say -1.
    """
    assert check_history(db) == []
    connection = sqlite3.connect(db)
    try:
        rows = connection.execute(
            "SELECT stage.name, job.number, task.generation, CAST(substr(payload.output, ?) AS TEXT),"
            " contributor.nickname, credit.void FROM task JOIN job ON job.id = task.job"
            " JOIN stage ON stage.id = task.stage JOIN payload ON payload.task = task.id"
            " JOIN credit ON credit.task = task.id JOIN contributor ON contributor.id = credit.contributor",
            (len(JSON) + 1,),
        ).fetchall()
        ended = connection.execute(
            "SELECT job.key, job.state, count(*) FROM job JOIN project ON project.id = job.project"
            " WHERE project.name = ? GROUP BY job.key",
            (PROJECT,),
        ).fetchall()
    finally:
        connection.close()

    stored = [Deed(stage, number, generation, json.loads(out), who) for stage, number, generation, out, who, _ in rows]
    assert max(Counter(deed[:3] for deed in stored).values()) == 1
    if any(deed.generation < 0 for deed in journal.accepted):
        assert Counter(deed._replace(generation=-1) for deed in stored) == Counter(journal.accepted)
    else:
        assert Counter(stored) == Counter(journal.accepted)
    assert sorted(ended) == sorted((key, 1, 1) for key in journal.keys)
    counting = Counter(deed.stage for deed, (*_, void) in zip(stored, rows, strict=True) if not void)
    assert counting == {"a": len(journal.keys), "b": len(journal.keys)}
