"""``dcengine project`` and what repairs projects, over an engine in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from dcengine import codec
from dcengine.cli import app
from dcengine.verbs import Flag, HistoryEntry, JobStatus, ProjectStatus, StageOutput, StageStatus, Try
from tests.unit.linked import DoubleLink


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DoubleLink]:
    opened = DoubleLink()
    monkeypatch.setattr("dcengine.api.current", lambda: opened)
    monkeypatch.chdir(tmp_path)
    for name in ("DCENGINE_URL", "DCENGINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield opened
    opened.loop.close()


@pytest.fixture
def photos(link: DoubleLink) -> DoubleLink:
    stages = [
        StageStatus(name="a", title="CPU", kind="lease", tags="cpu", counts={"succeeded": 2, "failed": 1, "queued": 4}),
        StageStatus(name="join", tags="", shape="gather", counts={"blocked": 1}, is_paused=True),
    ]
    link.engine.project_statuses["photos"] = ProjectStatus(
        name="photos", is_paused=False, stages=stages, open=5, succeeded=2, failed=1, workers=["w1"]
    )
    reason = codec.pack_failure(codec.failure_from(ValueError("\x1b[31mno light")))
    link.engine.stage_outputs["photos/a"] = [StageOutput(107, 7, "failed", reason, "a")]
    link.engine.statuses[107] = JobStatus(
        id=107, project="photos", number=7, name="a", state="failed", task_state="failed", stage="a", worker="w1",
        attempt=3,
    )  # fmt: skip
    return link


def run(*arguments: str, input: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=input)


def good(*arguments: str, input: str = "") -> str:
    result = run(*arguments, input=input)
    assert result.exit_code == 0, result.output
    return result.stdout


def columns(text: str) -> str:
    return re.sub(r"\s+", " ", text)


COMMANDS = [f"project {name}" for name in ("create", "list", "show", "run", "resume", "pause", "cancel", "delete")]
REPAIRS = [f"jobs {name}" for name in ("failed", "retry", "edit", "history")]


@pytest.mark.parametrize("command", [*COMMANDS, *REPAIRS])
def test_every_command_explains_itself_and_has_json(command: str) -> None:
    text = good(*command.split(), "--help")

    assert "Usage:" in text
    assert "--json" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("project", "create"), ("project", "create", "x", "--votes", "5"), ("project", "show"),
        ("project", "create", "x", "--lease", "A", "--votes", "0"), ("jobs", "retry"),
        ("jobs", "retry", "1", "--project", "photos"), ("jobs", "retry", "1", "--stage", "a"),
        ("jobs", "retry", "1", "--cancelled"), ("jobs", "edit", "1"),
        ("jobs", "edit", "1", "--json", "1", "--text", "1"),
        ("jobs", "cancel", "1", "--project", "photos"), ("jobs", "cancel", "--unfinished", "--project", "photos"),
        ("leaderboard", "photos", "--span", "year"), ("jobs", "retry", "x"),
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_status_2(photos: DoubleLink, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


# ---- create --------------------------------------------------------------------------------


def test_titles_make_lease_stages_and_what_comes_next_is_said(link: DoubleLink) -> None:
    text = good("project", "create", "laion", "--lease", "CPU,GPU,Pack")

    assert text.splitlines() == [
        "project laion with 3 stages: a (CPU), b (GPU), c (Pack)",
        "next: `dcengine jobs add laion --txt FILE`, then `dcengine project run laion`",
    ]
    (declared,) = [call[1] for call in link.asked]
    assert [(stage.kind, stage.votes) for stage in declared.stages] == [("lease", 5)] * 3
    good("project", "create", "laion", "--lease", "CPU", "--votes", "2")
    assert link.asked[-1][1].stages[0].votes == 2


def test_a_file_makes_a_project(link: DoubleLink, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('name = "sums"\n[[stage]]\nname = "add"\nfunction = "math:fsum"\n')

    assert "project sums with 1 stage: add" in good("project", "create", "p.toml")
    assert json.loads(good("project", "create", "p.toml", "--json"))["name"] == "sums"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("no.toml",), "No such file"),
        (("laion",), "with --lease"),
        (("laion", "--lease", "A,,B"), "names with commas"),
        (("laion", "--lease", ",".join("abcdefghijklmnopqrstuvwxyzä")), "27 of them"),
        (("a/b", "--lease", "A"), "'a/b'"),
    ],
)
def test_what_makes_no_project_is_a_clear_error(link: DoubleLink, arguments: tuple[str, ...], complaint: str) -> None:
    result = run("project", "create", *arguments)

    assert (result.exit_code, link.asked) == (1, [])
    assert complaint in result.stderr


# ---- list, show, steer ---------------------------------------------------------------------


def test_projects_are_listed(photos: DoubleLink) -> None:
    text = columns(good("project", "list"))

    assert "photos runs a (CPU), join 5 2 1 0 w1" in text
    assert json.loads(good("project", "list", "--json"))[0]["open"] == 5
    del photos.engine.project_statuses["photos"]
    assert "dcengine project create" in good("project", "list")


def test_a_project_is_shown_with_its_stages(photos: DoubleLink) -> None:
    text = columns(good("project", "show", "photos"))

    assert "jobs 3 of 8 have ended" in text
    assert "stage what tags queued blocked succeeded failed" in text
    assert "a (CPU) lease cpu 4 0 2 1" in text
    assert "join gather, paused 0 1 0 0" in text
    assert "dcengine jobs failed photos" in text
    assert json.loads(good("project", "show", "photos", "--json"))["failed"] == 1
    assert run("project", "show", "nobody").exit_code == 1


def test_a_project_that_is_paused_or_empty_says_what_comes_next(photos: DoubleLink) -> None:
    paused = ProjectStatus(name="two words", is_paused=True, stages=[])
    photos.engine.project_statuses["two words"] = paused

    text = columns(good("project", "show", "two words"))
    assert "state paused; `dcengine project run 'two words'` lets its jobs go on" in text
    assert "jobs none yet; `dcengine jobs add 'two words' --txt FILE` adds some" in text


def test_projects_and_stages_are_paused_and_run(photos: DoubleLink) -> None:
    assert good("project", "pause", "photos", "--stage", "a") == "stage a of project photos is paused; open jobs: 5\n"
    assert good("project", "resume", "photos", "--stage", "a") == "stage a of project photos runs; open jobs: 5\n"
    assert good("project", "pause", "photos") == "project photos is paused; open jobs: 5\n"
    assert columns(good("project", "list")).count("photos paused") == 1
    assert good("project", "run", "photos") == "project photos runs; open jobs: 5\n"
    assert [call[-1] for call in photos.asked if "stage" in call[-1]] == [
        {"stage": "a"}, {"stage": "a"}, {"stage": None}, {"stage": None},
    ]  # fmt: skip


def test_a_warning_is_told_when_it_runs(photos: DoubleLink) -> None:
    status = photos.engine.project_statuses["photos"]
    photos.engine.project_statuses["photos"] = replace(status, warning="nobody can run stage 'join'")

    assert "nobody can run stage 'join'" in run("project", "run", "photos").stderr


def test_cancel_ends_the_open_jobs_of_a_project(photos: DoubleLink) -> None:
    assert good("project", "cancel", "photos") == "jobs of photos cancelled: 5\n"
    assert json.loads(good("jobs", "cancel", "--project", "photos", "--json")) == {"cancelled": 0}


def test_delete_says_what_goes_and_asks(photos: DoubleLink) -> None:
    what = "project photos: 8 jobs (5 open, 0 running), their values, the credit of 2 contributors"

    refused = run("project", "delete", "photos", input="n\n")
    assert refused.exit_code == 1
    assert f"this deletes {what}" in refused.stderr
    assert "photos" in photos.engine.project_statuses

    assert good("project", "delete", "photos", input="y\n").endswith(f"deleted {what}\n")
    assert "photos" not in photos.engine.project_statuses
    assert run("project", "delete", "photos", "--yes").exit_code == 1  # there is none


def test_delete_with_yes_does_not_ask(photos: DoubleLink) -> None:
    assert json.loads(good("project", "delete", "photos", "--yes", "--json"))["jobs"] == 8


# ---- repairs -------------------------------------------------------------------------------


def test_failed_jobs_are_listed_with_their_reasons(photos: DoubleLink) -> None:
    text = good("jobs", "failed", "photos")

    assert r"photos/7 a 3 w1 ValueError: \x1b[31mno light" in columns(text)
    assert "\x1b" not in text
    (letter,) = json.loads(good("jobs", "failed", "photos", "--json"))
    assert (letter["number"], letter["stage"], letter["runs"], letter["worker"]) == (7, "a", 3, "w1")
    assert good("jobs", "failed", "photos", "--stage", "join") == "no job of photos has failed at join\n"
    assert json.loads(good("jobs", "failed", "photos", "--stage", "join", "--json")) == []


def test_jobs_run_again_one_by_one_or_all_of_a_project(photos: DoubleLink) -> None:
    assert good("jobs", "retry", "107", "photos/7") == "jobs that run again: 1\n"
    assert ("retry", [107, 107], {}) in photos.asked
    assert good("jobs", "retry", "--project", "photos", "--stage", "a", "--cancelled") == "jobs that run again: 1\n"
    assert photos.asked[-1] == ("retry_project", "photos", {"stage": "a", "cancelled": True})


def test_an_input_is_edited_as_json_or_text(photos: DoubleLink) -> None:
    assert good("jobs", "edit", "photos/7", "--json", '{"a": 1}') == (
        "job 107 has another input at stage a; it is queued\n"
    )
    assert codec.loads(photos.engine.inputs[107]) == {"a": 1}
    good("jobs", "edit", "107", "--text", "{not json")
    assert codec.loads(photos.engine.inputs[107]) == "{not json"
    refused = run("jobs", "edit", "107", "--json", "{not json")
    assert refused.exit_code == 1
    assert "--text takes any text" in refused.stderr
    photos.engine.statuses[7] = replace(photos.engine.statuses[107], id=7, project="functions")
    assert "submit it with other arguments" in run("jobs", "edit", "7", "--text", "x").stderr


def test_the_history_of_a_job_is_shown(photos: DoubleLink) -> None:
    flag = Flag(voter="bob", reason="black", worker="w2", at=1.0)
    tried = Try(attempt=1, worker="w2", what="retried", reason="ValueError: dark", at=1.0)
    facts = {"task": 1, "attempt": 1, "worker": "w1", "contributor": "ann", "finished": 5.0}
    photos.engine.histories[107] = [
        HistoryEntry(
            stage="a", generation=0, state="returned", input=codec.dumps("photo.png"), output=codec.dumps({1, 2}),
            tries=[tried], **facts,
        ),
        HistoryEntry(stage="join", generation=0, state="returned", input=None, output=None, flags=[flag], **facts),
        HistoryEntry(
            stage="a", generation=1, state="queued", input=b"cno_such_module\nThing\n.", output=None, **facts
        ),
    ]  # fmt: skip

    text = columns(good("jobs", "history", "photos/7"))
    assert "a 0 returned w1" in text
    assert "'photo.png' {1, 2} 1 x ValueError: dark" in text
    assert "flagged by bob: black" in text
    assert "cannot be shown here: No module named" in text
    first, second, third = json.loads(good("jobs", "history", "107", "--json"))
    assert (first["input"], first["output"], first["tries"][0]["reason"]) == ("photo.png", "{1, 2}", "ValueError: dark")
    assert (second["input"], second["flags"][0]["voter"]) == (None, "bob")
    assert "cannot be shown here" in third["input"]


def test_jobs_are_listed_by_project(photos: DoubleLink) -> None:
    assert "photos/7" in good("jobs", "--project", "photos")
    assert json.loads(good("jobs", "--project", "other", "--json")) == {"jobs": [], "batches": []}


def test_jobs_of_projects_are_listed_with_their_stages(photos: DoubleLink) -> None:
    status = photos.engine.statuses[107]
    photos.engine.statuses[107] = replace(status, name="module.function", stage="a")

    assert "job stage state" in columns(good("jobs", "--project", "photos"))
    assert "photos/7 a " in columns(good("jobs", "--project", "photos"))


def test_failed_jobs_of_an_unknown_stage_are_an_error(photos: DoubleLink) -> None:
    result = run("jobs", "failed", "photos", "--stage", "nope")

    assert result.exit_code == 1
    assert "`dcengine project show PROJECT` lists" in result.stderr


def test_leaderboards_have_spans(photos: DoubleLink) -> None:
    assert "Leaderboard of photos" in good("leaderboard", "photos", "--span", "week")
    assert photos.asked[-1] == ("leaderboard", "photos", {"span": "week", "limit": 50})
    assert len(json.loads(good("leaderboard", "photos", "--limit", "1", "--json"))) == 1
    good("leaderboard", "--project", "photos")
    assert photos.asked[-1][1] == "photos"
