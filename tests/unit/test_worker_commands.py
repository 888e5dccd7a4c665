"""What a command is given for one task, and what its end says of it."""

from __future__ import annotations

import json

import pytest

from dcengine.errors import InvalidOption, PayloadTooLarge
from dcengine.worker.commands import REASON_LIMIT, CommandLine, End, Verdict, json_of, judged, line_of, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain ä", "plain ä".encode()),
        ("", b""),
        (b"\xff\0caf\xe9".decode("utf-8", "surrogateescape"), b"\xff\0caf\xe9"),
        ("half \ud800", b"half \xed\xa0\x80"),
        ("\U0001f600", "\U0001f600".encode()),
        (None, b"null"),
    ],
)
def test_a_text_is_given_as_it_is_and_anything_else_as_json(value: object, text: bytes) -> None:
    assert text_of(json.dumps(value)) == text


def test_json_is_given_as_it_was_sent() -> None:
    assert text_of('{"b": 1.50, "a": 12345678901234567890}') == b'{"b": 1.50, "a": 12345678901234567890}'


@pytest.mark.parametrize("text", [b"plain", b"", "ä\n".encode(), b"\0\xff", bytes(range(256))])
def test_what_a_command_writes_comes_back_as_the_same_bytes(text: bytes) -> None:
    assert text_of(json_of(text, as_json=False).decode()) == text


def test_a_line_on_stdin_has_one_end() -> None:
    assert [line_of(b"a"), line_of(b"a\n"), line_of(b"")] == [b"a\n", b"a\n", b"\n"]


def test_a_json_output_is_passed_on_as_it_was_written() -> None:
    assert json_of(b' {"a": 1.50, "b": NaN}\n', as_json=True) == b'{"a": 1.50, "b": NaN}'


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_fails_its_task(text: bytes) -> None:
    judgement = judged(End(0, "ended"), text, as_json=True)

    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("what the command wrote is no JSON value: ")


def test_braces_are_filled_in_or_doubled() -> None:
    line = CommandLine(["cat", "in={input}", "{{{number}}}", "{job}{file}"])

    assert line.filled(input="{job}", number=7, job=9, file="/f") == ["cat", "in={job}", "{7}", "9/f"]
    assert (line.takes_input, CommandLine(["cat", "{output}"]).takes_input) == (True, False)


@pytest.mark.parametrize(
    "word", ["{", "}", "{}", "{0}", "{inputs}", "{input!r}", "{input:>9}", "{input.x}", "{a{job}}"]
)
def test_braces_that_mean_nothing_are_refused(word: str) -> None:
    with pytest.raises(InvalidOption, match="doubled"):
        CommandLine(["cat", word])


def test_the_reason_of_a_failure_begins_with_the_last_line_and_has_an_end() -> None:
    end = End(1, "ended with exit code 1", messages="Traceback\n  File x\nValueError: bad")

    assert judged(end, b"", as_json=False).reason.splitlines() == [
        "ended with exit code 1: ValueError: bad",
        "Traceback",
        "  File x",
        "ValueError: bad",
    ]
    assert len(End(1, "x", messages="y\n" * 5000).why()) == REASON_LIMIT
    assert End(1, "ended with exit code 1").why() == "ended with exit code 1"


def test_bad_input_goes_before_too_much_output() -> None:
    too_large = PayloadTooLarge("the output of the command", 9, 1)

    assert judged(End(65, "x", messages="broken"), too_large, as_json=False)[::2] == (Verdict.FLAG, "broken")
    assert judged(End(0, "x"), too_large, as_json=False).verdict is Verdict.FAIL
    assert judged(End(65, "ended with exit code 65"), b"", as_json=False).reason == "ended with exit code 65"
