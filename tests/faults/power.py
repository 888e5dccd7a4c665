"""A disk without power: what may be left of files at any moment of a recorded run.

The record is a log of `shims/recorder.c`. The model is an adversary, not a file system:

- What was written to a file before its last sync began, and that sync has returned, is there.
- Each sector of 512 bytes that was written since holds what it held at any moment since then, whatever the others hold,
  in this file or another: writes are lost, torn, and out of order.
- Its size is that of any moment since. Where it grew and nothing of it is left, there are zeros, or rubbish.
- What was made, renamed, linked or removed in a folder since that was synced has happened up to any moment, each
  folder by itself. Syncing a file does not make its name last. A rename or link is there as a whole or not at all.

Bytes of a sector that were safe stay so when others in it are written: SQLite relies on it, and disks that have sectors
of 4,096 bytes and a journal do so. Files called ``*-shm`` are left out: SQLite makes them anew.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

SECTOR = 512
HEAD = struct.Struct("<IIIIQq")

Files = dict[str, bytes]  #: content by path, relative to the recorded folder


class Kind(IntEnum):
    """What an entry of the log says; the numbers are those of `recorder.c`."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC_BEGIN = 4
    SYNC_END = 5
    RENAME = 6
    LINK = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that the recorded process did."""

    kind: Kind
    path: str = ""  #: relative to the recorded folder, which is ""
    other: str = ""  #: the new name
    inode: int = 0
    at: int = 0  #: where it was written, the new size, or the number of the sync
    data: bytes = b""


def read_log(log: Path, folder: Path) -> Iterator[Entry]:
    """Yield the entries of *log*, which is about *folder*."""
    content, at = log.read_bytes(), 0

    def taken(length: int) -> bytes:
        nonlocal at
        at += length
        return content[at - length : at]

    def name(length: int) -> str:
        path = os.fsdecode(taken(length))
        return os.path.relpath(path, folder) if path and Path(path) != folder else ""

    while at < len(content):
        kind, path, other, data, inode, where = HEAD.unpack(taken(HEAD.size))
        yield Entry(Kind(kind), name(path), name(other), inode, where, taken(data))


# ---- what is left of one file --------------------------------------------------------------


@dataclass(slots=True)
class Change:
    """A write, or a new size where there is no *data*."""

    number: int  #: in the order of the log
    at: int
    data: bytes | None


@dataclass(slots=True, eq=False)
class File:
    """What a file surely holds, and what was done to it since."""

    safe: bytearray = field(default_factory=bytearray)
    unsafe: list[Change] = field(default_factory=list)

    def sync(self, until: int) -> None:
        """Make safe what was done before entry *until* of the log."""
        while self.unsafe and self.unsafe[0].number < until:
            _do(self.safe, self.unsafe.pop(0))

    def leftover(self, dice: random.Random) -> bytes:
        """Return what the file may hold when the power is gone now."""
        if not self.unsafe:
            return bytes(self.safe)
        return _Torn(self, dice).content()


def _do(content: bytearray, change: Change) -> None:
    if change.data is None:
        _resize(content, change.at)
        return
    _resize(content, max(len(content), change.at))
    content[change.at : change.at + len(change.data)] = change.data


def _resize(content: bytearray, size: int, filling: Callable[[int], bytes] = bytes) -> None:
    if size < len(content):
        del content[size:]
    elif size > len(content):
        content += filling(size - len(content))


class _Torn:
    """One way in which the power leaves a file."""

    def __init__(self, file: File, dice: random.Random) -> None:
        self._dice = dice
        self._safe = file.safe
        self._changes, self._from = self._happened(file.unsafe)
        self._until = self._moments()
        self._sectors: dict[int, int] = {}

    def content(self) -> bytes:
        content, dice = bytearray(self._safe), self._dice
        filling = dice.randbytes if dice.random() < 0.1 else bytes
        for number, change in enumerate(self._changes):
            if change.data is None:
                _resize(content, change.at, filling)
            else:
                self._write(content, number, change, filling)
        _resize(content, self._size(), filling)
        return bytes(content)

    def _happened(self, changes: list[Change]) -> tuple[list[Change], int]:
        """Return what may have happened if only some of the new sizes have, and behind the last of those."""
        sizes = [number for number, change in enumerate(changes) if change.data is None]
        kept = self._dice.randint(0, len(sizes))
        happened, limit, begin = list[Change](), None, 0
        for number, change in enumerate(changes):
            if change.data is None:
                if number in sizes[:kept]:
                    happened.append(change)
                    begin = len(happened)
                else:  # what was written behind it has no place without it
                    limit = change.at if limit is None else min(limit, change.at)
            elif limit is None or change.at + len(change.data) <= limit:
                happened.append(change)
            elif change.at < limit:
                happened.append(Change(change.number, change.at, change.data[: limit - change.at]))
        return happened, begin

    def _moments(self) -> Callable[[], int]:
        """Return what draws, for a sector, how many of the changes have reached it."""
        dice, last = self._dice, len(self._changes)
        mood, chance, same = dice.randrange(6), dice.random(), dice.randint(0, last)
        if mood == 0:
            return lambda: 0
        if mood == 1:
            return lambda: last
        if mood == 2:  # in order, the last write torn
            return lambda: same - (dice.random() < 0.5)
        if mood == 3:
            return lambda: dice.randint(0, last)
        return lambda: last if dice.random() < chance else 0

    def _write(self, content: bytearray, number: int, change: Change, filling: Callable[[int], bytes]) -> None:
        assert change.data is not None
        begin, end = change.at, change.at + len(change.data)
        for sector in range(begin // SECTOR, (end - 1) // SECTOR + 1):
            until = self._sectors.get(sector)
            if until is None:
                until = self._sectors[sector] = self._until()
            if number < until:
                first, last = max(begin, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                _resize(content, max(len(content), first), filling)
                content[first:last] = change.data[first - begin : last - begin]

    def _size(self) -> int:
        """Return the size that the file has: the newest, or that of another moment."""
        sizes, size = list[int](), len(self._safe)
        for number, change in enumerate([*self._changes, None]):
            if number >= self._from:
                sizes.append(size)
            if change is not None:
                size = change.at if change.data is None else max(size, change.at + len(change.data))
        return sizes[-1] if self._dice.random() < 0.5 else self._dice.choice(sizes)


# ---- what is left of all -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Renaming:
    """A change of names: those in *gone* are free, that in *come* stands for *what*; None for a folder."""

    number: int
    gone: str | None
    come: str | None
    what: File | None = None

    @property
    def names(self) -> set[str]:
        return {name for name in (self.gone, self.come) if name is not None}

    @property
    def folders(self) -> set[str]:
        return {os.path.dirname(name) for name in self.names}

    def do(self, names: dict[str, File | None]) -> None:
        if self.gone is not None:
            names.pop(self.gone, None)
        if self.come is not None:
            names[self.come] = self.what


class Disk:
    """Files as a process sees them, and what of them is safe. *Lying* names those whose syncs do nothing."""

    def __init__(
        self, files: Mapping[str, tuple[int, bytes]], lying: Callable[[str], bool] = lambda path: False
    ) -> None:
        """Begin with *files*: inode and content of each, by its path."""
        self._lying = lying
        self._inodes = {inode: File(bytearray(content)) for inode, content in files.values()}
        self._names: dict[str, File | None] = {path: self._inodes[inode] for path, (inode, _) in files.items()}
        self._safe_names = dict(self._names)
        self._unsafe_names: list[Renaming] = []
        self._syncs: dict[int, int] = {}  #: those under way, and the entry at which each began
        self._number = 0

    def do(self, entry: Entry) -> None:
        """Do what *entry* says."""
        self._number += 1
        if entry.kind in (Kind.WRITE, Kind.TRUNCATE):
            file = self._inodes.get(entry.inode)
            if file is not None:  # else it was there before, and is none of those that count
                data = entry.data if entry.kind == Kind.WRITE else None
                file.unsafe.append(Change(self._number, entry.at, data))
        elif entry.kind == Kind.SYNC_BEGIN:
            self._syncs[entry.at] = self._number
        elif entry.kind == Kind.SYNC_END:
            self._sync(entry)
        else:
            renaming = self._renaming(entry)
            renaming.do(self._names)
            self._unsafe_names.append(renaming)

    def _renaming(self, entry: Entry) -> Renaming:
        what = self._names.get(entry.path)
        if entry.kind == Kind.CREATE:
            what = self._inodes[entry.inode] = File()
        if entry.kind == Kind.MKDIR:
            what = None
            self._inodes.pop(entry.inode, None)  # it was that of a file which is gone
        if entry.kind in (Kind.CREATE, Kind.MKDIR):
            return Renaming(self._number, None, entry.path, what)
        if entry.kind in (Kind.UNLINK, Kind.RMDIR):
            return Renaming(self._number, entry.path, None)
        return Renaming(self._number, entry.path if entry.kind == Kind.RENAME else None, entry.other, what)

    def _sync(self, entry: Entry) -> None:
        until = self._syncs.pop(entry.at)
        if self._lying(entry.path):
            return
        file = self._inodes.get(entry.inode)
        if file is not None:
            file.sync(until)
            return
        lasting = _with_those_before(self._unsafe_names, lambda one: one.number < until and entry.path in one.folders)
        self._unsafe_names = [one for one in self._unsafe_names if one not in lasting]
        for renaming in lasting:
            renaming.do(self._safe_names)

    def seen(self) -> Files:
        """Return the files as the process sees them."""
        contents: Files = {}
        for path, file in self._names.items():
            if file is not None and not path.endswith("-shm"):
                content = bytearray(file.safe)
                for change in file.unsafe:
                    _do(content, change)
                contents[path] = bytes(content)
        return contents

    def leftover(self, dice: random.Random) -> Files:
        """Return the files that may be there when the power is gone now."""
        names = dict(self._safe_names)
        for renaming in self._happened(dice):
            renaming.do(names)
        contents = {id(file): file.leftover(dice) for file in names.values() if file is not None}
        return {
            path: contents[id(file)]
            for path, file in names.items()
            if file is not None and _is_reachable(path, names) and not path.endswith("-shm")
        }

    def _happened(self, dice: random.Random) -> Iterable[Renaming]:
        """Return those of the changes of names that are not safe which have happened all the same."""
        if not self._unsafe_names:
            return []
        first, last = self._unsafe_names[0].number, self._unsafe_names[-1].number + 1
        ends = dice.choice([(first, first), (last, last), (first, last)])
        until: dict[str, int] = {}

        def has_happened(one: Renaming) -> bool:
            return all(one.number < until.setdefault(folder, dice.randint(*ends)) for folder in sorted(one.folders))

        return _with_those_before(self._unsafe_names, has_happened)


def _is_reachable(path: str, names: Mapping[str, File | None]) -> bool:
    folder = os.path.dirname(path)
    return not folder or (folder in names and _is_reachable(folder, names))


def _with_those_before(renamings: list[Renaming], wanted: Callable[[Renaming], bool]) -> list[Renaming]:
    """Return those that are *wanted*, and what was done to the same names before them."""
    found, names = list[Renaming](), set[str]()
    for renaming in reversed(renamings):
        if wanted(renaming) or renaming.names & names:
            found.append(renaming)
            names |= renaming.names
    return found[::-1]
