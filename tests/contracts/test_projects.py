"""What a user of projects is promised, the same against an engine in this process and one behind HTTP."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import dcengine
from dcengine.api import front
from dcengine.projects import Project
from tests.engines import environment, eventually

names = (f"project {n} (100 % ä?&#+)" for n in itertools.count(1))


@pytest.fixture
def project(engine: str) -> Project:
    """A project of three stages: a number, its double, the double as text; 13 makes the second one fail."""
    project = dcengine.Project(next(names))

    @project.stage
    def take(number: int) -> int:
        return number

    @project.stage()
    def double(number: int) -> int:
        if number == 13:
            raise ValueError("13 brings bad luck")
        return 2 * number

    @project.stage(name="say it")
    def say(number: int) -> str:
        return f"<{number}>"

    return project


def test_jobs_go_through_all_stages_in_order(project: Project) -> None:
    assert project.add(range(12)) == range(1, 13)

    assert project.run().results(60) == [f"<{2 * n}>" for n in range(12)]
    assert project.outputs("take") == {n + 1: n for n in range(12)}
    assert project.outputs("double") == {n + 1: 2 * n for n in range(12)}
    assert project.outputs() == project.outputs("say it")
    assert project.done()


def test_a_stage_is_still_the_function_it_was(engine: str) -> None:
    project = dcengine.Project(next(names))

    @project.stage(tags="gpu")
    def triple(number: int) -> int:
        return 3 * number

    assert triple(4) == 12


def test_any_value_is_handed_over(engine: str) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="wrap")(lambda value: (value, {"deep": [None, b"\0" * 100_000]}))
    project.stage(name="unwrap")(lambda value: value)

    project.add([None, (1, 2), {"a": 1}])

    ends = project.run().results(60)
    assert [value for value, _ in ends] == [None, (1, 2), {"a": 1}]
    assert ends[0][1] == {"deep": [None, b"\0" * 100_000]}


def test_a_failure_stops_its_own_job_only(project: Project) -> None:
    project.add([12, 13, 14])

    status = project.run().wait(60)

    assert (status.open, status.succeeded, status.failed, status.total) == (0, 2, 1, 3)
    assert [stage.counts for stage in status.stages] == [
        {"succeeded": 3}, {"succeeded": 2, "failed": 1}, {"succeeded": 2},
    ]  # fmt: skip
    assert [*project.failures] == [2]
    assert "bad luck" in str(project.failures[2])
    assert project.outputs() == {1: "<24>", 3: "<28>"}
    assert (project.job(2).status().stage, project.job(2).status().state) == ("double", "failed")
    with pytest.raises(ValueError, match="bad luck"):
        project.results(60)


def test_a_stage_is_tried_again_as_often_as_it_says(engine: str, tmp_path: Path) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="path")(lambda path: path)

    @project.stage(retries=2)
    def third_time_lucky(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        runs = Path(path).stat().st_size
        if runs < 3:
            raise ValueError(f"run {runs}")
        return runs

    project.add([str(tmp_path / "a"), str(tmp_path / "b")])

    assert project.run().results(60) == [3, 3]
    assert project.job(1).status().errors == 2


def test_a_stage_has_a_time_out_of_its_own(interruptible: str) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="first")(lambda seconds: seconds)
    project.stage(name="sleep", timeout=0.3)(time.sleep)

    project.add([0, 60])
    project.run().wait(60)

    assert isinstance(project.failures[2], dcengine.TaskTimeout)
    assert [*project.outputs()] == [1]


def test_tags_of_a_stage_choose_its_workers(engine: str) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="anywhere")(lambda item: item)
    project.stage(name="on the gpu", tags="gpu>=2 & site==lab")(lambda item: item)
    with_gpu = {worker.name for worker in dcengine.workers() if "gpu" in worker.tags}

    numbers = project.add(range(10))
    project.run().wait(60)

    assert len(with_gpu) == 1
    assert {project.job(number).status().worker for number in numbers} == with_gpu


def test_a_stage_that_nobody_can_run_is_told_at_once(engine: str) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="anywhere")(lambda item: item)
    project.stage(name="nowhere", tags="quantum")(lambda item: item)
    project.add([1])

    with pytest.warns(dcengine.NoMatchWarning, match="quantum"):
        project.run()

    assert "nowhere" in (project.status().warning or "")
    project.job(1).cancel()


def test_credit_counts_each_stage_of_each_job_once(project: Project) -> None:
    project.add([1, 2, 13])
    project.run().wait(60)

    assert sum(row.tasks for row in project.leaderboard()) == 3 + 2 + 2
    assert dcengine.leaderboard(project.name) == project.leaderboard()


def test_a_new_project_is_paused_until_it_runs(project: Project) -> None:
    project.add([1])
    elsewhere = dcengine.submit(len, "abc")
    assert elsewhere.result(60) == 3  # so there was a slot

    assert project.status().is_paused
    assert project.status().stages[0].counts == {"queued": 1}
    assert "is paused" in project.job(1).why()
    with pytest.raises(dcengine.ProjectPaused, match=r"run\(\)"):
        project.wait()
    with pytest.raises(dcengine.ProjectPaused):
        project.outputs("take")

    assert project.run().results(60) == ["<2>"]


def test_what_is_added_to_a_running_project_begins_at_once(project: Project) -> None:
    project.run()
    assert project.results(60) == []

    project.add([1, 2])
    assert project.results(60) == ["<2>", "<4>"]
    assert project.add([3]) == range(3, 4)
    assert project.results(60) == ["<2>", "<4>", "<6>"]


def test_outputs_of_a_stage_do_not_wait_for_the_stages_behind_it(engine: str, tmp_path: Path) -> None:
    project = dcengine.Project(next(names))
    gate = str(tmp_path / "go")
    project.stage(name="first")(lambda item: item + 1)

    @project.stage
    def hold(item: int) -> int:
        while not Path(gate).exists():
            time.sleep(0.01)
        return item

    project.add([1, 2])
    project.run()

    assert project.outputs("first", timeout=60) == {1: 2, 2: 3}
    with pytest.raises(dcengine.ResultNotReady):
        project.outputs(timeout=0.2)
    Path(gate).touch()
    assert project.outputs(timeout=60) == {1: 2, 2: 3}


def test_waiting_has_a_limit_and_the_project_goes_on(engine: str, tmp_path: Path) -> None:
    project = dcengine.Project(next(names))
    gate = str(tmp_path / "go")

    @project.stage
    def hold(item: int) -> int:
        while not Path(gate).exists():
            time.sleep(0.01)
        return item

    project.add([7])
    run = project.run()
    with pytest.raises(TimeoutError):
        run.wait(0.2)
    assert not run.done()

    waiting = threading.Timer(0.1, Path(gate).touch)
    waiting.start()
    assert run.wait(60).succeeded == 1
    waiting.join()


def test_any_process_finds_a_project_by_its_name(project: Project) -> None:
    project.add([1, 2])
    project.run().wait(60)

    again = dcengine.Project(project.name)

    assert again.outputs() == {1: "<2>", 2: "<4>"}
    assert [stage.name for stage in again.status().stages] == ["take", "double", "say it"]
    assert again.add([3]) == range(3, 4)
    assert again.run().results(60) == ["<2>", "<4>", "<6>"]
    assert again.leaderboard() == project.leaderboard()


def test_another_process_finds_it_too(project: Project) -> None:
    address = front.current().address
    if address is None:
        pytest.skip("every use of the daemon is one from another process")
    project.add([1, 2])
    script = f"import dcengine; print(dcengine.Project({project.name!r}).run().results(60))"

    said = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(DCENGINE_URL=address[0], DCENGINE_TOKEN=address[1]),
        capture_output=True,
        text=True,
    )

    assert said.stdout == "['<2>', '<4>']\n", said.stderr


def test_an_unknown_project_stage_or_job_is_not_found(project: Project) -> None:
    stranger = dcengine.Project("nobody made this")
    for ask in (stranger.status, stranger.run, lambda: stranger.add([1]), stranger.outputs, stranger.leaderboard):
        with pytest.raises(dcengine.NotFound):
            ask()
    with pytest.raises(dcengine.NotFound):
        _ = stranger.failures
    project.add([1])
    with pytest.raises(dcengine.NotFound, match="frame"):
        project.outputs("frame")
    with pytest.raises(dcengine.NotFound):
        project.job(2)
    with pytest.raises(dcengine.NotFound):
        dcengine.Project("functions").status()


def test_a_job_is_found_by_its_place_in_the_project(project: Project) -> None:
    project.add([4, 5])
    project.run().wait(60)

    assert dcengine.job(f"{project.name}/2").result(60) == "<10>"
    assert dcengine.job(str(project.job(1).id)).result(60) == "<8>"
    single = dcengine.submit(len, "ab")
    assert dcengine.job(f"functions/{single.status().number}").id == single.id
    batch = dcengine.map(len, ["a", "bb", "ccc"])
    third = batch[2].status()
    assert dcengine.job(f"functions/{third.number}").result(60) == 3
    with pytest.raises(dcengine.NotFound):
        dcengine.job(f"{project.name}/3")
    with pytest.raises(dcengine.InvalidOption):
        dcengine.job("photos")


def test_a_stage_declared_again_replaces_the_one_of_that_name_where_it_stands(project: Project) -> None:
    project.add([13, 1])

    @project.stage
    def double(number: int) -> int:
        return -number

    assert project.run().results(60) == ["<-13>", "<-1>"]


def test_a_corrected_function_holds_for_what_waits_at_its_stage(engine: str) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="pass", tags="cpu | gpu")(lambda item: item)
    project.stage(name="check", tags="quantum")(lambda item: "wrong")
    project.add(range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project.run()
    assert project.outputs("pass", timeout=60) == {1: 0, 2: 1, 3: 2}

    project.stage(name="check")(lambda item: "right")
    project.run()

    assert project.results(60) == ["right"] * 3


def test_a_partial_declaration_leaves_the_other_stages_as_they_are(project: Project) -> None:
    project.add([1])
    alone = dcengine.Project(project.name)
    alone.stage(name="double")(lambda number: 20 * number)
    link = front.current()

    link.call("declare_project", msgspec.structs.replace(alone.spec(), is_partial=True))
    assert [stage.name for stage in dcengine.Project(project.name).status().stages] == ["take", "double", "say it"]
    assert dcengine.Project(project.name).run().results(60) == ["<20>"]

    alone.stage(name="last")(str.upper)
    status = link.call("declare_project", msgspec.structs.replace(alone.spec(), is_partial=True))
    assert [stage.name for stage in status.stages] == ["take", "double", "say it", "last"]


def test_other_stages_are_refused_while_jobs_are_open(project: Project) -> None:
    project.add([1])
    other = dcengine.Project(project.name)
    other.stage(name="something else")(lambda item: item)

    with pytest.raises(dcengine.ProjectInUse, match="take, double, say it and 1 open job"):
        other.add([2])
    assert project.run().results(60) == ["<2>"]

    assert other.add([2]) == range(2, 3)
    assert other.outputs(timeout=60) == {2: 2}
    assert other.results(60) == ["<2>", 2]
    assert other.outputs("say it") == {1: "<2>"}  # of a stage that is no more
    assert (other.status().succeeded, other.status().total) == (2, 2)


def test_what_cannot_be_declared_is_refused(engine: str) -> None:
    def declare(name: str, *stages: str, function: object = abs, **options: object) -> None:
        project = dcengine.Project(name)
        for stage in stages:
            project.stage(name=stage, **options)(function)  # type: ignore[call-overload]
        project.add([])

    for name in ("", " ", "a/b", "functions", "x" * 101, "a\nb", "..", "{id}"):
        with pytest.raises(dcengine.InvalidOption, match="name"):
            declare(name, "stage")
    for stage in ("a/b", "x" * 101):
        with pytest.raises(dcengine.InvalidOption, match="stage's name"):
            declare("fine", stage)
    with pytest.raises(dcengine.InvalidTags):
        declare("fine", "stage", tags="(")
    with pytest.raises(dcengine.InvalidOption, match="retries"):
        declare("fine", "stage", retries=-1)
    lock = threading.Lock()
    with pytest.raises(dcengine.NotPicklable, match="'lock'"):
        declare("fine", "stage", function=lambda item: lock)
    with pytest.raises(dcengine.NotFound):
        dcengine.Project("fine").status()


def test_a_lambda_needs_a_name_lest_the_next_one_takes_its_place(engine: str) -> None:
    project = dcengine.Project(next(names))

    with pytest.raises(dcengine.InvalidOption, match="lambda cannot be missing"):
        project.stage(lambda item: item)


@pytest.mark.parametrize("name", [None, 5, "", ".."])
def test_what_cannot_be_a_name_is_refused_with_what_can(engine: str, name: object) -> None:
    with pytest.raises(dcengine.InvalidOption, match="1 to 100 printable characters"):
        dcengine.Project(name)  # type: ignore[arg-type]


def test_a_project_without_stages_says_that_it_needs_some(engine: str) -> None:
    with pytest.raises(dcengine.NotFound, match="a new project needs a stage"):
        dcengine.Project(next(names)).add([1])


def test_an_item_that_cannot_travel_is_named(project: Project) -> None:
    with pytest.raises(dcengine.NotPicklable, match="item 2"):
        project.add([1, threading.Lock()])


def test_many_items_are_taken_as_they_come(project: Project) -> None:
    taken = []

    def numbers() -> Iterator[int]:
        for number in range(10_000):
            taken.append(len(taken))
            if number == 9_000:
                assert project.status().open >= 8_000  # what came before is stored already
            yield number

    assert project.add(numbers()) == range(1, 10_001)
    assert project.status().open == 10_000
    for _ in project._pages("outputs", project.name, "take"):
        raise AssertionError("nothing has run")


def test_a_job_is_cancelled_at_whatever_stage_it_is(interruptible: str, tmp_path: Path) -> None:
    project = dcengine.Project(next(names))
    project.stage(name="first")(lambda path: path)

    @project.stage
    def hold(path: str) -> str:
        while not Path(path).exists():
            time.sleep(0.01)
        return path

    project.stage(name="last", tags="quantum")(lambda path: path)
    running, waiting, queued = str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c")
    project.add([running, waiting])
    Path(waiting).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project.run()
    eventually(lambda: project.job(1).status().task_state == "leased")
    eventually(lambda: project.job(2).status().stage == "last")

    for number in (1, 2):
        assert project.job(number).cancel()
    status = project.wait(60)

    assert (status.cancelled, status.open) == (2, 0)
    with pytest.raises(dcengine.JobCancelled):
        project.job(1).result(10)
    assert not Path(queued).exists()


def test_progress_and_output_of_a_job_are_those_of_its_stages(engine: str) -> None:
    project = dcengine.Project(next(names))

    @project.stage
    def first(item: int) -> int:
        print("one")
        dcengine.progress(3, 4)
        return item

    @project.stage
    def second(item: int) -> int:
        print("two")
        return item

    project.add([1])
    project.run().wait(60)

    assert str(project.job(1).output) == "one\ntwo\n"
    assert project.job(1).status().progress is None  # the second stage said nothing of its own
