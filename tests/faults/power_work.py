"""Work whose writes are recorded: a real engine with several callers, and a word for each thing it has acknowledged.

``python -m tests.faults.power_work FOLDER SEED SYNCHRONOUS LIFE`` works on ``FOLDER/work.db``. Its words are lines of
JSON in ``FOLDER/marks``: in the record each stands behind all that was written before the acknowledgement. Limits are
small, so that little work does everything often.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import msgspec

from dcengine.calls import batch_of, submission_of
from dcengine.cluster import ClusterSettings
from dcengine.codec import dumps, pack, pack_json
from dcengine.engine import Engine, upkeep
from dcengine.engine import batches as engine_batches
from dcengine.engine import tasks as engine_tasks
from dcengine.engine import values as engine_values
from dcengine.events import Kind
from dcengine.store import log, opening
from dcengine.verbs import (
    Completion,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    ProjectSpec,
    StageSpec,
    TaskFailure,
    TaskFlag,
)

PROJECT = "photos"
LOG_PAGES = 48  #: after which the log is folded into the file, and begun anew
ROW_LIMIT = 8 << 10  #: larger values lie outside the file
BEGINNING = 150  #: promises after which the first life ends as by a kill


def small(n: int) -> int:
    return n + 1


def large(n: int) -> bytes:
    import random

    return random.Random(n).randbytes(10_000 + n % 1000)


class Work:
    """What callers do with one engine, and what it has promised them."""

    def __init__(self, engine: Engine, folder: Path, dice: random.Random, *, ends_after: int | None) -> None:
        self._engine, self._folder, self._dice = engine, folder, dice
        self._marks = os.open(folder / "marks", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._promises, self._ends_after = 0, ends_after

    def promise(self, what: str, *about: object) -> None:
        """Say that the engine has acknowledged something."""
        os.write(self._marks, json.dumps([what, *about]).encode() + b"\n")
        self._promises += 1
        if self._promises == self._ends_after:
            os._exit(0)

    # ---- calls -----------------------------------------------------------------------------

    async def call(self, n: int) -> None:
        """Submit a call, and see it end."""
        function = large if self._dice.random() < 0.15 else small
        job = (await self._engine.submit(submission_of(function, (n,), {}, {}))).id
        self.promise("job", job)
        result = await self._engine.result(job, wait=60)
        assert result is not None
        self.promise("moved", [Kind.SUCCEEDED], job, 1)
        self.promise("output", job, hashlib.sha256(result.data).hexdigest())

    async def cancelled_call(self, n: int) -> None:
        """Submit a call that nobody can run, and cancel it."""
        job = (await self._engine.submit(submission_of(small, (n,), {}, {"tags": "nowhere"}))).id
        self.promise("job", job)
        await self._engine.cancel(job)
        self.promise("ended", job)

    async def map(self, n: int) -> None:
        """Submit a map, and see it end."""
        items = self._dice.randint(5, 40)
        batch = (await self._engine.submit_batch(batch_of(small, [(n + m,) for m in range(items)], {}))).id
        self.promise("batch", batch, items)
        while not (status := await self._engine.batch(batch)).is_final:
            await asyncio.sleep(0.01)
        assert status.succeeded == items
        self.promise("map", batch, items)

    async def value(self, n: int) -> None:
        """Put a value outside the file, and perhaps delete it."""

        async def pieces() -> AsyncIterator[bytes]:
            yield dumps(large(self._dice.randrange(10**12)))

        stored = await self._engine.put_value(pieces())
        if self._dice.random() < 0.6:
            self.promise("value", stored.digest)
        else:
            await self._engine.delete_value(stored.digest)
            self.promise("no value", stored.digest)

    # ---- a project of outside workers --------------------------------------------------------

    async def add(self, n: int) -> None:
        """Add jobs to the project."""
        count = self._dice.randint(1, 4)
        block = pack([pack_json({"n": n, "m": m}, what="an item") for m in range(count)])
        added = await self._engine.add_jobs(ItemsSubmission(project=PROJECT, blocks=[block], count=count))
        for job in range(added.first_id, added.first_id + added.count):
            self.promise("job", job)

    async def outside(self, n: int) -> None:
        """Lease tasks, and say something of each."""
        stage = "look" if self._dice.random() < 0.6 else "check"
        wish = LeaseRequest(project=PROJECT, stage=stage, worker=f"w{n % 3}", n=self._dice.randint(1, 3))
        for leased in await self._engine.lease(wish):
            self.promise("moved", [Kind.LEASED], leased.task, leased.attempt)
            await self._say(leased)

    async def _say(self, task: LeasedTask) -> None:
        drawn = self._dice.random()
        if drawn < 0.1:
            (answer,) = await self._engine.fail([TaskFailure(token=task.token, reason="it did not work")])
            self._accepted(answer.is_accepted, Kind.RETRIED, Kind.FAILED, task=task)
        elif drawn < 0.2:
            (answer,) = await self._engine.flag([TaskFlag(token=task.token, reason="bad")])
            self._accepted(answer.is_accepted, Kind.FLAGGED, Kind.RETURNED, Kind.FAILED, task=task)
        elif drawn < 0.3:
            (answer,) = await self._engine.release([task.token])
            self._accepted(answer.is_accepted, Kind.RELEASED, task=task)
        else:
            output = json.dumps("x" * (self._dice.randint(9000, 20000) if drawn < 0.4 else self._dice.randint(1, 50)))
            (answer,) = await self._engine.complete([Completion(token=task.token, output=msgspec.Raw(output.encode()))])
            self._accepted(answer.is_accepted, Kind.SUCCEEDED, task=task)

    def _accepted(self, is_accepted: bool, *kinds: Kind, task: LeasedTask) -> None:
        if is_accepted:  # else its job was cancelled meanwhile
            self.promise("moved", kinds, task.task, task.attempt)

    async def give_up(self, n: int) -> None:
        """Cancel a job of the project."""
        jobs = await self._engine.jobs(state="open", project=PROJECT, limit=5)
        for job in jobs[-1:]:
            status = await self._engine.cancel(job.id)
            if status.state == "cancelled":
                self.promise("ended", job.id)

    # ---- all of it -------------------------------------------------------------------------

    async def declare(self) -> None:
        """Make the project."""
        stages = [StageSpec(name=name, kind="lease", retries=2, votes=1) for name in ("look", "check")]
        await self._engine.declare_project(ProjectSpec(name=PROJECT, stages=stages))
        await self._engine.run_project(PROJECT)
        self.promise("project", PROJECT)

    async def all_at_once(self, rounds: int) -> None:
        """Do everything *rounds* times, several callers at a time."""
        each: list[tuple[Callable[[int], Awaitable[None]], int]] = [
            (self.call, 2), (self.cancelled_call, 1), (self.map, 1), (self.value, 1), (self.add, 2), (self.outside, 4),
            (self.give_up, 1),
        ]  # fmt: skip

        async def one(do: Callable[[int], Awaitable[None]], first: int) -> None:
            for n in range(first, first + rounds):
                await do(n)
                if self._dice.random() < 0.1:  # quiet enough for the log to be lengthened
                    await asyncio.sleep(0.25)

        callers = [do for do, many in each for _ in range(many)]
        await asyncio.gather(*(one(do, self._dice.randrange(10_000)) for do in callers))

    async def put_away(self) -> None:
        """Delete a project, give space back, make a copy."""
        await self._engine.declare_project(ProjectSpec(name="gone", stages=[StageSpec(name="look", kind="lease")]))
        await self._engine.add_jobs(
            ItemsSubmission(project="gone", blocks=[pack([pack_json(1, what="an item")])], count=1)
        )
        await self._engine.delete_project("gone")
        self.promise("no project", "gone")
        await self._engine.vacuum()
        copy = self._folder / "copy.db"
        done = await self._engine.backup(str(copy))
        self.promise("copy", copy.name, done.blobs)


async def live(folder: Path, dice: random.Random, *, life: str) -> None:
    """Have an engine work for a while."""
    engine = Engine(folder / "work.db", ClusterSettings(workers=1, processes=False))
    await engine.start()
    try:
        work = Work(engine, folder, dice, ends_after=BEGINNING if life == "BEGIN" else None)
        if life != "END":
            await work.declare()
            await work.all_at_once(1000 if life == "BEGIN" else 5)
            await work.put_away()
        await work.all_at_once(1)
    finally:
        await engine.close()


def limited(*, synchronous: str) -> ExitStack:
    """Make everything small, and sync as asked."""
    stack = ExitStack()
    pragmas = opening.PRAGMAS.replace("synchronous = FULL", f"synchronous = {synchronous}")
    stack.enter_context(mock.patch.object(opening, "PRAGMAS", pragmas))
    stack.enter_context(mock.patch.object(log, "FOLD_PAGES", LOG_PAGES))
    stack.enter_context(mock.patch.object(log, "LOG_BYTES", log.HEADER + LOG_PAGES * log.FRAME))
    stack.enter_context(mock.patch.object(log, "ROOM_FOR_LOG", 0))
    # What nothing refers to goes at once: nobody is about to refer to it while there is put away.
    stack.enter_context(mock.patch.object(upkeep, "IDLE_SECONDS", 0.0))
    for module in (engine_batches, engine_tasks, engine_values):
        stack.enter_context(mock.patch.object(module, "ROW_LIMIT", ROW_LIMIT))
    return stack


def main(folder: str, seed: str, synchronous: str, life: str) -> None:
    os.environ.pop("LD_PRELOAD", None)
    with limited(synchronous=synchronous):
        if life == "MIGRATE":
            opening.open_for_writing(Path(folder) / "work.db").close()
            return
        for part in ("BEGIN",) if life == "BEGIN" else ("GO_ON", "END"):
            asyncio.run(live(Path(folder), random.Random(f"{seed}{part}"), life=part))


if __name__ == "__main__":
    main(*sys.argv[1:])
