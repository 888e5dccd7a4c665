"""Values with large buffers: packed without copies, used where they lie."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from dcengine import buffered, codec
from dcengine.references import key_of_value, reduced

LARGE = np.arange(100_000.0)


class Standing:
    """Stands for a value, as references do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(key_of_value(bytes(32)))


def test_buffers_lie_at_multiples_of_64_bytes_wherever_the_value_begins() -> None:
    for packed in (codec.dumps([LARGE, LARGE[:10_000]]), codec.pack_call((LARGE, 1), {"b": LARGE + 1})):
        starts = [packed.index(bytes(memoryview(part)[:64])) for part in (LARGE,)]

        assert [start % buffered.ALIGNMENT for start in starts] == [0]


def test_a_value_comes_back_and_may_be_changed_unless_it_is_shared() -> None:
    packed = codec.dumps({"a": LARGE, "again": LARGE, "small": [1]})
    own, shared = codec.loads(packed), codec.loads(packed, shared=True)

    assert (own["a"] == LARGE).all()
    assert own["a"] is own["again"]
    own["a"][0] = 9.0
    assert shared["a"][0] == 0.0
    assert not shared["a"].flags.writeable


def test_in_memory_that_can_be_written_nothing_is_copied() -> None:
    memory = bytearray(codec.dumps(LARGE))
    value = codec.loads(memory)
    value[0] = 7.0

    assert codec.loads(memory)[0] == 7.0


def test_what_could_not_be_changed_before_cannot_be_afterwards() -> None:
    fixed = LARGE.copy()
    fixed.flags.writeable = False

    assert not codec.loads(codec.dumps(fixed)).flags.writeable


def test_buffers_of_other_kinds_travel_too() -> None:
    turned, numbers = np.arange(90_000).reshape(300, 300).T, array.array("d", range(50_000))

    assert (codec.loads(codec.dumps(turned)) == turned).all()
    assert (codec.loads(codec.dumps(turned[::2, ::3])) == turned[::2, ::3]).all()
    assert codec.loads(codec.dumps(numbers)) == numbers


def test_the_keys_of_what_a_large_value_refers_to_are_in_its_head() -> None:
    packed = codec.pack_call((LARGE, Standing()), {})

    assert codec.keys_in_head(packed[:1000]) == codec.keys_in(packed) == [key_of_value(bytes(32))]
    with pytest.raises(ValueError, match="not all in the head"):
        codec.keys_in_head(packed[:30])
    assert codec.keys_in_head(codec.dumps(LARGE)[:100]) == []
