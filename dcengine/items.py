"""Items on their way into a project: packed, in blocks, each with its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain, pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

from .calls import blocks_of
from .codec import pack_json, pack_value
from .errors import InvalidOption
from .verbs import AddedJobs

T = TypeVar("T")
Keys: TypeAlias = "Callable[[Any], str] | Iterable[str]"  #: of an item, or one for each item in order


class Block(NamedTuple):
    """Consecutive items, packed."""

    data: bytes
    size: int  #: how many they are
    keys: list[str] | None


def blocks(items: Iterable[Any], keys: Keys | None = None, *, as_json: bool = False) -> Iterator[Block]:
    """Yield *items* in blocks, packed for functions, or *as_json* for outside workers.

    Raises `NotPicklable` or `NotJson` that names the item, and `InvalidOption` for keys that do not fit the items.
    """
    pack = pack_json if as_json else pack_value
    taken: list[str] = []  #: keys of the items that were packed

    def packed() -> Iterator[bytes]:
        for place, (item, key) in enumerate(_with_keys(items, keys), 1):
            if key is not None:
                taken.append(key)
            yield pack(item, what=f"item {place}")

    for data, count in blocks_of(packed()):
        own, taken[:count] = taken[:count], []
        yield Block(data, count, None if keys is None else own)


def _with_keys(items: Iterable[Any], keys: Keys | None) -> Iterator[tuple[Any, str | None]]:
    if keys is None:
        return ((item, None) for item in items)
    if isinstance(keys, str):
        raise InvalidOption("keys", repr(keys)[:100], "a text for each item, or a function that makes one of an item")
    if callable(keys):
        return ((item, _key(keys(item))) for item in items)
    if isinstance(items, Sized) and isinstance(keys, Sized) and len(items) != len(keys):
        raise _uneven()
    return _paired(items, keys)


def _paired(items: Iterable[Any], keys: Iterable[str]) -> Iterator[tuple[Any, str]]:
    """Yield each item with its key; raises `InvalidOption` where one of the two ends first."""
    rest = iter(keys)
    for item in items:
        try:
            key = next(rest)
        except StopIteration:
            raise _uneven() from None
        yield item, _key(key)
    for _ in rest:
        raise _uneven()


def _uneven() -> InvalidOption:
    return InvalidOption("keys", "more or fewer than the items", "one for each item")


def _key(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise InvalidOption("a key", repr(key)[:100], "a text")
    return key


def with_last(values: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Yield each of *values* and whether it is the last one."""
    rest = iter(values)
    for before in rest:
        for value in rest:
            yield before, False
            before = value
        yield before, True


def numbers_of(added: Iterable[AddedJobs]) -> range | list[int]:
    """Return the numbers of all jobs that were *added*: a range, where they follow one another."""
    numbers = [range(each.first_number, each.first_number + each.count) for each in added if each.count]
    if all(before.stop == after.start for before, after in pairwise(numbers)):
        return range(numbers[0].start, numbers[-1].stop) if numbers else range(0)
    return [*chain(*numbers)]
