"""Ten jobs of one submitter, alone and beside a hundred thousand of another: how much longer they take."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import dcengine
from dcengine.api import current
from dcengine.items import blocks
from dcengine.verbs import ItemsSubmission

WORKERS = 2
MANY, FEW = 100_000, 10
NAP = 0.1
ROUNDS, QUICK_ROUNDS = 5, 1
LOOK_SECONDS = 0.002


def nap(number: int) -> int:
    time.sleep(NAP)
    return number


def run(*, quick: bool) -> dict[str, Any]:
    """Return the seconds that the few take alone and beside the many, and the ratio of the two."""
    rounds = range(QUICK_ROUNDS if quick else ROUNDS)
    with (
        tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder,
        dcengine.Engine(db=Path(folder) / "benchmark.db", workers=WORKERS),
    ):
        few, many = _project("few"), _project("many")
        _seconds(few, "somebody")  # warms the workers up
        alone = [_seconds(few, f"alone {number}") for number in rounds]
        _add(many, "many", MANY)
        beside = [_seconds(few, f"beside {number}") for number in rounds]
        many.cancel()
    return {
        "alone": round(median(alone), 3),
        "beside": round(median(beside), 3),
        "ratio": round(median(beside) / median(alone), 2),
    }


def _project(name: str) -> dcengine.Project:
    project = dcengine.Project(name)
    project.stage(name="nap")(nap)
    project.run()
    return project


def _seconds(project: dcengine.Project, submitter: str) -> float:
    """Return how long a few jobs of *submitter* take, from the call that adds them to the end of the last one."""
    expected = project.status().succeeded + FEW
    started = time.perf_counter()
    _add(project, submitter, FEW)
    while project.status().succeeded < expected:
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - started


def _add(project: dcengine.Project, submitter: str, jobs: int) -> None:
    """Add *jobs* jobs as *submitter* would."""
    for block in blocks(range(jobs)):
        submission = ItemsSubmission(project=project.name, blocks=[block.data], count=block.size, submitter=submitter)
        current().call("add_jobs", submission)
