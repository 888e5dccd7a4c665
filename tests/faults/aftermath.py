"""What is looked at after a fault: the file is whole, its history is true, and an engine on it goes on working."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import dcengine
from dcengine.store.checking import check_history
from tests.engines import embedded
from tests.faults.conftest import in_form
from tests.faults.test_kills import check_file
from tests.faults.test_state_machine import LeaseStages

EXAMPLES, STEPS = in_form(short=(2, 15), long=(25, 30))


def check_survivor(db: Path, *, patience: float = 60.0, examples: int = EXAMPLES) -> None:
    """Check the file *db*, have an engine work on it, and check it again; no engine may run on it before.

    Then *examples* of the state machine go over copies of it.
    """
    check_whole(db)
    with embedded(db, workers=1, processes=False):
        assert dcengine.submit(sum, [1, 2]).result(patience) == 3
        assert dcengine.map(abs, range(-20, 0)).results(patience) == list(range(20, 0, -1))
        cancelled = dcengine.submit(time.sleep, 0)
        cancelled.cancel()
    check_whole(db)
    if examples:
        run_machine(db, examples)


def check_whole(db: Path) -> None:
    """Check that SQLite, the sums over all tables and the history checker find nothing wrong with *db*."""
    check_file(db)
    assert check_history(db) == []


def run_machine(db: Path, examples: int = EXAMPLES) -> None:
    """Have a new project in copies of *db* do as its model says, beside all that is there."""
    number = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"the state machine on {db.name}: seed {number}")
    with closing(sqlite3.connect(db)) as connection:  # what is copied is the file alone
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    machine = type("OnSurvivor", (LeaseStages,), {"db": db, "project": f"after the fault {number}"})
    how = settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    with ThreadPoolExecutor(1) as elsewhere:  # a test may have a loop running here, and the machine has its own
        elsewhere.submit(run_state_machine_as_test, seed(number)(machine), settings=how).result()
