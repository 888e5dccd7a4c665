"""Values on the way between a notebook's namespace and a cell's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dcengine_magics.cells import parcel


def namespace(code: str = "") -> dict[str, Any]:
    """A namespace as a notebook's, after *code* ran in it."""
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(code, made)  # noqa: S102  # as cells do
    return made


def sent(names: str, notebook: dict[str, Any]) -> dict[str, Any]:
    """A fresh namespace that got *names* of *notebook*."""
    there = namespace()
    there.update(parcel.unpack(parcel.pack_for_worker({n: notebook[n] for n in names.split()}, notebook), there))
    return there


def returned(names: str, there: dict[str, Any], notebook: dict[str, Any]) -> None:
    """Take *names* of *there* into *notebook*."""
    wanted = {name: there[name] for name in names.split()}
    packed = parcel.pack_for_notebook(wanted, there, notebook.keys() | wanted.keys())
    notebook.update(parcel.unpack(packed, notebook))


def test_values_that_share_an_object_share_it_there_too() -> None:
    there = sent("a b", namespace("a = [1]; b = {'a': a}"))

    assert there["b"]["a"] is there["a"]


def test_a_function_brings_along_what_it_uses() -> None:
    there = sent("f", namespace("import math\ndef g(x): return math.floor(x) + k\ndef f(x): return g(x)\nk = 1"))

    assert there["f"](2.5) == 3


def test_a_cell_can_replace_what_a_function_of_the_notebook_uses() -> None:
    there = sent("f", namespace("k = 1\ndef f(): return k"))

    exec("k = 2", there)  # noqa: S102

    assert there["f"]() == 2


def test_a_function_that_comes_back_uses_the_names_of_the_notebook() -> None:
    notebook, there = namespace("k = 1"), namespace("k = 1\nown = 10\ndef f(): return k + own")

    returned("f own", there, notebook)
    notebook["k"], notebook["own"] = 2, 20

    assert notebook["f"]() == 22


def test_a_function_alone_brings_its_values_and_leaves_the_notebook_clean() -> None:
    notebook, there = namespace(), namespace("own = 10\ndef g(): return own\ndef f(): return g()")

    returned("f", there, notebook)

    assert notebook["f"]() == 10
    assert notebook.keys() == {"__name__", "__builtins__", "f"}


def test_an_instance_comes_back_as_one_of_the_class_that_it_was_sent_from() -> None:
    notebook = namespace("k = 1\nclass A:\n    def m(self): return k\na = A()")
    there = sent("a", notebook)

    there["a"].seen = True
    returned("a", there, notebook)
    notebook["k"] = 5

    assert type(notebook["a"]) is notebook["A"]
    assert (notebook["a"].seen, notebook["a"].m()) == (True, 5)


def test_names_of_the_shell_stay_at_home() -> None:
    notebook = namespace("def f(): return shell")
    notebook["shell"] = threading.Lock()

    packed = parcel.pack_for_worker({"f": notebook["f"]}, notebook, {"shell"})
    there = namespace("shell = 'of the worker'")

    assert parcel.unpack(packed, there)["f"]() == "of the worker"


def test_what_cannot_be_packed_raises_and_says_why() -> None:
    notebook = namespace("import threading\nlock = threading.Lock()")

    with pytest.raises(TypeError, match="lock"):
        parcel.pack_for_worker({"lock": notebook["lock"]}, notebook)
    assert parcel.reason_against(
        lambda: parcel.pack_for_worker({"l": notebook["lock"]}, notebook), notebook["lock"]
    ) == ("a lock: cannot pickle '_thread.lock' object")


def test_what_can_be_packed_has_nothing_against_it() -> None:
    assert parcel.reason_against(lambda: parcel.pack_for_worker({"a": 1}, {}), 1) == ""


def test_a_function_that_comes_back_leaves_what_it_uses_in_the_notebook_alone() -> None:
    notebook = namespace("data = [1]\ndef f(): return data")
    data, there = notebook["data"], sent("f", notebook)

    returned("f", there, notebook)

    assert notebook["data"] is data
    assert notebook["f"]() is data
