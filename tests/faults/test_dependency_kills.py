"""Calls that wait for the results of others go on with the next engine, whenever theirs is killed.

The test prints its seed; ``DCENGINE_SEED`` repeats it, ``DCENGINE_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.store.checking import check_history
from tests.engines import eventually, family, gone, serving

ROUNDS = int(os.environ.get("DCENGINE_ROUNDS", "1"))
STEPS = 30


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    return random.Random(seed)


def step(log: str, *before: Any) -> int:
    with open(log, "a") as file:
        file.write("x")
    return 1 + sum(before)


def test_calls_go_on_that_wait_when_their_engine_is_killed(tmp_path: Path, dice: random.Random) -> None:
    for round in range(ROUNDS):
        folder = tmp_path / str(round)
        folder.mkdir()
        kill_twice(folder, dice)


def kill_twice(folder: Path, dice: random.Random) -> None:
    db, log = folder / "work.db", folder / "log"
    log.touch()
    with serving(db) as (process, told):
        dcengine.connect(str(told["url"]))
        try:
            ids = submit_all(str(log))
            eventually(lambda: log.stat().st_size >= dice.randrange(1, STEPS))
        finally:
            kill(process)
            dcengine.connect(None)
    with serving(db) as (process, told):
        limit = log.stat().st_size + dice.randrange(1, STEPS)
        eventually(lambda: log.stat().st_size >= min(limit, 2 * STEPS))
        kill(process)
    with serving(db) as (_, told):
        dcengine.connect(str(told["url"]))
        try:
            chain, total, lost = (dcengine.job(id) for id in ids)
            assert chain.result(60) == STEPS
            assert total.result(60) == 1 + STEPS + STEPS
            with pytest.raises(dcengine.DependencyFailed, match="ZeroDivisionError"):
                lost.result(60)
        finally:
            dcengine.connect(None)
    assert check_history(db) == []
    print(f"{log.stat().st_size} runs of {2 * STEPS + 1} calls")


def submit_all(log: str) -> tuple[int, int, int]:
    """Submit a chain, a map, a call that takes both, and a chain that is bound to fail; return the jobs at the ends."""
    chain = dcengine.submit(step, log)
    for _ in range(STEPS - 1):
        chain = dcengine.submit(step, log, chain)
    batch = dcengine.map(step, [log] * STEPS)
    total = dcengine.submit(step, log, chain, *(batch[n] for n in range(STEPS)))
    lost = dcengine.submit(divmod, chain, 0)
    for _ in range(3):
        lost = dcengine.submit(step, log, lost)
    return chain.id, total.id, lost.id


def kill(process: Any) -> None:
    """End an engine by force, and wait until its workers have noticed."""
    workers = family(process.pid)
    process.kill()
    process.wait()
    eventually(lambda: gone(workers))
