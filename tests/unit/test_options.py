"""Options of calls: each is written once, read in one way, and shown to those who ask."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest

import dcengine
from dcengine import declaring, options
from dcengine.calls import batch_of, submission_of
from dcengine.codec import loads, unpack
from dcengine.errors import InvalidOption, InvalidTags
from dcengine.options import CallOptions, FunctionOptions, SubmitOptions, options_of, taken_out
from dcengine.verbs import Options


def names_of(function: Any) -> list[str]:
    return [name for name, each in inspect.signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY]


def test_every_option_has_a_reader() -> None:
    assert SubmitOptions.__annotations__.keys() == options.READERS.keys()
    assert {*FunctionOptions.__annotations__} <= {*CallOptions.__annotations__} <= {*SubmitOptions.__annotations__}


def test_signatures_show_every_option_with_its_default() -> None:
    assert names_of(dcengine.submit) == [*SubmitOptions.__annotations__]
    assert names_of(dcengine.map) == names_of(dcengine.function) == [*CallOptions.__annotations__]
    assert {*names_of(dcengine.Executor)} == {*CallOptions.__annotations__}
    parameters = inspect.signature(dcengine.submit).parameters
    assert (parameters["retries"].default, parameters["tags"].default, parameters["isolate"].default) == (0, "", True)
    assert parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD


def test_stages_and_calls_read_their_options_alike() -> None:
    for name in FunctionOptions.__annotations__:
        assert declaring.READERS[name] is options.READERS[name]


def test_what_is_given_becomes_one_value() -> None:
    given = {"tags": "cpu", "timeout": timedelta(minutes=1), "not_before": 5, "keep": "2h", "devices": {"gpu": 1}}

    asked = options_of(given)

    assert (asked.timeout, asked.not_before, asked.keep, asked.remote) == (60.0, 5.0, 7200.0, False)
    assert asked.tags == "devices(gpu=1) & cpu"
    assert options_of({}) == Options()
    assert options_of({"keep": "remote"}) == Options(remote=True)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"retries": 1.5}, InvalidOption),
        ({"retries": -1}, InvalidOption),
        ({"crash_retries": 1001}, InvalidOption),
        ({"timeout": 0}, InvalidOption),
        ({"timeout": "later"}, InvalidOption),
        ({"priority": "high"}, InvalidOption),
        ({"on_no_match": "explode"}, InvalidOption),
        ({"not_before": "someday"}, InvalidOption),
        ({"keep": -1}, InvalidOption),
        ({"devices": ["gpu"]}, InvalidOption),
        ({"isolate": "no"}, InvalidOption),
        ({"tags": 3}, InvalidOption),
        ({"tags": "a &"}, InvalidTags),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="tag" if "tags" in given else next(iter(given))):
        options_of(given)


def test_options_are_told_from_the_functions_own_keywords() -> None:
    assert taken_out({"retries": 1, "height": 2, "key": "k"}, SubmitOptions) == (
        {"retries": 1, "key": "k"},
        {"height": 2},
    )


def test_a_call_is_packed_with_its_options() -> None:
    submission = submission_of(divmod, (17, 5), {"x": 1}, {"key": "k", "retries": 2})

    assert loads(submission.input) == ((17, 5), {"x": 1})
    assert (submission.key, submission.options.retries) == ("k", 2)


def test_calls_are_packed_in_blocks() -> None:
    batch = batch_of(abs, [(n,) for n in range(5000)], {"priority": 3})

    assert (batch.count, batch.options.priority, len(batch.blocks)) == (5000, 3, 2)
    assert [loads(value) for block in batch.blocks for value in unpack(block)][4999] == ((4999,), {})


def test_a_batch_has_no_option_of_single_calls() -> None:
    with pytest.raises(InvalidOption, match="crash_retries"):
        batch_of(abs, [(1,)], {"crash_retries": 1})
    with pytest.raises(TypeError, match="key"):
        batch_of(abs, [(1,)], {"key": "k"})


def test_a_misspelt_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        dcengine.function(retires=1)  # type: ignore[call-overload]
