"""What is left of processes that have ended: on Linux it can be adopted, and so be found and ended."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  #: from <sys/prctl.h>


def adopt_orphans() -> None:
    """Ask Linux to make this process the parent of what its children leave behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the process ids of our children, adopted ones included where the system tells."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def ended_children() -> list[tuple[int, int]]:
    """Reap the children that ended, adopted ones included; return their process ids and wait statuses."""
    ended = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(child)
    return ended
