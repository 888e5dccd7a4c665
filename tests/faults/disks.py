"""Disks that are full or fail: a small one in a mount namespace of its own, and calls that a shim fails."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from enum import IntFlag
from pathlib import Path

import pytest

import dcengine
from tests.engines import end, environment
from tests.faults.shims import COMPILER, under

RULES, RULE = 8, struct.Struct("6i232s")
FOR_EVER = -1
SHORT = 0  #: instead of an error: half of it is written
NO_ROOM, BROKEN = errno.ENOSPC, errno.EIO


class Calls(IntFlag):
    """What a process asks of its system, as `failing.c` groups it."""

    WRITE, SYNC, LENGTH, CREATE, READ, FSYNC = 1, 2, 4, 8, 16, 32  #: SYNC: fdatasync too, by which SQLite syncs
    GROW = WRITE | LENGTH | CREATE


class Failing:
    """Rules for the processes that run with `environment`: which calls fail, on which paths. They change at once."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "failing"
        self._file.write_bytes(bytes(RULES * RULE.size))
        with self._file.open("r+b") as file:
            self._rules = mmap.mmap(file.fileno(), 0)

    @property
    def environment(self) -> Mapping[str, str]:
        return under("failing", DCENGINE_FAILING=str(self._file))

    def fail(
        self, calls: Calls, path: str, error: int = BROKEN, *, times: int = FOR_EVER, after: int = 0, rule: int = 0
    ) -> None:
        """Have *calls* on what has *path* in its path (ends with it, if that ends with ``$``) fail from now on."""
        self.heal(rule)
        packed = RULE.pack(calls, error, after, times, 0, 0, path.encode())
        at = rule * RULE.size
        self._rules[at + 4 : at + RULE.size] = packed[4:]
        self._rules[at : at + 4] = packed[:4]  # last: from here on it counts

    def heal(self, rule: int = 0) -> None:
        """Have nothing fail by *rule* any more."""
        at = rule * RULE.size
        self._rules[at : at + 4] = bytes(4)

    def hits(self, rule: int = 0) -> int:
        """How often something has failed by *rule*, since it was made."""
        return int(RULE.unpack_from(self._rules, rule * RULE.size)[4])


class SmallDisk:
    """A tmpfs of few bytes, seen at *inside* by the processes that `command` starts, and by everybody at *path*."""

    def __init__(self, keeper: subprocess.Popen[str], point: Path) -> None:
        self._keeper = keeper
        self.inside = point
        self.path = Path(f"/proc/{keeper.pid}/root{point}")

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs *words* where the disk is mounted."""
        users = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._keeper.pid), *users, "--mount", "--", *words]

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self, leave: int = 0) -> None:
        """Fill it up, but for *leave* bytes."""
        with (self.path / "ballast").open("ab") as ballast:
            while (room := self.free - leave) > 0:
                try:
                    ballast.write(bytes(min(room, 1 << 20)))
                    ballast.flush()
                except OSError:
                    break

    def make_room(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a disk of *size* below *folder*, gone with the block; raises `OSError` where that is not allowed."""
    point = folder / "disk"
    point.mkdir()
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = f'mount -t tmpfs -o size={size},mode=777 tmpfs "$0" && echo ready && exec sleep 3600'
    keeper = subprocess.Popen(
        ["unshare", *users, "--mount", "sh", "-c", script, str(point)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert keeper.stdout is not None
        said = keeper.stdout.readline().strip()
        if said != "ready":
            raise OSError(f"a small disk cannot be mounted here: {said}")
        yield SmallDisk(keeper, point)
    finally:
        keeper.kill()
        keeper.wait()
        assert keeper.stdout is not None
        keeper.stdout.close()


def serve_command(db: Path, *arguments: str, workers: int = 1) -> list[str]:
    """Return the command line of ``dcengine serve --json`` for *db* on a free port."""
    command = [sys.executable, "-m", "dcengine", "serve", "--db", str(db), "--port", "0", "--json"]
    return [*command, "--workers", str(workers), *arguments]


def copied(db: Path, to: Path) -> Path:
    """Copy *db*, which nobody writes, with its log to folder *to*; return the copy."""
    to.mkdir(exist_ok=True)
    for file in db.parent.glob(f"{db.name}*"):
        if not file.name.endswith(("-shm", ".lock")):
            (shutil.copytree if file.is_dir() else shutil.copy)(file, to / file.name)
    return to / db.name


# ---- disks that are full, one way or the other ---------------------------------------------


class Full:
    """A disk on which engines keep files, and which can be full."""

    name = "disk full"

    def __init__(self, path: Path, inside: Path) -> None:
        self.path, self.inside = path, inside  #: as this process and as an engine sees it
        self.more: dict[str, str] = {}  #: in the environment of who works there

    def command(self, *words: str) -> list[str]:
        return [*words]

    def fill(self) -> None: ...

    def make_room(self) -> None: ...


class Mounted(Full):
    """A tmpfs that is filled."""

    def __init__(self, disk: SmallDisk) -> None:
        super().__init__(disk.path, disk.inside)
        self._disk = disk
        self.command, self.fill, self.make_room = disk.command, disk.fill, disk.make_room  # type: ignore[method-assign]


class Shimmed(Full):
    """A folder on which nothing grows while it counts as full."""

    name = "disk full, as a shim says"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder)
        self.failing = Failing(folder.parent)
        self.more = dict(self.failing.environment)

    def fill(self) -> None:
        self.failing.fail(Calls.GROW, str(self.inside), NO_ROOM)

    def make_room(self) -> None:
        self.failing.heal()


@contextmanager
def disk_in(folder: Path, *, kind: str, size: str = "12m") -> Iterator[Full]:
    with ExitStack() as stack:
        if kind == "tmpfs":
            disk: SmallDisk | None = None
            with suppress(OSError):  # mounting is not allowed here
                disk = stack.enter_context(small_disk(folder, size))
            if disk is not None:
                yield Mounted(disk)
                return
        if COMPILER is None or sys.platform != "linux":
            pytest.skip("a shim takes Linux and a C compiler")
        (folder / "disk").mkdir(exist_ok=True)
        yield Shimmed(folder / "disk")


@contextmanager
def engine_on(
    disk: Full, *arguments: str, workers: int = 1, db: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An engine on *disk* that this process is connected to; yields its process and its URL."""
    process = subprocess.Popen(
        disk.command(*serve_command(db or disk.inside / "work.db", *arguments, workers=workers)),
        stdout=subprocess.PIPE, text=True, env=environment(**disk.more),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"serve ended with {process.wait()}"
        url = json.loads(line)["url"]
        dcengine.connect(url)
        try:
            yield process, url
        finally:
            dcengine.connect(None)
    finally:
        end(process)
