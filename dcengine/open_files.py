"""How many files and connections this process may have open."""

from __future__ import annotations

OTHER_FILES = 256  #: that an engine opens beside its connections: its file, its workers, values


def with_room(connections: int) -> int:
    """Return *connections*, or as many as this process may open beside its other files if those are fewer."""
    soft, _ = _limits()
    return min(connections, max(soft - OTHER_FILES, soft // 2))


def make_room(connections: int) -> None:
    """Let this process have so many *connections*, as far as the system allows it."""
    import resource

    soft, hard = _limits()
    if soft < connections + OTHER_FILES and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, connections + OTHER_FILES), hard))


def _limits() -> tuple[int, int]:
    """Return how many files this process may have open, and how many it may allow itself."""
    import resource  # late: clients on Windows have none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return 1 << 30 if soft == unlimited else soft, 1 << 30 if hard == unlimited else hard
