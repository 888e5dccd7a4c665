"""An engine that is killed, in whatever moment: nothing it has promised is lost, and nothing of it is left.

Each test prints its seed; ``DCENGINE_SEED`` repeats it, ``DCENGINE_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import dcengine
from benchmarks import faults
from dcengine.owner import find_owner
from tests.engines import embedded, environment, eventually, family, gone, serving
from tests.faults.conftest import ROUNDS
from tests.faults.test_kills import check_file, credit, end_owner, hit_and_check, leave_programs


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
    db, seconds, kills = tmp_path / "work.db", 15.0 * ROUNDS, 0
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
