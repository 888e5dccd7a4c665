"""How many front ends the limit of open files allows."""

from __future__ import annotations

DESCRIPTORS = 10  #: that a front end takes with its websocket and its sockets at the kernel
ENOUGH = 4096  #: open files, as many as Jupyter's own servers ask for


def most_front_ends() -> int:
    """Return how many may be connected; the limit is raised where it is low and that is allowed.

    Half of the files are for others, such as those who lease tasks.
    """
    import resource  # there is none on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < ENOUGH:
        wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return (ENOUGH if soft == resource.RLIM_INFINITY else soft) // 2 // DESCRIPTORS
