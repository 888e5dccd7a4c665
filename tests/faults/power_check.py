"""What a power loss has left, looked at: is the file whole, is everything there that was promised."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dcengine.errors import StoreError
from dcengine.store.checking import check_history
from dcengine.store.copying import SELECT_REFERENCED
from dcengine.store.opening import open_for_writing
from tests.faults.power import Disk, Entry, Files, Kind, read_log

COMPANIONS = ("", "-wal", "-journal")
HISTORY_EVERY = 3  #: points; the history checker takes as long as all the rest
PLAIN = (Kind.WRITE, Kind.TRUNCATE)
TOLD = 5  #: problems that are told in words

Promise = tuple[Any, ...]


@dataclass(frozen=True)
class Run:
    """A recorded run."""

    log: Path
    folder: Path
    before: dict[str, tuple[int, bytes]] = field(default_factory=dict)  #: files that were there: inode and content
    lies: str = ""  #: how files end whose syncs are taken for nothing

    def disk(self) -> Disk:
        """Return the disk as it was before."""
        return Disk(self.before, lambda path: bool(self.lies) and path.endswith(self.lies))

    def entries(self) -> list[Entry | Promise]:
        """Return what was done, and promised, in order."""
        entries, marks = list[Entry | Promise](), 0
        for entry in read_log(self.log, self.folder):
            if entry.kind == Kind.CREATE and entry.path == "marks":
                marks = entry.inode
            elif marks and entry.inode == marks:
                entries.append(tuple(json.loads(entry.data)))
            else:
                entries.append(entry)
        return entries


def moments(entries: Sequence[Entry | Promise], count: int, dice: random.Random) -> list[int]:
    """Draw *count* moments of a run: half of them anywhere, half just after a sync, a new name or a promise."""
    turns = [n + 1 for n, entry in enumerate(entries) if not isinstance(entry, Entry) or entry.kind not in PLAIN]
    return [dice.choice(turns) if n % 2 else dice.randint(0, len(entries)) for n in range(count)]


@dataclass
class Findings:
    """What was found at several points."""

    points: int = 0
    promises: int = 0  #: that were looked for, all in all
    lost: int = 0  #: of them
    corrupt: int = 0  #: points whose files were not whole
    told: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.points += other.points
        self.promises += other.promises
        self.lost += other.lost
        self.corrupt += other.corrupt
        self.told = [*self.told, *other.told][:TOLD]


def crash(run: Run, points: Sequence[int], seed: object, *, processes: int = 2) -> Findings:
    """Cut the power of *run* after so many entries, at each of *points*, and look at what is left."""
    findings = Findings()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        shares = [points[first::processes] for first in range(processes)]
        for found in pool.map(crash_here, [run] * processes, shares, [f"{seed} {n}" for n in range(processes)]):
            findings.add(found)
    return findings


def cuts(run: Run, points: Sequence[int], seed: object) -> Iterator[tuple[Files, Promises, str]]:
    """Yield what is left when the power goes at each of *points*, what was promised by then, and when that is."""
    disk, promises, at = run.disk(), Promises(), sorted(points, reverse=True)
    for done, entry in enumerate([*run.entries(), None]):
        while at and at[-1] == done:
            at.pop()
            draw = f"{seed} {len(at)}"
            yield disk.leftover(random.Random(draw)), promises, f"after entry {done}, drawn with {draw!r}"
        if isinstance(entry, Entry):
            disk.do(entry)
        elif entry is not None:
            promises.add(entry)


@contextmanager
def room() -> Iterator[Path]:
    """A folder in memory, where there is such a place: nothing that is laid out there has to last."""
    with tempfile.TemporaryDirectory(
        prefix="dcengine-power-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    ) as folder:
        yield Path(folder)


def crash_here(run: Run, points: Sequence[int], seed: object) -> Findings:
    """Do the same in this process."""
    findings = Findings()
    with room() as folder:
        for files, promises, when in cuts(run, points, seed):
            problems, lost = look(files, promises, folder, with_history=findings.points % HISTORY_EVERY == 0)
            findings.add(Findings(1, promises.count, len(lost), bool(problems)))
            findings.told += [f"{when}: {sentence}" for sentence in [*problems, *lost][:1]]
    return findings


def lay_out(files: Files, folder: Path, *, only: str | None = None) -> None:
    """Write *files* into *folder*, or those of the database *only*."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in files.items():
        if only is None or path in [only + companion for companion in COMPANIONS]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def look(files: Files, promises: Promises, folder: Path, *, with_history: bool = True) -> tuple[list[str], list[str]]:
    """Return in a sentence each what is wrong with *files*, and which of *promises* is broken."""
    problems, lost = list[str](), list[str]()
    if "work.db" not in files:
        lost += promises.broken_without_file()
    if ("copy",) in promises.made and "copy.db" not in files:
        problems.append("the copy is gone")
    for name in ("work.db", "copy.db") if ("copy",) in promises.made else ("work.db",):
        if name not in files:
            continue
        lay_out(files, folder / "files", only=name)
        db = folder / "files" / name
        try:
            with closing(open_for_writing(db)) as connection:
                problems += _problems(connection, files, name)
                if name == "work.db":
                    lost += promises.broken(connection)
            problems += check_history(db) if with_history else []
        except (StoreError, sqlite3.Error) as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
    return problems, lost


def _problems(connection: sqlite3.Connection, files: Files, name: str) -> Iterator[str]:
    for (verdict,) in connection.execute("PRAGMA integrity_check(3)"):
        if verdict != "ok":
            yield f"{name}: {verdict}"
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield f"{name}: {row} names a row that is not there"
    (home,) = connection.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
    for (digest,) in connection.execute(SELECT_REFERENCED):
        path = f"{name}.blobs/{home}/{digest.hex()[:2]}/{digest.hex()}"
        if path not in files:
            yield f"{name} names {path}, which is not there"
        elif hashlib.sha256(files[path]).digest() != digest:
            yield f"{path} has another content"


class Promises:
    """What was acknowledged so far. All of it stays true whatever follows."""

    def __init__(self) -> None:
        self.count = 0
        self.made: dict[Promise, set[Promise]] = defaultdict(set)

    def add(self, promise: Promise) -> None:
        what, *about = promise
        self.count += 1
        self.made[what,].add(tuple(map(_hashable, about)))

    def broken_without_file(self) -> list[str]:
        return [
            f"{what} {about}"
            for (what,), all_of_it in self.made.items()
            for about in all_of_it
            if not what.startswith("no ")
        ]

    def broken(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Yield what the file does not know."""
        found = _Found(connection)
        for (what,), all_of_it in self.made.items():
            for about in all_of_it:
                if not found.has(what, about):
                    yield f"{what} {about}"


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class _Found:
    """What the file knows of what may have been promised."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        def rows(sql: str) -> set[Promise]:
            return set(connection.execute(sql))

        self._tables = {
            "job": rows("SELECT id FROM job"),
            "ended": rows("SELECT id FROM job WHERE finished IS NOT NULL"),
            "batch": rows("SELECT id, count FROM batch"),
            "map": rows("SELECT id, succeeded FROM batch WHERE finished IS NOT NULL"),
            "value": rows("SELECT lower(hex(digest)) FROM value"),
            "project": rows("SELECT name FROM project WHERE is_deleted = 0"),
        }
        self._moves = rows("SELECT kind, task, attempt FROM event WHERE task IS NOT NULL")
        self._outputs = dict(connection.execute("SELECT task, output FROM payload WHERE output IS NOT NULL"))

    def has(self, what: str, about: Promise) -> bool:
        """Tell whether it is there."""
        if what == "moved":
            kinds, task, attempt = about
            return any((kind, task, attempt) in self._moves for kind in kinds)
        if what == "output":
            task, digest = about
            output = self._outputs.get(task, b"")
            is_outside = len(output) == 41 and output[:1] == b"B"
            return bool((output[1:33].hex() if is_outside else hashlib.sha256(output).hexdigest()) == digest)
        if what.startswith("no "):
            return about not in self._tables[what.removeprefix("no ")]
        return what == "copy" or about in self._tables[what]
