"""Processes that begin in no time: forked from one that has everything loaded, so that hundreds can be killed.

Each is real: a process of its own, over a real file, with a real HTTP side. What it says comes line by line through a
socket, which ends with it. ``python -m tests.faults.forked SOCKET`` is the process that they are forked from.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from tests.engines import environment

LOADED = ("dcengine.embed", "dcengine.hosting", "dcengine.loops", "uvloop", "tests.faults.forked")
PATIENCE = 60.0  #: seconds that a process has to say something


class Forked:
    """A process that has been forked: what it says, and its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("r")
        self.pid = int(self._lines.readline())

    def hear(self) -> Any:
        """Wait for its next word; None if it has ended."""
        with suppress(ConnectionResetError):  # it was killed before it had read all it was asked
            line = self._lines.readline()
            return json.loads(line) if line.endswith("\n") else None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still lives."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by force, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait until it is gone."""
        while self.hear() is not None:
            pass
        self._lines.close()
        self._connection.close()


class Nursery:
    """What processes are forked from."""

    def __init__(self, address: Path) -> None:
        self._address = address

    def start(self, function: str, **given: Any) -> Forked:
        """Have ``module:function`` called in a new process, with *given* and a function by which it says something."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._address))
        connection.settimeout(PATIENCE)
        connection.sendall(json.dumps([function, given]).encode() + b"\n")
        return Forked(connection)

    def serve(self, db: Path, **options: Any) -> Forked:
        """Start an engine on *db*; its first word is its URL, or the error that it has met."""
        return self.start("tests.faults.forked:serve", db=str(db), **options)


@contextmanager
def nursery_in(folder: Path, *loaded: str) -> Iterator[Nursery]:
    """What processes are forked from, with *loaded* modules beside those that engines need."""
    address = folder / "nursery"
    command = [sys.executable, "-m", "tests.faults.forked", str(address), *loaded]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=folder
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield Nursery(address)
    finally:
        process.stdin.close()  # it ends with that, and all that came of it
        process.wait(10)
        process.stdout.close()
        address.unlink(missing_ok=True)


# ---- in the processes ----------------------------------------------------------------------


def serve(say: Any, db: str, *, log_pages: int | None = None, **options: Any) -> None:
    """Be an engine until SIGTERM; *log_pages* is how much is written before a checkpoint."""
    from dcengine.embed import EmbeddedEngine
    from dcengine.errors import DcengineError
    from dcengine.loops import quick_loop
    from dcengine.store import log

    if log_pages is not None:
        mock.patch.object(log, "FOLD_PAGES", log_pages).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    engine = EmbeddedEngine(db, **{"workers": 0, "processes": False, **options})
    engine.new_loop = quick_loop
    try:
        engine.start()
    except DcengineError as error:
        say({"error": type(error).__name__, "message": str(error)})
        return
    say({"url": engine.url})
    threading.Thread(target=_end_when_finished, args=[engine], daemon=True).start()
    signal.sigwait([signal.SIGTERM])
    say({"ended": str(engine.failure) if engine.failure is not None else ""})
    engine.close()


def _end_when_finished(engine: Any) -> None:
    engine.finished.wait()
    os.kill(os.getpid(), signal.SIGTERM)


def _main(address: str, *loaded: str) -> None:
    _load(*LOADED, *loaded, *_modules_of_an_engine())
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who end
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _live(connection)
        connection.close()


def _load(*modules: str) -> None:
    for name in modules:
        with suppress(ImportError):  # some are made by others
            import_module(name)


def _modules_of_an_engine() -> list[str]:
    """Return what an engine loads only when it is started: by starting one, in another process."""
    code = f"""
import sys, {", ".join(name for name in LOADED if name != __spec__.name)}
before = [*sys.modules]
with dcengine.embed.EmbeddedEngine("warm.db", workers=0, processes=False):
    print(*(name for name in sys.modules if name not in before))
"""
    with tempfile.TemporaryDirectory(prefix="nursery-") as folder:
        told = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return [name for name in told.stdout.split() if name != "__mp_main__"]


def _end_with_parent() -> None:
    """End when whoever has started this process is gone."""
    os.read(0, 1)
    os._exit(0)


def _live(connection: socket.socket) -> None:
    """Be the process that was asked for; its word and its end go through *connection*."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        function, given = json.loads(connection.makefile("r").readline())
        connection.sendall(f"{os.getpid()}\n".encode())
        module, _, name = function.partition(":")
        getattr(import_module(module), name)(
            lambda word: connection.sendall(json.dumps(word).encode() + b"\n"), **given
        )
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    _main(*sys.argv[1:])
