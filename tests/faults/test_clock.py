"""Clocks that are wrong: the engine's jumps and runs fast or slow, and those of its workers do, while tasks are held.

Leases go by the monotonic clock, and so does waiting for another try; moments that people name go by the clock on the
wall. Both are shown to be so, in a server whose clock on the wall is set while it runs.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from dcengine.client import Client
from dcengine.codec import pack, pack_json
from dcengine.connection import split_address
from dcengine.engine import clocks
from dcengine.errors import AccessDenied
from dcengine.events import Kind
from dcengine.verbs import (
    Completion,
    Heartbeat,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    ProjectSpec,
    StageSpec,
    TaskFailure,
    TokenSpec,
)
from tests.driven import Driven
from tests.engines import serving
from tests.faults.aftermath import check_survivor
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.crowd import Crowd, Post, told_in
from tests.faults.report import Record, recorded
from tests.faults.shims import needs_shims, under

HOUR = 3600.0
LEASE = 1.5  #: seconds, of those who are never heard of again
BACK_OFF = 2.0
SLACK = in_form(short=8.0, long=1.0)  #: seconds beyond what is promised, on a busy machine
FAILING = 5  #: tasks that fail before each step of the clock
TASKS = in_form(short=40, long=400)
WORKERS = 6  #: every other one has a clock that is wrong


class WrongClock:
    """The clock on the wall of some processes, and by how many seconds it is wrong."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self.wrong_by = 0.0
        self._path.write_bytes(bytes(8))
        self.environment = under("clock", DCENGINE_CLOCK=str(path))

    def set(self, wrong_by: float) -> None:
        """Have it jump."""
        with self._lock, self._path.open("r+b", buffering=0) as file:
            self.wrong_by = wrong_by
            file.write(struct.pack("q", int(wrong_by * 1e9)))

    @contextmanager
    def slewing(self, rate: float) -> Iterator[None]:
        """Have it gain *rate* seconds a second, or lose them."""
        over = threading.Event()

        def slew() -> None:
            before = time.monotonic()
            while not over.wait(0.01):
                now = time.monotonic()
                self.set(self.wrong_by + rate * (now - before))
                before = now

        thread = threading.Thread(target=slew)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@dataclass
class Steps:
    """What is tried while the clock of a server is set."""

    client: Client
    clock: WrongClock
    url: str
    record: Record
    latest: float = 0.0  #: seconds by which a lost task was handed out too late
    n: int = 0

    async def all(self, dice: random.Random) -> None:
        """Set the clock forward and back, and have it run fast and slow; at the end it is right again."""
        token = (await self.client.create_token(TokenSpec(role="worker", project="lost", seconds=HOUR / 2))).token
        moment = time.time() + HOUR / 2
        await add(self.client, "later", 1, not_before=moment)
        for wrong_by in [dice.choice([1, -1]) * HOUR, *dice.sample([-HOUR, HOUR, 0.0], 3)] * in_form(short=1, long=5):
            with self.clock.slewing(dice.choice([-0.1, 0.1])):
                await self.one(wrong_by)
                await self.check_moments(token, moment)
        await self.one(0.0)

    async def one(self, wrong_by: float) -> None:
        """Set the clock while tasks are held by one who is heard of and one who is not, and while others wait."""
        self.n += 1
        self.record.runs += 1
        await add(self.client, "lost", 1)
        await add(self.client, "held", 1)
        await add(self.client, "again", FAILING)
        (held,) = await self.take("held")
        failing = await self.take("again", FAILING)
        (lost,) = await self.take("lost")
        since = time.monotonic()
        await self.client.fail([TaskFailure(token=task.token, reason="no luck") for task in failing])
        self.clock.set(wrong_by)
        _, _, waited = await asyncio.gather(self.get_back(lost, since), self.keep(held), self.try_again())
        assert waited <= BACK_OFF + SLACK, f"{waited:.2f} s until another try"

    async def get_back(self, lost: LeasedTask, since: float) -> None:
        """Wait until what nobody is heard of with is handed out again: when its time is over, and not before."""
        (again,) = await self.take("lost")
        took = time.monotonic() - since
        assert again.job == lost.job
        assert LEASE * 0.95 <= took <= LEASE + SLACK, f"{took:.2f} s"
        self.latest = max(self.latest, took - LEASE)
        await self.complete(again, is_accepted=True)
        await self.complete(lost, is_accepted=False)

    async def keep(self, held: LeasedTask) -> None:
        """Hold a task for longer than its lease."""
        over = time.monotonic() + 1.3 * LEASE
        while time.monotonic() < over:
            (answer,) = await self.client.heartbeat([Heartbeat(token=held.token)])
            assert answer.is_accepted, "a lease that was renewed has ended"
            await asyncio.sleep(LEASE / 5)
        await self.complete(held, is_accepted=True)

    async def try_again(self) -> float:
        """Wait for another try of what has failed; return how long that took."""
        began, left = time.monotonic(), FAILING
        while left:
            for task in await self.take("again", left):
                await self.complete(task, is_accepted=True)
                left -= 1
        return time.monotonic() - began

    async def check_moments(self, token: str, moment: float) -> None:
        """Check that moments which people have named are those of the server's clock."""
        is_past = time.time() + self.clock.wrong_by > moment
        volunteer = Client(str(split_address(self.url)[0]), token)
        try:
            if is_past:
                with pytest.raises(AccessDenied):
                    await volunteer.lease(request("lost", "late"))
                if found := await self.client.lease(request("later", "patient", wait=1.0)):
                    await self.complete(found[0], is_accepted=True)
                assert (await self.client.project("later")).open == 0
            else:
                assert await volunteer.lease(request("lost", "early")) == []
        finally:
            await volunteer.close()

    async def take(self, project: str, n: int = 1) -> list[LeasedTask]:
        """Lease up to *n* tasks, as soon as there are any."""
        found = await self.client.lease(request(project, f"{project}-{self.n}", n=n, wait=LEASE + BACK_OFF + 20))
        assert found, f"nothing of {project} is handed out"
        return found

    async def complete(self, task: LeasedTask, *, is_accepted: bool) -> None:
        (answer,) = await self.client.complete([Completion(token=task.token)])
        assert answer.is_accepted is is_accepted
        self.record.acknowledged += is_accepted


def request(project: str, worker: str, *, n: int = 1, wait: float = 0.0) -> LeaseRequest:
    return LeaseRequest(project=project, stage="a", worker=worker, nickname=worker, n=n, wait=wait)


async def add(client: Client, project: str, n: int, *, not_before: float | None = None) -> None:
    block = pack([pack_json(number, what="an item") for number in range(n)])
    await client.add_jobs(ItemsSubmission(project=project, blocks=[block], count=n, not_before=not_before))


async def declare(client: Client) -> None:
    for name, lease in {"lost": LEASE, "held": LEASE, "later": 60.0, "again": 60.0, "steady": 5.0}.items():
        stage = StageSpec(
            name="a", kind="lease", lease_seconds=lease, retries=100, back_off=BACK_OFF, back_off_limit=BACK_OFF
        )
        await client.declare_project(ProjectSpec(name=name, stages=[stage]))
        await client.run_project(name)


@needs_shims
@pytest.mark.timeout(in_form(short=180, long=0))
def test_no_clock_that_is_set_or_runs_wrong_costs_a_lease_or_keeps_one(
    tmp_path: Path, dice: random.Random, seed: int
) -> None:
    db, journal = tmp_path / "work.db", tmp_path / "journal"
    journal.touch()
    with recorded("jumping clocks", seed=seed, is_long=IS_LONG) as record, ExitStack() as stack:
        engines, others = WrongClock(tmp_path / "engine"), WrongClock(tmp_path / "workers")
        with mock.patch.dict(os.environ, engines.environment):
            process, told = stack.enter_context(serving(db, "--idle-exit", "600", workers=0))
        url = str(told["url"])
        crowds = [Crowd(tmp_path / "right.log"), Crowd(tmp_path / "wrong.log", more=others.environment)]
        for crowd in crowds:
            stack.callback(crowd.end)
        record.stuck = asyncio.run(work(url, engines, others, crowds, journal, record, dice))
        for crowd in crowds:
            crowd.end()
        check_idle_exit(process, engines)
        stack.close()
        check_file(db, journal, record)
        check_survivor(db)


async def work(
    url: str,
    engines: WrongClock,
    others: WrongClock,
    crowds: list[Crowd],
    journal: Path,
    record: Record,
    dice: random.Random,
) -> int:
    """Have all clocks go wrong while workers work; return how many of their tasks are not done at the end."""
    client = Client(url)
    try:
        await declare(client)
        await add(client, "steady", TASKS)
        for n in range(WORKERS):
            crowds[n % 2].begin(Post(url, "steady", "a", f"w{n}", f"n{n}", str(journal), 0.3, 2.0))
        others.set(dice.choice([-HOUR, HOUR]))
        steps = Steps(client, engines, url, record)
        await steps.all(dice)
        others.set(0.0)
        record.figures = {"latest_reclaim_s": round(steps.latest, 2), "lease_s": LEASE}
        over = time.monotonic() + 60
        while (status := await client.project("steady", wait=1.0)).open and time.monotonic() < over:
            pass
        return status.open
    finally:
        await client.close()


def check_idle_exit(process: subprocess.Popen[str], clock: WrongClock) -> None:
    """Check that an engine which may end when it is idle for ten minutes does not end because an hour has jumped by."""
    clock.set(HOUR)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    clock.set(0.0)


def check_file(db: Path, journal: Path, record: Record) -> None:
    """Check that living workers lost nothing, that credit of today is all there is, and that ids follow one another."""
    told = [each for each in told_in(journal) if each.what != "began"]
    record.acknowledged += len(told)
    record.lost += sum(each.what == "refused" or each.attempt > 1 for each in told)
    connection = sqlite3.connect(db)
    ask = lambda sql, *values: connection.execute(sql, values).fetchall()  # noqa: E731
    record.double += sum(n != 1 for (n,) in ask("SELECT count(*) FROM credit WHERE void = 0 GROUP BY task"))
    assert ask("SELECT sum(day), sum(units) FROM standing") == [(record.acknowledged, record.acknowledged)]
    assert ask("SELECT max(id), count(*) FROM job") == [(record.acknowledged,) * 2]
    times = [at for (at,) in ask("SELECT at FROM event WHERE kind = ? ORDER BY seq", int(Kind.SUCCEEDED))]
    assert times != sorted(times), "the clock was never set back"
    connection.close()


# ---- the engine alone, driven by a clock of the test's own -------------------------------------


@pytest.fixture
def driven() -> Iterator[Driven]:
    driven = Driven()
    yield driven
    driven.close()
    driven.remove()


def leased(driven: Driven) -> LeasedTask:
    """Return a task whose lease lasts ten seconds."""
    stage = StageSpec(name="a", kind="lease", lease_seconds=10.0)
    driven.call(driven.engine.declare_project(ProjectSpec(name="lost", stages=[stage])))
    block = pack([pack_json(1, what="an item")])
    driven.call(driven.engine.add_jobs(ItemsSubmission(project="lost", blocks=[block], count=1)))
    driven.call(driven.engine.run_project("lost"))
    (task,) = driven.call(driven.engine.lease(request("lost", "w")))
    return task


def counts(driven: Driven) -> dict[str, int]:
    return driven.call(driven.engine.project("lost")).stages[0].counts


def test_what_an_engine_slept_through_does_not_count(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    task = leased(driven)
    driven.pass_by(0.5)
    monkeypatch.setattr(clocks, "STOOD_STILL_SECONDS", 1.0)

    driven.pass_by(3600.0)  # stopped, swapped out, or at a breakpoint: nobody could be heard

    (answer,) = driven.call(driven.engine.heartbeat([Heartbeat(token=task.token)]))
    assert answer.is_accepted
    for _ in range(12):
        driven.pass_by(0.9)
    assert counts(driven) == {"queued": 1}  # nothing was said since


def test_a_registered_worker_is_not_forgotten_because_the_engine_slept(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased(driven)
    from dcengine.verbs import Registration

    worker = driven.call(driven.engine.register_worker(Registration(project="lost", stage="a", name="w2")))
    driven.pass_by(0.5)
    monkeypatch.setattr(clocks, "STOOD_STILL_SECONDS", 1.0)

    driven.pass_by(3600.0)

    assert driven.call(driven.engine.registered_worker(worker.secret)).name == "w2"


def test_leases_outlive_a_machine_whose_monotonic_clock_begins_anew(driven: Driven) -> None:
    task = leased(driven)

    driven.clock._monotonic = 1.0
    driven.crash()

    (answer,) = driven.call(driven.engine.heartbeat([Heartbeat(token=task.token)]))
    assert answer.is_accepted
    driven.pass_by(11.0)
    assert counts(driven) == {"queued": 1}


def test_leases_begin_anew_once_an_engine_can_be_reached(driven: Driven) -> None:
    task = leased(driven)
    driven.crash()
    driven.pass_by(8.0)  # starting takes its time

    driven.engine.begin_to_hear()

    driven.pass_by(8.0)
    (answer,) = driven.call(driven.engine.heartbeat([Heartbeat(token=task.token)]))
    assert answer.is_accepted
