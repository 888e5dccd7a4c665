"""Text from outside is shown, never obeyed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dcengine.plain import clean, table, width


def test_text_that_can_be_read_stays_as_it_is() -> None:
    for text in ("alice", "Zoë", "日本", "שלום", "a < b & c", "🦔 hedgehog", "n\u0303"):
        assert clean(text) == text


def test_what_steers_or_hides_is_written_out() -> None:
    assert clean("\x1b[31mred") == r"\x1b[31mred"
    assert clean("exe.\u202egnp") == r"exe.\u202egnp"
    assert clean("a\u200bb\ufeff") == r"a\u200bb\ufeff"
    assert clean("\u3164\ud800") == r"\u3164\ud800"


def test_lines_become_one() -> None:
    assert clean("one\n\ttwo\r\n three ") == "one two three"


def test_long_text_is_cut_and_says_so() -> None:
    assert clean("x" * 10_000, 40) == "x" * 39 + "…"
    assert len(clean("\u200b" * 10_000, 40)) == 40
    assert clean(" " * 10_000 + "end", 40).endswith("…")


def test_accents_do_not_pile_up() -> None:
    assert clean("a" + "\u0301" * 500) == "a\u0301\u0301"


@given(st.text())
def test_whatever_comes_is_one_line_of_limited_length(text: str) -> None:
    shown = clean(text, 30)

    assert len(shown) <= 30
    assert shown.isprintable()


def test_columns_stay_aligned_with_wide_letters() -> None:
    printed = table(("name", "n"), [("日本", "1"), ("a", "100")], numbers=("n",))

    assert printed.splitlines() == ["name    n", "日本    1", "a     100"]
    assert len({width(line) for line in printed.splitlines()}) == 1


def test_a_cell_cannot_break_the_table() -> None:
    assert len(table(("name",), [("a\nb\x1b[2J",)]).splitlines()) == 2
