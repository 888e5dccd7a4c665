"""What waiting for many handles promises, and functions that carry their options with them."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import random
import re
import runpy
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.api import current
from dcengine.watching import watch_of
from tests.calls import hold, refuse_odd
from tests.engines import eventually

PAGE = Path(__file__).resolve().parents[2] / "docs/functions.md"


def double(n: int) -> int:
    return 2 * n


@pytest.fixture
def gate(engine: str, tmp_path: Path) -> Iterator[Path]:
    """A file that jobs wait for; it is there at the end, so that none of them stays."""
    path = tmp_path / "go"
    yield path
    path.touch()


def held(gate: Path, value: int = 0) -> dcengine.JobHandle:
    """Submit a job that waits for *gate*, a function of its own: nothing is sent behind one whose pace is not known."""
    return dcengine.submit(lambda: hold(str(gate), value))


# ---- gather --------------------------------------------------------------------------------


def test_gather_returns_the_results_in_the_order_of_the_handles(engine: str) -> None:
    handles = [dcengine.submit(double, n) for n in range(5)]
    random.shuffle(handles)
    expected = [handle.result(30) for handle in handles]

    assert dcengine.gather(*handles) == expected
    assert dcengine.gather(handles, timeout=30) == expected
    assert dcengine.gather(iter(handles)) == expected
    assert dcengine.gather([]) == []
    assert dcengine.gather(handles[0], handles[0]) == expected[:1] * 2


def test_gather_returns_a_list_for_each_batch(engine: str) -> None:
    batch, single = dcengine.map(double, range(3)), dcengine.submit(double, 21)

    assert dcengine.gather(batch, single) == [[0, 2, 4], 42]
    assert dcengine.gather(batch) == [[0, 2, 4]]


def test_gather_raises_the_first_error_that_comes_while_others_go_on(engine: str, gate: Path) -> None:
    waiting = held(gate)

    with pytest.raises(ValueError, match="3"):
        dcengine.gather(waiting, dcengine.submit(refuse_odd, 3), timeout=30)
    assert not waiting.done()


def test_gather_gives_errors_among_the_results_if_asked_to(engine: str) -> None:
    one, two, batch = dcengine.submit(refuse_odd, 1), dcengine.submit(refuse_odd, 2), dcengine.map(refuse_odd, [3, 4])

    error, value, (inner, last) = dcengine.gather(one, two, batch, return_exceptions=True, timeout=30)

    assert (value, last) == (2, 4)
    assert isinstance(error, ValueError)
    assert isinstance(inner, ValueError)


def test_gather_waits_no_longer_than_asked(engine: str, gate: Path) -> None:
    handles = [dcengine.submit(double, 1), held(gate)]

    with pytest.raises(dcengine.ResultNotReady, match="1 of the jobs"):
        dcengine.gather(handles, timeout=1)


def test_what_is_no_handle_is_refused(engine: str) -> None:
    for wrong in (3, "12", [dcengine.submit(double, 1), 3]):
        with pytest.raises(dcengine.InvalidOption, match="a handle"):
            dcengine.gather(wrong)  # type: ignore[arg-type]
    with pytest.raises(dcengine.InvalidOption, match="ALL_COMPLETED"):
        dcengine.wait([], return_when="ALWAYS")


def test_a_job_that_is_unknown_is_told_as_such_and_the_others_are_not_harmed(engine: str) -> None:
    unknown = dcengine.submit(double, 1)
    known = dcengine.submit(double, 2)
    unknown.result(30)
    unknown.id, unknown._result = 10**9, None

    with pytest.raises(dcengine.NotFound):
        dcengine.gather(unknown, timeout=30)
    assert known.result(30) == 4


# ---- as_completed and wait -----------------------------------------------------------------


def test_as_completed_gives_each_job_once_as_it_ends(engine: str, gate: Path) -> None:
    late, early = held(gate, 7), dcengine.submit(double, 1)
    completions = dcengine.as_completed([late, early, late], timeout=30)

    assert next(completions) is early
    assert early.result(0) == 2
    gate.touch()
    assert [handle.result(0) for handle in completions] == [7]


def test_as_completed_gives_the_items_of_batches_beside_single_jobs(engine: str) -> None:
    batch, single = dcengine.map(refuse_odd, range(20)), dcengine.submit(double, 4)

    ended = list(dcengine.as_completed([batch, single], timeout=30))

    assert {handle.index for handle in ended} == {None, *range(20)}
    assert {handle.index for handle in ended if handle.exception() is not None} == set(range(1, 20, 2))


def test_items_of_a_batch_can_be_waited_for_by_themselves(engine: str) -> None:
    batch = dcengine.map(double, range(2000))

    assert dcengine.gather([batch[n] for n in range(0, 2000, 10)], timeout=60) == list(range(0, 4000, 20))


def test_as_completed_waits_no_longer_than_asked(engine: str, gate: Path) -> None:
    completions = dcengine.as_completed([held(gate)], timeout=0.2)

    with pytest.raises(TimeoutError):
        next(completions)


def test_who_stops_waiting_is_forgotten(engine: str, gate: Path) -> None:
    handle = held(gate)
    completions = dcengine.as_completed([handle, dcengine.submit(double, 1)])

    assert next(completions).result() == 2
    del completions

    watch = watch_of(current())
    assert handle.id not in watch._listeners
    eventually(lambda: not watch._asked)


def test_wait_tells_those_that_are_done_from_those_that_are_not(engine: str, gate: Path) -> None:
    waiting, quick, batch = held(gate), dcengine.submit(double, 1), dcengine.map(double, range(4))

    first = dcengine.wait([waiting, quick], timeout=30, return_when="FIRST_COMPLETED")
    assert first == ({quick}, {waiting})

    assert waiting in dcengine.wait([waiting, quick, batch], timeout=0.0).not_done
    assert dcengine.wait([quick, batch], timeout=30).not_done == set()
    gate.touch()
    assert dcengine.wait([waiting, quick, batch], timeout=30) == ({waiting, quick, batch}, set())


def test_wait_can_end_with_the_first_failure(engine: str, gate: Path) -> None:
    waiting, good, bad = held(gate), dcengine.submit(double, 1), dcengine.submit(refuse_odd, 1)

    done, not_done = dcengine.wait([waiting, good, bad], timeout=30, return_when="FIRST_EXCEPTION")

    assert bad in done
    assert waiting in not_done


def test_a_thousand_jobs_are_waited_for_with_few_questions(engine: str) -> None:
    handles = [dcengine.submit(double, 1) for _ in range(20)]
    dcengine.gather(handles, timeout=60)
    link, asked = current(), []
    start = link.start

    def counted(verb: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(verb)
        return start(verb, *args, **kwargs)

    link.start = counted  # type: ignore[method-assign]
    try:
        with dcengine.Executor() as executor:
            futures = [executor.submit(double, n) for n in range(1000)]
            assert [future.result(60) for future in futures] == list(range(0, 2000, 2))
            assert dcengine.gather([future.job for future in futures], timeout=60) == list(range(0, 2000, 2))
    finally:
        del link.start  # type: ignore[method-assign]

    assert asked.count("submit") == 1000
    assert asked.count("ends") < 700
    assert set(asked) == {"submit", "ends"}


# ---- from coroutines -----------------------------------------------------------------------


def test_a_batch_is_iterated_in_a_coroutine_in_order_and_as_it_ends(engine: str) -> None:
    async def main() -> tuple[list[int], set[int | None], list[object]]:
        batch = dcengine.map(double, range(30))
        mixed = dcengine.as_completed([batch, dcengine.submit(double, 21)], timeout=30)
        return (
            [result async for result in batch],
            {handle.index async for handle in batch.as_completed(30)},
            sorted([handle.result() async for handle in mixed]),
        )

    in_order, indexes, values = asyncio.run(main())

    assert in_order == list(range(0, 60, 2))
    assert indexes == set(range(30))
    assert values == sorted([*range(0, 60, 2), 42])


def test_an_iteration_in_a_coroutine_may_go_on_after_an_error(engine: str) -> None:
    async def main() -> list[object]:
        results = aiter(dcengine.map(refuse_odd, range(3)))
        first = await anext(results)
        with pytest.raises(ValueError, match="1"):
            await anext(results)
        return [first, await anext(results)]

    assert asyncio.run(main()) == [0, 2]


def test_handles_are_gathered_by_asyncio_itself(engine: str) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(dcengine.submit(double, n) for n in range(50)))

    assert asyncio.run(main()) == list(range(0, 100, 2))


def test_waiting_in_a_coroutine_does_not_stall_the_others(engine: str, gate: Path) -> None:
    async def tick(pauses: list[float]) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            pauses.append(time.monotonic() - before)

    async def main() -> tuple[int, list[float]]:
        pauses: list[float] = []
        ticking = asyncio.create_task(tick(pauses))
        handle = held(gate, 5)
        waiting = asyncio.ensure_future(anext(dcengine.as_completed([handle])))
        while len(pauses) < 40:
            await asyncio.sleep(0.01)
        dcengine.submit(gate.touch)
        value = (await waiting).result(0)
        ticking.cancel()
        return value, pauses

    value, pauses = asyncio.run(main())

    assert value == 5
    assert statistics.median(pauses) < 0.1


def test_a_coroutine_that_waits_can_be_cancelled_and_the_job_goes_on(engine: str, gate: Path) -> None:
    handle, batch = held(gate, 1), dcengine.map(lambda n: hold(str(gate), n), [2])

    async def first_of(iteration: Any) -> None:
        async for _ in iteration:
            return

    async def main() -> None:
        waiting = [first_of(dcengine.as_completed([handle])), first_of(batch), first_of(batch.as_completed())]
        for coroutine in (*waiting, handle._async_result(), batch._async_results()):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(coroutine, 0.05)

    asyncio.run(main())

    watch = watch_of(current())
    eventually(lambda: not watch._listeners and not watch._asked)
    gate.touch()
    assert dcengine.gather(handle, batch, timeout=30) == [1, [2]]


def test_waiting_in_a_coroutine_has_a_limit(engine: str, gate: Path) -> None:
    async def main() -> None:
        async for _ in dcengine.as_completed([held(gate)], timeout=0.1):
            pass

    with pytest.raises(dcengine.ResultNotReady):
        asyncio.run(main())


# ---- decorated functions -------------------------------------------------------------------


@dcengine.function(tags="site==lab", retries=2)
def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


@dcengine.function
async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance

    @dcengine.function(priority=3)
    def after(self, gain: int) -> int:
        return self.balance + gain


def test_a_decorated_function_runs_here_when_called_and_on_workers_when_submitted(engine: str) -> None:
    handle = add.submit(1, b=2)

    assert add(1, b=2) == 3
    assert handle.result(30) == 3
    assert handle.status().tags == "site==lab"
    assert handle.status().worker == "w2"
    assert add.map([1, 2], [10, 20]).results(30) == [11, 22]


def test_it_stays_the_function_that_it_was_to_those_who_look(engine: str) -> None:
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Return the sum.", __name__)
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert "add" in repr(add)
    assert inspect.signature(dcengine.function).parameters["retries"].default == 0


def test_options_make_a_copy_with_others(engine: str) -> None:
    changed = add.options(tags="", priority=7)

    handle = changed.submit(1)
    assert (handle.result(30), handle.status().tags, handle.status().priority) == (1, "", 7)
    assert add.submit(1).status().priority == 0
    first, second = add.options(key="once").submit(1), add.options(key="once").submit(2)
    assert first.id == second.id


def test_submit_and_map_take_its_options_unless_they_say_otherwise(engine: str) -> None:
    assert dcengine.submit(add, 1).status().tags == "site==lab"
    assert dcengine.submit(add, 1, tags="cpu").status().tags == "cpu"
    assert dcengine.map(add, [1]).status().tags == "site==lab"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retries": -1}, dcengine.InvalidOption),
        ({"retries": "many"}, dcengine.InvalidOption),
        ({"timeout": "soon"}, dcengine.InvalidOption),
        ({"tags": "gpu >>= 3"}, dcengine.InvalidTags),
        ({"retires": 1}, TypeError),
        ({"key": "one for all calls"}, TypeError),
    ],
)
def test_wrong_options_are_refused_where_they_are_given(
    engine: str, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        dcengine.function(**options)
    with pytest.raises(error):
        dcengine.Executor(**options)
    with pytest.raises(error):
        dcengine.map(double, [1], **options)


def test_an_async_function_is_run_to_its_end_on_the_worker(engine: str) -> None:
    assert add_later.submit(1, 2).result(30) == 3
    assert asyncio.run(add_later(1, 2)) == 3


def test_a_decorated_method_travels_with_its_object(engine: str) -> None:
    account = Account(100)

    assert account.after(1) == 101
    assert account.after.submit(1).result(30) == 101
    assert account.after.map([1, 2]).results(30) == [101, 102]
    assert account.after.submit(1).status().priority == 3


def test_decorated_functions_call_each_other_where_they_run(engine: str) -> None:
    @dcengine.function
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + add(fibonacci(n - 2))

    assert fibonacci.submit(10).result(30) == 55


def test_a_decorated_function_is_pickled_as_what_its_module_calls_it(engine: str) -> None:
    assert pickle.loads(pickle.dumps(add)) is add
    assert pickle.loads(pickle.dumps(Account.after)) is Account.after
    assert dcengine.submit(lambda: add).result(30).submit(1, 2).result(30) == 3


# ---- the page ------------------------------------------------------------------------------


def test_the_page_of_functions_does_what_it_says(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", "\n".join(samples), re.MULTILINE)

    script = tmp_path / "page.py"
    script.write_text("\n".join(samples))
    runpy.run_path(str(script), run_name="__main__")

    assert len(samples) == 5
    assert capsys.readouterr().out.splitlines() == expected
