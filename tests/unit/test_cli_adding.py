"""``dcengine jobs add`` over an engine in memory: what it asks, says and returns."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dcengine import importing
from dcengine.cli import app
from dcengine.errors import EngineUnreachable
from dcengine.verbs import ItemsSubmission
from tests.unit.import_double import Engine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    """Put an engine in memory behind the command line, in an empty folder."""
    double = Engine()
    monkeypatch.setattr("dcengine.api.current", lambda: double)
    monkeypatch.setattr(importing, "BLOCK_ITEMS", 10)
    monkeypatch.chdir(tmp_path)
    for name in ("DCENGINE_URL", "DCENGINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return double


def add(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["jobs", "add", *arguments], input=given)


def good(*arguments: str, given: bytes | None = None) -> Result:
    result = add(*arguments, given=given)
    assert result.exit_code == 0, result.output
    return result


def told(*arguments: str, given: bytes | None = None) -> str:
    """Return the one line that is said of a mistake."""
    result = add(*arguments, given=given)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    return line


def test_the_lines_of_a_text_are_added(engine: Engine) -> None:
    Path("list.txt").write_text("one\ntwo\nthree\n")

    said = good("photos", "--txt", "list.txt").stdout

    assert engine.values == ["one", "two", "three"]
    assert said.startswith("3 job(s) added to photos in ")


def test_json_and_lines_of_json_are_added_as_values(engine: Engine) -> None:
    Path("list.json").write_text('["one", {"url": "two"}, 3.5]')
    Path("list.ndjson").write_text('"four"\n[5]\n')

    good("photos", "--json", "list.json")
    good("photos", "--ndjson", "list.ndjson")

    assert engine.values == ["one", {"url": "two"}, 3.5, "four", [5]]


def test_a_pattern_is_added(engine: Engine) -> None:
    good("photos", "--brace", "s3://x/{08..11}.tar")

    assert engine.values == [f"s3://x/{number:02}.tar" for number in range(8, 12)]


def test_standard_input_is_added_every_time_and_says_so(engine: Engine) -> None:
    first = good("photos", "-", given=b"one\ntwo\n")
    good("photos", "-", given=b"one\ntwo\n")

    assert engine.values == ["one", "two"] * 2
    assert "standard input has no name" in first.stderr
    assert "--import NAME gives it one" in first.stderr


def test_standard_input_with_a_name_can_be_taken_up_again(engine: Engine) -> None:
    said = good("photos", "-", "--import", "monday", given=b"one\ntwo\n").stderr
    good("photos", "-", "--import", "monday", given=b"one\ntwo\nthree\n")

    assert engine.values == ["one", "two", "three"]
    assert said == ""


def test_options_go_with_the_jobs(engine: Engine) -> None:
    began = time.time()
    options = ["--priority", "7", "--not-before", "+10m", "--keep", "2d", "--keys"]

    good("photos", "--brace", "{a,b}", *options)

    (submission,) = engine.submissions
    assert (submission.priority, submission.keep, submission.keys) == (7, 172800.0, ["a", "b"])
    assert submission.not_before is not None
    assert 595 < submission.not_before - began < 660


def test_keys_that_are_known_are_counted(engine: Engine) -> None:
    good("photos", "--brace", "{a,b}", "--keys")

    said = good("photos", "--brace", "{b,c}", "--keys").stdout

    assert engine.values == ["a", "b", "c"]
    assert "1 job(s) added" in said
    assert "1 of the others had their jobs already, by their keys" in said


def test_a_complete_import_says_that_all_of_it_is_there(engine: Engine) -> None:
    good("photos", "--brace", "{1..1000}")

    said = good("photos", "--brace", "{1..1000}").stdout

    assert len(engine.values) == 1000
    assert said.startswith("all 1,000 item(s) are there already (imported ")
    assert "--again adds them once more" in said


def test_a_file_that_grew_says_how_much_was_there(engine: Engine) -> None:
    Path("list.txt").write_text("one\ntwo\n")
    good("photos", "--txt", "list.txt")
    Path("list.txt").write_text("one\ntwo\nthree\n")

    said = good("photos", "--txt", "list.txt").stdout

    assert engine.values == ["one", "two", "three"]
    assert "1 job(s) added" in said
    assert "the first 2 item(s) were there already" in said


def test_the_same_file_is_the_same_import_from_whichever_folder(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "below").mkdir()
    Path("list.txt").write_text("one\ntwo\n")
    good("photos", "--txt", "list.txt")
    monkeypatch.chdir(tmp_path / "below")

    good("photos", "--txt", "../list.txt")

    assert engine.values == ["one", "two"]


def test_again_adds_all_of_it_once_more_each_time(engine: Engine) -> None:
    good("photos", "--brace", "{a,b}")
    good("photos", "--brace", "{a,b}", "--again")
    good("photos", "--brace", "{a,b}", "--again")

    assert engine.values == ["a", "b"] * 3
    names = [name for _, name in engine.records]
    assert names == ["brace {a,b}", "brace {a,b} (2)", "brace {a,b} (3)"]


def test_a_changed_file_is_refused_with_both_ways_out(engine: Engine) -> None:
    Path("list.txt").write_text("one\ntwo\n")
    good("photos", "--txt", "list.txt")
    Path("list.txt").write_text("ONE\ntwo\nthree\n")

    said = told("photos", "--txt", "list.txt")

    assert "stands at 2 item(s)" in said
    assert "--import OTHERNAME" in said
    assert "--again" in said
    assert engine.values == ["one", "two"]
    good("photos", "--txt", "list.txt", "--import", "second")
    assert engine.values == ["one", "two", "ONE", "two", "three"]


def test_a_long_pattern_gets_a_name_that_an_address_can_hold(engine: Engine) -> None:
    pattern = "{" + ",".join(f"photo-{number}" for number in range(300)) + "}"

    good("photos", "--brace", pattern)
    good("photos", "--brace", pattern)

    assert len(engine.values) == 300
    ((_, name),) = engine.records
    assert len(name) <= 200


def test_a_paused_project_says_how_it_goes_on(engine: Engine) -> None:
    engine.is_paused = True

    said = good("photos", "--brace", "{a,b}").stderr

    assert said == "photos is paused: `dcengine project run photos` lets its jobs go on\n"


def test_empty_lines_are_added_and_told_of(engine: Engine) -> None:
    Path("list.txt").write_text("one\n\ntwo\n\n")

    said = good("photos", "--txt", "list.txt").stderr

    assert engine.values == ["one", "", "two", ""]
    assert said == "empty lines among the items: 2\n"


@pytest.mark.parametrize(("option", "text"), [("--txt", ""), ("--json", "[]"), ("--ndjson", "\n\n")])
def test_a_source_without_items_adds_nothing_and_says_so(engine: Engine, option: str, text: str) -> None:
    Path("list").write_text(text)

    assert good("photos", option, "list").stdout == "list has no items; nothing was added\n"
    assert engine.submissions == []


# ---- stopped -------------------------------------------------------------------------------


def interrupting(engine: Engine, after: int) -> None:
    """Have Ctrl-C pressed when the engine has so many items."""

    def failing(submission: ItemsSubmission) -> Any:
        if len(engine.values) >= after:
            raise KeyboardInterrupt
        return None

    engine.failing = failing


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(engine: Engine) -> None:
    interrupting(engine, after=20)

    stopped = add("photos", "--brace", "{1..45}")

    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    (line,) = stopped.stderr.splitlines()
    assert line == "stopped: 20 item(s) of {1..45} are in photos; the same command goes on after them"
    engine.failing = lambda submission: None
    good("photos", "--brace", "{1..45}")
    assert engine.values == [str(number) for number in range(1, 46)]


def test_ctrl_c_in_a_second_round_names_it(engine: Engine) -> None:
    good("photos", "--brace", "{1..45}")
    interrupting(engine, after=65)

    stopped = add("photos", "--brace", "{1..45}", "--again")

    assert "with --import 'brace {1..45} (2)' instead of --again, goes on after them" in stopped.stderr
    engine.failing = lambda submission: None
    good("photos", "--brace", "{1..45}", "--import", "brace {1..45} (2)")
    assert len(engine.values) == 90


def test_ctrl_c_without_a_name_says_what_that_means(engine: Engine) -> None:
    interrupting(engine, after=20)

    stopped = add("photos", "-", given=b"line\n" * 45)

    assert "20 item(s) of standard input are in photos; without --import NAME" in stopped.stderr


def test_an_engine_that_is_gone_leaves_word_of_how_far_it_came(engine: Engine) -> None:
    gone = EngineUnreachable("http://127.0.0.1:1", "nobody listens")
    engine.failing = lambda submission: gone if len(engine.values) >= 20 else None

    failed = add("photos", "--brace", "{1..45}")

    assert failed.exit_code == 1
    so_far, error = failed.stderr.splitlines()
    assert so_far == "20 item(s) of {1..45} are in photos; the same command goes on after them"
    assert error.startswith("no engine answers at http://127.0.0.1:1")


# ---- mistakes ------------------------------------------------------------------------------


def test_a_list_that_breaks_says_where_and_how_many_were_added(engine: Engine) -> None:
    Path("list.json").write_text(json.dumps(list(range(25))).replace("23", "twenty-three"))

    said = told("photos", "--json", "list.json")

    assert said == (
        "list.json: no JSON value begins at line 1, character 84; the 20 item(s) before it are in the project. "
        "Put it right, and the same command goes on after them"
    )
    Path("list.json").write_text(json.dumps(list(range(25))))
    good("photos", "--json", "list.json")
    assert engine.values == list(range(25))


@pytest.mark.parametrize("text", ["", '{"a": 1}', '"text"', "one\ntwo\n", "[1, 2", "[nope]"])
def test_of_a_file_that_is_no_list_nothing_is_stored(engine: Engine, text: str) -> None:
    Path("list.json").write_text(text)

    said = told("photos", "--json", "list.json")

    assert said.startswith("list.json: ")
    assert "nothing was added" in said
    assert (engine.submissions, engine.records) == ([], {})


def test_bytes_that_are_no_text_are_named_by_their_line(engine: Engine) -> None:
    Path("list.txt").write_bytes(b"one\ntw\xf6\n")

    assert "list.txt: line 2 is no UTF-8 text" in told("photos", "--txt", "list.txt")
    assert engine.values == []


def test_what_breaks_off_from_standard_input_cannot_go_on(engine: Engine) -> None:
    result = add("photos", "-", given=b"line\n" * 15 + b"\xff\n")

    assert "the 10 item(s) before it are in the project" not in result.stderr  # all of it came in one piece
    assert "nothing was added" in result.stderr


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("{0..999999}{0..999999}", "this one stands for 1,000,000,000,000"),
        ("s3://x/{0..9", "a brace that is not closed at character 8"),
        ("s3://x/0..9}", "a closing brace that closes nothing at character 12"),
        ("s3://x/00001.tar", "no braces at character 1"),
    ],
)
def test_a_bad_pattern_adds_nothing(engine: Engine, pattern: str, problem: str) -> None:
    assert problem in told("photos", "--brace", pattern)
    assert engine.submissions == []


def test_an_unknown_project_is_said_before_anything_is_read(engine: Engine) -> None:
    assert "no project films" in told("films", "--brace", "{a,b}")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--txt", "missing.txt"], "--txt cannot be 'missing.txt'; expected a file that can be read"),
        (["--json", "."], "--json cannot be '.'"),
        (["--brace", "{a,b}", "--not-before", "soon"], "--not-before cannot be 'soon'"),
        (["--brace", "{a,b}", "--keep", "long"], "--keep cannot be 'long'"),
        (["--brace", "{a,b}", "--import", ""], "--import cannot be ''; expected 1 to 200 printable characters"),
        (["--brace", "{a,b}", "--import", "x" * 201], "--import cannot be"),
    ],
)
def test_a_bad_option_is_named(engine: Engine, arguments: list[str], problem: str) -> None:
    assert problem in told("photos", *arguments)
    assert engine.submissions == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "say what to add"),
        (["list.txt"], "say what to add"),
        (["--txt", "a", "--json", "b"], "say what to add"),
        (["-", "--again"], "--again goes with a file"),
    ],
)
def test_one_source_has_to_be_named(engine: Engine, arguments: list[str], problem: str) -> None:
    result = add("photos", *arguments, given=b"one\n")

    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())
    assert engine.submissions == []
