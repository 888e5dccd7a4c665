"""Values and failures as bytes."""

from __future__ import annotations

import inspect
import json
import math
import pickle
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine import codec
from dcengine.errors import DcengineError, InvalidInput, InvalidOption, NotJson, NotPicklable, RemoteError, TaskTimeout


@given(st.lists(st.binary()))
def test_what_is_packed_comes_out_in_order(values: list[bytes]) -> None:
    assert codec.unpack(codec.pack(values)) == values


@given(st.binary())
def test_what_was_never_packed_is_refused_or_empty(frame: bytes) -> None:
    try:
        values = codec.unpack(frame)
    except ValueError:
        return
    assert codec.pack(values) == frame


@pytest.mark.parametrize("value", [1, "a", None, (1, "b"), [1.5], {"k": [1]}, {1, 2}, lambda: 3, codec.pack])
def test_values_survive_the_way(value: object) -> None:
    back = codec.loads(codec.dumps(value))

    assert back() == 3 if getattr(value, "__name__", "") == "<lambda>" else back == value


def test_a_class_of_the_main_module_travels_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Point", (), {"__module__": "__main__", "x": 7})
    monkeypatch.setattr(sys.modules["__main__"], "Point", kind, raising=False)
    data = codec.pack_call((kind(),), {})
    monkeypatch.delattr(sys.modules["__main__"], "Point")

    (point,), _ = codec.loads(data)
    assert point.x == 7


def test_the_same_function_has_the_same_digest() -> None:
    def function(a: int) -> int:
        return a + 1

    assert codec.pack_function(function).digest == codec.pack_function(function).digest


def test_a_module_outside_the_installation_travels_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_local_module.py").write_text("BASE = 40\ndef add(n):\n    return BASE + n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_local_module  # type: ignore[import-not-found]

    function = codec.pack_function(my_local_module.add)
    sys.modules.pop("my_local_module")
    monkeypatch.undo()

    assert pickle.loads(function.code)(2) == 42
    cloudpickle.unregister_pickle_by_value(my_local_module)


def test_the_argument_that_cannot_travel_is_named() -> None:
    with pytest.raises(NotPicklable, match=r"argument 2 .*lock"):
        codec.pack_call((1, threading.Lock()), {})
    with pytest.raises(NotPicklable, match=r"argument 'where' .*generator"):
        codec.pack_call((1,), {"where": (n for n in ())})


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(NotPicklable, match="not callable"):
        codec.pack_function(3)  # type: ignore[arg-type]


# ---- JSON ----------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_json_values_survive_the_way(value: object) -> None:
    data = codec.pack_json(value, what="x")

    assert codec.is_json(data)
    assert codec.loads(data) == value
    assert json.loads(codec.json_text(data)) == value


@pytest.mark.parametrize("value", ["\ud800", ["a\udcff.tar"], {"\udfff": 1}, "a \ud83d b"])
def test_lone_surrogates_survive_in_json(value: object) -> None:
    data = codec.pack_json(value, what="x")

    assert codec.loads(data) == value
    assert codec.json_text(data).decode("ascii")  # what it goes through may take UTF-8 only


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**40, -0.0, 2**64, 1e308, True])
def test_uncommon_numbers_survive_in_json(value: float) -> None:
    assert repr(codec.loads(codec.pack_json(value, what="x"))) == repr(value)


def test_nan_is_as_good_in_json_as_in_python() -> None:
    one, number = codec.loads(codec.pack_json([1, math.nan], what="x"))

    assert one == 1
    assert math.isnan(number)


def nested() -> list[object]:
    inside: list[object] = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (b"bytes", "bytes", "bytes is not JSON"),
        ({1, 2}, "set", "set is not JSON"),
        ({"a": [1, object()]}, "dict", "object is not JSON"),
        ({(1, 2): 3}, "dict", "keys must be"),
        ([Path("x")], "list", "PosixPath is not JSON"),
        ([10**5000], "list", "4300"),
        (nested(), "list", "Circular"),
    ],
)
def test_what_is_not_json_is_refused_by_name_type_and_reason(value: object, kind: str, reason: str) -> None:
    with pytest.raises(NotJson) as caught:
        codec.pack_json(value, what="the result of split")

    assert (caught.value.what, caught.value.kind) == ("the result of split", kind)
    assert reason in caught.value.reason
    assert "the result of split" in str(caught.value)


def test_a_pickle_is_not_taken_for_json() -> None:
    for value in (0, "J", None, b"J", [1]):
        pickled = codec.dumps(value)

        assert not codec.is_json(pickled)
        assert codec.loads(pickled) == value
    with pytest.raises(ValueError, match="not a value packed as JSON"):
        codec.json_text(codec.dumps("x"))


# ---- failures ------------------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Stubborn(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def there_and_back(error: BaseException, *, skip_frames: int = 0) -> BaseException:
    failure = codec.unpack_failure(codec.pack_failure(codec.failure_from(caught(error), skip_frames=skip_frames)))
    return codec.exception_from(failure)


def test_an_exception_comes_back_as_itself_with_its_traceback() -> None:
    back = there_and_back(ValueError("no", 3))

    assert type(back) is ValueError
    assert back.args == ("no", 3)
    assert "in caught" in str(back.__cause__)


def test_an_exception_that_cannot_be_rebuilt_keeps_class_message_and_traceback() -> None:
    back = there_and_back(Unpicklable())

    assert isinstance(back, RemoteError)
    assert "Unpicklable: holds a lock" in str(back)
    assert "in caught" in str(back.__cause__)


def test_an_exception_without_a_message_is_carried_all_the_same() -> None:
    failure = codec.failure_from(caught(Stubborn()))

    assert "RuntimeError" in failure.message


def test_an_error_of_ours_comes_back_with_its_facts() -> None:
    back = there_and_back(TaskTimeout(1.5, "interrupted"), skip_frames=1)

    assert isinstance(back, TaskTimeout)
    assert (back.seconds, back.how) == (1.5, "interrupted")


class Mine(InvalidOption):
    """A user's own subclass of an error of ours."""


def test_a_users_subclass_of_an_error_of_ours_stays_itself() -> None:
    back = there_and_back(Mine("a", "b", "c"))

    assert type(back) is Mine
    assert "in caught" in str(back.__cause__)


class Blurred(InvalidInput):
    """A user's own reason to flag, which cannot travel."""

    def __init__(self) -> None:
        super().__init__("too blurred")
        self.lock = threading.Lock()


class Empty(InvalidInput):
    """A user's own reason to flag, which can."""


def flagged(error: InvalidInput) -> tuple[codec.Failure, BaseException]:
    failure = codec.unpack_failure(codec.pack_failure(codec.flag_from(error)))
    return failure, codec.exception_from(failure)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(InvalidInput("broken link"), InvalidInput), (Empty("no rows"), Empty), (Blurred(), InvalidInput)],
)
def test_a_flag_says_what_it_is_and_why(error: InvalidInput, kind: type[InvalidInput]) -> None:
    failure, back = flagged(error)

    assert (failure.kind, failure.message) == ("InvalidInput", str(error))
    assert type(back) is kind
    assert isinstance(back, InvalidInput)
    assert back.reason == str(error)


def test_a_flag_needs_no_reason_and_no_long_one() -> None:
    assert flagged(InvalidInput())[0].sentence == "InvalidInput"
    assert len(flagged(InvalidInput("x" * 5000))[0].message) == codec.REASON_LIMIT


def test_an_exception_that_is_huge_comes_back_with_a_shorter_message() -> None:
    back = codec.exception_from(codec.failure_from(KeyError("x" * 10_000_000)))

    assert type(back) is KeyError
    assert 0 < len(str(back)) < 100_000


def test_an_exception_that_carries_too_much_does_not_travel_itself() -> None:
    class Loaded(Exception):
        def __init__(self, load: bytes) -> None:
            super().__init__("heavy")
            self.load = load * 2

    failure = codec.failure_from(Loaded(bytes(10_000_000)))

    assert failure.exception is None
    assert isinstance(codec.exception_from(failure), RemoteError)


def test_a_huge_traceback_is_cut_in_the_middle() -> None:
    failure = codec.failure_from(caught(ValueError("x" * 10_000_000)))

    assert len(failure.traceback) < 100_000
    assert len(failure.message) < 100_000
    assert "characters left out" in failure.traceback


FACTS = {
    "str": "fact",
    "int": 3,
    "float": 1.5,
    "bool": True,
    "int | str": 3,
    "int | None": None,
    "list[str]": ["one", "two"],
}  #: by annotation


def test_every_error_of_ours_can_be_rebuilt_from_its_facts() -> None:
    from dcengine import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DcengineError)]
    for kind in kinds:
        has_facts = "__init__" in vars(kind)
        parameters = inspect.signature(kind).parameters.values() if has_facts else ()
        error = kind(*(FACTS[parameter.annotation] for parameter in parameters)) if has_facts else kind("a fact")
        assert errors.rebuild(kind.__name__, error.facts()).args == error.args
        assert pickle.loads(pickle.dumps(error)).args == error.args
        assert str(error)
