"""The line magics in an IPython shell, on a real engine: what they give back, refuse and complete."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import dcengine
import dcengine_magics
from dcengine.lists import Explained, JobList, Leaderboard, Sentence, WorkerList
from dcengine_magics.line_answers import InvalidLine
from dcengine_magics.lines import NAMES
from tests.engines import embedded


def divide(by: int) -> float:
    return 1 / by


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    """An engine with a batch, a job that failed, one that waits for ever, and one that succeeded in a project."""
    tags = ["site=attic,nickname=ada", "site=lab,gpu.memory=8GiB,nickname=grace"]
    with embedded(tmp_path_factory.mktemp("lines") / "work.db", processes=False, worker_tags=tags) as engine:
        project = dcengine.Project("photos")
        project.stage(divide)
        project.add([4])
        project.run()
        dcengine.map(divide, [1, 2, 0]).wait(30)
        dcengine.submit(divide, 0, tags="site=lab").exception(30)
        with pytest.warns(dcengine.NoMatchWarning):
            dcengine.submit(divide, 1, tags="gpu.memory>=16GiB")
        project.outputs()
        yield engine


@pytest.fixture(scope="module")
def shell(engine: dcengine.Engine) -> Iterator[InteractiveShell]:
    started = InteractiveShell.instance()
    dcengine_magics.load_ipython_extension(started)
    yield started
    dcengine_magics.unload_ipython_extension(started)
    InteractiveShell.clear_instance()


def waiting() -> int:
    (job,) = dcengine.list_jobs(state="open")
    return job.id


# ---- what they give back -------------------------------------------------------------------


def test_jobs_are_listed_newest_first_with_batches_beside_them(shell: InteractiveShell) -> None:
    found = shell.run_line_magic("jobs", "")

    assert isinstance(found, JobList)
    assert [job.state for job in found] == ["open", "failed", "succeeded"]
    assert [(batch.count, batch.failed) for batch in found.batches] == [(3, 1)]
    assert "photos/1" in repr(found)


def test_jobs_are_chosen_by_state_and_project_and_number(shell: InteractiveShell) -> None:
    failed = shell.run_line_magic("jobs", "--state failed")
    of_project = shell.run_line_magic("jobs", "--project photos -n 5")

    assert [job.reason for job in failed] == ["ZeroDivisionError: division by zero"]
    assert len(failed.batches) == 1
    assert ([job.number for job in of_project], of_project.batches) == ([1], [])
    assert [job.state for job in shell.run_line_magic("jobs", "-n 1")] == ["open"]


def test_jobs_are_chosen_by_whatever_is_known_of_them_a_page_at_a_time(shell: InteractiveShell) -> None:
    whole = shell.run_line_magic("jobs", "--text divide")
    first = shell.run_line_magic("jobs", "--text divide -n 2")
    second = shell.run_line_magic("jobs", f"--text divide -n 2 --before {first.older}")

    assert [job.id for job in [*first, *second]] == [job.id for job in whole]
    assert (first.batches, whole.older, second.before) == ([], None, first.older)
    assert f"older ones: before={first.older}" in repr(first)
    assert shell.run_line_magic("jobs", "--stage nowhere") == []
    assert pickle.loads(pickle.dumps(first)).wanted == first.wanted


def test_a_job_and_a_project_are_shown_with_what_is_known_of_them(shell: InteractiveShell) -> None:
    bundle, _ = shell.display_formatter.format(shell.run_line_magic("job", "photos/1"))  # type: ignore[union-attr]
    project = shell.run_line_magic("project", "photos")
    board, _ = shell.display_formatter.format(project)  # type: ignore[union-attr]

    assert "in   4" in bundle["text/plain"]
    assert "out  0.25" in bundle["text/plain"]
    assert project.name == "photos"
    assert "1 of 1 jobs" in board["text/plain"]
    assert "tasks done in the last hour: 1" in board["text/plain"]
    assert "<svg" in board["text/html"]


def test_workers_are_listed_or_matched_with_an_expression_as_it_stands(shell: InteractiveShell) -> None:
    all_of_them = shell.run_line_magic("workers", "")
    matched = shell.run_line_magic("workers", "gpu.memory>=4GiB & site==lab")

    assert isinstance(all_of_them, WorkerList)
    assert sorted(worker.contributor for worker in all_of_them) == ["ada", "grace"]
    assert isinstance(matched, Explained)
    assert [worker.matches for worker in matched.workers].count(True) == 1
    for same in ('"gpu.memory>=4GiB & site==lab"', "--tags gpu.memory>=4GiB & site==lab"):
        assert shell.run_line_magic("workers", same) == matched
    assert shell.run_line_magic("workers", 'site=="lab" | site=="attic"') == "2 of 2 workers match"


def test_why_takes_an_id_a_place_in_a_project_and_the_name_of_a_handle(shell: InteractiveShell) -> None:
    shell.user_ns["mine"] = dcengine.job(waiting())
    by_id = shell.run_line_magic("why", str(waiting()))

    assert isinstance(by_id, Sentence)
    assert "nearest: " in by_id
    assert repr(by_id) == str(by_id)
    assert shell.run_line_magic("why", "mine") == by_id
    assert "succeeded" in shell.run_line_magic("why", "photos/1")


def test_a_leaderboard_is_that_of_the_project_and_span(shell: InteractiveShell) -> None:
    board = shell.run_line_magic("leaderboard", "photos --span week")

    assert isinstance(board, Leaderboard)
    assert (sum(row.tasks for row in board), board.project, board.span) == (1, "photos", "week")
    assert shell.run_line_magic("leaderboard", "").project == "functions"


def test_in_a_notebook_an_answer_is_a_table_and_in_a_console_text(shell: InteractiveShell) -> None:
    for line in ("jobs", "workers", f"why {waiting()}", "leaderboard", "workers site==lab"):
        name, _, rest = line.partition(" ")
        bundle, _ = shell.display_formatter.format(shell.run_line_magic(name, rest))  # type: ignore[union-attr]

        assert set(bundle) == {"text/html", "text/plain"}
        assert "<div" in bundle["text/html"]
        assert "<div" not in bundle["text/plain"]


# ---- what they refuse, and help with -------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("jobs --state done", InvalidLine, "'done'.*open.*succeeded"),
        ("jobs --sate open", InvalidLine, "--sate"),
        ("jobs -n 0", InvalidLine, "'0' is no number from 1 to 1,000"),
        ("jobs -n many", InvalidLine, "'many'"),
        ("jobs 'x", InvalidLine, "closing quotation"),
        ("jobs --project nope", dcengine.NotFound, "nope"),
        ("jobs --before x", InvalidLine, "'x' is no id"),
        ("job 999999", dcengine.NotFound, "999999"),
        ("project", InvalidLine, "There are: .*photos"),
        ("project nope", dcengine.NotFound, "nope"),
        ("workers gpu &", dcengine.InvalidTags, "gpu &"),
        ("why", InvalidLine, "ID"),
        ("why 1 2", InvalidLine, "2"),
        ("why 999999", dcengine.NotFound, "999999"),
        ("why photos/99", dcengine.NotFound, "99"),
        ("why nobody", dcengine.InvalidOption, "'nobody'.*photos/17"),
        ("why number", InvalidLine, "number is of type int"),
        ("leaderboard nope", dcengine.NotFound, "nope"),
        ("leaderboard --span year", InvalidLine, "'year'.*week"),
    ],
)
def test_a_wrong_line_is_refused_clearly_and_without_frames_of_ours(
    shell: InteractiveShell, line: str, error: type[Exception], said: str
) -> None:
    shell.user_ns["number"] = 3
    name, _, rest = line.partition(" ")

    with pytest.raises(error, match=said) as caught:
        shell.run_line_magic(name, rest)
    shown: Any = caught.value
    assert shown._render_traceback_() == [f"{error.__name__}: {caught.value}"]


def test_help_says_what_may_stand_behind_a_line(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        assert shell.run_line_magic(name, "--help") is None
        assert f"%{name} " in capsys.readouterr().out


def test_the_tab_key_offers_what_may_stand_there(shell: InteractiveShell) -> None:
    shell.user_ns["mine"] = dcengine.job(waiting())

    def offered(line: str) -> list[str]:
        return [str(each) for each in shell.complete("", line, len(line))[1]]

    assert offered("%jobs --state f") == ["failed"]
    assert "--project" in offered("%jobs --")
    assert offered("%jobs --project ph") == ["photos"]
    assert offered("%project ph") == ["photos"]
    assert str(waiting()) in offered("%job ")
    assert offered("%leaderboard ph") == ["photos"]
    assert offered("%leaderboard --span w") == ["week"]
    assert {"mine", str(waiting())} <= set(offered("%why "))
    assert "gpu.memory" in offered("%workers gpu")
