from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from dcengine.culprits import culprit

LOCK = threading.Lock()


class Holder:
    def __init__(self) -> None:
        self.name, self.lock = "x", threading.Lock()

    def work(self) -> str:
        return self.name

    def __call__(self) -> None: ...


@dataclass
class Nested:
    holders: list[Holder] = field(default_factory=lambda: [Holder()])


class Stubborn:
    def __reduce__(self) -> Any:
        raise ValueError("I stay here")


def uses_a_lock() -> Any:
    return LOCK


def uses_a_function() -> Any:
    return uses_a_lock()


def has_a_lambda() -> Any:
    return lambda: LOCK


def takes_defaults(a: int, b: int = 1, lock: Any = LOCK, *, name: str = "x") -> None: ...


def takes_a_keyword(*, lock: Any = LOCK) -> None: ...


def a_closure() -> Callable[[], Any]:
    kept = SimpleNamespace(lock=LOCK)
    return lambda: kept


def a_decorated() -> Callable[[], Any]:
    @functools.wraps(uses_a_lock)
    def again() -> Any:
        return uses_a_lock()

    return again


@pytest.fixture(autouse=True)
def by_value() -> Any:
    """Have functions of this module travel with their code, as those of notebooks do."""
    import sys

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def why(value: object) -> Exception | None:
    try:
        cloudpickle.dumps(value)
    except Exception as error:
        return error
    return None


def named(value: object) -> str:
    reason = why(value)
    assert reason is not None
    part, _ = culprit("argument 1", value, why, reason)
    return str(part)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (uses_a_lock, "'LOCK', used inside uses_a_lock,"),
        (uses_a_function, "'LOCK', used inside uses_a_lock,"),
        (has_a_lambda, "'LOCK', used inside has_a_lambda,"),
        (takes_defaults, "'lock', used inside takes_defaults,"),
        (takes_a_keyword, "'lock', used inside takes_a_keyword,"),
        (a_closure(), "'kept.lock', used inside a_closure.<locals>.<lambda>,"),
        (a_decorated(), "'LOCK', used inside uses_a_lock,"),
        (Holder().work, "'self.lock', used inside Holder.work,"),
        (functools.partial(print, LOCK), "'argument 1', used inside functools.partial of print,"),
        (functools.partial(print, end=LOCK), "'end', used inside functools.partial of print,"),
        (functools.partial(uses_a_lock), "'LOCK', used inside uses_a_lock,"),
    ],
)
def test_the_value_that_a_function_uses_is_named(function: Callable[..., Any], name: str) -> None:
    assert named(function) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (LOCK, "argument 1"),
        (Holder(), ".lock in argument 1"),
        ({"model": [1, Holder()]}, "['model'][1].lock in argument 1"),
        (Nested(), ".holders[0].lock in argument 1"),
        ({("a" * 100): LOCK}, f"['{'a' * 39}...] in argument 1"),
        ([uses_a_function], "'LOCK', used inside uses_a_lock,"),
        (Stubborn(), "argument 1"),
    ],
)
def test_the_part_of_a_value_is_named_by_the_way_to_it(value: object, name: str) -> None:
    assert named(value) == name


def test_where_all_parts_together_are_too_deep_none_is_blamed() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert named(deep) == "argument 1"


def test_the_reason_is_that_of_the_part() -> None:
    value = {"a": Stubborn()}
    _, reason = culprit("argument 1", value, why, pickle.PicklingError("something"))

    assert str(reason) == "I stay here"
