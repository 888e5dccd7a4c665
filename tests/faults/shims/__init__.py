"""Shims: small libraries in C between a process and its system, to watch what it asks for or to refuse it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

needs_shims = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None, reason="a shim takes Linux and a C compiler (Debian: gcc, libc6-dev)"
)


@cache
def shim(name: str) -> Path:
    """Return the library that `NAME.c` in this folder makes, compiled if it was not before."""
    source = FOLDER / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"dcengine-shim-{os.getuid()}-{name}-{digest}.so"
    if not library.exists():
        assert COMPILER is not None
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [
                COMPILER,
                "-O2",
                "-Wall",
                "-Werror",
                "-shared",
                "-fPIC",
                "-o",
                str(made),
                str(source),
                "-ldl",
                "-lpthread",
            ],
            check=True,
        )
        made.rename(library)
    return library


def under(name: str, **told: str) -> Mapping[str, str]:
    """Return what the environment of a process has to have so that it runs under shim *name*, which is *told* more."""
    return {"LD_PRELOAD": str(shim(name)), **told}
