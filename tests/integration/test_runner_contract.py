"""What every slot does, whether it runs calls in a child process or in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

import dcengine
from dcengine.codec import dumps, json_text, loads, pack, pack_json, unpack
from dcengine.errors import (
    ClusterFailed,
    InvalidInput,
    MissingPackage,
    NothingExpanded,
    NotIterable,
    NotJson,
    NotPicklable,
    RemoteError,
    TaskTimeout,
    TooManyParts,
)
from dcengine.runner.code_cache import UnknownCode
from dcengine.runner.units import Ending, UnitReport
from tests.integration.slots import (
    AnySlot,
    Ear,
    child_slot,
    endings,
    error,
    failure,
    marked,
    numbered,
    results,
    stage_unit,
    thread_slot,
    unit,
    until,
)

SUBJECTS: dict[str, Callable[..., AbstractAsyncContextManager[AnySlot]]] = {"child": child_slot, "thread": thread_slot}


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture(params=SUBJECTS)
async def slot(request: pytest.FixtureRequest, ear: Ear) -> AsyncIterator[AnySlot]:
    async with SUBJECTS[request.param](ear) as subject:
        yield subject


def square(number: int) -> int:
    return number * number


# ---- results -------------------------------------------------------------------------------


async def test_results_come_back_in_order(slot: AnySlot) -> None:
    report = await slot.run(unit(square, *[(n,) for n in range(2000)]))

    assert results(report) == [n * n for n in range(2000)]
    assert report.seconds > 0


async def test_large_arguments_and_results_come_back_whole(slot: AnySlot) -> None:
    def doubled(data: bytes) -> bytes:
        return data + data

    sizes = [10, 300_000, 0, 5_000_000, 65_536, 1]
    report = await slot.run(unit(doubled, *[(b"x" * size,) for size in sizes]))

    assert [len(result) for result in results(report)] == [2 * size for size in sizes]


async def test_a_coroutine_function_is_run_to_its_end(slot: AnySlot) -> None:
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    class Adder:
        async def __call__(self, number: int) -> int:
            return await later(number)

    assert results(await slot.run(unit(later, (1,), (2,)))) == [2, 3]
    assert results(await slot.run(unit(Adder(), (3,)))) == [4]


async def test_code_travels_once(slot: AnySlot) -> None:
    complete = unit(square, (3,))
    stripped = msgspec.structs.replace(complete, code=None)

    with pytest.raises(UnknownCode) as caught:
        await slot.run(stripped)
    await slot.run(complete)

    assert caught.value.digest == complete.function
    assert results(await slot.run(stripped)) == [9]


# ---- failures ------------------------------------------------------------------------------


async def test_an_exception_comes_back_as_itself_with_the_remote_traceback(slot: AnySlot) -> None:
    def divide_by(number: int) -> float:
        return 1 / number

    report = await slot.run(unit(divide_by, (1,), (0,), (2,)))
    raised = error(report, 1)

    assert endings(report) == [Ending.SUCCEEDED, Ending.RAISED, Ending.SUCCEEDED]
    assert isinstance(raised, ZeroDivisionError)
    assert "return 1 / number" in str(raised.__cause__)
    assert "dcengine/runner" not in str(raised.__cause__)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
async def test_no_exception_is_too_base_to_be_an_ordinary_failure(slot: AnySlot, kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind("enough")

    report = await slot.run(unit(leave, (), ()))

    assert endings(report) == [Ending.RAISED, Ending.RAISED]
    assert type(error(report)) is kind
    assert results(await slot.run(unit(square, (2,)))) == [4]


async def test_an_exception_that_cannot_be_rebuilt_keeps_its_name_and_message(slot: AnySlot) -> None:
    class Stubborn(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fail() -> None:
        raise Stubborn(1, 2)

    raised = error(await slot.run(unit(fail)))

    assert isinstance(raised, RemoteError)
    assert "Stubborn" in raised.kind
    assert raised.message == "1 and 2"
    assert "raise Stubborn(1, 2)" in str(raised.__cause__)


async def test_an_exception_that_breaks_when_looked_at_is_a_failure_too(slot: AnySlot) -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise SystemExit("no")

    def fail() -> None:
        raise Nasty

    report = await slot.run(unit(fail, (), ()))

    assert endings(report) == [Ending.RAISED, Ending.RAISED]
    assert "Nasty" in failure(report).kind


async def test_a_result_that_cannot_travel_is_named(slot: AnySlot) -> None:
    def lock() -> Any:
        return threading.Lock()

    raised = error(await slot.run(unit(lock)))

    assert isinstance(raised, NotPicklable)
    assert raised.what.startswith("the result of ")
    assert "lock" in raised.what


async def test_a_module_that_the_worker_lacks_is_named_with_worker_and_function(slot: AnySlot) -> None:
    def ask_it() -> None:
        import a_module_nobody_has

        a_module_nobody_has.ask()

    raised = error(await slot.run(unit(ask_it)))

    assert isinstance(raised, MissingPackage)
    assert (raised.module, raised.worker) == ("a_module_nobody_has", "w1")
    assert "ask_it" in raised.needed_by


async def test_code_that_does_not_load_fails_every_call(slot: AnySlot) -> None:
    class Reference:
        def __reduce__(self) -> Any:
            return __import__, ("another_module_nobody_has",)

    def use(what: object) -> object:
        return what

    in_arguments = await slot.run(unit(use, (Reference(),), (1,)))
    reference = Reference()
    in_function = await slot.run(unit(lambda: reference, (), ()))

    assert endings(in_arguments) == [Ending.RAISED, Ending.SUCCEEDED]
    assert isinstance(error(in_arguments), MissingPackage)
    assert endings(in_function) == [Ending.RAISED, Ending.RAISED]
    assert isinstance(error(in_function, 1), MissingPackage)


async def test_a_call_that_outlasts_its_timeout_is_timed_out_and_only_that_call(slot: AnySlot) -> None:
    def nap(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    report = await slot.run(unit(nap, (0,), (0.6,), (0,), timeout=0.3))

    assert endings(report) == [Ending.SUCCEEDED, Ending.TIMED_OUT, Ending.SUCCEEDED]
    assert isinstance(error(report, 1), TaskTimeout)
    assert "0.3 s" in str(error(report, 1))


async def test_code_that_does_not_load_is_tried_once_for_all_calls(slot: AnySlot, tmp_path: Any) -> None:
    tries = tmp_path / "tries"

    class Broken:
        def __reduce__(self) -> Any:
            return exec, (f"open({str(tries)!r}, 'a').write('x')\nraise OSError('not today')",)

    broken = Broken()
    report = await slot.run(unit(lambda: broken, (), (), ()))

    assert endings(report) == [Ending.RAISED] * 3
    assert isinstance(error(report, 2), OSError)
    assert tries.read_text() == "x"


# ---- stages --------------------------------------------------------------------------------


def parts(report: UnitReport) -> list[bytes]:
    """Return the packed parts of the only call of *report*."""
    assert endings(report) == [Ending.SUCCEEDED], failure(report)
    (frame,) = unpack(report.values)
    return unpack(frame)


async def test_a_stage_gets_one_value_however_it_is_packed(slot: AnySlot) -> None:
    given = [(1, 2), {"a": "ä"}]
    report = await slot.run(stage_unit(lambda value: value, dumps(given[0]), pack_json(given[1], what="x")))

    assert results(report) == given


async def test_a_gather_gets_the_list_of_its_parts(slot: AnySlot) -> None:
    frame = pack([dumps(1), pack_json(2, what="x"), dumps((3,))])
    report = await slot.run(stage_unit(lambda parts: (type(parts), parts), frame, pack([]), takes="parts"))

    assert results(report) == [(list, [1, 2, (3,)]), (list, [])]


async def test_what_a_lease_stage_gets_is_json(slot: AnySlot) -> None:
    def describe(number: int) -> dict[str, int]:
        return {"square": number * number}

    report = await slot.run(stage_unit(describe, dumps(3), gives="json"))

    assert [json_text(value) for value in unpack(report.values)] == [b'{"square":9}']


async def test_a_result_that_no_outside_worker_could_read_is_named(slot: AnySlot) -> None:
    def load(number: int) -> Any:
        return {"data": bytes(number)}

    of_value = error(await slot.run(stage_unit(load, dumps(3), gives="json")))
    of_part = error(await slot.run(stage_unit(lambda n: ["good", load(n)], dumps(3), gives="json parts")))

    assert isinstance(of_value, NotJson)
    assert (of_value.kind, "bytes" in of_value.reason) == ("dict", True)
    assert of_value.what.endswith("load")
    assert isinstance(of_part, NotJson)
    assert of_part.what.startswith("item 2 of what ")


async def test_an_expand_gives_each_item_by_itself(slot: AnySlot) -> None:
    def yielded(count: int) -> Any:
        yield from ((n, n * n) for n in range(count))

    async def awaited(count: int) -> Any:
        for number in range(count):
            await asyncio.sleep(0)
            yield number, number * number

    functions: list[Callable[[int], Any]] = [yielded, awaited, lambda count: [(n, n * n) for n in range(count)]]
    for function in functions:
        report = await slot.run(stage_unit(function, dumps(300), gives="parts"))
        assert [loads(part) for part in parts(report)] == [(n, n * n) for n in range(300)]

    report = await slot.run(stage_unit(yielded, dumps(2), gives="json parts"))
    assert [json_text(part) for part in parts(report)] == [b"[0,0]", b"[1,1]"]


async def test_an_expand_runs_while_it_is_iterated(slot: AnySlot, ear: Ear, tmp_path: Any) -> None:
    go_on = tmp_path / "go on"

    def speaking(value: object) -> Any:
        import os
        import time

        print("listen")
        yield value
        while not os.path.exists(go_on):
            time.sleep(0.005)
        print("thank you")

    running = asyncio.ensure_future(slot.run(stage_unit(speaking, dumps(1), gives="parts")))
    await until(lambda: ear.text() == "listen\n")
    go_on.touch()

    assert len(parts(await running)) == 1
    assert ear.text() == "listen\nthank you\n"


async def test_an_expand_that_outlasts_its_timeout_is_timed_out(slot: AnySlot) -> None:
    def slow(value: object) -> Any:
        import time

        for _ in range(3):
            time.sleep(0.2)
            yield value

    report = await slot.run(stage_unit(slow, dumps(1), dumps(2), gives="parts", timeout=0.3))

    assert endings(report) == [Ending.TIMED_OUT, Ending.TIMED_OUT]
    assert isinstance(error(report), TaskTimeout)


async def test_an_expand_without_items_is_refused_with_the_way_out(slot: AnySlot) -> None:
    def nothing(value: object) -> Any:
        yield from ()

    functions: list[Callable[[Any], Any]] = [nothing, lambda value: [], lambda value: {}.values()]
    for function in functions:
        raised = error(await slot.run(stage_unit(function, dumps(1), gives="parts")))
        assert isinstance(raised, NothingExpanded)
        assert "return [None]" in str(raised)
        assert raised.__cause__ is None  # nobody has to read our own code for that


@pytest.mark.parametrize("result", [None, 3, "text", b"bytes", bytearray(b"x"), {"a": 1}, int])
async def test_an_expand_that_returns_no_list_is_refused(slot: AnySlot, result: object) -> None:
    raised = error(await slot.run(stage_unit(lambda value: result, dumps(1), gives="parts")))

    assert isinstance(raised, NotIterable)
    assert raised.kind == type(result).__name__


async def test_an_expand_without_end_is_stopped_and_cleans_up(slot: AnySlot, ear: Ear) -> None:
    def endless(value: object) -> Any:
        try:
            while True:
                yield value
        finally:
            print("cleaned up")

    report = await slot.run(stage_unit(endless, dumps(1), gives="parts"))
    raised = error(report)
    await until(lambda: len(ear.messages) >= report.lines)

    assert isinstance(raised, TooManyParts)
    assert "1,000,000" in str(raised)
    assert ear.text() == "cleaned up\n"


async def test_what_goes_wrong_in_a_generator_is_the_users_to_read(slot: AnySlot) -> None:
    def failing(value: object) -> Any:
        yield value
        raise KeyError("half way")

    raised = error(await slot.run(stage_unit(failing, dumps(1), gives="parts")))

    assert isinstance(raised, KeyError)
    assert 'raise KeyError("half way")' in str(raised.__cause__)
    assert "dcengine/runner" not in str(raised.__cause__)


async def test_a_function_may_flag_its_input(slot: AnySlot) -> None:
    class Blurred(dcengine.InvalidInput):
        pass

    def look_at(picture: str) -> str:
        if picture == "blurred":
            raise Blurred("cannot see a thing")
        if picture == "black":
            raise dcengine.InvalidInput("x" * 5000)
        return picture

    def each(picture: str) -> Any:
        yield look_at(picture)

    pictures = [dumps(picture) for picture in ("good", "blurred", "black")]
    report = await slot.run(stage_unit(look_at, *pictures))

    assert endings(report) == [Ending.SUCCEEDED, Ending.FLAGGED, Ending.FLAGGED]
    assert (failure(report, 1).kind, failure(report, 1).message) == ("InvalidInput", "cannot see a thing")
    assert "in look_at" in failure(report, 1).traceback
    assert len(failure(report, 2).message) == 1000
    assert isinstance(error(report, 1), InvalidInput)
    assert endings(await slot.run(stage_unit(each, pictures[1], gives="parts"))) == [Ending.FLAGGED]
    assert endings(await slot.run(unit(look_at, ("black",), ("good",)))) == [Ending.FLAGGED, Ending.SUCCEEDED]


async def test_code_that_does_not_load_says_nothing_of_its_input(slot: AnySlot) -> None:
    class Refusing:
        def __reduce__(self) -> Any:
            return exec, ("import dcengine\nraise dcengine.InvalidInput('who, me?')",)

    refusing = Refusing()
    report = await slot.run(stage_unit(lambda value: refusing, dumps(1), dumps(2)))

    assert endings(report) == [Ending.RAISED, Ending.RAISED]


# ---- interrupt and close -------------------------------------------------------------------


def nap_and_tell(path: str, seconds: float) -> None:
    import os
    import time

    os.close(os.open(path, os.O_CREAT))
    time.sleep(seconds)


async def test_an_interrupted_unit_ends_and_its_other_calls_are_not_run(slot: AnySlot, tmp_path: Any) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    napping = unit(nap_and_tell, (str(first), 0), (str(second), 0.5), (str(first), 0))
    running = asyncio.ensure_future(slot.run(napping))
    await marked(second)
    slot.cancel(napping.id)

    assert endings(await running) == [Ending.SUCCEEDED, Ending.INTERRUPTED, Ending.NOT_RUN]
    assert results(await slot.run(unit(square, (5,)))) == [25]


async def test_an_interrupt_for_another_unit_changes_nothing(slot: AnySlot, tmp_path: Any) -> None:
    begun = tmp_path / "begun"
    slot.cancel(4711)
    running = asyncio.ensure_future(slot.run(unit(nap_and_tell, (str(begun), 0.1))))
    await marked(begun)
    slot.cancel(4711)

    assert endings(await running) == [Ending.SUCCEEDED]


async def test_closing_ends_the_running_unit_with_a_report(slot: AnySlot, tmp_path: Any) -> None:
    begun = tmp_path / "begun"
    running = asyncio.ensure_future(slot.run(unit(nap_and_tell, (str(begun), 1), (str(begun), 1))))
    await marked(begun)
    await slot.close()

    assert endings(await running) == [Ending.INTERRUPTED, Ending.NOT_RUN]
    with pytest.raises(ClusterFailed):
        await slot.run(unit(square, (1,)))


# ---- what calls say ------------------------------------------------------------------------


async def test_output_comes_in_order_with_its_streams_and_items(slot: AnySlot, ear: Ear) -> None:
    def speak(name: str) -> None:
        import sys

        print(name, "one")
        print(name, "two", file=sys.stderr)
        sys.stdout.write(f"{name} ")
        sys.stdout.buffer.write("drei ä\n".encode())

    report = await slot.run(unit(speak, ("a",), ("b",)))
    await until(lambda: len(ear.messages) >= report.lines)

    assert ear.text() == "a one\na two\na drei ä\nb one\nb two\nb drei ä\n"
    assert ear.text("stderr") == "a two\nb two\n"
    assert [(message.item, message.kind) for message in ear.messages] == [
        (item, kind) for item in (0, 1) for kind in ("stdout", "stderr", "stdout")
    ]
    assert numbered(ear.messages) == list(range(1, report.lines + 1))


async def test_many_lines_travel_in_few_messages(slot: AnySlot, ear: Ear) -> None:
    def chatter() -> None:
        for number in range(20_000):
            print(f"line {number:6}")

    report = await slot.run(unit(chatter))
    await until(lambda: len(ear.messages) >= report.lines)

    assert ear.text() == "".join(f"line {number:6}\n" for number in range(20_000))
    assert report.lines < 200


async def test_text_is_heard_while_the_call_still_runs(slot: AnySlot, ear: Ear, tmp_path: Any) -> None:
    heard = tmp_path / "heard"

    def speak_and_wait() -> None:
        import os
        import time

        print("listen")
        while not os.path.exists(heard):
            time.sleep(0.005)

    running = asyncio.ensure_future(slot.run(unit(speak_and_wait)))
    await until(lambda: ear.text() == "listen\n")
    heard.touch()

    assert endings(await running) == [Ending.SUCCEEDED]


async def test_progress_is_heard_seldom_and_the_last_one_always(slot: AnySlot, ear: Ear) -> None:
    def count(total: int) -> int:
        from dcengine import track

        return sum(track(range(total), text="counting"))

    report = await slot.run(unit(count, (5000,), (3,)))
    await until(lambda: len(ear.messages) >= report.lines)

    of_items = [
        [progress for message, progress in zip(ear.messages, ear.progress(), strict=True) if message.item == item]
        for item in (0, 1)
    ]
    assert [(heard[-1].done, heard[-1].total, heard[-1].text) for heard in of_items] == [
        (5000, 5000, "counting"),
        (3, 3, "counting"),
    ]
    assert len(of_items[0]) <= 2 + report.seconds / 0.1


async def test_text_comes_before_the_progress_that_follows_it(slot: AnySlot, ear: Ear) -> None:
    def speak() -> None:
        from dcengine import progress

        print("first")
        progress(1, 2)
        print("second")
        progress(2, 2)

    report = await slot.run(unit(speak))
    await until(lambda: len(ear.messages) >= report.lines)

    assert ear.messages[0].data == b"first\n"
    assert ear.messages[1].kind == "progress"
    assert ear.messages[-1].kind == "progress"
    assert ear.progress()[-1].done == 2


async def test_outside_a_job_progress_does_nothing(slot: AnySlot, ear: Ear) -> None:
    dcengine.progress(1, 2, "nobody listens")

    assert list(dcengine.track([1, 2, 3])) == [1, 2, 3]
    assert ear.messages == []
