"""Whatever of the unsynced writes a power loss leaves, in whatever order and torn: nothing acknowledged is lost.

A run is recorded once, and its power cut at many moments; each moment is drawn anew with what is left at it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dcengine.store.checking import check_history
from dcengine.store.opening import newest_version, open_for_writing
from tests.engines import embedded, environment, eventually
from tests.faults.aftermath import check_survivor
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.power import Entry, Files, Kind
from tests.faults.power_check import Promise, Run, crash, crash_here, cuts, lay_out, moments, room
from tests.faults.report import recorded
from tests.faults.shims import needs_shims, under
from tests.faults.test_migration_kills import OLD, old_file, rows, version_of

pytestmark = needs_shims

RUNS, POINTS = in_form(short=(1, 1000), long=(10, 2000))  #: recorded; cut at so many moments each
CONTROL_POINTS = 60
MIGRATIONS = in_form(short=60, long=400)
RECORD_SECONDS = 120.0  #: that a run may take on a busy machine


def record(folder: Path, seed: int, *lives: str, synchronous: str = "FULL") -> Run:
    """Record the *lives* of an engine on ``work.db`` in *folder*, one after the other."""
    log = folder.with_suffix(".log")
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    for life in lives:
        command = [sys.executable, "-m", "tests.faults.power_work", str(folder), str(seed), synchronous, life]
        told = under("recorder", RECORDER_LOG=str(log), RECORDER_FOLDER=str(folder))
        subprocess.run(command, env=environment(**told), check=True, timeout=RECORD_SECONDS)
    return Run(log, folder, before)


def new_folder(parent: Path, name: str) -> Path:
    folder = parent.resolve() / name
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def seed() -> int:
    """One for all tests here: they cut the power of the same run."""
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    return seed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Run:
    return record(new_folder(tmp_path_factory.mktemp("power"), "run"), seed, "BEGIN", "GO_ON")


def test_the_record_leads_to_the_files_that_are_there(run: Run) -> None:
    disk = run.disk()
    for entry in run.entries():
        if isinstance(entry, Entry):
            disk.do(entry)

    there = {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    del there["marks"]
    assert disk.seen() == there


def test_nothing_acknowledged_is_lost_when_the_power_goes(
    run: Run, tmp_path: Path, seed: int, dice: random.Random
) -> None:
    with recorded("power loss", seed=seed, is_long=IS_LONG) as record_of_all:
        seconds, writes, syncs = 0.0, 0, 0
        for number in range(RUNS):
            if number:
                run = record(new_folder(tmp_path, f"run{number}"), seed + number, "BEGIN", "GO_ON")
            entries = run.entries()
            began = time.monotonic()
            findings = crash(run, moments(entries, POINTS, dice), seed + number)
            seconds += time.monotonic() - began
            writes += sum(isinstance(entry, Entry) and entry.kind == Kind.WRITE for entry in entries)
            syncs += sum(isinstance(entry, Entry) and entry.kind == Kind.SYNC_END for entry in entries)
            record_of_all.runs += findings.points
            record_of_all.acknowledged += findings.promises
            record_of_all.lost += findings.lost
            record_of_all.corrupt += findings.corrupt
            print(*findings.told, sep="\n")
            check_engine_works(run, entries, dice, tmp_path / "survivor")
        record_of_all.figures = {
            "crash points per second": round(record_of_all.runs / seconds), "writes recorded": writes, "syncs": syncs,
        }  # fmt: skip


def check_engine_works(run: Run, entries: list[Entry | Promise], dice: random.Random, folder: Path) -> None:
    """Cut the power of *run* somewhere, and have an engine go on with what is left."""
    moment = dice.randint(len(entries) // 4, len(entries))
    for files, _, when in cuts(run, [moment], dice.random()):
        print(when)
        lay_out(files, folder)
        with embedded(folder / "work.db", workers=1, processes=False):
            eventually(lambda: not projects_being_deleted(folder / "work.db"))  # until then sums may count those
        check_survivor(folder / "work.db")


def projects_being_deleted(db: Path) -> list[str]:
    with closing(sqlite3.connect(db)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM project WHERE is_deleted = 1")]


def test_without_syncs_it_is_seen_that_promises_are_broken(tmp_path: Path, seed: int, dice: random.Random) -> None:
    run = record(new_folder(tmp_path, "unsynced"), seed, "BEGIN", synchronous="NORMAL")

    findings = crash_here(run, moments(run.entries(), CONTROL_POINTS, dice), seed)

    assert findings.lost > 0
    print(f"synchronous=NORMAL: {findings.lost:,} of {findings.promises:,} promises lost")


def test_a_disk_that_only_says_that_it_has_synced_the_log_is_seen(run: Run, seed: int, dice: random.Random) -> None:
    lying = replace(run, lies="-wal")

    findings = crash_here(lying, moments(run.entries(), CONTROL_POINTS, dice), seed)

    assert findings.lost > 0


# ---- migrations ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", in_form(short=[3], long=list(OLD)))
def test_a_file_is_the_old_one_or_a_new_one_with_a_copy_of_the_old_when_the_power_goes(
    tmp_path: Path, seed: int, dice: random.Random, version: int
) -> None:
    folder = new_folder(tmp_path, "old")
    before = rows(old_file(folder, version))
    run = record(folder, seed, "MIGRATE")
    name = f"power loss while schema {version} is brought to the newest"
    with recorded(name, seed=seed, is_long=IS_LONG) as record_of_all, room() as where:
        for files, _, when in cuts(run, moments(run.entries(), MIGRATIONS, dice), seed):
            record_of_all.runs += 1
            problems = list(problems_of_old(files, version, before, where))
            record_of_all.corrupt += bool(problems)
            for problem in problems[:1]:
                print(f"{when}: {problem}")


def problems_of_old(files: Files, version: int, before: list[str], folder: Path) -> Iterator[str]:
    """Yield what is wrong with an old file whose rows were *before*, and with the copy that was made of it."""
    lay_out(files, folder / "old")
    db = folder / "old" / "work.db"
    found = version_of(db)
    if found == version and rows(db) != before:
        yield "the old file has other rows"
    if found not in (version, newest_version()):
        yield f"schema {found}"
    if found > version and rows(db.with_name(f"work.db.schema{version}.backup")) != before:
        yield "there is no whole copy of the old file"
    open_for_writing(db).close()
    yield from check_history(db)
