"""The file of a large farm: very many jobs in every state, workers, contributors, and what has happened lately.

It is written by a few large statements, not by an engine, and is what one would have left behind.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from dcengine.codec import Failure, pack_failure
from dcengine.events import Kind
from dcengine.jobs import JobState, State
from dcengine.store.names import FIRST_LATER_TASK
from dcengine.store.opening import open_for_writing

T = TypeVar("T")

IS_LONG = os.environ.get("DCENGINE_SCALE") == "long"
STAGES = ("fetch", "resize", "label")
NEIGHBOURS = 24  #: further projects, nearly empty
SECOND, HOUR = 1_000_000, 3_600_000_000  #: microseconds
REASONS = (
    "OSError: cannot read '/data/{0}.tar'", "ValueError: image {0} has no pixels", "TimeoutError: no answer in {0} s"
)  # fmt: skip

# Of a hundred jobs in a row: 50 have gone through all stages, 2 have failed at the second, 1 was cancelled at the
# first, 10 are at the third, 10 at the second, the others at the first. Each number is the first which is not so.
DONE, FAILED, CANCELLED, AT_THIRD, AT_SECOND = 50, 52, 53, 63, 73
NUMBERS = "WITH RECURSIVE of (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM of WHERE n < :last)"
FILL = (
    f"""{NUMBERS}
INSERT INTO job (id, project, number, state, key, created, finished, submitter)
SELECT n, 2, n,
    CASE WHEN n % 100 < {DONE} THEN {JobState.SUCCEEDED:d} WHEN n % 100 < {FAILED} THEN {JobState.FAILED:d}
        WHEN n % 100 < {CANCELLED} THEN {JobState.CANCELLED:d} ELSE {JobState.OPEN:d} END,
    'shard-' || n, :now - 30 * {HOUR}, CASE WHEN n % 100 < {CANCELLED} THEN :now - (:jobs - n) * 100000 END, 1 + n % 7
FROM of""",
    f"""{NUMBERS}
INSERT INTO task (id, job, stage, state, need, attempt, worker, contributor, submitter, origin, finished)
SELECT n, n, 2,
    CASE WHEN n % 100 BETWEEN {FAILED} AND {CANCELLED - 1} THEN {State.CANCELLED:d}
        WHEN n % 100 < {AT_SECOND} THEN {State.SUCCEEDED:d} ELSE {State.QUEUED:d} END,
    1, n % 100 < {AT_SECOND}, CASE WHEN n % 100 < {AT_SECOND} THEN 'w-' || (n % :workers) END,
    1 + n % :contributors, 1 + n % 7, NULL, CASE WHEN n % 100 < {AT_SECOND} THEN :now - (:jobs - n) * 100000 END
FROM of""",
    f"""{NUMBERS}
INSERT INTO task (id, job, stage, state, need, attempt, worker, contributor, submitter, origin, finished)
SELECT {FIRST_LATER_TASK} + 2 * n, n, 3,
    CASE WHEN n % 100 < {DONE} OR n % 100 BETWEEN {CANCELLED} AND {AT_THIRD - 1} THEN {State.SUCCEEDED:d}
        WHEN n % 100 < {FAILED} THEN {State.FAILED:d} ELSE {State.QUEUED:d} END,
    2, n % 100 < {AT_THIRD}, CASE WHEN n % 100 < {AT_THIRD} THEN 'w-' || (n % :workers) END,
    1 + n % :contributors, 1 + n % 7, n, CASE WHEN n % 100 < {AT_THIRD} THEN :now - (:jobs - n) * 100000 END
FROM of
WHERE n % 100 < {FAILED} OR n % 100 BETWEEN {CANCELLED} AND {AT_SECOND - 1}""",
    f"""{NUMBERS}
INSERT INTO task (id, job, stage, state, need, attempt, worker, contributor, submitter, origin, finished)
SELECT {FIRST_LATER_TASK} + 2 * n + 1, n, 4,
    CASE WHEN n % 100 < {DONE} THEN {State.SUCCEEDED:d} ELSE {State.QUEUED:d} END,
    3, n % 100 < {DONE}, CASE WHEN n % 100 < {DONE} THEN 'w-' || (n % :workers) END,
    1 + n % :contributors, 1 + n % 7, {FIRST_LATER_TASK} + 2 * n,
    CASE WHEN n % 100 < {DONE} THEN :now - (:jobs - n) * 100000 END
FROM of
WHERE n % 100 < {DONE} OR n % 100 BETWEEN {CANCELLED} AND {AT_THIRD - 1}""",
    f"""
INSERT INTO payload (task, input, output)
SELECT id, CASE WHEN stage = 2 THEN CAST('J{{"url": "s3://crawl/' || job || '.tar"}}' AS BLOB) ELSE x'' END,
    CASE state WHEN {State.SUCCEEDED:d} THEN CAST('J{{"images": ' || (job % 10000) || '}}' AS BLOB)
        WHEN {State.FAILED:d} THEN failure(job) END
FROM task""",
    f"""
INSERT INTO event (at, kind, job, task, stage, state, attempt, worker, contributor, credit, seconds)
SELECT finished, {Kind.SUCCEEDED:d}, job, id, stage, state, 1, worker, contributor, 1, 2.5
FROM task
WHERE stage = 4 AND state = {State.SUCCEEDED:d}
ORDER BY job""",
)


class Farm(NamedTuple):
    """How large it is."""

    jobs: int
    workers: int
    contributors: int

    @property
    def name(self) -> str:
        """Of the project that has all jobs."""
        return "farm"


def in_form(*, short: T, long: T) -> T:
    """Return the one of the two that belongs to the form in which these tests run (``DCENGINE_SCALE=long``)."""
    return long if IS_LONG else short


def farm_of_this_form() -> Farm:
    return in_form(short=Farm(100_000, 1_000, 300), long=Farm(1_000_000, 5_000, 2_000))


def build(db: Path, farm: Farm) -> Farm:
    """Write the file of *farm* to *db*."""
    connection = open_for_writing(db)
    connection.execute("PRAGMA synchronous = OFF")
    connection.create_function("failure", 1, _failure, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    _declare(connection, farm)
    values = {
        "first": 1, "last": farm.jobs, "jobs": farm.jobs, "workers": farm.workers, "contributors": farm.contributors,
        "now": time.time_ns() // 1000,
    }  # fmt: skip
    for statement in FILL:
        connection.execute(statement, values)
    _count(connection, farm)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return farm


def _failure(job: int) -> bytes:
    return pack_failure(
        Failure("WorkerFailure", REASONS[job % len(REASONS)].format(job), "Traceback: at line 7\n" * 20)
    )


def _declare(connection: sqlite3.Connection, farm: Farm) -> None:
    at = time.time_ns() // 1000
    connection.executemany("INSERT INTO need (id, tags) VALUES (?, ?)", [(1, "net"), (2, "cpu>=2"), (3, "gpu")])
    connection.executemany("INSERT INTO submitter (id, name) VALUES (?, ?)", [(n, f"user{n}@lab") for n in range(1, 8)])
    for id in range(2, 3 + NEIGHBOURS):
        name = farm.name if id == 2 else f"neighbour-{id}"
        connection.execute("INSERT INTO project (id, name, created) VALUES (?, ?, ?)", (id, name, at))
        connection.executemany(
            "INSERT INTO job_counter (project, state, n) VALUES (?, ?, 0)", [(id, int(state)) for state in JobState]
        )
        for position, stage in enumerate(STAGES):
            number = 2 + (id - 2) * len(STAGES) + position
            connection.execute(
                "INSERT INTO stage (id, project, position, name, kind, need, lease_seconds)"
                " VALUES (?, ?, ?, ?, 'lease', ?, 3600)",
                (number, id, position, stage, position + 1),
            )
            connection.executemany(
                "INSERT INTO counter (stage, state, n) VALUES (?, ?, 0)", [(number, int(state)) for state in State]
            )
    people = range(1, farm.contributors + 1)
    connection.executemany("INSERT INTO contributor (id, nickname) VALUES (?, ?)", [(n, f"person-{n}") for n in people])
    connection.executemany(
        "INSERT INTO worker (digest, project, stage, name, nickname, first_seen, last_seen, completed, progress)"
        " VALUES (?, 2, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                sha256(f"secret-{n}".encode()).digest(), STAGES[n % 3], f"w-{n}", f"person-{1 + n % farm.contributors}",
                at - HOUR, at, n % 977, f"shard {n * 31}: 61 % of 4,096 images",
            )
            for n in range(farm.workers)
        ],
    )  # fmt: skip


def _count(connection: sqlite3.Connection, farm: Farm) -> None:
    """Write the counters and what has been earned."""
    connection.execute("UPDATE project SET last_number = ? WHERE id = 2", (farm.jobs,))
    connection.execute(
        "UPDATE job_counter SET n = (SELECT count(*) FROM job WHERE job.state = job_counter.state) WHERE project = 2"
    )
    connection.execute(
        "INSERT OR REPLACE INTO counter (stage, state, n) SELECT stage, state, count(*) FROM task GROUP BY stage, state"
    )
    chance = random.Random(1)
    (hour,) = connection.execute("SELECT value FROM meta WHERE key = 'hour'").fetchone()
    for person in range(1, farm.contributors + 1):
        units = int(10 * chance.paretovariate(0.9))
        connection.execute(
            "INSERT INTO standing (project, contributor, units, day, week, month) VALUES (2, ?1, ?2, ?3, ?3, ?3)",
            (person, units, units // 2),
        )
        connection.execute(
            "INSERT INTO earning (hour, project, contributor, units) VALUES (?, 2, ?, ?)",
            (hour - person % 20, person, units // 2),
        )
