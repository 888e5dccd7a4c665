"""Asks an unknown Dask worker what it is.

The source of this module is sent to the worker and executed there, since the worker may have no
dcengine or another version of it: only the standard library and ``distributed`` may be used.
"""

from __future__ import annotations

import getpass
import importlib
import os
import platform
import socket
import sys
from typing import Any


def probe(address: str) -> dict[str, Any]:
    """Return what the Dask worker at *address* says about itself, as plain values."""
    from distributed import Worker

    worker = next(worker for worker in list(Worker._instances) if worker.address == address)
    identity = getattr(worker, "dcengine_identity", None)
    version, problem = _find_dcengine()
    return {
        "name": str(worker.name),
        "slots": worker.state.nthreads,
        "resources": sorted(worker.state.total_resources),
        "python": platform.python_version(),
        "executable": sys.executable,
        "version": version,
        "problem": problem,
        "host": socket.gethostname(),
        "user": _user(),
        "tags": identity.tags if identity else os.environ.get("DCENGINE_TAGS", ""),
        "nickname": identity.nickname if identity else os.environ.get("DCENGINE_NICKNAME", ""),
    }


def _find_dcengine() -> tuple[str | None, str]:
    try:
        return str(importlib.import_module("dcengine").__version__), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _user() -> str:
    try:
        return getpass.getuser()
    except Exception:  # a container's nameless user
        return str(os.getuid())
