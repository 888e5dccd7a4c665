"""What may stand on the lines of ``%%distribute`` and ``%distribute on``."""

from __future__ import annotations

import pytest

from dcengine_magics.cells.errors import InvalidCell
from dcengine_magics.cells.options import CellOptions, DefaultOptions, Each


@pytest.mark.parametrize(
    ("line", "target", "expression"),
    [
        ("--each x in xs", "x", "xs"),
        ("--each=x in xs", "x", "xs"),
        ("--each 'x in xs'", "x", "xs"),
        ("--each (a, (b, *c)) in d.items()", "a, (b, *c)", "d.items()"),
        ("--each x in [y for y in 'a b'] --out z", "x", "[y for y in 'a b']"),
        ("--retries 1 --each x in f(' --out ') if ok else {1: 2}", "x", "f(' --out ') if ok else {1: 2}"),
    ],
)
def test_the_items_are_any_expression(line: str, target: str, expression: str) -> None:
    assert CellOptions().read(line).each == Each(target, expression)


def test_what_follows_the_expression_are_options_again() -> None:
    options = CellOptions().read("--each x in xs --out a,b --background --tags gpu >= 1 & b --devices gpu=1,board=2")

    assert (options.out, options.background, options.tags) == (["a", "b"], True, "gpu >= 1 & b")
    assert options.devices == {"gpu": 1, "board": 2}


def test_variables_are_replaced_everywhere_but_in_the_expression() -> None:
    options = CellOptions().read("--each x in {1, 2} --tags $where", lambda text: text.replace("$where", "site==lab"))

    assert (str(options.each), options.tags) == ("x in {1, 2}", "site==lab")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--each", "not ''"),
        ("--each x", "not 'x'"),
        ("--each x.y in xs", "not 'x.y in xs'"),
        ("--each x[0] in xs", "TARGET in EXPRESSION"),
        ("--each x in xs: print(1) #", "TARGET in EXPRESSION"),
        ("--each x in xs --each y in ys", "--each stands twice"),
        ("--background --dry-run", "--background does not go with --dry-run"),
        ("--stage a.b --background", "--stage does not go with --background"),
        ("--stage a.b --out c", "--stage does not go with --out"),
        ("--stage b", "--stage takes PROJECT.STAGE"),
        ("--stage .b", "--stage takes PROJECT.STAGE"),
        ("--devices gpu", "--devices takes kinds with numbers, such as gpu=1, not 'gpu'"),
        ("--devices gpu=-1", "not 'gpu=-1'"),
        ("x in xs", "unrecognized arguments: x in xs"),
    ],
)
def test_what_makes_no_sense_is_refused(line: str, said: str) -> None:
    with pytest.raises(InvalidCell) as refused:
        CellOptions().read(line)

    assert said in refused.value.problem


def test_a_default_takes_tags_as_they_stand_or_by_name() -> None:
    read = DefaultOptions().read

    assert (
        read("gpu & cuda>=12 --timeout 60").tags == read("--timeout 60 --tags gpu & cuda>=12").tags == "gpu & cuda>=12"
    )
    assert read("").tags == ""
    assert read("--session lab").session == "lab"
    with pytest.raises(InvalidCell, match="twice"):
        read("gpu --tags cuda")
