"""The process of a kernel on a worker: started on ports that it chooses, signalled, ended with all it has started."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import zmq

from . import places

PREFIX = "dcengine-kernel-"  #: of the folder that holds a kernel's connection file; its host's process id follows
LEFTOVER_SECONDS = 3600.0  #: after which such a folder goes, if that process is no more
CONNECT_SECONDS = 1.0  #: to a port of this machine
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class KernelProcess:
    """A kernel that is to listen as *connection* says, on ports of its own choosing where that has none.

    It stays in the process group of its slot's child: what ends that one ends it too.
    """

    def __init__(
        self, connection: Mapping[str, Any], *, env: Mapping[str, str], arguments: Sequence[str], folder: str
    ) -> None:
        remove_leftovers(Path(tempfile.gettempdir()))
        self._home = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-")
        self._file = Path(self._home.name, "kernel.json")
        self._connection = connection
        write_privately(self._file, json.dumps(self._connection))
        self._begun = time.time()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dcengine_kernel", "-f", str(self._file), *arguments],
            stdin=subprocess.DEVNULL,
            cwd=folder if folder and os.path.isdir(folder) else None,
            env=environment(os.environ, env),
        )

    def connection(self) -> dict[str, Any] | None:
        """Return how the kernel is reached; None before it listens."""
        try:
            known: dict[str, Any] = json.loads(self._file.read_text())
        except (OSError, ValueError):  # it is just writing it
            return None
        ports = {name: known.get(name, 0) for name in PORTS}
        # The heart is the last that it opens.
        is_there = all(ports.values()) and _listens(self._connection["ip"], ports["hb_port"])
        return {**self._connection, **ports} if is_there else None

    def poll(self) -> int | None:
        """Return the status that the process ended with, None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and what it has started: not to its group, its host is in that too."""
        for process in self._family():
            with suppress(psutil.Error, ValueError, OSError):
                process.send_signal(number)

    def end(self) -> int:
        """End the kernel with what it has started, unless it has ended; return its status."""
        self.signal(signal.SIGKILL)
        status = self._process.wait()
        for process in self._left_behind():
            with suppress(psutil.Error):
                process.kill()
        self._home.cleanup()
        return status

    def _family(self) -> list[psutil.Process]:
        try:
            kernel = psutil.Process(self._process.pid)
            return [kernel, *kernel.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _left_behind(self) -> list[psutil.Process]:
        """Return what a kernel that ended itself has left in our group: it may hold the memory of a GPU."""
        group, found = os.getpgrp(), []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                is_its = os.getpgid(process.pid) == group and process.create_time() >= self._begun
                if is_its and process.pid != os.getpid():
                    found.append(process)
        return found


def environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a kernel: the worker's *own*, without an engine in it, and what was *given* for it."""
    kept = {name: value for name, value in own.items() if not name.startswith(("DCENGINE_", "JPY_"))}
    # ipykernel looks once a second whether this process is still its parent: elsewhere than on Linux that has to do.
    return {**kept, **given, "JPY_PARENT_PID": str(os.getpid())}


def remove_leftovers(folder: Path) -> None:
    """Remove what hosts that were killed have left in *folder*: keys that nothing listens for any more."""
    for home in folder.glob(f"{PREFIX}*-*"):
        with suppress(OSError, ValueError):
            host = int(home.name.removeprefix(PREFIX).partition("-")[0])
            # Old ones alone: in another container that shares the folder, that process may well be starting.
            if time.time() - home.stat().st_mtime > LEFTOVER_SECONDS and not psutil.pid_exists(host):
                shutil.rmtree(home)


def write_privately(path: Path, text: str) -> None:
    """Write *text* into the new file *path*, which nobody else may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def connection_for(ip: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a kernel is to listen at *ip*: as *before*, if its ports are free here, else with new keys."""
    if before.get("ip") == ip and all(_is_free(ip, before[name]) for name in PORTS):
        return dict(before)
    return _new_connection(ip)


def _is_free(ip: str, port: int) -> bool:
    """Tell whether *port* can be listened at."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


def _listens(ip: str, port: int) -> bool:
    """Tell whether somebody listens at *port*; it is left alone, for whoever is about to."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        probe.bind((ip, 0))
        if probe.getsockname()[1] == port:  # it would connect to itself
            return False
        try:
            probe.connect((ip, port))
        except OSError:
            return False
    return True


def _new_connection(ip: str) -> dict[str, Any]:
    public, secret = zmq.curve_keypair()
    return {
        "transport": "tcp",
        "ip": ip,
        **dict.fromkeys(PORTS, 0),
        "key": secrets.token_hex(32),
        "signature_scheme": "hmac-sha256",
        "curve_publickey": public.decode(),
        "curve_secretkey": secret.decode(),
    }


def reachable_engine(env: Mapping[str, str], *, same_machine: bool) -> dict[str, str]:
    """Return *env* with the engine's address as this machine reaches it, without one where nobody knows."""
    if same_machine or "DCENGINE_URL" not in env:
        return dict(env)
    url = places.engine_url(env["DCENGINE_URL"])
    rest = {name: value for name, value in env.items() if name != "DCENGINE_URL"}
    return {**rest, "DCENGINE_URL": url} if url else rest
