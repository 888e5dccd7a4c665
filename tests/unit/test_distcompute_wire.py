"""How values look on the way to old clients: every text comes back as it was handed in."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcengine import codec
from dcengine_plugins.distcompute import wire

texts = st.text(st.characters(), max_size=40)  # half characters too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(texts)
@example("<!json!>")
@example('<!json!>"a text with the mark"')
@example("<!json!> [1, 2 ]\n")
@example("<!json!>[1")
@example('<!json!>["\ud800"]')
@example('<!json!>["\\ud800", NaN, -Infinity, 1E400]')
@example("<!json!>\ufeff[1]")
@example("caf\udce9")
@example("<!json!>" + "[" * 100_000)
@example("<!json!>" + "1" * 10_000)
def test_every_text_that_is_handed_in_comes_out_as_it_was(text: str) -> None:
    assert wire.to_client(wire.from_client(text)) == text


@given(texts.map(lambda text: wire.MARK + text))
def test_so_does_every_text_with_the_mark(text: str) -> None:
    assert wire.to_client(wire.from_client(text)) == text


@given(values)
def test_what_a_client_writes_as_json_is_stored_as_that_value(value: Any) -> None:
    text = json.dumps(value)

    stored = wire.from_client(wire.MARK + text)

    assert wire.to_client(stored) == wire.MARK + text
    if not isinstance(value, str):  # those come as they are
        assert stored.decode() == text


@given(values)
def test_what_was_added_as_a_value_arrives_as_that_value(value: Any) -> None:
    text = wire.to_client(codec.json_text(codec.pack_json(value, what="an item")))

    arrived = json.loads(text[len(wire.MARK) :]) if text.startswith(wire.MARK) and value != text else text
    assert repr(arrived) == repr(value)


def test_not_a_number_is_stored_as_such() -> None:
    stored = codec.loads(codec.JSON + wire.from_client('<!json!>{"loss": NaN}'))

    assert math.isnan(stored["loss"])


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'"token"'])
def test_a_body_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.fields_of(body)


def test_a_token_that_is_null_is_one_that_nobody_has() -> None:
    assert wire.token_in(wire.fields_of(b'{"token": null}')) == ""
    with pytest.raises(wire.Malformed):
        wire.token_in({})
