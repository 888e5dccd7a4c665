"""The command line over an engine in memory: what it asks, prints and returns."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

import dcengine
from dcengine import codec, errors
from dcengine.cli import app, choosing
from dcengine.cli.showing import clean, duration
from dcengine.verbs import JobStatus, Progress, WorkerStatus
from tests.unit.engine_double import EngineDouble, batch_of, submission_of


class WorkingLink:
    """A link to the double that runs each job as soon as it is asked about."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.engine = EngineDouble()
        self.lazy = False  #: nothing runs

    def call(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        if verb == "result" and not self.lazy:
            self.loop.run_until_complete(self._work(args[0]))
        return self.loop.run_until_complete(getattr(self.engine, verb)(*args, **kwargs))

    async def _work(self, id: int) -> None:
        submission = self.engine.submissions[id - 1]
        assert isinstance(submission, dcengine.verbs.Submission)
        args, kwargs = codec.loads(submission.input)
        try:
            value = codec.loads(submission.function.code)(*args, **kwargs)
        except Exception as error:
            await self.engine.end(id, "failed", codec.pack_failure(codec.failure_from(error)))
        else:
            await self.engine.finish(id, value)


@pytest.fixture
def link() -> Iterator[WorkingLink]:
    opened = WorkingLink()
    yield opened
    opened.loop.close()


@pytest.fixture
def chosen(link: WorkingLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str | None, ...]]:
    """Put the double behind `dcengine.api`; return how commands chose it."""
    choices: list[tuple[str | None, ...]] = []

    def connect(url: str, token: str | None = None) -> None:
        choices.append(("connect", url, token))

    def use_db(path: str) -> None:
        choices.append(("use_db", path))

    def current() -> choosing.Link:
        choices.append(("current",))
        return link

    for function in (connect, use_db, current):
        monkeypatch.setattr(f"dcengine.api.{function.__name__}", function)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    for name in ("DCENGINE_URL", "DCENGINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return choices


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def good(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


# ---- help and usage ------------------------------------------------------------------------


COMMANDS = [
    "serve", "submit", "workers", "status", "leaderboard", "join", "doctor", "jobs", "export", "backup", "vacuum",
    "stop",
]  # fmt: skip


def test_the_help_names_every_command() -> None:
    text = good("--help")

    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "jobs list", "jobs show", "jobs result", "jobs why", "jobs cancel"])
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage:" in good(*command.split(), "--help")
    assert "Usage:" in good(*command.split(), "-h")


@pytest.mark.parametrize(
    "command",
    [
        *("jobs list", "jobs show", "jobs result", "jobs why", "jobs cancel"),
        *("workers list", "workers tag", "status", "leaderboard", "doctor"),
    ],
)
def test_every_listing_has_json(command: str) -> None:
    assert "--json" in good(*command.split(), "--help")


def test_the_version_is_printed() -> None:
    assert good("--version") == f"dcengine {dcengine.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("unknown",),
        ("submit",),
        ("jobs", "cancel"),
        ("jobs", "cancel", "3", "--unfinished"),
        ("jobs", "why", "abc"),
        ("jobs", "--limit", "0"),
        ("status", "--url", "http://h:1", "--db", "a.db"),
        ("status", "--token", "T"),
        ("serve", "--workers", "2", "--scheduler", "tcp://h:1"),
        ("submit", "m:f", "--on-no-match", "perhaps"),
    ],
)
@pytest.mark.usefixtures("chosen")
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


# ---- which engine --------------------------------------------------------------------------


def test_options_choose_the_engine(chosen: list[tuple[str | None, ...]]) -> None:
    good("status")
    good("status", "--url", "http://h:1/?token=T")
    good("status", "--url", "http://h:1", "--token", "T")
    good("status", "--db", "work.db")

    assert [choice for choice in chosen if choice != ("current",)] == [
        ("connect", "http://h:1/?token=T", None),
        ("connect", "http://h:1", "T"),
        ("use_db", "work.db"),
    ]
    assert chosen.count(("current",)) == 4


def test_a_token_option_goes_with_the_address_of_the_environment(
    chosen: list[tuple[str | None, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCENGINE_URL", "http://h:1")

    good("status", "--token", "T")

    assert chosen == [("connect", "http://h:1", "T"), ("current",)]


def test_an_error_of_ours_is_a_paragraph_and_status_1(link: WorkingLink, chosen: object) -> None:
    link.engine.failing = errors.EngineUnreachable("http://h:1", "refused")

    result = run("status")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("no engine answers at http://h:1: refused; `dcengine doctor`")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(link: WorkingLink, chosen: object) -> None:
    link.engine.failing = errors.EngineUnreachable("http://h:1", "refused")

    assert "Traceback" in run("status", "--debug").stderr


# ---- submit --------------------------------------------------------------------------------


def test_submit_prints_the_id_alone(link: WorkingLink, chosen: object) -> None:
    assert good("submit", "math:sqrt", "16") == "1\n"
    assert link.engine.statuses[1].name == "math.sqrt"


def test_submit_waits_for_the_result_and_prints_it(chosen: object) -> None:
    assert good("submit", "math:sqrt", "16", "--wait") == "4.0\n"
    assert json.loads(good("submit", "math:sqrt", "16", "--wait", "--json")) == {
        "id": 2,
        "state": "succeeded",
        "result": 4.0,
    }


def test_arguments_are_json_where_they_parse_and_text_otherwise(chosen: object, tmp_path: Path) -> None:
    (tmp_path / "local_module.py").write_text("class Box:\n    def show(*args):\n        return repr(args)\n")

    printed = good("submit", "local_module:Box.show", "--wait", "--", "-1", "1.5", '{"a": [null]}', "text", "true", "")

    assert printed == repr("(-1, 1.5, {'a': [None]}, 'text', True, '')") + "\n"


def test_options_of_submit_arrive(link: WorkingLink, chosen: object) -> None:
    good(
        *("submit", "math:sqrt", "4", "--tags", "gpu", "--retries", "2", "--timeout", "1.5", "--priority", "3"),
        *("--key", "k", "--on-no-match", "fail"),
    )

    (sent,) = link.engine.submissions
    assert isinstance(sent, dcengine.verbs.Submission)
    assert sent.key == "k"
    assert sent.options == dcengine.verbs.Options(tags="gpu", retries=2, timeout=1.5, priority=3, on_no_match="fail")


def test_a_failed_job_shows_its_remote_traceback_and_status_1(chosen: object) -> None:
    result = run("submit", "math:sqrt", "--wait", "--", "-1")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "job 1 failed: ValueError: " in result.stderr
    assert "Traceback" in result.stderr

    as_json = run("submit", "math:sqrt", "--wait", "--json", "--", "-1")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["state"] == "failed"


@pytest.mark.parametrize(
    "function", ["math", "math:", ":sqrt", "no_such_module:f", "math:no_such_name", "math:pi", "math:sqrt.x.y"]
)
def test_a_function_that_is_not_there_is_refused(link: WorkingLink, chosen: object, function: str) -> None:
    result = run("submit", function)

    assert result.exit_code == 1
    assert "cannot be" in result.stderr
    assert link.engine.submissions == []


# ---- the result of a job -------------------------------------------------------------------


def test_the_result_of_a_job_is_printed_as_python_writes_it(chosen: object) -> None:
    good("submit", "builtins:sorted", "bca")
    good("submit", "builtins:complex", "1", "2")

    assert good("jobs", "result", "1") == "['a', 'b', 'c']\n"
    assert json.loads(good("jobs", "result", "1", "--json")) == {
        "id": 1,
        "state": "succeeded",
        "result": ["a", "b", "c"],
    }
    assert json.loads(good("jobs", "result", "2", "--json"))["result"] == "(1+2j)"


def test_the_result_of_a_failed_job_is_its_error_with_the_remote_traceback(chosen: object) -> None:
    good("submit", "math:sqrt", "--", "-1")

    result = run("jobs", "result", "1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "job 1 failed: ValueError: " in result.stderr
    assert "Traceback" in result.stderr


def test_the_result_of_a_cancelled_job_is_that_it_was_cancelled(link: WorkingLink, chosen: object) -> None:
    link.lazy = True
    good("submit", "math:sqrt", "4")
    good("jobs", "cancel", "1")

    result = run("jobs", "result", "1")
    as_json = run("jobs", "result", "1", "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert "job 1 was cancelled" in result.stderr
    assert json.loads(as_json.stdout)["state"] == "cancelled"


def test_a_job_without_a_result_says_why_and_how_to_wait(link: WorkingLink, chosen: object) -> None:
    link.lazy = True
    good("submit", "math:sqrt", "4")

    result = run("jobs", "result", "1", "--wait", "0.01")
    as_json = run("jobs", "result", "1", "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert "job 1 is queued: no worker is free; --wait SECONDS waits" in result.stderr
    assert json.loads(as_json.stdout) == {"id": 1, "state": "open", "why": "job 1 is queued: no worker is free"}


def test_a_value_made_of_what_is_missing_here_is_a_clear_error(link: WorkingLink, chosen: object) -> None:
    good("submit", "math:sqrt", "4")
    link.loop.run_until_complete(link.engine.end(1, "succeeded", b"cno_such_module\nThing\n."))
    link.lazy = True

    result = run("jobs", "result", "1")

    assert result.exit_code == 1
    assert "No module named 'no_such_module'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_job_that_is_shown_says_how_to_get_its_result(link: WorkingLink, chosen: object) -> None:
    good("submit", "math:sqrt", "4")

    assert "dcengine jobs result 1 --wait SECONDS" in good("jobs", "1")
    link.loop.run_until_complete(link.engine.finish(1, 2.0))
    assert "dcengine jobs result 1\n" in good("jobs", "1")


# ---- listings ------------------------------------------------------------------------------


def fill(link: WorkingLink) -> None:
    link.call("submit", submission_of(abs, -1))
    link.call("submit", submission_of(abs, -2))
    link.loop.run_until_complete(link.engine.finish(1, 1))
    link.call("submit_batch", batch_of(codec.pack_function(abs), 1234))
    working = replace(link.engine.statuses[2], task_state="leased", worker="w1", progress=Progress(3, 10, "tiles"))
    link.engine.statuses[2] = working


def test_jobs_lists_jobs_and_batches(link: WorkingLink, chosen: object) -> None:
    fill(link)

    text = good("jobs")

    assert "1,234" in text
    assert "leased" in text
    assert "3 of 10 tiles" in text
    listed = json.loads(good("jobs", "--json"))
    assert [job["id"] for job in listed["jobs"]] == [2, 1]
    assert [batch["count"] for batch in listed["batches"]] == [1234]
    assert [job["id"] for job in json.loads(good("jobs", "--json", "--state", "succeeded"))["jobs"]] == [1]


def test_a_number_after_jobs_shows_that_job_and_its_output(link: WorkingLink, chosen: object) -> None:
    fill(link)
    link.engine.printed[2] = "working\n"

    text = good("jobs", "2")

    assert "functions/2" in text
    assert "working" in text
    shown = json.loads(good("jobs", "2", "--json"))
    assert (shown["job"]["worker"], shown["output"]) == ("w1", "working\n")
    assert json.loads(good("jobs", "1", "--batch", "--json"))["batch"]["count"] == 1234
    assert "0 of 1,234" in good("jobs", "show", "1", "--batch")


def test_an_unknown_job_is_an_error(chosen: object) -> None:
    result = run("jobs", "77")

    assert result.exit_code == 1
    assert "no job 77" in result.stderr


def test_why_says_why(link: WorkingLink, chosen: object) -> None:
    fill(link)

    assert good("jobs", "why", "2") == "job 2 is leased: no worker is free\n"
    assert json.loads(good("jobs", "why", "2", "--json"))["id"] == 2


def test_cancel_ends_one_or_all(link: WorkingLink, chosen: object) -> None:
    fill(link)
    link.call("submit", submission_of())

    assert good("jobs", "cancel", "2") == "job 2 is cancelled\n"
    assert good("jobs", "cancel", "1", "--batch") == "batch 1 is cancelled\n"
    assert json.loads(good("jobs", "cancel", "--unfinished", "--json")) == {"cancelled": 1}


def test_workers_shows_what_they_offer(link: WorkingLink, chosen: object) -> None:
    assert "dcengine join" in good("workers")
    link.engine.fleet.append(
        WorkerStatus(
            name="w1",
            address="tcp://h:1",
            contributor="alice",
            state="unfit",
            slots=2,
            busy=1,
            tags={"gpu": None, "gpu.memory": "16GiB"},
            reason="no cloudpickle",
        )
    )

    text = good("workers")

    assert "gpu, gpu.memory=16GiB" in text
    assert "unfit: no cloudpickle" in text
    assert json.loads(good("workers", "--json"))[0]["contributor"] == "alice"
    explained = good("workers", "--tags", "tpu")
    assert explained.startswith("no worker matches tpu\n")
    assert "lacks tpu" in explained
    assert json.loads(good("workers", "--tags", "tpu", "--json"))["workers"][0]["lacking"] == ["tpu"]


def test_a_worker_is_given_other_tags(link: WorkingLink, chosen: object) -> None:
    link.engine.fleet.append(
        WorkerStatus(name="w1", address="tcp://h:1", contributor="a", state="ready", slots=1, busy=0, tags={})
    )

    assert good("workers", "tag", "w1", "gpu,site=lab") == "w1 offers gpu, site=lab\n"
    assert json.loads(good("workers", "tag", "w1", "gpu", "--json"))["tags"] == {"gpu": None}


def test_status_and_leaderboard_are_shown(chosen: object) -> None:
    assert "double.db" in good("status")
    assert "1 queued" in good("status")
    assert json.loads(good("status", "--json"))["counts"] == {"queued": 1}
    assert "75.0%" in good("leaderboard")
    assert json.loads(good("leaderboard", "--json"))[0] == {"nickname": "alice", "tasks": 3, "share": 0.75, "rank": 1}


def test_the_place_of_one_contributor_is_told(chosen: object) -> None:
    told = good("leaderboard", "photos", "--of", "alice", "--span", "day")

    assert told.startswith("alice is number ")
    assert told.rstrip().endswith("of the last 24 hours")
    assert json.loads(good("leaderboard", "photos", "--of", "alice", "--json"))["nickname"] == "alice"


def test_a_job_of_a_project_is_shown_and_named_by_its_place_there(link: WorkingLink, chosen: object) -> None:
    fill(link)
    link.engine.statuses[2] = replace(link.engine.statuses[2], project="photos", number=17, stage="crop")

    assert "photos/17" in good("jobs")
    assert "crop" in good("jobs", "photos/17")
    assert json.loads(good("jobs", "photos/17", "--json"))["job"]["id"] == 2
    assert "job 2 is" in good("jobs", "why", "photos/17")
    assert good("jobs", "cancel", "photos/17") == "job 2 is cancelled\n"


@pytest.mark.parametrize("name", ["0", "photos", "photos/", "/3", "photos/x", "-"])
def test_what_names_no_job_is_refused(chosen: object, name: str) -> None:
    assert run("jobs", "why", name).exit_code == 2


def test_what_jobs_say_never_steers_the_terminal(link: WorkingLink, chosen: object) -> None:
    fill(link)
    evil = "\x1b]0;owned\x07\x1b[2J\r[red]name[/red]"
    link.engine.statuses[2] = replace(link.engine.statuses[2], name=evil)
    link.engine.printed[2] = evil

    for text in (good("jobs"), good("jobs", "2"), good("jobs", "2", "--json")):
        assert not {"\x1b", "\x07", "\r"} & set(text)
    assert "[red]name[/red]" in good("jobs")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ü 日本", "plain ü 日本"), ("a\x1b[1m", "a\\x1b[1m"), ("a\n\tb", "a\n\tb"), ("\u202e", "\\u202e")],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7265, "2 h 1 min"), (90000, "1 d 1 h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_link_of_the_tests_has_the_shape_that_commands_expect(link: WorkingLink) -> None:
    shape: choosing.Link = link

    job = shape.call("submit", submission_of(abs, -5))

    assert isinstance(job, JobStatus)
