"""Results of jobs as arguments of calls, the same against an engine in this process and one behind HTTP."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.api import front
from tests.calls import hold
from tests.engines import eventually


def add(a: Any, b: Any = 0) -> Any:
    return a + b


def give(value: Any) -> Any:
    return value


def refuse(why: str) -> None:
    raise ValueError(why)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """The file that lets what is held go on."""
    path = tmp_path / "go"
    yield path
    path.touch()


def task_state(handle: dcengine.JobHandle) -> str:
    return handle.status().task_state


# ---- arguments -----------------------------------------------------------------------------


def test_a_handle_among_the_arguments_stands_for_its_result(engine: str, gate: Path) -> None:
    three, held = dcengine.submit(add, 1, 2), dcengine.submit(hold, str(gate), 10)

    total = dcengine.submit(add, three, b=held)

    assert task_state(total) == "blocked"
    gate.touch()
    assert total.result(30) == 13


def test_handles_are_found_wherever_they_are_in_an_argument(engine: str) -> None:
    def look(deep: dict[str, Any], pair: tuple[Any, Any]) -> list[Any]:
        return [deep["list"][1], deep["set"], pair[0] is pair[1]]

    four = dcengine.submit(add, 4)

    assert dcengine.submit(look, {"list": [0, four], "set": {5, 6}}, (four, four)).result(30) == [4, {5, 6}, True]


def test_a_handle_inside_the_function_is_taken_like_an_argument(engine: str, gate: Path) -> None:
    held = dcengine.submit(hold, str(gate), 5)

    call = dcengine.submit(lambda: held + 1)  # type: ignore[operator]

    assert task_state(call) == "blocked"
    gate.touch()
    assert call.result(30) == 6


def test_items_of_a_batch_and_the_batch_itself_are_arguments(engine: str) -> None:
    batch = dcengine.map(add, range(30), range(30))

    assert dcengine.submit(add, batch[3], batch[29]).result(30) == 64
    assert dcengine.submit(sum, batch).result(30) == 870


def test_a_value_that_is_too_big_for_a_row_arrives(engine: str) -> None:
    big = dcengine.submit(bytes, 3 << 20)

    assert dcengine.submit(len, big).result(30) == 3 << 20
    assert dcengine.submit(lambda: len(big)).result(30) == 3 << 20  # type: ignore[arg-type]


def test_results_that_stay_on_their_workers_are_arguments(engine: str) -> None:
    left = dcengine.submit(bytes, 2 << 20, keep="remote")
    batch = dcengine.map(bytes, [10, 3 << 20, 20], keep="remote")

    longer = dcengine.submit(add, left, b"x", keep="remote")

    assert dcengine.submit(len, longer).result(30) == (2 << 20) + 1
    assert dcengine.submit(lambda values: [*map(len, values)], batch).result(30) == [10, 3 << 20, 20]


def test_the_caller_never_sees_the_value(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyThere:
        def __reduce__(self) -> Any:
            return check_and_make, (str(tmp_path / "here"),)

    def check_and_make(path: str) -> str:
        with open(path, "a") as file:
            file.write("x")
        return "made"

    made = dcengine.submit(lambda: OnlyThere())

    assert dcengine.submit(give, made).result(30) == "made"
    assert (tmp_path / "here").read_text() == "x"  # unpickled once, where the call ran


def test_what_a_job_of_a_project_has_come_to_is_an_argument(engine: str) -> None:
    project = dcengine.Project("arguments")
    project.stage(name="double")(lambda value: value * 2)
    project.add([21])
    project.run()

    assert dcengine.submit(give, project.job(1)).result(30) == 42


def test_a_call_in_a_chain_runs_as_soon_as_the_one_before_has_ended(engine: str) -> None:
    handle = dcengine.submit(give, 0)
    for _ in range(20):
        handle = dcengine.submit(add, handle, 1)

    assert handle.result(60) == 20


def test_all_options_work_for_a_call_that_waits(engine: str, gate: Path) -> None:
    held, soon, begun = dcengine.submit(hold, str(gate), 1), timedelta(seconds=0.3), time.time()
    later = dcengine.submit(give, held, not_before=soon, retries=1, timeout=20, priority=3, key="a call that waits")

    assert dcengine.submit(give, 0, key="a call that waits").id == later.id
    gate.touch()
    held.result(30)
    assert later.result(30) == 1
    assert later.status().finished >= begun + 0.3  # type: ignore[operator]


# ---- what goes wrong -----------------------------------------------------------------------


def test_a_call_fails_with_what_it_takes_and_says_where_it_began(engine: str) -> None:
    first = dcengine.submit(refuse, "no such file")
    second = dcengine.submit(give, first)
    third = dcengine.submit(give, [second])

    with pytest.raises(dcengine.DependencyFailed, match=r"refuse.* failed: ValueError: no such file") as failure:
        third.result(30)

    assert (failure.value.job, failure.value.argument, failure.value.cause) == (third.id, second.id, first.id)
    assert third.status().state == "failed"
    assert f"job {first.id}" in third.why()
    with pytest.raises(dcengine.DependencyFailed):
        dcengine.submit(give, third).result(30)


def test_a_call_that_nobody_could_run_fails_while_it_waits(engine: str, gate: Path) -> None:
    held = dcengine.submit(hold, str(gate))

    call = dcengine.submit(give, held, tags="nobody.has.this", on_no_match="fail")

    assert isinstance(call.exception(30), dcengine.NoMatchingWorker)
    assert not held.done()


def test_a_call_fails_with_what_was_cancelled(engine: str, gate: Path) -> None:
    held = dcengine.submit(hold, str(gate))
    waiting = dcengine.submit(give, held, priority=9)
    call = dcengine.submit(give, waiting)

    waiting.cancel()

    assert isinstance(waiting.exception(30), dcengine.JobCancelled)
    with pytest.raises(dcengine.DependencyFailed, match=f"job {waiting.id} .*was cancelled"):
        call.result(30)
    assert not held.done()


def test_another_try_runs_what_is_missing_again(engine: str, tmp_path: Path) -> None:
    def read(path: str) -> str:
        return Path(path).read_text()

    path = tmp_path / "text"
    first = dcengine.submit(read, str(path))
    call = dcengine.submit(str.upper, first)
    with pytest.raises(dcengine.DependencyFailed):
        call.result(30)

    path.write_text("there")

    assert call.retry()
    assert call.result(30) == "THERE"
    assert first.result(30) == "there"


def test_calls_go_on_with_a_batch_that_is_tried_again(engine: str, tmp_path: Path) -> None:
    def read(name: str) -> str:
        return (tmp_path / name).read_text()

    (tmp_path / "a").write_text("a")
    batch = dcengine.map(read, ["a", "b"])
    call = dcengine.submit("".join, batch)
    with pytest.raises(dcengine.DependencyFailed, match=rf"retry_failed\(\) of batch {batch.id}"):
        call.result(30)

    (tmp_path / "b").write_text("b")
    batch.retry_failed()

    assert dcengine.job(call.id).result(30) == "ab"


def test_a_call_fails_when_the_project_is_deleted_whose_job_it_takes(engine: str) -> None:
    project = dcengine.Project("to be deleted")
    project.stage(name="give")(give)
    project.add([1])  # it never runs
    call = dcengine.submit(give, project.job(1))
    assert task_state(call) == "blocked"

    project.delete(confirm=True)

    with pytest.raises(dcengine.DependencyFailed, match="was deleted"):
        call.result(30)


def test_a_result_that_is_gone_when_the_call_runs_fails_it_by_name(engine: str, gate: Path) -> None:
    project = dcengine.Project("soon deleted")
    project.stage(name="give")(give)
    project.add([1])
    project.run()
    project.job(1).result(30)
    held = dcengine.submit(hold, str(gate))
    call = dcengine.submit(give, (project.job(1), held))

    project.delete(confirm=True)
    gate.touch()

    with pytest.raises(dcengine.NotFound, match="no job"):
        call.result(30)


def test_nothing_is_stored_for_a_call_that_takes_an_unknown_job(engine: str) -> None:
    handle = dcengine.submit(give, 1)
    handle.id = 10**9
    before = dcengine.submit(give, 2).id

    with pytest.raises(dcengine.NotFound, match="job 1000000000"):
        dcengine.submit(give, handle)

    assert dcengine.submit(give, 3).id == before + 1


def test_a_result_that_has_expired_is_no_argument(engine: str) -> None:
    handle = dcengine.submit(give, 1, keep=0)
    handle.result(30)
    eventually(lambda: dcengine.api.current().call("result", handle.id).state == "expired", patience=60)

    with pytest.raises(dcengine.ResultExpired):
        dcengine.submit(give, handle)


def test_a_handle_is_no_item_of_a_map_and_the_error_names_the_way(engine: str) -> None:
    handle, project = dcengine.submit(give, 1), dcengine.Project("no handles")
    project.stage(name="give")(give)

    with pytest.raises(dcengine.InvalidOption, match=r"submit\(\) each call"):
        dcengine.map(give, [handle])
    with pytest.raises(dcengine.InvalidOption, match="function of a map"):
        dcengine.map(lambda n: n + handle, [1])  # type: ignore[operator]
    with pytest.raises(dcengine.InvalidOption, match="item 2"):
        project.add([1, handle])


def test_a_call_takes_a_bounded_number_of_results(engine: str) -> None:
    with pytest.raises(dcengine.InvalidOption, match="at most 10,000"):
        dcengine.submit(sum, dcengine.map(give, range(10_001)))


# ---- why -----------------------------------------------------------------------------------


def test_a_call_that_waits_says_for_what(engine: str, gate: Path) -> None:
    held = dcengine.submit(hold, str(gate), 1)
    eventually(lambda: task_state(held) == "leased")
    second = dcengine.submit(give, held)
    third = dcengine.submit(give, [second, held])

    assert f"job {second.id} waits for job {held.id} (" in second.why()
    assert "which is running on " in second.why()
    assert f"job {third.id} waits for 2 of the 2 jobs whose results it takes, such as job {held.id} (" in third.why()
    fourth = dcengine.submit(give, third)
    assert f"job {fourth.id} waits for job {third.id} (" in fourth.why()
    assert f"which waits in the end for job {held.id} (" in fourth.why()
    assert {fourth.id, third.id} <= {job.id for job in dcengine.api.current().call("jobs", state="open")}


# ---- handles elsewhere ---------------------------------------------------------------------


def test_a_pickled_handle_finds_its_job_again(engine: str) -> None:
    handle = dcengine.submit(add, 20, 22)
    batch = dcengine.map(give, range(3))

    again, twin, items, whole = pickle.loads(
        pickle.dumps([handle, copy.copy(handle), [*map(batch.__getitem__, range(3))], batch])
    )

    assert again.id == handle.id
    assert (again.result(30), twin.result(30)) == (42, 42)
    assert [item.result(30) for item in items] == [0, 1, 2]
    assert whole.results(30) == [0, 1, 2]
    assert dcengine.submit(add, again, 1).result(30) == 43


def test_a_function_may_return_a_handle(engine: str) -> None:
    handle = dcengine.submit(give, 7)
    data = pickle.dumps(handle)

    found = dcengine.submit(pickle.loads, data).result(30)

    assert found.result(30) == 7


def test_a_handle_of_another_file_is_refused(engine: str, tmp_path: Path) -> None:
    here = dcengine.submit(give, "here")
    here.result(30)
    data, way = pickle.dumps(here), front.current()

    with dcengine.Engine(tmp_path / "other.db", workers=1, processes=False):
        dcengine.submit(give, "there").result(30)
        with pytest.raises(dcengine.InvalidOption, match=f"job {here.id} of another database"):
            dcengine.submit(give, here)
        with pytest.raises(dcengine.InvalidOption, match="database that it was pickled with"):
            pickle.loads(data).result()

    assert front.current() is way
    assert pickle.loads(data).result(30) == "here"
