"""A process that ends what a worker has started, should the worker itself be killed.

Its standard input is a pipe from the worker: a line for each process group that begins or has ended. Linux can tie a
child to its parent, but not what the child starts, and only from code between fork and exec, which a process with
threads must not run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import IO

PATIENCE = 5.0  #: seconds that commands have to end when they are asked to

_PROGRAM = f"""
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
def send(number):
    for group in list(groups):
        try:
            os.killpg(group, number)
        except OSError:
            groups.discard(group)
for number in (signal.SIGTERM, signal.SIGCONT):
    send(number)
end = time.monotonic() + {PATIENCE}
while groups and time.monotonic() < end:
    time.sleep(0.05)
    send(0)
send(signal.SIGKILL)
"""


class Keeper:
    """Knows which process groups are to be ended when this process is gone, however it went."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C in the terminal is the worker's to answer
        )
        assert self._process.stdin is not None
        self._line: IO[str] = self._process.stdin

    def add(self, group: int) -> None:
        """Note that process group *group* has begun."""
        self._say(f"+{group}")

    def discard(self, group: int) -> None:
        """Note that process group *group* has ended."""
        self._say(f"-{group}")

    def close(self) -> None:
        """End the keeper, and whatever is left of those it was told of."""
        with suppress(BrokenPipeError):
            self._line.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):  # somebody has killed it; the worker itself goes on
            self._line.write(f"{line}\n")


def signal_group(group: int, number: int) -> None:
    """Send a signal to all in process group *group* that still run."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers with the latter where only zombies are left
        os.killpg(group, number)


def is_group(group: int) -> bool:
    """Tell whether anything of process group *group* is left."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_politely(group: int) -> None:
    """Ask all in process group *group* to end, those that are stopped too."""
    signal_group(group, signal.SIGTERM)
    signal_group(group, signal.SIGCONT)
