"""A file that takes its place when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

F = TypeVar("F", bound=IO[Any])


@contextmanager
def replacing(path: Path, opened: Callable[[Path], F]) -> Iterator[F]:
    """Yield a new file that takes the place of *path* at its end; nothing of it is left if it fails.

    *opened* is given its path until then, and opens it with the mode "x": that follows no link that somebody has put
    there.
    """
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    file = opened(partial)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
