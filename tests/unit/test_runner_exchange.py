"""What a call takes and gives, without a slot around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from dcengine.codec import loads, pack, unpack
from dcengine.errors import NotIterable, TooManyParts
from dcengine.runner import exchange
from dcengine.runner.units import Unit

EXPAND = Unit(id=1, function=b"", name="split", code=None, items=b"", count=1, takes="value", gives="parts")


def expanded(result: object) -> list[Any]:
    return [loads(part) for part in unpack(exchange.giver(EXPAND)(result))]


async def counted(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


class OldList:
    """Can be iterated as lists could before there were iterators."""

    def __getitem__(self, index: int) -> int:
        return (7, 8)[index]


class Failing:
    def __iter__(self) -> Iterator[int]:
        raise TypeError("of its own")


@pytest.mark.parametrize("make", [range, counted])
def test_the_last_part_that_is_allowed_is_allowed(monkeypatch: pytest.MonkeyPatch, make: Callable[[int], Any]) -> None:
    monkeypatch.setattr(exchange, "PARTS_LIMIT", 3)

    assert expanded(make(3)) == [0, 1, 2]
    with pytest.raises(TooManyParts, match="split returned or yielded more than 3 items"):
        expanded(make(4))


@pytest.mark.parametrize("result", [[7, 8], (7, 8), iter([7, 8]), {7: 0, 8: 0}.keys(), OldList()])
def test_whatever_can_be_iterated_is_a_list_of_parts(result: object) -> None:
    assert expanded(result) == [7, 8]


def test_what_fails_by_itself_when_it_is_iterated_is_not_explained_away() -> None:
    with pytest.raises(TypeError, match="of its own"):
        expanded(Failing())


def test_a_value_that_cannot_be_iterated_is_named() -> None:
    with pytest.raises(NotIterable, match="split returned a value of type object"):
        expanded(object())


def test_a_gather_of_no_parts_gets_an_empty_list() -> None:
    assert exchange.taker("parts")(pack([])) == (([],), {})
