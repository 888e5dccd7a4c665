"""Calls made ready to travel: functions and arguments packed, with what is asked for beside them."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from .codec import keys_in, pack, pack_call, pack_function
from .errors import InvalidOption
from .options import READERS, CallOptions, Versions, check_names, options_of, versions_of
from .packages import used_by
from .references import REFERRING, refuse_results
from .tags import with_versions
from .verbs import BatchSubmission, Function, Options, Submission

KERNEL = "DCENGINE_KERNEL_ID"  #: in the environment of kernels that an engine started
BLOCK_ITEMS, BLOCK_BYTES = 4096, 1 << 20  #: of inputs packed together


def submission_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: Mapping[str, Any]
) -> Submission:
    """Return one call of *function* as it is sent, with the options *given*."""
    function, given = _undecorated(function, given)
    packed, options, packages = _prepared(function, given)
    key = READERS["key"]("key", given.get("key"))
    return Submission(
        function=packed, input=pack_call(args, kwargs), options=options, key=key, packages=packages,
        submitter=submitter(), origin=origin(),
    )  # fmt: skip


def batch_of(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], given: Mapping[str, Any]
) -> BatchSubmission:
    """Return a call of *function* for each tuple of arguments in *calls* as they are sent."""
    function, given = _undecorated(function, given)
    check_names(given, CallOptions, "a map")
    if "crash_retries" in given:
        raise InvalidOption("crash_retries", "chosen for a batch", "no such option: each item has those of a usual job")
    packed, options, packages = _prepared(function, given)
    refuse_results(keys_in(packed.code), "a value inside the function of a map")
    blocks: list[bytes] = []
    count = 0
    for block, items in blocks_of(_packed_item(args) for args in calls):
        blocks.append(block)
        count += items
    return BatchSubmission(
        function=packed, blocks=blocks, count=count, options=options, packages=packages, submitter=submitter(),
        origin=origin(),
    )  # fmt: skip


def _packed_item(args: tuple[Any, ...]) -> bytes:
    """Return the arguments of one call of a map packed; it waits for no other job."""
    packed = pack_call(args, {})
    if packed[:1] == REFERRING:
        refuse_results(keys_in(packed), "an argument in a map")
    return packed


def _undecorated(
    function: Callable[..., Any], given: Mapping[str, Any]
) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Return what travels for *function*, and the options of a call; a `functions.RemoteFunction` has its own."""
    as_called = getattr(type(function), "as_called", None)
    return (function, given) if as_called is None else as_called(function, given)


def _prepared(function: Callable[..., Any], given: Mapping[str, Any]) -> tuple[Function, Options, dict[str, str]]:
    """Return *function* ready to travel, the options *given* as one value, and the packages to be compared."""
    options, versions = options_of(given), versions_of(given)
    packed, tags, packages = packed_with_versions(function, options.tags, versions)
    return packed, options if tags == options.tags else msgspec.structs.replace(options, tags=tags), packages


def packed_with_versions(
    function: Callable[..., Any], tags: str, versions: Versions
) -> tuple[Function, str, dict[str, str]]:
    """Return *function* ready to travel, what it needs of a worker, and the packages to be compared with the workers'.

    Where *versions* are required they are needed like the *tags*.
    """
    packed = pack_function(function)
    packages = {} if versions == "ignore" else used_by(function, packed.digest)
    return (packed, with_versions(tags, packages), {}) if versions == "require" else (packed, tags, packages)


def blocks_of(packed: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield *packed* values in blocks, each with the number of its values."""
    values: list[bytes] = []
    size = 0
    for value in packed:
        if values and (len(values) >= BLOCK_ITEMS or size + len(value) > BLOCK_BYTES):
            yield pack(values), len(values)
            values, size = [], 0
        values.append(value)
        size += len(value)
    if values:
        yield pack(values), len(values)


def origin() -> str:
    """Return the id of the kernel of an engine in which this runs, empty elsewhere."""
    return os.environ.get(KERNEL, "")


@cache
def submitter() -> str:
    """Return who submits: user@host; looked up once, for that takes a twentieth of a call."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        user = f"uid{os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"
