"""`dcengine.Executor` is an executor as `concurrent.futures` describes one, with jobs behind it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dcengine
from tests.calls import hold, refuse_odd
from tests.engines import embedded, eventually


def add(a: int, b: int = 0) -> int:
    return a + b


class Unloadable:
    """Cannot be made again where its pickle arrives."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


@pytest.fixture
def executor(engine: str) -> Iterator[dcengine.Executor]:
    with dcengine.Executor() as executor:
        yield executor


@pytest.fixture
def gate(engine: str, tmp_path: Path) -> Iterator[Path]:
    """A file that jobs wait for; it is there at the end, so that none of them stays."""
    path = tmp_path / "go"
    yield path
    path.touch()


def held(executor: dcengine.Executor, gate: Path, value: int = 0) -> dcengine.JobFuture[int]:
    """Submit a job that waits for *gate*, a function of its own: nothing is sent behind one whose pace is not known."""
    return executor.submit(lambda: hold(str(gate), value))


# ---- submit --------------------------------------------------------------------------------


def test_a_future_ends_with_the_result_or_the_error_of_its_call(executor: dcengine.Executor) -> None:
    good, bad = executor.submit(add, 1, b=2), executor.submit(refuse_odd, 3)

    assert isinstance(good, concurrent.futures.Future)
    assert good.result(30) == 3
    assert (good.done(), good.running(), good.cancelled(), good.exception()) == (True, False, False, None)
    with pytest.raises(ValueError, match="3"):
        bad.result(30)
    assert "refuse_odd" in str(bad.exception().__cause__)  # type: ignore[union-attr]


def test_a_future_knows_its_job(executor: dcengine.Executor) -> None:
    future = executor.submit(add, 20, 22)

    assert dcengine.job(future.job.id).result(30) == 42
    assert future.job.status().name.endswith("add")


def test_the_module_concurrent_futures_waits_for_them(executor: dcengine.Executor, gate: Path) -> None:
    waiting, quick = held(executor, gate, 7), [executor.submit(add, n) for n in range(5)]

    assert {future.result() for future in concurrent.futures.as_completed(quick, 30)} == set(range(5))
    done, not_done = concurrent.futures.wait([waiting, quick[0]], 30, concurrent.futures.FIRST_COMPLETED)
    assert (done, not_done) == ({quick[0]}, {waiting})
    with pytest.raises(concurrent.futures.TimeoutError):
        waiting.result(0.1)
    gate.touch()
    assert concurrent.futures.wait([waiting], 30).not_done == set()
    assert waiting.result() == 7


def test_asyncio_runs_functions_in_it(executor: dcengine.Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        wrapped = asyncio.wrap_future(executor.submit(add, 100))
        return [*await asyncio.gather(*(loop.run_in_executor(executor, add, n) for n in range(20))), await wrapped]

    assert asyncio.run(main()) == [*range(20), 100]


def test_callbacks_are_called_on_a_thread_that_may_block(executor: dcengine.Executor) -> None:
    told: list[tuple[int, int]] = []

    def ask_for_more(future: concurrent.futures.Future[int]) -> None:
        told.append((future.result(), dcengine.submit(add, future.result(), 1).result(30)))

    executor.submit(add, 1).add_done_callback(ask_for_more)

    eventually(lambda: told)
    assert told == [(1, 2)]


def test_a_broken_callback_harms_nobody(executor: dcengine.Executor) -> None:
    executor.submit(add, 1).add_done_callback(lambda future: 1 // 0)

    assert executor.submit(add, 2).result(30) == 2


def test_what_cannot_be_submitted_is_told_by_the_future(executor: dcengine.Executor) -> None:
    future = executor.submit(add, threading.Lock())  # type: ignore[arg-type]

    with pytest.raises(dcengine.NotPicklable, match="lock"):
        future.result(30)
    with pytest.raises(dcengine.NotPicklable):
        _ = future.job
    assert not future.cancel()
    assert not future.running()


def test_a_result_that_cannot_be_made_again_here_is_an_error_of_that_future(executor: dcengine.Executor) -> None:
    with pytest.raises(ValueError, match="not a number"):
        executor.submit(Unloadable).result(30)
    assert executor.submit(add, 1).result(30) == 1


def test_its_options_are_those_of_every_call(engine: str) -> None:
    with dcengine.Executor(tags="site==lab", priority=4) as executor:
        future = executor.submit(add, 1, b=1)
        executor.submit(add, 2).result(30)
        assert list(executor.map(add, [1, 2])) == [1, 2]

    assert future.job.status().tags == "site==lab"
    assert future.job.status().worker == "w2"
    assert future.job.status().priority == 4


def test_it_warns_when_no_worker_has_the_tags(engine: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dcengine.Executor(tags="tpu") as executor:
            future = executor.submit(add, 1)
            eventually(lambda: any("tpu" in str(warning.message) for warning in caught))
            assert future.cancel()


def test_many_submits_start_one_thread_and_keep_their_order_of_results(executor: dcengine.Executor) -> None:
    before = threading.active_count()
    futures = [executor.submit(add, n) for n in range(300)]

    assert threading.active_count() <= before + 2  # that of the executor, and perhaps one that connects to the engine
    assert [future.result(60) for future in futures] == list(range(300))


# ---- running and cancelled -----------------------------------------------------------------


def test_a_future_is_running_while_a_worker_has_its_job_and_cannot_be_cancelled_then(
    executor: dcengine.Executor, gate: Path
) -> None:
    future = held(executor, gate, 5)

    eventually(future.running)
    assert not future.cancel()
    assert not future.cancelled()
    gate.touch()
    assert future.result(30) == 5
    assert not future.cancel()


def test_a_future_whose_job_waits_can_be_cancelled(engine: str) -> None:
    with warnings.catch_warnings(), dcengine.Executor(tags="tpu") as executor:
        warnings.simplefilter("ignore")
        future, told = executor.submit(add, 1), []
        future.add_done_callback(told.append)

        assert future.cancel()
        assert future.cancel()

        assert (future.cancelled(), future.done(), future.running(), told) == (True, True, False, [future])
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(30)
        assert concurrent.futures.wait([future], 30).done == {future}
        eventually(lambda: future.job.status().state == "cancelled")


def test_a_job_that_is_cancelled_elsewhere_cancels_its_future(interruptible: str, gate: Path) -> None:
    with dcengine.Executor() as executor:
        future = held(executor, gate)
        eventually(future.running)

        future.job.cancel()

        with pytest.raises(concurrent.futures.CancelledError):
            future.result(30)
        assert future.cancelled()


# ---- map -----------------------------------------------------------------------------------


def test_map_gives_the_results_in_order_as_one_batch(executor: dcengine.Executor) -> None:
    assert list(executor.map(add, range(100), range(100), chunksize=7)) == list(range(0, 200, 2))
    assert list(executor.map(add, [])) == []


def test_map_is_lazy_in_results_and_stored_at_once(executor: dcengine.Executor, gate: Path) -> None:
    results = executor.map(lambda n: hold(str(gate), n) if n else n, range(2))

    assert next(results) == 0
    gate.touch()
    assert next(results) == 1


def test_map_raises_the_first_error_and_ends(executor: dcengine.Executor) -> None:
    results = executor.map(refuse_odd, range(4))

    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_waits_no_longer_than_asked_and_cancels_the_rest(interruptible: str, gate: Path) -> None:
    with dcengine.Executor() as executor:
        results = executor.map(lambda n: hold(str(gate), n), range(4), timeout=0.2)
        (batch,) = executor._batches

        with pytest.raises(TimeoutError):
            next(results)
        assert eventually(lambda: batch.status().is_final and batch.status().state) == "cancelled"


def test_map_cancels_the_rest_when_nobody_goes_on_with_the_results(interruptible: str, gate: Path) -> None:
    with dcengine.Executor() as executor:
        results = executor.map(lambda n: hold(str(gate), n) if n else n, range(4))
        (batch,) = executor._batches
        assert next(results) == 0
        del results

        assert eventually(lambda: batch.status().is_final and batch.status().state) == "cancelled"


def test_a_chunksize_below_one_is_refused(executor: dcengine.Executor) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(add, [1], chunksize=0)


# ---- shutdown ------------------------------------------------------------------------------


def test_an_executor_that_is_shut_down_takes_no_calls(engine: str) -> None:
    executor = dcengine.Executor()
    executor.shutdown()

    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(add, 1)
    with pytest.raises(dcengine.ExecutorShut):
        executor.map(add, [1])


def test_leaving_the_block_waits_for_all_calls(engine: str) -> None:
    with dcengine.Executor() as executor:
        futures, results = [executor.submit(add, n) for n in range(30)], executor.map(add, range(10))

    assert all(future.done() for future in futures)
    assert list(results) == list(range(10))


def test_shutdown_without_waiting_leaves_the_calls_to_themselves(engine: str, gate: Path) -> None:
    executor = dcengine.Executor()
    future = held(executor, gate, 3)
    executor.shutdown(wait=False)

    assert not future.done()
    gate.touch()
    assert future.result(30) == 3


def test_shutdown_cancels_what_waits_and_lets_what_runs_end(engine: str, gate: Path) -> None:
    executor = dcengine.Executor()
    running = [held(executor, gate, n) for n in range(2)]
    eventually(lambda: all(future.running() for future in running))
    waiting = [held(executor, gate, n) for n in range(20)]

    executor.shutdown(wait=False, cancel_futures=True)

    assert all(future.cancelled() for future in waiting)
    gate.touch()
    assert [future.result(30) for future in running] == [0, 1]
    executor.shutdown()


def test_an_executor_that_nobody_holds_ends_its_thread_and_its_futures_end(engine: str) -> None:
    future = dcengine.Executor().submit(add, 1)

    assert future.result(30) == 1
    eventually(lambda: not any(thread.name == "dcengine-executor" for thread in threading.enumerate()))


def test_an_engine_that_closes_under_it_ends_its_futures_with_an_error_of_ours(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", processes=False, workers=0) as engine:
        executor = dcengine.Executor(engine)
        futures = [executor.submit(add, n) for n in range(3)]
        assert not any(future.running() for future in futures)
        ids = [future.job.id for future in futures]

    for future in futures:
        with pytest.raises(dcengine.EngineClosed):
            future.result(30)
    executor.shutdown()
    with embedded(tmp_path / "work.db", processes=False):
        assert dcengine.gather([dcengine.job(id) for id in ids], timeout=30) == [0, 1, 2]
