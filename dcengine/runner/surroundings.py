"""What user code may change of its process, and the calls of others should not meet: folder, file mask, limits."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_STACK,
)


class Surroundings:
    """How things are when it is made; `restore` makes them so again."""

    def __init__(self) -> None:
        try:
            self._folder = os.getcwd()
        except FileNotFoundError:  # somebody has removed it
            self._folder = os.path.abspath(os.sep)
        self._mask = os.umask(0)
        os.umask(self._mask)
        self._limits = {kind: resource.getrlimit(kind) for kind in LIMITS}

    def restore(self) -> None:
        """Make things as they were, as far as the system allows that."""
        with suppress(OSError):
            os.chdir(self._folder)
        os.umask(self._mask)
        for kind, limits in self._limits.items():
            now = resource.getrlimit(kind)
            if now != limits:
                _limit(kind, limits, highest=now[1])


def _limit(kind: int, limits: tuple[int, int], *, highest: int) -> None:
    """Set *limits*; where that is not allowed, what is allowed without asking: all up to the *highest*."""
    try:
        resource.setrlimit(kind, limits)
    except (ValueError, OSError):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (highest, highest))
