"""The session that this process is, if it is one: a child in which state stays from call to call."""

from __future__ import annotations

import secrets

_name = ""  #: of the session
_worker = ""  #: that this process is a child of


def name() -> str:
    """Return the name of the session that this process is; empty for one that is none."""
    return _name


def worker() -> str:
    """Return the name of the worker that this process is a child of."""
    return _worker


def belong_to(worker: str) -> None:
    """Be a child of *worker*; called once by the child."""
    global _worker
    _worker = worker


def be(session: str) -> None:
    """Be the process of *session* from now on; called by the child for a unit that names one."""
    global _name
    _name = session


def stay() -> str:
    """Let this process live on with what the running call leaves in it; return the name by which it is found then.

    Without a session it becomes one, which no other call uses unless it asks for that name.
    """
    if not _name:
        be(f"unnamed-{secrets.token_hex(4)}")
    return _name
