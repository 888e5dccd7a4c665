"""What a call takes and what it gives: between packed values and Python's, as its unit says."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ..buffered import Piece
from ..codec import dumps, loads, pack, pack_json, pieces_of, unpack
from ..errors import NothingExpanded, NotIterable, TooManyParts
from .units import Takes, Unit
from .values import spool

SPOOLED_FROM = 1 << 20  #: bytes of a result above which it is left in a file
PARTS_LIMIT = 1_000_000  #: items for which one expand may open jobs
# They can be iterated, but whoever returns one as a list of jobs forgot something.
NO_LISTS = (str, bytes, bytearray, memoryview, Mapping)

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


# ---- what it takes -------------------------------------------------------------------------


def taker(takes: Takes) -> Callable[[bytes], Arguments]:
    """Return what makes a call's arguments of an item; it runs user code."""
    return _TAKERS[takes]


def _value(packed: bytes) -> Arguments:
    return (loads(packed),), {}


def _parts(packed: bytes) -> Arguments:
    return ([loads(part) for part in unpack(packed)],), {}


_TAKERS: dict[Takes, Callable[[bytes], Arguments]] = {"call": loads, "value": _value, "parts": _parts}


# ---- what it gives -------------------------------------------------------------------------


def giver(unit: Unit) -> Callable[[Any], bytes]:
    """Return what packs the result of a call of *unit*; it runs user code."""
    pack_one = pack_json if unit.gives in ("json", "json parts") else dumps
    if unit.gives in ("parts", "json parts"):
        return partial(_pack_parts, function=unit.name, pack_one=pack_one)
    if unit.gives == "value" and unit.spool:
        return partial(_pack_or_spool, unit=unit)
    return partial(pack_one, what=f"the result of {unit.name}")


def _pack_or_spool(result: Any, *, unit: Unit) -> bytes:
    """Return *result* packed, or what stands for it if it is large and lies in a file now."""
    pieces: list[Piece] = pieces_of(result, what=f"the result of {unit.name}")
    if sum(map(len, pieces)) <= SPOOLED_FROM and not unit.stays:
        return b"".join(pieces)
    try:
        return spool(pieces, unit.spool, stays=unit.stays).packed
    except OSError:
        if unit.stays:
            raise
        return b"".join(pieces)  # there is no room, say: the engine can wait for some, the call need not fail


def _pack_parts(result: Any, *, function: str, pack_one: Callable[..., bytes]) -> bytes:
    parts: list[bytes] = []
    items = _items_of(result, function)
    try:
        for number, item in enumerate(items, 1):
            if number > PARTS_LIMIT:
                raise TooManyParts(function, PARTS_LIMIT)
            parts.append(pack_one(item, what=f"item {number} of what {function} returned"))
    finally:
        if inspect.isgenerator(items):
            items.close()  # here, where user code may run, and not whenever it is collected
    if not parts:
        raise NothingExpanded(function)
    return pack(parts)


def _items_of(result: Any, function: str) -> Iterator[Any]:
    if isinstance(result, AsyncIterable):
        return iter(asyncio.run(_collected(result)))
    try:
        if not isinstance(result, NO_LISTS):
            return iter(result)
    except TypeError:
        if hasattr(type(result), "__iter__"):
            raise  # its own, and the user's to explain
    raise NotIterable(function, type(result).__name__)


async def _collected(items: AsyncIterable[Any]) -> list[Any]:
    """Return what an async generator yields, at most one item more than allowed."""
    collected = []
    async for item in items:
        collected.append(item)
        if len(collected) > PARTS_LIMIT:
            break
    return collected
