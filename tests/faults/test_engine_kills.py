"""An engine that is killed, in whatever moment: nothing it has promised is lost, and nothing of it is left.

Each test prints its seed; ``DCENGINE_SEED`` repeats it, ``DCENGINE_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import dcengine
from benchmarks import faults
from dcengine.connection import split_address
from dcengine.owner import find_owner
from dcengine.store.checking import check_history
from tests.engines import embedded, environment, eventually, family, gone, serving
from tests.faults.aftermath import check_survivor
from tests.faults.clients import Crowd, Impatient, Patient
from tests.faults.conftest import IS_LONG, ROUNDS, in_form
from tests.faults.forked import Forked, Nursery
from tests.faults.promises import Promises
from tests.faults.report import Record, recorded
from tests.faults.test_kills import check_file, credit, end_owner, hit_and_check, leave_programs

FILES, KILLS = in_form(short=1, long=10), 100  #: of each file: clients submit more than engines that soon die can do
CLIENTS, LOOPS = 28, 4  #: who ask for everything, and who only work
LIFE = 0.12  #: seconds that an engine lives, at most


def test_a_map_survives_the_end_of_its_engine(tmp_path: Path, dice: random.Random) -> None:
    with faults.served(tmp_path):
        for _ in range(ROUNDS):
            hit_and_check("engine", tmp_path, dice)
    check_file(tmp_path / "work.db")


def test_a_killed_engine_leaves_no_process(tmp_path: Path) -> None:
    with serving(tmp_path / "work.db", workers=2) as (process, told):
        dcengine.connect(str(told["url"]))
        try:
            dcengine.submit(leave_programs, str(tmp_path / "sign"))
            eventually((tmp_path / "sign").exists)
        finally:
            dcengine.connect(None)
        below = family(process.pid)
        assert [one.name() for one in below].count("sleep") == 2

        process.kill()
        process.wait()

        eventually(lambda: gone(below))


# ---- at any instant, under 32 clients ------------------------------------------------------


@dataclass
class Lives:
    """The engines of one file, one after the other, each killed in its own way."""

    nursery: Nursery
    db: Path
    dice: random.Random
    port: int
    deaths: dict[str, int] = field(default_factory=dict)

    async def begin(self) -> Forked:
        """Start an engine: with workers or none, and with few or many checkpoints."""
        options = {"log_pages": self.dice.choice([None, None, 1, 16, 64]), "workers": self.dice.choice([0, 0, 0, 1])}
        return await asyncio.to_thread(self.nursery.serve, self.db, port=self.port, **options)

    async def ready(self, engine: Forked) -> str:
        """Wait until *engine* answers; return its URL."""
        told = await asyncio.to_thread(engine.hear)
        assert "url" in told, told
        return str(told["url"])

    async def end(self, engine: Forked) -> None:
        """Kill *engine* at an instant of its start, its service, or its end."""
        (when,) = self.dice.choices(["starting", "serving", "ending"], [3, 6, 1])
        self.deaths[when] = self.deaths.get(when, 0) + 1
        if when != "starting":
            await self.ready(engine)
        await asyncio.sleep(LIFE * self.dice.random())
        if when == "ending":
            engine.signal(signal.SIGTERM)
            await asyncio.sleep(LIFE / 3 * self.dice.random())
        await asyncio.to_thread(engine.kill)


@pytest.mark.timeout(120 * FILES)
async def test_nothing_acknowledged_is_lost_by_kills_at_any_instant_under_32_clients(
    nursery: Nursery, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    with recorded("kill -9 of the engine", seed=seed, is_long=IS_LONG) as record:
        for number in range(FILES):
            db = tmp_path / str(number) / "work.db"
            db.parent.mkdir()
            promises = Promises(db)
            await kill_again_and_again(Lives(nursery, db, dice, free_port(dice)), promises, dice, record)
            check_survivor(db)
            promises.report(record)


async def kill_again_and_again(lives: Lives, promises: Promises, dice: random.Random, record: Record) -> None:
    """Have one file served by engines that are killed, while clients keep in *promises* what these have said."""
    engine = await lives.begin()
    url, token = split_address(await lives.ready(engine))
    crowd = Crowd(str(url), str(token), promises, dice)
    await crowd.declare()
    await asyncio.to_thread(engine.kill)
    engine = await lives.begin()
    clients = [asyncio.ensure_future(crowd.live((Impatient, Patient)[n % 4 == 0], n)) for n in range(CLIENTS)]
    clients += [asyncio.ensure_future(crowd.loop(n)) for n in range(LOOPS)]
    for kill in range(1, KILLS + 1):
        await lives.end(engine)
        record.runs += 1
        engine = await lives.begin()
        promises.look()
        if kill % 10 == 0:
            record.corrupt += bool(await asyncio.to_thread(check_history, lives.db))
        for client in clients:
            if client.done():
                client.result()
    before = "acknowledged before the last engine"
    record.figures[before] = record.figures.get(before, 0) + promises.acknowledged.total()
    await finish(lives, engine, crowd, clients)
    promises.look_for_all()
    print(f"killed while {lives.deaths}; acknowledged {dict(promises.acknowledged)}")


async def finish(lives: Lives, engine: Forked, crowd: Crowd, clients: list[asyncio.Future[None]]) -> None:
    """Have an engine bring all that there is to its end."""
    await asyncio.to_thread(engine.kill)
    engine = await asyncio.to_thread(lives.nursery.serve, lives.db, port=lives.port, workers=2)
    await lives.ready(engine)
    crowd.is_over = True
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    await asyncio.wait_for(crowd.finish(), 60)
    engine.signal(signal.SIGTERM)
    await asyncio.to_thread(engine.wait)


def free_port(dice: random.Random) -> int:
    """Return a port that no connection is given by chance: whoever asked it again and again might reach itself."""
    while True:
        port = dice.randrange(10_000, 30_000)
        with suppress(OSError), socket.socket() as attempt:
            attempt.bind(("127.0.0.1", port))
            return port


# ---- with engines that clients start themselves, and workers in processes ------------------
CLIENT = """
import dcengine.api, random, sys, time
dcengine.api.use_db(sys.argv[1])
dice, acknowledged = random.Random(int(sys.argv[2])), open(sys.argv[3], "a", buffering=1)
end = time.monotonic() + float(sys.argv[4])
def add(n):
    return n + 1
while time.monotonic() < end:
    try:
        if dice.random() < 0.2:
            batch = dcengine.map(add, range(dice.randrange(1, 50)))
            acknowledged.write(f"batch {batch.id} {len(batch)}\\n")
        else:
            n = dice.randrange(10**6)
            acknowledged.write(f"job {dcengine.submit(add, n).id} {n}\\n")
    except dcengine.EngineBusy:
        time.sleep(0.05)
"""


def test_no_acknowledged_job_is_lost_when_the_engine_is_killed_again_and_again(
    tmp_path: Path, dice: random.Random
) -> None:
    db, seconds, kills = tmp_path / "work.db", 6.0 * ROUNDS, 0
    logs = [tmp_path / f"acknowledged-{n}" for n in range(4)]
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(db), str(dice.randrange(10**6)), str(log), str(seconds)],
            env=environment(DCENGINE_WORKERS="1"),
        )
        for log in logs
    ]
    try:
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            if dice.random() < 0.8:  # most are killed while they serve, the others while they start
                eventually(lambda: (owner := find_owner(db)) and owner.url)
            time.sleep(dice.uniform(0, 0.5))  # the instant of the kill is what is random here
            owner = find_owner(db)  # whichever client has started it
            if owner is not None and owner.pid:
                os.kill(owner.pid, signal.SIGKILL)
                kills += 1
        for client in clients:
            assert client.wait(60) == 0
    finally:
        for client in clients:
            client.kill()
            client.wait()
        end_owner(db)

    promises = [line.split() for log in logs for line in log.read_text().splitlines()]
    with embedded(db, workers=2):
        for kind, id, what in promises:
            if kind == "job":
                assert dcengine.job(int(id)).result(60) == int(what) + 1
            else:
                assert dcengine.batch(int(id)).results(60) == list(range(1, int(what) + 1))
        total = sum(1 if kind == "job" else int(what) for kind, _, what in promises)
        # A client that was refused its answer may have stored more than it was told.
        assert credit() >= total
    print(f"{kills} kills, {len(promises)} acknowledged submissions of {total} items, 0 lost")
    assert len(promises) > kills > 0
    check_file(db)
