"""References: what stands in a packed call for a value that is elsewhere, put before or still to be computed.

A packed value with references is ``R`` and a frame: their keys, then the pickle. So the engine knows what a call
needs without unpickling it, and the worker what to have at hand before it does.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .errors import DcengineError, InvalidOption

REFERRING = b"R"  #: begins a packed value with references
VALUE, JOB = b"v", b"j"  #: begin a key: of a value, followed by its digest; of a job's result, followed by its id
INPUT = b"i"  #: begins the key of what lies outside the file and is one call's alone, followed by its digest
RESULT = b"r"  #: begins the key of a result that stays on a worker, followed by its digest

_found: ContextVar[dict[bytes, None] | None] = ContextVar("dcengine_references", default=None)
_resolvers: list[Callable[[bytes], Any]] = []  #: at most one: that of the process in which calls run


def key_of_value(digest: bytes) -> bytes:
    """Return the key of the value with the sha256 *digest*."""
    return VALUE + digest


def key_of_job(id: int, file: str) -> bytes:
    """Return the key of the result of job *id* in the *file* called so: other files have jobs of the same ids."""
    return JOB + id.to_bytes(8, "big") + file.encode()


def key_of_input(digest: bytes) -> bytes:
    """Return the key of an input outside the file with the sha256 *digest*."""
    return INPUT + digest


def input_of(key: bytes) -> bytes | None:
    """Return the digest of the input outside the file that *key* means, None for another key."""
    return key[1:] if key[:1] == INPUT else None


def key_of_result(digest: bytes) -> bytes:
    """Return the key of a result on a worker with the sha256 *digest*."""
    return RESULT + digest


def job_of(key: bytes) -> int | None:
    """Return the id of the job whose result *key* means, None for another key."""
    return int.from_bytes(key[1:9], "big") if key[:1] == JOB else None


def refuse_results(keys: Iterable[bytes], what: str) -> None:
    """Raise `InvalidOption` if *what*, which has these *keys*, refers to the result of a job."""
    for key in keys:
        if (job := job_of(key)) is not None:
            expected = "its value, as handle.result() gives it; or submit() each call: there handles are arguments"
            raise InvalidOption(what, f"the handle of job {job}", expected)


def file_of(key: bytes) -> str:
    """Return what the file is called whose job *key* means."""
    return key[9:].decode(errors="replace")


def digest_of(key: bytes) -> bytes | None:
    """Return the digest of the value that *key* means, None for another key."""
    return key[1:] if key[:1] == VALUE else None


@contextmanager
def collected() -> Iterator[dict[bytes, None]]:
    """Collect the keys of the references that are packed meanwhile, in order."""
    found: dict[bytes, None] = {}
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def is_collecting() -> bool:
    """Tell whether a call is being packed."""
    return _found.get() is not None


def reduced(key: bytes) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    """Return what an object that stands for *key* gives pickle, and note that it is referred to.

    Called by ``__reduce__`` of such objects, only while `is_collecting`.
    """
    found = _found.get()
    if found is None:
        raise DcengineError("a reference is packed outside a call")
    found[key] = None
    return resolve, (key,)


def standing_for(key: bytes) -> bytes:
    """Return a pickle that becomes the value of *key* where it is loaded."""
    with collected():
        return pickle.dumps(_Standing(key), 5)


class _Standing:
    """Becomes the value of *key* where it is unpickled."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return reduced(self._key)


def resolve(key: bytes) -> Any:
    """Return the value that *key* means; called by pickle where the call runs."""
    if not _resolvers:
        raise DcengineError("a reference stands for its value only in the arguments of a call")
    return _resolvers[-1](key)


@contextmanager
def resolved_by(resolver: Callable[[bytes], Any]) -> Iterator[None]:
    """Have references mean what *resolver* returns for their keys."""
    _resolvers.append(resolver)
    try:
        yield
    finally:
        _resolvers.remove(resolver)
