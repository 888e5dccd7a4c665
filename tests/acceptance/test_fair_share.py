"""Few jobs of one submitter beside very many of another: counted in turns, whatever the machine is busy with."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import dcengine
from dcengine.api import current
from dcengine.engine.feeding import DEPTH
from dcengine.events import Kind
from dcengine.items import blocks
from dcengine.verbs import AddedJobs, ItemsSubmission, LeaseRequest
from tests.engines import embedded, eventually

MANY, FEW, SLOTS = 100_000, 10, 2
LEASES = """
SELECT submitter.name
FROM event
JOIN job ON job.id = event.job
JOIN submitter ON submitter.id = job.submitter
WHERE event.kind = ? AND event.seq > (SELECT max(seq) FROM event WHERE kind = ?)
ORDER BY event.seq
"""


def nap(number: int) -> int:
    time.sleep(0.1)  # too long for several of them to be handed out as one
    return number


def add(project: str, submitter: str, jobs: int, *, as_json: bool = False) -> None:
    """Add *jobs* jobs as *submitter* would."""
    for block in blocks(range(jobs), as_json=as_json):
        submission = ItemsSubmission(project=project, blocks=[block.data], count=block.size, submitter=submitter)
        added: AddedJobs = current().call("add_jobs", submission)
        assert added.count == block.size


def turns(db: Path) -> list[str]:
    """Return whose tasks were handed out since jobs were last added, in order."""
    with closing(sqlite3.connect(db)) as connection:
        return [name for (name,) in connection.execute(LEASES, (Kind.LEASED, Kind.JOB_SUBMITTED))]


def test_every_second_turn_of_dasks_workers_is_theirs(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with embedded(db, workers=SLOTS, processes=False):
        project = dcengine.Project("naps")
        project.stage(nap)
        project.run()
        add("naps", "many", MANY)
        eventually(lambda: project.status().succeeded)

        add("naps", "few", FEW)
        eventually(lambda: turns(db).count("few") == FEW)
        project.pause()

    under_way = SLOTS * DEPTH  # tasks that the slots may have had before
    last = max(turn for turn, name in enumerate(turns(db), 1) if name == "few")
    assert last <= 2 * FEW + under_way


def test_every_second_turn_of_an_outside_worker_is_theirs(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with embedded(db, workers=0, processes=False):
        project = dcengine.Project("laion")
        project.lease_stage("a")
        project.run()
        add("laion", "many", MANY, as_json=True)
        add("laion", "few", FEW, as_json=True)

        for _ in range(2 * FEW):
            current().call("lease", LeaseRequest(project="laion", stage="a", worker="w1"))

    assert turns(db).count("few") == FEW
