"""Values and failures as bytes."""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine import codec
from dcengine.errors import DcengineError, InvalidOption, NotPicklable, RemoteError, TaskTimeout


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


def test_a_huge_traceback_is_cut_in_the_middle() -> None:
    failure = codec.failure_from(caught(ValueError("x" * 10_000_000)))

    assert len(failure.traceback) < 100_000
    assert len(failure.message) < 100_000
    assert "characters left out" in failure.traceback


def test_every_error_of_ours_can_be_rebuilt_from_its_facts() -> None:
    from dcengine import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DcengineError)]
    for kind in kinds:
        count = kind.__init__.__code__.co_argcount - 1 if "__init__" in vars(kind) else 1
        error = kind(*([1.0] * count))
        assert errors.rebuild(kind.__name__, error.facts()).args == error.args
        assert pickle.loads(pickle.dumps(error)).args == error.args
        assert str(error)
