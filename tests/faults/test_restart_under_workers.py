"""A server that ends and comes back under 200 connected workers: all are back at once, and none loses its task."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dcengine.client import Client
from dcengine.codec import pack, pack_json
from dcengine.connection import split_address
from dcengine.store.checking import check_history
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from tests.engines import serving

WORKERS = 200
HOLDING = 150  #: of them have a task in their hands when it ends, the others wait for one
LONGEST = 10.0  #: seconds after which all have to be back
BEAT = 0.5  #: seconds between two signs of life


@dataclass
class Crowd:
    """Workers that speak nothing but HTTP, and what became of them."""

    dice: random.Random
    held: dict[str, dict[str, Any]] = field(default_factory=dict)  #: what each worker has in its hands
    waiting: set[str] = field(default_factory=set)
    back: dict[str, float] = field(default_factory=dict)  #: when each was answered for the first time since
    done: list[tuple[int, str, bool]] = field(default_factory=list)  #: job, worker, and whether it was accepted
    may_complete: asyncio.Event = field(default_factory=asyncio.Event)
    is_gone: bool = False

    async def work(self, name: str, session: aiohttp.ClientSession) -> None:
        """Wait for a task, say every now and then that it is being done, and hand its output in."""
        wish = {"worker": name, "nickname": name, "wait": 30}
        while not (tasks := await self._ask(session, name, "projects/laion/stages/a/lease", wish)):
            pass
        self.held[name] = tasks[0]
        while not self.may_complete.is_set():
            (answer,) = await self._ask(session, name, "tasks/heartbeat", [{"token": tasks[0]["token"]}])
            assert answer["is_accepted"], answer
            await within(self.may_complete, self.dice.uniform(0.5, 1) * BEAT)
        said = [{"token": tasks[0]["token"], "output": name}]
        (answer,) = await self._ask(session, name, "tasks/complete", said)
        self.done.append((tasks[0]["job"], name, answer["is_accepted"]))

    async def _ask(self, session: aiohttp.ClientSession, name: str, path: str, body: object) -> Any:
        """Ask until there is an answer."""
        while True:
            self.waiting.add(name)
            began = self.is_gone
            try:
                async with session.post(f"v1/{path}", json=body) as answer:
                    found = await answer.json()
                    assert answer.status == 200, found
                    if began:
                        self.back.setdefault(name, time.monotonic())
                    return found
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(self.dice.uniform(0.1, 0.5))
            finally:
                self.waiting.discard(name)


async def within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        pass


async def until(condition: Callable[[], object], patience: float = 30.0) -> None:
    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), patience)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_two_hundred_workers_are_back_at_once_and_none_has_lost_its_task(
    tmp_path: Path, dice: random.Random, end: signal.Signals
) -> None:
    db = tmp_path / "work.db"
    with serving(db, workers=0) as (process, told):
        base, token = split_address(str(told["url"]))
        crowd = Crowd(dice)
        session = aiohttp.ClientSession(
            str(base), headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=0)
        )
        async with session:
            await fill(str(told["url"]), HOLDING)
            works = [asyncio.ensure_future(crowd.work(f"w{n}", session)) for n in range(WORKERS)]
            await until(lambda: len(crowd.held) == HOLDING and len(crowd.held.keys() | crowd.waiting) == WORKERS)
            before = {name: task["token"] for name, task in crowd.held.items()}

            process.send_signal(end)
            await asyncio.to_thread(process.wait)
            crowd.is_gone, gone = True, time.monotonic()
            with serving(db, "--port", str(base.port), workers=0):
                up = time.monotonic()
                await until(lambda: set(before) <= set(crowd.back))
                await fill(str(told["url"]), WORKERS - HOLDING)  # for those who wait
                await until(lambda: len(crowd.held) == WORKERS)
                took = max(crowd.back.values())
                crowd.may_complete.set()
                await asyncio.wait_for(asyncio.gather(*works), 30)

    print(f"all {WORKERS} were back {took - up:.2f} s after the server was, {took - gone:.2f} s after it had gone")
    assert len(crowd.back) == WORKERS
    assert took - up < LONGEST
    assert {name: task["token"] for name, task in crowd.held.items() if name in before} == before
    assert len(crowd.done) == WORKERS
    assert all(is_accepted for _, _, is_accepted in crowd.done)
    assert len({job for job, _, _ in crowd.done}) == WORKERS
    assert check_history(db) == []


async def fill(url: str, jobs: int) -> None:
    """Add *jobs* to a project that forgives no lost lease."""
    client = Client(url)
    stage = StageSpec(name="a", kind="lease", lease_seconds=60)
    await client.declare_project(ProjectSpec(name="laion", stages=[stage]))
    block = pack([pack_json(number, what="an item") for number in range(jobs)])
    await client.add_jobs(ItemsSubmission(project="laion", blocks=[block], count=jobs))
    await client.run_project("laion")
    await client.close()
