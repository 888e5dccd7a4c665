"""Local modules that workers lack: what of them travels, and that edited ones travel again."""

from __future__ import annotations

import importlib
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dcengine
from dcengine.modules import ModuleChanged
from tests.engines import embedded

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("modules") / "work.db", workers=1) as engine:
        yield engine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that this process imports from, and the worker, which was started before, does not."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def new_name(what: str) -> str:
    return f"dc_{what}_{next(_numbers)}"


def edited(module: ModuleType, old: str, new: str) -> None:
    """Change the source of *module*, so that everybody can see that."""
    path = Path(str(module.__file__))
    text = path.read_text().replace(old, new)
    path.write_text(f"{text}# {next(_numbers)}\n")


def importing(name: str) -> Callable[[], Any]:
    """Return a function that imports module *name* when it runs."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(f"def call():\n    import {name}\n    return {name}.value()", space)  # noqa: S102
    call: Callable[[], Any] = space["call"]
    return call


# ---- imported when a function runs ---------------------------------------------------------


def test_what_a_function_imports_when_it_runs_travels_with_it(engine: dcengine.Engine, folder: Path) -> None:
    helper, util = new_name("helper"), new_name("util")
    write(folder, f"{helper}.py", f"import json\nimport {util}\ndef value(): return {util}.NUMBER\n")
    write(folder, f"{util}.py", "NUMBER = 41 + 1\n")

    assert engine.submit(importing(helper)).result(30) == 42
    assert helper not in sys.modules  # nothing is imported here to find out


def test_packages_travel_as_a_whole(engine: dcengine.Engine, folder: Path) -> None:
    package = new_name("package")
    write(folder, f"{package}/__init__.py", "from .inner.deep import NUMBER\ndef value(): return NUMBER\n")
    write(folder, f"{package}/inner/__init__.py", "")
    write(folder, f"{package}/inner/deep.py", "from ..other import one\nNUMBER = one() + 1\n")
    write(folder, f"{package}/other.py", "def one():\n    from . import beside\n    return beside.ONE\n")
    write(folder, f"{package}/beside.py", "ONE = 1\n")

    assert engine.submit(importing(package)).result(30) == 2
    module = importlib.import_module(f"{package}.other")
    assert engine.submit(module.one).result(30) == 1  # by value, with a relative import inside


def test_it_travels_again_once_its_file_is_another(engine: dcengine.Engine, folder: Path) -> None:
    helper = new_name("helper")
    write(folder, f"{helper}.py", "def value(): return 1\n")
    first = importing(helper)
    assert engine.submit(first).result(30) == 1

    write(folder, f"{helper}.py", "def value(): return 2\n")
    assert engine.submit(first).result(30) == 2


def test_each_function_meets_the_version_that_travelled_with_it(engine: dcengine.Engine, folder: Path) -> None:
    helper, util = new_name("helper"), new_name("util")
    write(folder, f"{helper}.py", f"import {util}\ndef value(): return {util}.NUMBER\n")
    handles = []
    for number in range(4):
        write(folder, f"{util}.py", f"NUMBER = {number % 2}\n")
        handles.append(engine.submit(importing(helper)))

    assert [handle.result(30) for handle in handles] == [0, 1, 0, 1]


def test_a_module_with_an_error_says_where_it_is(engine: dcengine.Engine, folder: Path) -> None:
    helper = new_name("helper")
    write(folder, f"{helper}.py", "def value(): return 1\nraise ValueError('on line 2')\n")

    with pytest.raises(ValueError, match="on line 2") as caught:
        engine.submit(importing(helper)).result(30)
    assert f'{helper}.py", line 2' in str(caught.value.__cause__)


def test_a_module_that_is_nowhere_is_still_named(engine: dcengine.Engine) -> None:
    with pytest.raises(dcengine.MissingPackage, match="dc_nowhere"):
        engine.submit(importing("dc_nowhere")).result(30)


# ---- edited --------------------------------------------------------------------------------


def test_a_module_that_was_reloaded_travels_as_it_is_now(engine: dcengine.Engine, folder: Path) -> None:
    name = new_name("module")
    write(folder, f"{name}.py", "OTHER = 1\ndef value(): return OTHER\n")
    module = importlib.import_module(name)
    assert engine.submit(module.value).result(30) == 1

    edited(module, "OTHER = 1", "OTHER = 2")
    importlib.reload(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModuleChanged)
        assert engine.submit(module.value).result(30) == 2


def test_functions_taken_before_autoreload_travel_with_their_new_code(engine: dcengine.Engine, folder: Path) -> None:
    autoreload = pytest.importorskip("IPython.extensions.autoreload")
    name = new_name("module")
    write(folder, f"{name}.py", "def value(): return 'old'\n")
    module = importlib.import_module(name)
    value = module.value
    assert engine.submit(value).result(30) == "old"

    edited(module, "old", "new")
    autoreload.superreload(module, old_objects=(objects := {(name, "value"): [_Reference(value)]}))
    assert objects
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModuleChanged)
        assert engine.submit(value).result(30) == "new"


class _Reference:
    """What autoreload keeps of a function: a way to it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __call__(self) -> object:
        return self._value


def test_one_that_was_edited_and_not_reloaded_is_told_once_for_each_edit(engine: dcengine.Engine, folder: Path) -> None:
    name = new_name("module")
    write(folder, f"{name}.py", "def value(): return 'old'\n")
    module = importlib.import_module(name)
    assert engine.submit(module.value).result(30) == "old"

    for _ in range(2):
        edited(module, "old", "new")
        with pytest.warns(ModuleChanged, match=rf"importlib.reload\({name}\)") as told:
            results = [engine.submit(module.value).result(30) for _ in range(2)]
        assert results == ["old", "old"]  # as Python itself would have it
        assert len(told) == 1
        assert told[0].filename == __file__


def test_one_that_does_not_travel_is_not_told_of(engine: dcengine.Engine, folder: Path) -> None:
    name = new_name("module")
    write(folder, f"{name}.py", "def value(): return 'old'\n")
    module = importlib.import_module(name)
    engine.submit(module.value).result(30)

    edited(module, "old", "new")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModuleChanged)
        assert engine.submit(abs, -1).result(30) == 1
