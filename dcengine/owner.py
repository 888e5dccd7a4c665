"""Who writes a file: the lock beside it, what its owner says there, and starting an owner in the background."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from . import config
from .errors import DatabaseOwned, DiskFull, EngineError

if sys.platform != "win32":  # there, this process can only be a client
    import fcntl

LOCK_PATIENCE = 0.3  #: seconds in which somebody who only looks at the lock lets go of it
START_PATIENCE = 30.0  #: seconds that an engine started in the background has to answer
ROOM_TO_START = 64 << 10  #: bytes on the disk, without which an engine cannot
OWNED_EXIT = 75  #: exit status of an engine that found its file owned: EX_TEMPFAIL of sysexits.h
DAEMON_IDLE_EXIT = 600  #: seconds without work after which it ends


class Owner(msgspec.Struct, frozen=True):
    """What the owner of a file says of itself."""

    pid: int
    url: str  #: without the token; empty while it starts
    token: str
    is_program: bool = False  #: its process is there for it alone, and may be ended to stop it


def lock_path(db: Path) -> Path:
    """Return where the owner of *db* leaves its word."""
    return db.with_name(db.name + ".lock")


class Lock:
    """The right to write a file, held as long as this process lives and has not forked it away."""

    def __init__(self, db: Path, *, is_program: bool = False) -> None:
        """Take the lock of *db*; raises `DatabaseOwned` that names the owner."""
        if sys.platform == "win32":
            raise EngineError(
                "an engine cannot run on this system, a client can: start `dcengine serve` on Linux or macOS "
                "and use dcengine.connect(url)"
            )
        _refuse_network_file_system(db)
        self._path = lock_path(db)
        with _explained(db):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid, self._is_program = os.getpid(), is_program
        if not _lock_within(self._file, LOCK_PATIENCE):
            os.close(self._file)
            owner = _read(self._path)
            raise DatabaseOwned(str(db), owner.pid if owner else 0, owner.url if owner else "")
        before = _read(self._path)
        self.token = before.token if before and before.token else secrets.token_urlsafe(32)  #: stays over restarts
        try:
            with _explained(db):
                self.say("")
        except BaseException:
            os.close(self._file)
            raise
        # A forked child must not keep the lock alive after its parent.
        os.register_at_fork(after_in_child=self._drop)

    def say(self, url: str) -> None:
        """Tell those who look where this owner answers."""
        text = msgspec.json.encode(Owner(self._pid, url, self.token, self._is_program))
        # Over what stands there, and cut afterwards: so it needs no room, and the token stays, on a full disk too.
        os.pwrite(self._file, text.ljust(os.fstat(self._file).st_size), 0)
        os.ftruncate(self._file, len(text))

    def release(self) -> None:
        """Give the file free."""
        if self._file >= 0 and os.getpid() == self._pid:
            self.say("")
        self._drop()

    def _drop(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def find_owner(db: Path) -> Owner | None:
    """Return the living owner of *db*, None if nobody writes it."""
    path = lock_path(db)
    if sys.platform == "win32":
        return _read(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(path) or Owner(0, "", "")
    else:
        return None
    finally:
        os.close(file)


def describe(db: Path | None = None) -> str:
    """Say which engine works on *db*, None for the one that the settings name; none is started or asked."""
    if db is None:
        settings = config.load()
        if settings.url:
            return f"the engine at {bare(settings.url)}"
        db = Path(settings.db)
    db = db.resolve()
    owner = find_owner(db)
    if owner is None:
        return f"no engine runs for {db} yet; the first job starts one"
    if not owner.url:
        return f"the engine of {db} is starting or stopping (process {owner.pid})"
    return f"the engine of {db} at {bare(owner.url)} (process {owner.pid})"


def bare(url: str) -> str:
    """Return *url* without its token, and without a name and password before its host."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote what must not be seen
        return "an address that cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def find_or_start(db: Path) -> Owner:
    """Return the owner of *db*, started in the background if there is none; it answers already.

    Raises `EngineError` with the end of its log if it does not come up.
    """
    deadline = time.monotonic() + START_PATIENCE
    started: subprocess.Popen[bytes] | None = None
    while time.monotonic() < deadline:
        owner = find_owner(db)
        if owner is not None and owner.url:
            return owner
        if owner is None and (started is None or started.poll() is not None):
            # A start that lost the race for the lock, or was killed, says nothing against the next.
            if started is not None and started.returncode > 0 and started.returncode != OWNED_EXIT:
                if shutil.disk_usage(db.parent).free < ROOM_TO_START:  # its log had none either
                    raise DiskFull(str(db))
                raise EngineError(f"an engine for {db} did not start: {_end_of_log(db)}")
            started = _start(db)
        time.sleep(0.02)
    raise EngineError(f"no engine for {db} answered within {START_PATIENCE:g} s: {_end_of_log(db)}")


# Not ``-m dcengine``: that looks for modules in the working directory first, and a file random.py there would be taken.
SERVE = "import sys; sys.path[:] = filter(None, sys.path); from dcengine.cli import main; main()"


def _start(db: Path) -> subprocess.Popen[bytes]:
    """Start ``dcengine serve`` for *db* in a session of its own, so that it outlives this process."""
    _refuse_network_file_system(db)
    command = [sys.executable, "-c", SERVE, "serve", "--db", str(db), "--port", "0"]
    with _explained(db):
        log = os.open(log_path(db), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return subprocess.Popen(
            [*command, "--idle-exit", str(DAEMON_IDLE_EXIT)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=db.parent,
        )
    finally:
        os.close(log)


def log_path(db: Path) -> Path:
    """Return where an engine started in the background writes what it has to say."""
    return db.with_name(db.name + ".log")


@contextmanager
def _explained(db: Path) -> Iterator[None]:
    """Turn what the disk beside *db* says into an error of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(str(db)) from error
        raise


def _end_of_log(db: Path) -> str:
    try:
        lines = log_path(db).read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "it left no log"
    return " ".join(line.strip() for line in lines[-12:]) or "its log is empty"


def _refuse_network_file_system(db: Path) -> None:
    from .store.opening import refuse_network_file_system  # late: who only looks for an owner needs no store

    refuse_network_file_system(db)


def _lock_within(file: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _read(path: Path) -> Owner | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Owner)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
