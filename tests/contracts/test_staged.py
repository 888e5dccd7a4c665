"""What stages promise beyond a row of functions: parts, feedback, repairs; the same against every engine."""

from __future__ import annotations

import itertools
import re
import runpy
import time
from datetime import timedelta
from pathlib import Path

import pytest

import dcengine
from dcengine.projects import Project
from tests.engines import eventually

PAGE = Path(__file__).resolve().parents[2] / "docs/projects.md"

names = (f"staged {n}" for n in itertools.count(1))


@pytest.fixture
def project(engine: str) -> Project:
    return dcengine.Project(next(names))


def fails_while(file: str, number: int) -> int:
    """Fail for 13 while *file* exists."""
    if number == 13 and Path(file).exists():
        raise ValueError("13 brings bad luck")
    return number


# ---- parts ---------------------------------------------------------------------------------


def test_each_item_of_an_expand_is_a_job_and_a_gather_gets_all_in_order(project: Project) -> None:
    @project.expand
    def count(number: int) -> range:
        return range(number)

    @project.stage
    def double(number: int) -> int:
        return 2 * number

    @project.gather
    def collect(numbers: list[int]) -> list[int]:
        return numbers

    assert project.add([200, 1]) == range(1, 3)

    assert project.run().results(60) == [[2 * n for n in range(200)], [0]]
    status = project.status()
    assert (status.total, status.succeeded, status.open) == (203, 203, 0)
    assert [stage.shape for stage in status.stages] == ["expand", "map", "gather"]
    assert project.outputs("count") == {1: 200, 2: 1}
    assert len(project.outputs("double")) == 201


def test_a_generator_opens_jobs_too_and_one_without_a_gather_has_results_of_its_own(project: Project) -> None:
    @project.expand
    def letters(word: str):  # type: ignore[no-untyped-def]
        yield from word

    project.stage(name="shout")(str.upper)

    project.add(["ab", "c"])

    assert sorted(project.run().results(60)) == ["A", "B", "C"]
    part = project.job(3)
    parent = part.parent
    assert parent is not None
    assert parent.id in (project.job(1).id, project.job(2).id)
    assert project.job(1).parent is None


def test_expands_nest_like_brackets(project: Project) -> None:
    project.expand(name="books")(lambda shelf: [f"{shelf}{n}" for n in range(3)])
    project.expand(name="pages")(lambda book: [f"{book}.{n}" for n in range(4)])
    project.stage(name="read")(lambda page: f"<{page}>")
    project.gather(name="book")(lambda pages: "".join(pages))
    project.gather(name="shelf")(lambda books: books)

    project.add(["a", "b"])

    assert project.run().results(60) == [
        ["".join(f"<{shelf}{book}.{page}>" for page in range(4)) for book in range(3)] for shelf in "ab"
    ]
    assert project.status().total == 2 + 2 * 3 + 2 * 3 * 4


def test_a_gather_without_an_expand_gathers_what_one_add_adds(project: Project) -> None:
    project.stage(name="square")(lambda number: number * number)
    project.gather(name="sum")(lambda numbers: (len(numbers), sum(numbers)))
    project.stage(name="say")(lambda pair: f"{pair[0]} squares make {pair[1]}")

    assert project.add([]) == range(0)
    numbers = project.add(range(4_200))
    project.add([3])

    assert len(numbers) == 4_200
    expected = [f"4200 squares make {sum(n * n for n in range(4_200))}", "1 squares make 9"]
    assert project.run().results(60) == expected
    assert project.status().total == 4_200 + 1 + 2
    parent = project.job(numbers[0]).parent
    assert parent is not None
    assert parent.result(10) == expected[0]


def test_an_add_that_breaks_off_leaves_nothing_that_waits_for_ever(project: Project) -> None:
    project.stage(name="take")(lambda item: item)
    project.gather(name="all")(len)

    def items():  # type: ignore[no-untyped-def]
        yield from range(5_000)
        raise OSError("the list is on a disk that is gone")

    with pytest.raises(OSError, match="gone"):
        project.add(items())

    assert project.run().wait(60).open == 0
    assert project.outputs() == {}


def test_an_expand_that_yields_nothing_fails_its_job_and_no_other(project: Project) -> None:
    project.expand(name="split")(lambda n: range(n))
    project.stage(name="take")(lambda n: n)
    project.gather(name="join")(sum)

    project.add([0, 3])
    status = project.run().wait(60)

    assert (status.failed, project.outputs()) == (1, {2: 3})
    with pytest.raises(dcengine.NothingExpanded, match="no items"):
        project.job(1).result(10)


@pytest.mark.parametrize("wrong", ["text", 5, {"a": 1}, None])
def test_what_an_expand_returns_must_be_items(project: Project, wrong: object) -> None:
    project.expand(name="split")(lambda value: value)
    project.stage(name="take")(lambda value: value)

    project.add([wrong])

    assert project.run().wait(60).failed == 1
    assert isinstance(project.failures[1], dcengine.NotIterable)


def test_stages_that_do_not_fit_are_refused_and_nothing_is_stored(project: Project) -> None:
    project.expand(name="split")(lambda item: [item])
    with pytest.raises(dcengine.InvalidOption, match="last stage"):
        project.add([1])
    project.gather(name="join")(len)
    with pytest.raises(dcengine.InvalidOption, match="right after the expand"):
        project.run()
    with pytest.raises(dcengine.NotFound):
        project.status()


# ---- parts that fail -----------------------------------------------------------------------


def bad_part(project: Project, policy: str, file: Path) -> Project:
    """A project in which part 13 of 20 fails while *file* exists."""
    file.touch()
    project.expand(name="count")(lambda path: [(path, number) for number in range(20)])
    project.stage(name="check")(lambda pair: fails_while(*pair))
    project.gather(name="join", on_failed_part=policy)(lambda parts: parts)  # type: ignore[arg-type]
    project.add([str(file)])
    return project


def test_a_failed_part_fails_the_whole(project: Project, tmp_path: Path) -> None:
    bad_part(project, "fail", tmp_path / "bad")

    status = project.run().wait(60)

    whole = project.job(1)
    with pytest.raises(dcengine.PartFailed, match="bad luck"):
        whole.result(10)
    with pytest.raises(dcengine.PartFailed, match="bad luck"):
        project.results(60)
    assert (whole.status().stage, whole.status().state) == ("join", "failed")
    assert status.failed == 2  # the part and the whole
    assert {letter.stage: letter.parent for letter in project.failed()} == {"join": None, "check": 1}

    (tmp_path / "bad").unlink()
    assert project.retry("check") >= 1
    assert project.results(60) == [list(range(20))]
    assert (project.status().failed, project.failed()) == (0, [])


def test_a_failed_part_is_left_out_where_the_gather_skips(project: Project, tmp_path: Path) -> None:
    bad_part(project, "skip", tmp_path / "bad")

    assert project.run().results(60) == [[n for n in range(20) if n != 13]]
    assert [letter.stage for letter in project.failed()] == ["check"]


def test_a_gather_may_wait_until_a_part_is_repaired(project: Project, tmp_path: Path) -> None:
    bad_part(project, "wait", tmp_path / "bad")

    with pytest.raises(dcengine.ProjectBlocked, match="bad luck"):
        project.run().wait(60)
    whole = project.job(1)
    assert whole.status().task_state == "blocked"
    assert "1 of them failed" in whole.why()

    (letter,) = project.failed()
    project.job(letter.number).edit((str(tmp_path / "bad"), 99))
    assert project.results(60) == [[*range(13), 99, *range(14, 20)]]


# ---- feedback ------------------------------------------------------------------------------


def test_bad_input_goes_back_a_stage_with_the_input_it_had_there(project: Project, tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    @project.stage
    def draw(path: str) -> tuple[str, int]:
        with open(path, "a") as file:
            file.write("x")
        return path, Path(path).stat().st_size

    @project.stage
    def look(drawing: tuple[str, int]) -> str:
        if drawing[1] < 3:
            raise dcengine.InvalidInput(f"drawing {drawing[1]} is blurred")
        return f"drawing {drawing[1]}"

    project.add([str(runs)])

    assert project.run().results(60) == ["drawing 3"]
    job = project.job(1)
    assert job.status().generation == 2
    history = job.history()
    assert [(each.stage, each.generation, each.state) for each in history] == [
        ("draw", 0, "returned"), ("look", 0, "returned"), ("draw", 1, "returned"), ("look", 1, "returned"),
        ("draw", 2, "succeeded"), ("look", 2, "succeeded"),
    ]  # fmt: skip
    assert [each.input for each in history if each.stage == "draw"] == [str(runs)] * 3
    assert [each.output for each in history if each.stage == "draw"] == [(str(runs), n) for n in (1, 2, 3)]
    assert "drawing 1 is blurred" in history[1].flags[0].reason
    assert sum(row.tasks for row in project.leaderboard()) == 2  # what was sent back earns nothing


def test_a_job_that_is_sent_back_too_often_fails_with_what_was_said(project: Project) -> None:
    project.stage(name="draw")(lambda item: item)

    @project.stage(generations=1)
    def look(item: int) -> int:
        raise dcengine.InvalidInput("too dark")

    project.add([1])

    assert project.run().wait(60).failed == 1
    with pytest.raises(dcengine.InputRejected, match="too dark"):
        project.results(60)


# ---- what was done -------------------------------------------------------------------------


def test_the_history_keeps_inputs_and_outputs_of_every_stage(project: Project) -> None:
    project.expand(name="split")(lambda word: list(word))
    project.stage(name="shout", retries=1)(str.upper)
    project.gather(name="join")("".join)

    project.add(["abc"])
    assert project.run().results(60) == ["ABC"]

    whole, part = project.job(1).history(), project.job(1).parts[1].history()
    assert [(each.stage, each.state) for each in whole] == [("split", "succeeded"), ("join", "succeeded")]
    assert (whole[0].input, whole[1].input, whole[1].output) == ("abc", ["A", "B", "C"], "ABC")
    assert whole[0].parts == whole[1].parts == [2, 3, 4]
    assert [(each.stage, each.input, each.output) for each in part] == [("shout", "b", "B")]
    assert part[0].worker in {worker.name for worker in dcengine.workers()}
    assert repr(whole).splitlines()[0].split()[:3] == ["stage", "generation", "state"]


def test_the_history_tells_why_a_run_did_not_succeed(project: Project, tmp_path: Path) -> None:
    @project.stage(retries=2)
    def third_time_lucky(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        runs = Path(path).stat().st_size
        if runs < 3:
            raise ValueError(f"run {runs}")
        return runs

    project.add([str(tmp_path / "runs")])
    assert project.run().results(60) == [3]

    (record,) = project.job(1).history()
    assert [(each.what, each.reason) for each in record.tries] == [
        ("retried", "ValueError: run 1"), ("retried", "ValueError: run 2"),
    ]  # fmt: skip
    assert all(each.worker and each.seconds is not None for each in record.tries)


# ---- repairs -------------------------------------------------------------------------------


def test_a_failed_job_gets_another_input_and_goes_on(project: Project) -> None:
    project.stage(name="half")(lambda number: 10 // number)
    project.stage(name="say")(lambda number: f"<{number}>")
    project.add([5, 0])
    project.run().wait(60)
    failed = project.job(2)
    (letter,) = project.failed()
    assert (letter.number, letter.stage, letter.id) == (2, "half", failed.id)
    assert "ZeroDivisionError" in letter.reason

    failed.edit(2)

    assert failed.result(60) == "<5>"
    assert project.results(60) == ["<2>", "<5>"]
    assert [(each.stage, each.state, each.input) for each in failed.history()] == [
        ("half", "returned", 0), ("half", "succeeded", 2), ("say", "succeeded", 5),
    ]  # fmt: skip
    with pytest.raises(dcengine.NotEditable, match=rf"job {failed.id} has succeeded"):
        failed.edit(3)


def test_failed_jobs_run_again_all_at_once_or_those_of_a_stage(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.touch()
    project.stage(name="check")(lambda pair: fails_while(*pair))
    project.stage(name="half")(lambda number: 26 // (number - 4))
    project.add([(str(file), number) for number in (13, 4, 5, 13)])
    project.run().wait(60)
    assert [(letter.number, letter.stage) for letter in project.failed()] == [(1, "check"), (2, "half"), (4, "check")]

    file.unlink()
    assert project.retry("check") == 2
    assert project.wait(60).failed == 1
    assert project.outputs() == {1: 2, 3: 26, 4: 2}
    assert not project.job(1).retry()
    assert project.job(2).retry()
    assert project.wait(60).failed == 1


def test_cancelled_jobs_of_a_project_can_be_taken_up_again(project: Project) -> None:
    project.stage(name="take")(lambda item: item)
    project.add(range(50))

    assert project.cancel() == 50
    assert (project.status().cancelled, project.status().open) == (50, 0)
    with pytest.raises(dcengine.JobCancelled):
        project.results(10)
    assert project.retry() == 0
    assert project.retry(cancelled=True) == 50
    assert project.run().results(60) == list(range(50))


def test_cancelling_the_whole_cancels_its_parts(project: Project) -> None:
    project.expand(name="split")(lambda n: range(n))
    project.stage(name="nowhere", paused=True)(lambda n: n)
    project.gather(name="join")(len)
    project.add([30])
    project.run()
    eventually(lambda: project.job(1).status().task_state == "blocked")

    assert project.job(1).cancel()

    eventually(lambda: project.status().cancelled == 31)
    assert project.done()


# ---- steering ------------------------------------------------------------------------------


def test_one_stage_is_paused_while_the_others_go_on(project: Project) -> None:
    project.stage(name="first")(lambda item: item + 1)
    project.stage(name="second")(lambda item: item + 1)
    project.add(range(5))
    project.pause("second")
    project.run()

    assert project.outputs("first", timeout=60) == {n + 1: n + 1 for n in range(5)}
    with pytest.raises(dcengine.ProjectPaused, match="stage 'second'"):
        project.wait(60)
    assert "stage 'second'" in project.job(1).why()
    assert [stage.is_paused for stage in project.status().stages] == [False, True]

    project.resume("second")
    assert project.results(60) == [n + 2 for n in range(5)]
    with pytest.raises(dcengine.NotFound):
        project.pause("third")


def test_a_higher_priority_runs_earlier(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"

    @project.stage(tags="gpu")  # one worker has it, so one runs after the other
    def note(pair: tuple[str, str]) -> None:
        with open(pair[0], "a") as file:
            file.write(pair[1])

    project.add([(str(log), "a")] * 5)
    project.add([(str(log), "b")] * 5, priority=5)
    project.run().wait(60)

    assert log.read_text() == "b" * 5 + "a" * 5


def test_jobs_wait_until_their_time(project: Project) -> None:
    project.stage(name="when")(lambda item: time.time())

    due = time.time() + 1.5
    project.add([1], not_before=due)
    project.add([2], not_before=timedelta(hours=1))
    project.add([3])
    project.run()

    assert project.job(3).result(60) < due
    assert project.job(1).status().task_state == "waiting"
    assert "not to run before" in project.job(2).why()
    assert due <= project.job(1).result(60) < due + 5
    assert not project.job(2).done()
    project.job(2).cancel()


def test_the_same_key_makes_no_second_job(project: Project) -> None:
    project.stage(name="take")(lambda item: item)

    assert project.add(["a", "b"], keys=["1", "2"]) == range(1, 3)
    assert project.add(["x", "b", "c", "c"], keys=["1", "2", "3", "3"]) == range(3, 4)
    assert project.add("abc", keys=lambda letter: f"letter {letter}") == range(4, 7)
    assert project.add("abc", keys=lambda letter: f"letter {letter}") == range(0)

    assert project.run().results(60) == ["a", "b", "c", "a", "b", "c"]


def test_values_are_kept_for_as_long_as_was_asked_for(project: Project) -> None:
    project.stage(name="take")(lambda item: item * 2)
    project.add([1], keep=0.5)
    project.add([2], keep=timedelta(hours=1))
    project.add([3])
    project.run().wait(60)

    def is_gone() -> bool:
        try:
            project.job(1).result(10)
        except dcengine.ResultExpired:
            return True
        return False

    eventually(is_gone)
    assert project.job(1).status().state == "succeeded"
    assert (project.job(2).result(10), project.job(3).result(10)) == (4, 6)
    with pytest.raises(dcengine.ResultExpired):
        project.results(10)


def test_single_calls_wait_and_are_kept_too(engine: str) -> None:
    due = time.time() + 1
    later = dcengine.submit(time.time, not_before=due)
    batch = dcengine.map(abs, [-1, -2], keep=0.5)

    assert batch.results(60) == [1, 2]
    assert later.result(60) >= due

    def is_gone() -> bool:
        try:
            dcengine.batch(batch.id).results(10)
        except dcengine.ResultExpired:
            return True
        return False

    eventually(is_gone)


def test_deleting_a_project_says_first_what_goes(project: Project) -> None:
    project.expand(name="split")(lambda n: range(n))
    project.stage(name="take")(lambda n: n)
    project.gather(name="join")(sum)
    project.add([10])
    project.run().wait(60)
    job = project.job(1)

    assert (project.delete().jobs, project.delete().open, project.delete().contributors) == (11, 0, 1)
    assert project.status().total == 11

    assert project.delete(confirm=True).jobs == 11
    with pytest.raises(dcengine.NotFound):
        dcengine.Project(project.name).status()
    eventually(lambda: _is_unknown(job.id))
    assert project.add([3]) == range(1, 2)  # its name is free at once
    assert project.run().results(60) == [3]


def test_a_project_that_runs_can_be_deleted(project: Project, tmp_path: Path) -> None:
    gate = str(tmp_path / "go")

    @project.stage
    def hold(item: int) -> int:
        while not Path(gate).exists():
            time.sleep(0.01)
        return item

    project.add(range(5))
    project.run()
    eventually(lambda: project.status().stages[0].counts.get("leased"))

    gone = project.delete(confirm=True)
    Path(gate).touch()  # threads cannot be interrupted

    assert (gone.jobs, gone.open) == (5, 5)
    assert dcengine.submit(len, "abc").result(60) == 3
    with pytest.raises(dcengine.NotFound):
        project.status()


def _is_unknown(id: int) -> bool:
    try:
        dcengine.job(id)
    except dcengine.NotFound:
        return True
    return False


# ---- who did it ----------------------------------------------------------------------------


def test_credit_is_told_by_span_and_rank(project: Project) -> None:
    project.stage(name="take", credit="unit")(_thrice)
    project.add(range(4))
    project.run().wait(60)

    (row,) = project.leaderboard()
    assert (row.tasks, row.rank, row.share) == (12, 1, 1.0)
    for span in ("day", "week", "month", "all"):
        assert project.leaderboard(span) == [row]  # type: ignore[arg-type]
    place = project.standing(row.nickname, "day")
    assert (place.rank, place.units, place.contributors) == (1, 12, 1)
    with pytest.raises(dcengine.NotFound):
        project.standing("nobody")


def _thrice(item: int) -> int:
    dcengine.progress(3, 3)
    return item


# ---- the page ------------------------------------------------------------------------------


def test_the_page_of_projects_does_what_it_says(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    expected = re.findall(r"^print\(.*\)  # (.*)$", "\n".join(samples), re.MULTILINE)

    script = tmp_path / "page.py"
    script.write_text("\n".join(samples))
    runpy.run_path(str(script), run_name="__main__")

    assert len(samples) == 6
    assert capsys.readouterr().out.splitlines() == expected
