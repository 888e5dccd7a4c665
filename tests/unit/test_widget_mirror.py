"""The mirror of a remote widget: what it was told, and how it is given on."""

from __future__ import annotations

from typing import Any

import pytest

from dcengine_magics.cells.mirror import Mirror


def mirror(*states: dict[str, Any]) -> Mirror:
    made = Mirror()
    for state in states:
        made.take(state)
    return made


def test_newer_values_replace_older_ones_and_the_others_stay() -> None:
    assert mirror({"value": 1, "max": 9}, {"value": 2}).given() == ({"value": 2, "max": 9}, [], [])


def test_buffers_are_given_where_they_were_taken() -> None:
    made = Mirror()
    made.take({"a": {"deep": [None, 1]}}, [["value"], ["a", "deep", 0]], [b"top", b"deep"])

    assert made.given() == ({"a": {"deep": [None, 1]}}, [["a", "deep", 0], ["value"]], [b"deep", b"top"])


def test_a_value_may_become_a_buffer_and_another_value_again() -> None:
    made = Mirror()
    made.take({"value": "text"})
    made.take({}, [["value"]], [b"bytes"])
    assert made.given() == ({}, [["value"]], [b"bytes"])

    made.take({"value": None})
    assert made.given() == ({"value": None}, [], [])


def test_what_is_given_can_be_changed_without_harm() -> None:
    made = mirror({"a": {"b": [1]}})
    made.given()[0]["a"]["b"].append(2)

    assert made.given()[0] == {"a": {"b": [1]}}


def test_a_model_is_named_as_front_ends_ask_for_it() -> None:
    state = {"_model_name": "ImageModel", "_model_module": "m", "_model_module_version": "2", "value": 1}

    assert mirror(state).about() == {"model_name": "ImageModel", "model_module": "m", "model_module_version": "2"}
    assert mirror({}).about() == {"model_name": "", "model_module": "", "model_module_version": ""}


@pytest.mark.parametrize(
    ("state", "paths"),
    [(None, []), ([1], []), ({}, None), ({}, [[]]), ({}, ["value"]), ({}, [["no", "where"]]), ({"a": 1}, [["a", "b"]]),
     ({"a": [0]}, [["a", 7]]), ({"a": [0]}, [["a", "key"]]), ({}, [[["list"]]]), ({}, [[{}]])],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out(state: object, paths: object) -> None:
    made = mirror({"kept": 1})
    made.take(state, paths, [b"buffer"])

    assert made.given()[0]["kept"] == 1
    assert made.given()[2] == []
