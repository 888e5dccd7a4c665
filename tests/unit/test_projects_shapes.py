"""Which expands and gathers belong together."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from dcengine.errors import InvalidOption
from dcengine.jobs import Shape, check_shapes, gathered, gathers_all

LETTERS: dict[str, Shape] = {"m": "map", "e": "expand", "g": "gather"}


def shapes(text: str) -> list[Shape]:
    return [LETTERS[letter] for letter in text]


def check(text: str) -> None:
    check_shapes([(f"{place}", shape) for place, shape in enumerate(shapes(text))])


@pytest.mark.parametrize("text", ["", "m", "mmm", "emg", "em", "memgm", "eemgg", "mg", "mgm", "emgg", "mgemg", "eemgm"])
def test_brackets_that_match_are_taken(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("g", "the gather '0' cannot be the first stage"),
        ("meg", "the gather '2' cannot be right after the expand '1'"),
        ("me", "the expand '1' cannot be the last stage"),
        ("e", "the expand '0' cannot be the last stage"),
        ("mgg", "the gather '2' cannot be without an expand before it; expected an expand .* '1' gathers all"),
        ("emggg", "the gather '4' cannot be without an expand"),
        ("mgmg", "the gather '3' cannot be without an expand"),
    ],
)
def test_brackets_that_do_not_match_are_named(text: str, complaint: str) -> None:
    with pytest.raises(InvalidOption, match=complaint):
        check(text)


@pytest.mark.parametrize(
    ("text", "waited_for"),
    [
        ("m", "0"), ("emg", "010"), ("em", "00"), ("memgm", "00100"), ("mg", "10"), ("mgm", "100"),
        ("eemgg", "01110"), ("emgg", "1110"), ("eemgm", "00100"), ("mgemg", "10010"), ("emgm", "0100"),
    ],
)  # fmt: skip
def test_jobs_at_a_stage_are_waited_for_or_not(text: str, waited_for: str) -> None:
    assert gathered(shapes(text)) == [digit == "1" for digit in waited_for]


def test_what_waits_is_what_a_walk_with_open_brackets_says() -> None:
    for text in ("".join(letters) for length in range(1, 8) for letters in product("meg", repeat=length)):
        try:
            check(text)
        except InvalidOption:
            continue

        assert gathered(shapes(text)) == walked(text), text
        assert gathers_all(shapes(text)) == walked(text)[0], text


def walked(text: str) -> list[bool]:
    """Walk along the stages with the bracket that each job is in; the outermost is that of one add."""
    inside: list[list[int]] = [[]]  #: places of each open bracket
    closed: set[int] = set()  #: places of brackets that a gather closes
    for place, letter in enumerate(text):
        if letter == "g":
            closed.update(inside.pop() if len(inside) > 1 else inside[0][:])
            if not inside[-1:]:
                inside.append([])
        inside[-1].append(place)
        if letter == "e":
            inside.append([])
    return [place in closed for place in range(len(text))]


def test_every_shape_has_a_letter_here() -> None:
    assert {*LETTERS.values()} == {*get_args(Shape)}
