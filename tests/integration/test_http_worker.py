"""`dcengine.Worker` against a real engine over HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.worker import asking
from tests.engines import embedded, eventually
from tests.outside import counts, project
from tests.unit.losing import losing_answers, slow_at_first


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("outside") / "x.db", workers=0, processes=False) as opened:
        yield opened


def worker(engine: dcengine.Engine, made: dcengine.Project, **options: Any) -> dcengine.Worker:
    return dcengine.Worker(engine.url, project=made.name, stage="a", **{"idle_exit": 0.2, **options})


# ---- the loop ------------------------------------------------------------------------------


def test_a_loop_does_the_tasks_of_a_stage(engine: dcengine.Engine) -> None:
    made = project([{"n": n, "name": "caf\udce9"} for n in range(5)])

    for task in worker(engine, made):
        task.progress(0.5, "half")
        task.complete({"twice": 2 * task.input["n"], "name": task.input["name"]})

    assert made.results() == [{"twice": 2 * n, "name": "caf\udce9"} for n in range(5)]


def test_a_task_says_what_it_is(engine: dcengine.Engine) -> None:
    made = project([[1, 2]])
    made.status()

    for task in worker(engine, made):
        facts = task.raw, task.number, task.generation, task.attempt, made.job(1).id == task.job, task.is_cancelled
        task.complete(raw="[3 , 4]")

    assert facts == ("[1,2]", 1, 0, 1, True, False)
    assert made.results() == [[3, 4]]


def test_no_more_than_batch_and_prefetch_are_held(engine: dcengine.Engine) -> None:
    made = project(range(30))
    held = []

    for task in worker(engine, made, batch=4, prefetch=3):
        time.sleep(0.005)
        held.append(counts(made).get("leased", 0))
        task.complete()

    assert max(held) <= 4 + 3
    assert max(held) > 4
    assert counts(made) == {"succeeded": 30}


def test_tasks_that_are_kept_count_among_those_that_are_held(engine: dcengine.Engine) -> None:
    made = project(range(9))

    with worker(engine, made, batch=2, prefetch=1) as keeping, ThreadPoolExecutor(1) as pool:
        tasks = [keeping.next() for _ in range(3)]
        fourth = pool.submit(keeping.next)
        with pytest.raises(FutureTimeout):
            fourth.result(0.3)
        held = counts(made)["leased"]
        tasks[0].complete()  # type: ignore[union-attr]
        assert fourth.result(20) is not None

    assert held == 3
    assert counts(made) == {"queued": 8, "succeeded": 1}


def test_the_next_task_is_there_when_one_ends(engine: dcengine.Engine) -> None:
    made = project(range(4))

    for task in worker(engine, made, prefetch=1, limit=2):
        if task.input == 0:
            eventually(lambda: counts(made).get("leased") == 2)
        task.complete()

    assert counts(made) == {"queued": 2, "succeeded": 2}


def test_without_prefetch_one_at_a_time_is_held(engine: dcengine.Engine) -> None:
    made = project(range(6))
    held = []

    for task in worker(engine, made):
        held.append(counts(made)["leased"])
        task.complete()

    assert held == [1] * 6


def test_a_limit_ends_the_loop(engine: dcengine.Engine) -> None:
    made = project(range(6))

    done = [task.complete() for task in worker(engine, made, batch=4, prefetch=4, limit=3)]

    assert len(done) == 3
    assert counts(made) == {"queued": 3, "succeeded": 3}


def test_credit_is_the_nicknames(engine: dcengine.Engine) -> None:
    made = project(range(3), credit="unit")

    for task in worker(engine, made, nickname="Cluster 2"):
        task.complete(units=10)

    assert [(row.nickname, row.tasks) for row in made.leaderboard()] == [("Cluster 2", 30)]


# ---- other ends ----------------------------------------------------------------------------


def test_a_flag_says_that_the_input_is_bad(engine: dcengine.Engine) -> None:
    made = project([1], votes=1)

    for task in worker(engine, made):
        task.flag("404")

    assert "404" in made.failed()[0].reason


def test_a_failure_carries_its_reason(engine: dcengine.Engine) -> None:
    made = project([1])

    for task in worker(engine, made):
        task.fail("no room " + "x" * 5000)

    reason = made.failed()[0].reason
    assert "no room" in reason


def test_an_exception_inside_a_task_fails_it_and_the_loop_goes_on(engine: dcengine.Engine) -> None:
    made = project([0, 1, 2], votes=1)

    for task in worker(engine, made):
        with task:
            if task.input == 2:
                raise dcengine.InvalidInput("two is bad")
            task.complete(1 / task.input)

    assert made.job(2).result() == 1.0
    reasons = {failed.number: failed.reason for failed in made.failed()}
    assert "ZeroDivisionError: division by zero" in reasons[1]
    assert "two is bad" in reasons[3]


def test_an_interrupt_inside_a_task_puts_it_back(engine: dcengine.Engine) -> None:
    made = project([0, 1])

    def work() -> None:
        for task in worker(engine, made, batch=2):
            with task:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert counts(made) == {"queued": 2}


def test_a_loop_that_breaks_off_hands_in_what_was_done_and_back_what_was_not(engine: dcengine.Engine) -> None:
    made = project(range(10))

    def work() -> None:
        for task in worker(engine, made, batch=4, prefetch=4):
            task.complete(1 / (2 - task.input))

    with pytest.raises(ZeroDivisionError):
        work()
    assert counts(made) == {"queued": 8, "succeeded": 2}
    assert made.job(3).status().errors == 0


def test_a_task_without_a_word_is_put_back(engine: dcengine.Engine, caplog: pytest.LogCaptureFixture) -> None:
    made = project([0])
    attempts = []

    for task in worker(engine, made, idle_exit=20, limit=3):
        attempts.append(task.attempt)
        if task.attempt == 3:
            task.complete()

    assert attempts == [1, 2, 3]
    assert f"task {made.name}/1 was neither completed, failed, flagged nor released" in caplog.text


def test_a_task_that_is_kept_may_end_after_the_loop_has_gone_on(engine: dcengine.Engine) -> None:
    made = project(range(20))
    all_there = threading.Barrier(4, timeout=20)

    def work(task: Any) -> None:
        all_there.wait()
        task.complete(task.input)

    with ThreadPoolExecutor(4) as pool:
        for task in worker(engine, made, concurrency=4):
            task.keep()
            pool.submit(work, task)

    assert made.results() == list(range(20))


def test_a_function_is_run_in_threads(engine: dcengine.Engine) -> None:
    made = project(range(12), votes=1)
    all_there = threading.Barrier(3, timeout=20)

    def work(task: Any) -> object:
        all_there.wait()
        if task.input == 5:
            raise dcengine.InvalidInput("five")
        return task.input + 100

    worker(engine, made).run(work, concurrency=3)

    assert [job.result() for job in map(made.job, (1, 2, 12))] == [100, 101, 111]
    assert counts(made) == {"failed": 1, "succeeded": 11}


def test_what_stops_a_function_that_is_run_is_raised(engine: dcengine.Engine) -> None:
    made = project(range(5))

    def work(task: Any) -> object:
        raise SystemExit("enough")

    with pytest.raises(SystemExit):
        worker(engine, made).run(work, concurrency=2)
    assert counts(made) == {"queued": 5}


def test_a_worker_told_to_stop_ends_its_loop_after_the_task(engine: dcengine.Engine) -> None:
    made = project(range(5))

    with worker(engine, made, batch=3) as stopped:
        for task in stopped:
            stopped.stop()
            eventually(lambda: counts(made).get("queued") == 4)
            task.complete()

    assert counts(made) == {"queued": 4, "succeeded": 1}


def test_a_worker_that_is_entered_may_loop_again(engine: dcengine.Engine) -> None:
    made = project(range(4))

    with worker(engine, made, batch=2) as again:
        for _ in range(4):
            for task in again:
                task.complete(again.name)
                break

    assert len(set(made.results())) == 1


# ---- whose worker it is --------------------------------------------------------------------


def test_a_volunteer_needs_no_token_and_holds_what_it_may(engine: dcengine.Engine) -> None:
    made = project(range(8), is_open=True, lease_seconds=1)
    url, _, _ = engine.url.partition("?")
    held = []

    for task in dcengine.Worker(url, project=made.name, stage="a", nickname="vera", batch=6, prefetch=6, idle_exit=0.2):
        held.append(counts(made)["leased"])
        task.complete()

    assert held[0] <= 4
    assert [(row.nickname, row.tasks) for row in made.leaderboard()] == [("vera", 8)]


def test_the_nickname_and_the_token_may_stand_in_the_address(engine: dcengine.Engine) -> None:
    made = project(range(1))
    url = engine.url.partition("/?")[0].replace("http://", f"http://alice:{engine.token}@")

    for task in dcengine.Worker(url, project=made.name, stage="a", idle_exit=0.2):
        task.complete()

    assert [row.nickname for row in made.leaderboard()] == ["alice"]


# ---- what the engine refuses ---------------------------------------------------------------


def test_a_cancelled_task_says_so_and_what_is_said_of_it_breaks_nothing(engine: dcengine.Engine) -> None:
    made = project([0, 1], lease_seconds=1)
    accepted = []

    for task in worker(engine, made):
        if task.input == 0:
            made.job(1).cancel()
            eventually(lambda task=task: task.is_cancelled)
        task.complete()
        accepted.append((task.accepted(), task.is_lost))

    assert accepted == [(False, True), (True, False)]


def test_an_output_that_is_not_taken_fails_its_task_and_spoils_no_other(engine: dcengine.Engine) -> None:
    made = project(range(3), credit="unit", lease_seconds=600)

    with worker(engine, made, batch=3) as refused:
        for task in refused:
            task.complete(task.input, units=-1 if task.input == 1 else 1)

    assert counts(made) == {"failed": 1, "succeeded": 2}
    assert "its output was not taken: units" in made.failed()[0].reason


def test_a_value_that_is_no_json_is_refused_where_it_is_given(engine: dcengine.Engine) -> None:
    made = project([0])

    for task in worker(engine, made):
        with pytest.raises(dcengine.NotJson, match=f"the output of {made.name}/1"):
            task.complete({1, 2})
        with pytest.raises(dcengine.InvalidOption, match="raw"):
            task.complete(raw="[1")
        task.complete("fine")

    assert made.results() == ["fine"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"token": "wrong"}, dcengine.AccessDenied),
        ({"stage": "b"}, dcengine.NotFound),
        ({"project": "nobody"}, dcengine.NotFound),
    ],
)
def test_what_waiting_does_not_change_is_raised_at_once(
    engine: dcengine.Engine, options: dict[str, Any], error: type[Exception]
) -> None:
    made = project([0])

    with pytest.raises(error):
        next(iter(dcengine.Worker(engine.url, **{"project": made.name, "stage": "a", **options})))


def test_tags_that_do_not_fit_are_named(engine: dcengine.Engine) -> None:
    made = project([0], tags="gpu.memory>=16GiB")

    with pytest.raises(dcengine.InvalidOption, match=r"gpu\.memory"):
        next(iter(worker(engine, made, tags="gpu.memory=8GiB")))
    for task in worker(engine, made, tags={"gpu.memory": "24GiB"}):
        task.complete()

    assert counts(made) == {"succeeded": 1}


def test_an_engine_that_never_answered_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PATIENCE", 0.3)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"

        with pytest.raises(dcengine.EngineUnreachable, match=url):
            next(iter(dcengine.Worker(url, project="laion", stage="a")))


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"batch": 1001}, {"prefetch": -1}, {"limit": 0}, {"wait": "soon"}, {"name": "x" * 201}]
)
def test_options_that_cannot_be_are_refused_before_anything_is_asked(options: dict[str, Any]) -> None:
    with pytest.raises(dcengine.InvalidOption, match=next(iter(options))):
        dcengine.Worker("http://127.0.0.1:1", project="laion", stage="a", **options)


def test_a_misspelt_option_is_named() -> None:
    with pytest.raises(TypeError, match="did you mean 'prefetch'"):
        dcengine.Worker("http://127.0.0.1:1", project="laion", stage="a", prefech=1)  # type: ignore[call-arg]


# ---- over a bad line -----------------------------------------------------------------------


async def test_the_first_answer_is_waited_for_though_it_takes_longer_than_a_worker_may_idle(
    engine: dcengine.Engine,
) -> None:
    made = project(range(3), votes=1)

    def work(url: str) -> None:
        for task in dcengine.Worker(url, project=made.name, stage="a", token=engine.token, idle_exit=0.1):
            task.complete()

    async with slow_at_first(engine.app, 0.5) as url:
        await asyncio.to_thread(work, url)

    assert counts(made) == {"succeeded": 3}


async def test_answers_that_are_lost_cost_no_task(engine: dcengine.Engine) -> None:
    made = project(range(6), votes=1)
    attempts = []

    def work(url: str) -> None:
        options = {"project": made.name, "stage": "a", "token": engine.token, "batch": 2, "idle_exit": 1.0}
        for task in dcengine.Worker(url, **options):  # type: ignore[arg-type]
            attempts.append(task.attempt)
            (task.complete, task.flag, task.release)[task.input % 3 if task.attempt == 1 else 0]()

    async with losing_answers(engine.app) as (url, lost):
        await asyncio.to_thread(work, url)

    assert {line.rpartition("/")[2] for line in lost} >= {"lease", "complete", "flag", "release"}
    assert sorted(attempts) == [1, 1, 1, 1, 1, 1, 2, 2]
    assert counts(made) == {"failed": 2, "succeeded": 4}


def test_a_worker_outlives_its_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    attempts, is_down, is_up = [], threading.Event(), threading.Event()

    def work(url: str, name: str) -> None:
        for task in dcengine.Worker(url, project=name, stage="a", batch=2, prefetch=2, limit=6):
            if task.input == 1:
                is_down.wait(20)
            attempts.append(task.attempt)
            task.complete(task.input)
        is_up.wait(20)

    with embedded(tmp_path / "x.db", workers=0, processes=False, port=port) as first:
        made = project(range(6))
        thread = threading.Thread(target=work, args=(first.url, made.name))
        thread.start()
        eventually(lambda: counts(made).get("succeeded") == 1)
    is_down.set()
    eventually(lambda: len(attempts) >= 2)
    with embedded(tmp_path / "x.db", workers=0, processes=False, port=port):
        is_up.set()
        thread.join(20)

        assert dcengine.Project(made.name).results() == list(range(6))
        assert attempts == [1] * 6
        assert "answers again" in caplog.text


# ---- the same in a coroutine ---------------------------------------------------------------


async def test_a_coroutine_does_the_tasks_of_a_stage(engine: dcengine.Engine) -> None:
    made = await asyncio.to_thread(project, range(5), votes=1)

    async for task in dcengine.AsyncWorker(
        engine.url, project=made.name, stage="a", batch=2, prefetch=1, idle_exit=0.2
    ):
        async with task:
            if task.input == 3:
                raise dcengine.InvalidInput("three")
            await task.progress(1, "one", total=3)
            await task.complete(task.input + 1)

    assert await asyncio.to_thread(made.outputs, "a") == {1: 1, 2: 2, 3: 3, 5: 5}


async def test_several_may_ask_for_the_next_task(engine: dcengine.Engine) -> None:
    made = await asyncio.to_thread(project, range(9))
    held = []

    async def work(lane: dcengine.AsyncWorker) -> None:
        while (task := await lane.next()) is not None:
            held.append((await asyncio.to_thread(counts, made)).get("leased", 0))
            await task.complete()

    async with dcengine.AsyncWorker(engine.url, project=made.name, stage="a", concurrency=3, limit=9) as lanes:
        await asyncio.gather(*(work(lanes) for _ in range(3)))

    assert await asyncio.to_thread(counts, made) == {"succeeded": 9}
    assert max(held) <= 3


async def test_a_coroutine_that_is_cancelled_puts_back_what_it_holds(engine: dcengine.Engine) -> None:
    made = await asyncio.to_thread(project, range(5))
    has_begun = asyncio.Event()

    async def work() -> None:
        async with dcengine.AsyncWorker(engine.url, project=made.name, stage="a", batch=3) as lanes:
            async for _ in lanes:
                has_begun.set()
                await asyncio.sleep(60)

    working = asyncio.ensure_future(work())
    await has_begun.wait()
    working.cancel()
    await asyncio.wait({working})

    assert await asyncio.to_thread(counts, made) == {"queued": 5}


async def test_a_request_that_was_cut_short_leaves_no_task_leased(engine: dcengine.Engine) -> None:
    made = await asyncio.to_thread(project, range(0))
    lanes = dcengine.AsyncWorker(engine.url, project=made.name, stage="a")
    waiting = asyncio.ensure_future(lanes.next())
    await asyncio.sleep(0.2)
    made.add([1])
    made.run()
    waiting.cancel()
    await lanes.close()

    await asyncio.to_thread(eventually, lambda: counts(made) == {"queued": 1})


async def test_a_worker_that_was_told_to_stop_hands_back_what_was_on_its_way(engine: dcengine.Engine) -> None:
    made = await asyncio.to_thread(project, range(0))
    stage = engine._engine._stages.of(made.name)[0].id
    lanes = dcengine.AsyncWorker(engine.url, project=made.name, stage="a")
    waiting = asyncio.ensure_future(lanes.next())
    while ("stage", stage) not in engine._engine._bus._listeners:  # its request waits for tasks
        await asyncio.sleep(0.01)
    lanes.stop()
    assert await waiting is None
    await asyncio.to_thread(made.add, [1])

    def was_handed_back() -> bool:
        return dcengine.job(made.job(1).id).status().attempt == 1 and counts(made) == {"queued": 1}

    await asyncio.to_thread(eventually, was_handed_back)
    await lanes.close()


def test_progress_is_seen_while_the_task_is_held(engine: dcengine.Engine) -> None:
    made = project([0])

    for task in worker(engine, made):
        task.progress(3, "page 3\udce9", total=10)
        task.progress(4, "page 4", total=10)
        seen = eventually(lambda: dcengine.job(made.job(1).id).status().progress)
        task.complete()

    assert seen == dcengine.Progress(4.0, 10.0, "page 4")
