"""Values that many calls refer to, large ones, and results that stay on their worker."""

from __future__ import annotations

import os
import pickle
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import dcengine
from tests.engines import eventually

LARGE = 300_000  #: numbers: 2.4 MB


def echo(value: Any) -> Any:
    return value


def total(values: Any, times: int = 1) -> float:
    return float(np.sum(values)) * times


def add(a: Any, b: Any) -> Any:
    return a + b


def place_of(array: Any) -> tuple[int, int]:
    return os.getpid(), int(array.ctypes.data)


def overwrite(array: Any) -> float:
    array += 1
    return float(array[0])


def numbers(start: float = 0.0) -> Any:
    return np.arange(start, start + LARGE)


# ---- put -----------------------------------------------------------------------------------


def test_a_function_gets_the_value_that_a_reference_stands_for(engine: str) -> None:
    array = numbers()
    reference = dcengine.put(array)

    assert dcengine.submit(total, reference, times=2).result(30) == 2 * array.sum()
    assert dcengine.submit(len, [reference, {"again": reference}]).result(30) == 2
    assert dcengine.submit(lambda: total(reference)).result(30) == array.sum()
    assert dcengine.map(partial(total, reference), [1, 2]).results(30) == [array.sum(), 2 * array.sum()]
    assert dcengine.map(add, [dcengine.put(3), 4], [5, dcengine.put(6)]).results(30) == [8, 10]


def test_calls_of_one_worker_share_the_value_and_cannot_change_it(engine: str) -> None:
    reference = dcengine.put(numbers(1.0))
    places = dcengine.map(place_of, [reference] * 40).results(30)

    assert len(set(places)) == len({process for process, _ in places})
    with pytest.raises(ValueError, match="read-only"):
        dcengine.submit(overwrite, reference).result(30)


def test_a_value_put_twice_is_stored_once_and_comes_back(engine: str) -> None:
    array = numbers(2.0)
    first, second = dcengine.put(array), dcengine.put(array)

    assert first == second
    assert (dcengine.reference(first.digest).result() == array).all()
    assert first.status().size == first.size > array.nbytes
    assert repr(first) == f"<dcengine reference {first.digest[:12]}, 2.4 MB>"


def test_a_small_value_of_any_kind_can_be_put(engine: str) -> None:
    for value in (None, 3, "text", {"a": [1, 2]}, b""):
        reference = dcengine.put(value)

        assert reference.result() == value
        assert dcengine.submit(echo, reference).result(30) == value


def test_a_reference_that_was_pickled_finds_its_value_again(engine: str) -> None:
    again = pickle.loads(pickle.dumps(dcengine.put("here")))

    assert again.get() == "here"


def test_a_call_that_refers_to_a_deleted_value_says_so_and_what_to_do(engine: str) -> None:
    reference = dcengine.put(numbers(3.0))
    assert dcengine.map(total, [reference] * 4).results(30)  # the workers have it

    assert reference.delete()
    assert not reference.delete()
    with pytest.raises(dcengine.ValueGone, match=r"put it again with dcengine.put"):
        dcengine.submit(total, reference).result(30)
    with pytest.raises(dcengine.ValueGone):
        reference.result()


def test_of_the_calls_that_run_together_only_those_that_refer_to_a_lost_value_fail(engine: str) -> None:
    lost = dcengine.put("lost")
    lost.delete()
    batch = dcengine.map(echo, [1, lost, 2])
    batch.wait(30)

    assert list(batch.failures) == [1]
    assert [batch[0].result(), batch[2].result()] == [1, 2]


def test_a_value_kept_for_a_set_time_goes_when_that_is_over(engine: str) -> None:
    reference = dcengine.put("for a moment", keep=0.1)

    def is_gone() -> bool:
        try:
            return reference.status() is None
        except dcengine.NotFound:
            return True

    assert eventually(is_gone)


def test_put_refuses_what_stands_for_another_value(engine: str) -> None:
    with pytest.raises(dcengine.InvalidOption, match="put each part alone"):
        dcengine.put([dcengine.put(1)])
    with pytest.raises(dcengine.NotPicklable):
        dcengine.put([threading.Lock()])


# ---- large arguments and results -----------------------------------------------------------


def test_a_large_argument_is_the_calls_own_to_change(engine: str) -> None:
    array = numbers(4.0)

    assert dcengine.submit(overwrite, array).result(30) == 5.0
    assert dcengine.map(overwrite, [array, array[:10], array]).results(30) == [5.0, 5.0, 5.0]
    assert array[0] == 4.0


def test_a_large_result_is_the_callers_own_each_time(engine: str) -> None:
    handle = dcengine.submit(numbers, 5.0)
    handle.result(30)[0] = -1.0

    assert (handle.result() == numbers(5.0)).all()
    assert (dcengine.map(numbers, [6.0, 7.0]).results(30)[1] == numbers(7.0)).all()


# ---- results that stay ---------------------------------------------------------------------


def test_a_result_that_stays_on_its_worker_is_fetched_when_it_is_asked_for(engine: str) -> None:
    handle = dcengine.submit(numbers, 8.0, keep="remote")

    assert (handle.result(30) == numbers(8.0)).all()
    assert (dcengine.job(handle.id).result() == numbers(8.0)).all()
    assert dcengine.submit(echo, "small", keep="remote").result(30) == "small"


def test_a_result_that_stays_can_be_the_argument_of_other_calls(engine: str) -> None:
    handle = dcengine.submit(numbers, 9.0, keep="remote")
    sums = [dcengine.submit(total, handle, times=times) for times in range(4)]

    assert [each.result(30) for each in sums] == [times * numbers(9.0).sum() for times in range(4)]


def test_the_results_of_a_map_may_stay_too(engine: str) -> None:
    batch = dcengine.map(numbers, [10.0, 11.0, 12.0], keep="remote")

    assert [array[0] for array in batch.results(30)] == [10.0, 11.0, 12.0]
    assert batch[1].result()[0] == 11.0
    assert batch.status().succeeded == 3
