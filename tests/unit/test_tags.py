from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine.errors import InvalidTags
from dcengine.tags import explain, parse_offer
from dcengine.tags.expressions import Comparison, Either, Every, Expression, Negation, Present
from dcengine.tags.reading import DEPTH_LIMIT, parse

OFFER: dict[str, str | None] = {
    "gpu": None,
    "gpu.memory": "24GiB",
    "gpu.name": "NVIDIA GeForce RTX 3090",
    "cuda": "12.4",
    "python": "3.10.12",
    "cpu.count": "16",
    "site": "lab",
    "load": "high",
}


# ---- matching ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        "gpu",
        "gpu.memory>=16GiB",
        "gpu.memory >= 16 GiB",
        "gpu.memory<26G",
        "gpu.memory>25GB",
        "gpu.memory==24576MiB",
        "gpu.memory!=8GiB",
        "cuda>=12",
        "cuda<12.10",
        "cuda==12.4.0",
        "python>=3.9",
        "python==3.10.*",
        "python>3.10.12rc1",
        "cpu.count>4",
        "cpu.count<100",
        "cpu.count>=16",
        "site==lab",
        "site=lab",
        "site==l*",
        "site!=l*x",
        "site!=home",
        "gpu.name=='*RTX 3090'",
        'gpu.name=="NVIDIA*RTX*"',
        "!preemptible",
        "!(site==home)",
        "gpu & site==lab",
        "tpu | gpu",
        "tpu & x | gpu",
        "gpu | tpu & x",
        "!tpu & (x | site==lab)",
    ],
)
def test_expression_matches(expression: str) -> None:
    assert parse(expression).matches(OFFER)


@pytest.mark.parametrize(
    "expression",
    [
        "tpu",
        "gpu.memory>=32GiB",
        "gpu.memory<24GiB",
        "cuda>=12.10",
        "python>=3.11",
        "python==3.1",
        "python==3.1.*",
        "cpu.count>=17",
        "site==home",
        "site!=lab",
        "site==LAB",
        "site!=*",
        "!gpu",
        "gpu & tpu",
        "(tpu | gpu) & x",
    ],
)
def test_expression_does_not_match(expression: str) -> None:
    assert not parse(expression).matches(OFFER)


@pytest.mark.parametrize("operator", ["==", "!=", ">=", "<=", ">", "<"])
def test_a_comparison_with_a_missing_tag_or_a_tag_without_value_is_false(operator: str) -> None:
    assert not parse(f"missing{operator}1").matches(OFFER)
    assert not parse(f"gpu{operator}1").matches(OFFER)


@pytest.mark.parametrize("operator", ["==", ">=", "<=", ">", "<"])
@pytest.mark.parametrize("number", ["5", "5GiB", "5.1rc2"])
def test_a_text_compared_with_a_number_is_false(operator: str, number: str) -> None:
    assert not parse(f"load{operator}{number}").matches(OFFER)


def test_and_binds_tighter_than_or() -> None:
    assert parse("a | b & c") == Either((Present("a"), Every((Present("b"), Present("c")))))


# ---- text form -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("gpu&cuda>=12|site=lab", "gpu & cuda>=12 | site==lab"),
        ("((a & b)) & c", "a & b & c"),
        ("(a | b) & !(c)", "(a | b) & !c"),
        ("!(a==1)", "!(a==1)"),
        ("m >= 16 GiB", "m>=16GiB"),
        ("n=='plain'", "n==plain"),
        ("n=='two words'", 'n=="two words"'),
        ("", ""),
    ],
)
def test_text_form_is_canonical(written: str, canonical: str) -> None:
    assert str(parse(written)) == canonical


names = st.from_regex(r"[A-Za-z0-9_.:-]{1,8}", fullmatch=True)
numbers = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,2})?(GiB|MB|k)?", fullmatch=True)
one_quote_kind = st.text(st.characters(exclude_characters="\"'"), max_size=8)
texts = one_quote_kind | one_quote_kind.map(lambda text: text + "'") | one_quote_kind.map(lambda text: '"' + text)
comparisons = st.builds(Comparison, names, st.sampled_from(["==", "!="]), texts | numbers) | st.builds(
    Comparison, names, st.sampled_from([">=", "<=", ">", "<"]), numbers
)


def _joined(kind: type[Every] | type[Either], parts: list[Expression]) -> Expression:
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))]
    return kind(tuple(flat))


def _compound(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(parts, min_size=2, max_size=3)
    return st.one_of(
        parts.map(Negation),
        several.map(lambda them: _joined(Every, them)),
        several.map(lambda them: _joined(Either, them)),
    )


expressions = st.recursive(names.map(Present) | comparisons, _compound, max_leaves=8)
offers = st.dictionaries(names, st.none() | texts | numbers, max_size=6)


@given(expressions)
def test_text_form_parses_to_an_equal_expression(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@given(expressions, offers)
def test_matching_never_raises_and_agrees_with_what_is_lacking(
    expression: Expression, offered: dict[str, str | None]
) -> None:
    assert expression.matches(offered) is (expression.lacking(offered) == [])


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused_at_a_position_inside_it(text: str) -> None:
    try:
        expression = parse(text)
    except InvalidTags as error:
        refused = error.expression, error.position in range(len(text) + 1)
    else:
        refused = None

    assert refused == (text, True) if refused else parse(str(expression)) == expression


@given(st.text(alphabet="ab*", max_size=12), st.text(alphabet="ab", max_size=12))
def test_a_star_stands_for_any_characters(pattern: str, text: str) -> None:
    expected = re.fullmatch(pattern.replace("*", ".*"), text) is not None

    assert Comparison("n", "==", pattern).matches({"n": text}) is expected


# ---- refused expressions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "position", "problem"),
    [
        ("gpu, site==lab", 3, "use & between clauses"),
        ("gpu;site", 3, "use & between clauses"),
        ("gpu site", 4, "& or | is missing"),
        ("gpu & ", 6, "a tag is missing"),
        ("& gpu", 0, "a tag is missing"),
        ("gpu>=", 5, "a value is missing"),
        ("(gpu | (a & b)", 0, "this ( is not closed"),
        ("gpu)", 3, "')' has no place here"),
        ("name=='x", 6, "this quotation mark is not closed"),
        ("memory>=16gigs", 8, "'16gigs' is neither a number"),
        ("site>=lab", 6, "'lab' is neither a number"),
        ("a && b", 3, "a tag is missing"),
    ],
)
def test_a_wrong_expression_is_refused_where_it_is_wrong(expression: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidTags) as caught:
        parse(expression)

    assert caught.value.position == position
    assert problem in str(caught.value)


@pytest.mark.parametrize("expression", ["(" * 10_000, "!" * (DEPTH_LIMIT + 1) + "a", "a" * 5000, "a|" * 3000])
def test_a_monstrous_expression_is_refused(expression: str) -> None:
    with pytest.raises(InvalidTags):
        parse(expression)


def test_a_monstrous_number_compares_without_raising() -> None:
    assert not parse(f"n>={'9' * 4000}").matches({"n": "5"})
    assert not parse("n>=5k").matches({"n": "x" * 10_000})


# ---- offers --------------------------------------------------------------------------------


def test_an_offer_is_read_into_names_and_values() -> None:
    assert parse_offer(' gpu, site=lab,note="a, b; c",gpu.name=NVIDIA H200 ,x==1 ') == {
        "gpu": None,
        "site": "lab",
        "note": "a, b; c",
        "gpu.name": "NVIDIA H200",
        "x": "1",
    }
    assert parse_offer("") == {}


@pytest.mark.parametrize(
    ("offer", "position"),
    [("gpu,,a", 4), ("gpu;cpu", 0), ("a,b=", 4), ("gpu>=3", 0), ("a,a", 2), ("a,b='x", 2), ("é", 0)],
)
def test_a_wrong_offer_is_refused_where_it_is_wrong(offer: str, position: int) -> None:
    with pytest.raises(InvalidTags) as caught:
        parse_offer(offer)

    assert caught.value.position == position


# ---- explanations --------------------------------------------------------------------------

WORKERS: dict[str, dict[str, str | None]] = {
    "w1": {"cpu.count": "4"},
    "w2": {"cpu.count": "8", "gpu": None, "gpu.memory": "8GiB"},
    "w3": {},
}


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("gpu", "1 of 3 workers matches"),
        ("cpu.count>=4", "2 of 3 workers match"),
        ("", "3 of 3 workers match"),
        ("tpu", "3 workers, none has tpu"),
        (
            "gpu & gpu.memory>=16GiB",
            "3 workers, none has gpu.memory>=16GiB; nearest: w2 (it has gpu.memory=8GiB)",
        ),
        (
            "tpu & cpu.count>=32 & gpu",
            "3 workers, none has tpu or cpu.count>=32; nearest: w2 (it has cpu.count=8)",
        ),
        ("gpu.memory>=16GiB", "3 workers, none has gpu.memory>=16GiB; nearest: w2 (it has gpu.memory=8GiB)"),
        ("tpu & cpu.count>=5", "3 workers, none has tpu"),
        ("gpu & cpu.count<5", "3 workers, none matches; nearest: w2, lacks cpu.count<5 (it has cpu.count=8)"),
        ("tpu & gpu & site", "3 workers, none has tpu or site"),
        ("tpu & gpu & !cpu.count", "3 workers, none has tpu; nearest: w2, lacks !cpu.count"),
        (
            "tpu & !gpu & cpu.count==6",
            "3 workers, none has tpu or cpu.count==6; nearest: w1 (it has cpu.count=4)",
        ),
        (
            "tpu & !cpu.count & gpu.memory<=4GiB",
            "3 workers, none has tpu or gpu.memory<=4GiB",
        ),
    ],
)
def test_explanation_says_who_matches_or_what_the_nearest_lacks(expression: str, sentence: str) -> None:
    assert str(explain(parse(expression), WORKERS)) == sentence


def test_explanation_without_workers_says_so() -> None:
    assert str(explain(parse("gpu"), {})) == "no workers are connected"


def test_explanation_of_a_single_worker_names_it() -> None:
    assert str(explain(parse("gpu"), {"w1": {}})) == "1 worker, w1, lacks gpu"
    assert str(explain(parse("gpu>=2"), {"w1": {"gpu": "1"}})) == "1 worker, w1, lacks gpu>=2 (it has gpu=1)"


def test_explanation_lists_the_matching_workers() -> None:
    assert explain(parse("cpu.count>=4"), WORKERS).matching == ["w1", "w2"]
