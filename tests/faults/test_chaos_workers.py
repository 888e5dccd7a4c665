"""The same with the workers that people use: `dcengine.AsyncWorker`, and LAION's own client, unmodified.

Each test prints its seed; ``DCENGINE_SEED`` repeats it, ``DCENGINE_OPERATIONS`` makes it longer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

import pytest

from dcengine.client import Client
from dcengine.worker import AsyncWorker
from dcengine.worker.held import HeldTask
from tests.engines import environment
from tests.faults.test_chaos import (
    NICKNAMES,
    OPERATIONS,
    PROJECT,
    Deed,
    Journal,
    check_deeds,
    declare,
    fill_and_wait,
    opened,
    stormy,
)

TASKS = OPERATIONS // 8  #: each takes several requests
OLD_CLIENTS, THREADS = 2, 4  #: processes, and clients in each


# ---- our own -------------------------------------------------------------------------------


async def work(worker: AsyncWorker, stage: str, nickname: str, journal: Journal, dice: random.Random) -> None:
    """Do what dice say with the tasks of a worker, several at a time, until it is told to stop."""
    under_way = set[asyncio.Task[None]]()
    async for task in worker:
        task.keep()
        dealing = asyncio.ensure_future(deal_with(task, stage, nickname, journal, dice))
        under_way.add(dealing)
        dealing.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


async def deal_with(task: HeldTask, stage: str, nickname: str, journal: Journal, dice: random.Random) -> None:
    journal.operations += 1
    roll = dice.random()
    if roll < 0.05:
        await task.fail("no luck")
    elif roll < 0.1:
        await task.release()
    elif roll < 0.15 and stage == "b":
        await task.flag("blurred")
    else:
        await task.progress(0.5, "half")
        output = f"{nickname} {next(journal.marks)}"
        await task.complete(output)
        if await task.holding.accepted():
            journal.accepted.append(Deed(stage, task.number, task.generation, output, nickname))


@pytest.mark.timeout(0 if OPERATIONS > 5000 else 120)
async def test_our_worker_loses_no_job_and_does_none_twice(tmp_path: Path, dice: random.Random) -> None:
    journal = Journal()
    with stormy(tmp_path / "work.db", dice) as (url, through, chaos):
        async with opened(Client(url), Client(through)) as (calm, filling):
            await declare(calm)
            workers = [
                AsyncWorker(
                    through, project=PROJECT, stage="ab"[n % 2], nickname=NICKNAMES[n % 3], batch=8, prefetch=4,
                    concurrency=8, wait=0.5,
                )
                for n in range(6)
            ]  # fmt: skip
            works = [
                asyncio.ensure_future(
                    work(worker, "ab"[n % 2], NICKNAMES[n % 3], journal, random.Random(dice.random()))
                )
                for n, worker in enumerate(workers)
            ]
            await fill_and_wait(filling, calm, journal, TASKS)
            for worker in workers:
                worker.stop()
            await asyncio.gather(*works)
        print(f"{journal.operations:,} tasks of {len(journal.keys):,} jobs; requests: {chaos}")

    assert chaos.losses > 20
    check_deeds(tmp_path / "work.db", journal)


# ---- LAION's -------------------------------------------------------------------------------

PROGRAM = """
import itertools, json, os, random, sys, threading, time
import distcompute_client as distcompute
from distcompute_client import client as inside, errors

url, seed, journal, sign, first, threads = sys.argv[1:]
inside.sleep = lambda seconds: time.sleep(seconds / 50)
sys.setrecursionlimit(100_000)

def work(name, stage, dice, journal):
    worker = distcompute.init(url, stage, nickname=name, verbose=False)
    worker.log_fn = lambda text: None
    for n in itertools.count():
        try:
            worker.new_job()
        except errors.ZeroJobError:
            if os.path.exists(sign):
                worker.bye()
                return
            time.sleep(0.02)
            continue
        roll = dice.random()
        if roll < 0.05:
            continue
        if roll < 0.1 and stage == "b":
            worker.flag_invalid_data()
            continue
        if roll < 0.2:
            worker.log("half")
            assert worker.is_alive()
            worker.job_count()
        number, output = worker.job_id, f"{name} {n}"
        worker.complete_job(output)
        print(json.dumps([stage, number, output, name]), file=journal, flush=True)

def end_loudly(name, stage, dice, journal):
    try:
        work(name, stage, dice, journal)
    except BaseException as error:
        print(json.dumps(["error", 0, repr(error), name]), file=journal, flush=True)
        raise

with open(journal, "w") as journal:
    living = [
        threading.Thread(target=end_loudly, args=(f"old-{n}", "ab"[n % 2], random.Random(f"{seed} {n}"), journal))
        for n in range(int(first), int(first) + int(threads))
    ]
    for thread in living:
        thread.start()
    for thread in living:
        thread.join()
"""


@pytest.mark.timeout(0 if OPERATIONS > 5000 else 120)
async def test_the_old_client_loses_no_job_and_does_none_twice(tmp_path: Path, dice: random.Random) -> None:
    journal, sign = Journal(), tmp_path / "is-over"
    # Python's own HTTP client takes half a head for a whole one.
    with stormy(tmp_path / "work.db", dice, cuts_heads=False) as (url, through, chaos):
        address, _, token = through.partition("/?token=")
        place = f"{address.replace('//', f'//x:{token}@')}/p/{PROJECT}"
        async with opened(Client(url), Client(through)) as (calm, filling):
            await declare(calm, lease_seconds=60, protocol="distcompute")
            journals = [tmp_path / f"journal-{n}" for n in range(OLD_CLIENTS)]
            programs = [await start(place, path, sign, n, dice) for n, path in enumerate(journals)]
            try:
                await asyncio.gather(fill_and_wait(filling, calm, journal, TASKS // 2), read(journals, journal))
                sign.touch()
                ends = [await asyncio.wait_for(program.wait(), 60) for program in programs]
            finally:
                for program in programs:
                    if program.returncode is None:
                        program.kill()
                        await program.wait()
        print(f"{journal.operations:,} tasks of {len(journal.keys):,} jobs; requests: {chaos}")

    assert ends == [0] * OLD_CLIENTS
    assert chaos.losses > 20
    journal.accepted += deeds_in(journals)
    check_deeds(tmp_path / "work.db", journal)


async def start(place: str, journal: Path, sign: Path, number: int, dice: random.Random) -> asyncio.subprocess.Process:
    """Start a process with some clients."""
    arguments = [place, str(dice.random()), str(journal), str(sign), str(number * THREADS), str(THREADS)]
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *arguments, env=environment())


async def read(paths: list[Path], journal: Journal) -> None:
    """Know how much has been done, until it is over."""
    while not journal.is_over:
        journal.operations = len(deeds_in(paths))
        await asyncio.sleep(0.2)


def deeds_in(paths: list[Path]) -> list[Deed]:
    """Return what clients say of themselves; fails if one of them has ended with an error."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines(keepends=True)]
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    assert [entry for entry in entries if entry[0] == "error"] == []
    return [Deed(stage, number, -1, output, name) for stage, number, output, name in entries]
