"""A result that is handed in after its lease has ended, when another worker has handed in its own: one of them counts.

Three things see to that: the engine forgets leases that have ended, the store moves no task from where it no longer is,
and the file takes no second credit for a task. Here they are taken away. Where one is left nothing is accepted twice;
without any it is, and what looks for that after each fault finds it: its zeros are not those of somebody blind.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import combinations
from pathlib import Path

import msgspec
import pytest

from dcengine.cluster import ClusterSettings
from dcengine.codec import pack, pack_json
from dcengine.engine import Engine
from dcengine.errors import DcengineError
from dcengine.store import moving
from dcengine.store.checking import check_history
from dcengine.verbs import Completion, ItemsSubmission, LeasedTask, LeaseRequest, ProjectSpec, StageSpec
from tests.faults.promises import Promises
from tests.faults.report import Record

GUARDS = ("the engine's memory", "the store's look at the task", "the file's index of credits")
SOME_GUARDS = [some for n in range(len(GUARDS)) for some in combinations(GUARDS, n)]  #: all choices but all of them
NOTHING_IS_STALE = "WITH said (task, state, attempt) AS (VALUES (?, ?, ?)) SELECT task FROM said WHERE 0"


@pytest.mark.parametrize("missing", SOME_GUARDS, ids=lambda missing: " and ".join(missing) or "none")
async def test_while_one_guard_is_left_no_result_is_accepted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    record = Record("a result handed in twice, some guards missing")

    await hand_in_twice(tmp_path / "x.db", missing, record, monkeypatch)

    assert record.is_clean, record
    assert record.acknowledged == 3  # two leases, one completion


async def test_without_any_of_them_it_is_and_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record("a result handed in twice, without guards")

    await hand_in_twice(tmp_path / "x.db", GUARDS, record, monkeypatch)

    assert record.double > 0
    assert record.corrupt > 0


async def hand_in_twice(db: Path, missing: tuple[str, ...], record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two workers hand in the same task, the first of them after its lease; note what comes of it in *record*."""
    engine = Engine(db, ClusterSettings(workers=0, processes=False))
    await engine.start()
    promises = Promises(db)
    try:
        await fill(engine)
        late = await lease(engine, "late", promises)
        held = engine._leases[late.token]
        held.until = 0.0  # of a clock that has passed that long ago
        other = await lease(engine, "other", promises)
        assert (other.task, other.attempt) == (late.task, late.attempt + 1)

        if GUARDS[0] in missing:
            engine._leases[late.token] = held
        if GUARDS[1] in missing:
            monkeypatch.setattr(moving, "SELECT_STALE", NOTHING_IS_STALE)
        if GUARDS[2] in missing:
            await engine._store.maintain(lambda connection: connection.execute("DROP INDEX credit_task"))
        await hand_in(engine, other, promises)
        await hand_in(engine, late, promises)
    finally:
        await engine.close()
    promises.look_for_all()
    promises.report(record)
    record.corrupt += bool(check_history(db))
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def fill(engine: Engine) -> None:
    stage = StageSpec(name="a", kind="lease", lease_seconds=600.0)
    await engine.declare_project(ProjectSpec(name="p", stages=[stage]))
    await engine.add_jobs(ItemsSubmission(project="p", blocks=[pack([pack_json(1, what="an item")])], count=1))
    await engine.run_project("p")


async def lease(engine: Engine, worker: str, promises: Promises) -> LeasedTask:
    (task,) = await engine.lease(LeaseRequest(project="p", stage="a", worker=worker, nickname=worker, wait=30.0))
    promises.answered("lease", task.task, task.attempt, task.token, is_accepted=True)
    return task


async def hand_in(engine: Engine, task: LeasedTask, promises: Promises) -> None:
    try:
        (answer,) = await engine.complete([Completion(token=task.token, output=msgspec.Raw(b"1"))])
        is_accepted = answer.is_accepted
    except DcengineError:
        is_accepted = False
    promises.answered("complete", task.task, task.attempt, task.token, is_accepted=is_accepted)
