"""Brace patterns: what they stand for, how many that is, and what is wrong with one."""

from __future__ import annotations

import shutil
import subprocess
from itertools import islice

import pytest

from dcengine import braces
from dcengine.errors import InvalidOption, InvalidPattern

LIKE_THE_SHELL = [
    "s3://x/{00000..00012}.tar",
    "a{1..3}b",
    "{01..10..3}",
    "{10..1..4}",
    "{-01..1}",
    "{5..-5..5}",
    "{1..3..0}",
    "{a..e..2}",
    "{z..w}",
    "{a,b{1..2},c}x{z..w}",
    "{{a,b},{c,d{e,f}}}",
    "{,x}y{1,}",
    "a,b{1,2}",
    "{a,b}\\,{c,\\{d\\}}",
    "{0..1}{00..02}{a,b}",
    "{0099..0101}",
]


def texts(pattern: str) -> list[str]:
    return list(braces.parse(pattern).texts())


def test_zeros_before_a_number_are_kept() -> None:
    assert texts("s3://x/{00000..41454}.tar")[::41454] == ["s3://x/00000.tar", "s3://x/41454.tar"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to compare with")
@pytest.mark.parametrize("pattern", LIKE_THE_SHELL)
def test_a_pattern_stands_for_what_the_shell_makes_of_it(pattern: str) -> None:
    command = f"for each in {pattern}; do printf '%s\\n' \"$each\"; done"
    shell = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=10)

    assert texts(pattern) == shell.stdout.splitlines()


@pytest.mark.parametrize("pattern", LIKE_THE_SHELL)
def test_its_count_is_known_before_it_is_expanded(pattern: str) -> None:
    assert braces.parse(pattern).count() == len(texts(pattern))


def test_a_large_pattern_is_expanded_bit_by_bit() -> None:
    pattern = braces.parse("{a,b}/{0..9999}/{0000..4999}")

    assert pattern.count() == 100_000_000
    assert list(islice(pattern.texts(), 4999, 5001)) == ["a/0/4999", "a/1/0000"]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("{0..999999}{0..999999}", "1,000,000,000,000"),
        ("{1..100000001}", "100,000,001"),
        ("{0..9}" * 50, "over 10^50"),
    ],
)
def test_a_pattern_of_too_many_items_is_refused_with_their_number(pattern: str, count: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        braces.parse(pattern)

    assert f"this one stands for {count}" in str(refused.value)
    assert "at most 100,000,000" in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "position", "problem"),
    [
        ("list.txt", 0, "no braces"),
        ("", 0, "no braces"),
        ("\\{a,b\\}", 0, "no braces"),
        ("s3://{a,b", 5, "not closed"),
        ("{a,{b,c}", 0, "not closed"),
        ("{a,b}}", 5, "closes nothing"),
        ("a}{b,c}", 1, "closes nothing"),
        ("x{}", 1, "neither a list"),
        ("x{a}", 1, "neither a list"),
        ("x{1..}", 1, "neither a list"),
        ("x{1..y}", 1, "neither a list"),
        ("x{A..z}", 1, "neither a list"),
        ("{1,{" + "9" * 40 + "..3}}", 3, "neither a list"),
        ("{a," * 51 + "b" + "}" * 51, 150, "inside each other"),
    ],
)
def test_a_broken_pattern_is_shown_where_it_is_broken(pattern: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidPattern) as refused:
        braces.parse(pattern)

    assert refused.value.position == position
    assert problem in str(refused.value)
    assert f"at character {position + 1} of the pattern" in str(refused.value)
