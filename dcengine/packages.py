"""The installed packages that a function uses, with their versions here. Nothing is imported to find out.

What travels by value (a notebook's functions, local modules) is looked through for what it uses in turn.
"""

from __future__ import annotations

import dis
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

KNOWN_LIMIT = 1000  #: functions of which is kept what they use
MEMBERS_LIMIT = 100  #: of a list or dict that are looked at

_IMPORT = dis.opmap["IMPORT_NAME"]
_known: dict[bytes, dict[str, str]] = {}


def used_by(function: Callable[..., Any], digest: bytes) -> dict[str, str]:
    """Return the distributions that *function* uses, with their versions; *digest* is that of its pickled code."""
    found = _known.get(digest)
    if found is None:
        if len(_known) >= KNOWN_LIMIT:
            _known.clear()
        found = _known[digest] = dict(filter(None, map(_distribution_of, sorted(_modules_of(function)))))
    return found


# ---- from the function to modules ----------------------------------------------------------


def imports_of(function: Callable[..., Any]) -> set[str]:
    """Return the modules that *function*, or what travels with it, imports when it runs."""
    search = _Search()
    with suppress(Exception):
        search.look_at(function)
    return search.imports


def _modules_of(function: Callable[..., Any]) -> set[str]:
    """Return the modules that *function* refers to or imports, but for those that travel by value."""
    search = _Search()
    with suppress(Exception):  # values that answer questions about themselves with an error: a call is no place for it
        search.look_at(function)
    return search.modules


class _Search:
    """Collects the names of modules, from value to value."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.imports: set[str] = set()  #: when a function runs, those that travel included
        self._by_value = cloudpickle.list_registry_pickle_by_value()
        self._seen: dict[int, object] = {}  # kept, so that no id is used again

    def look_at(self, value: object) -> None:
        """Take in what *value* refers to, as far as it travels with it."""
        waiting: list[object] = [value]
        while waiting:
            value = waiting.pop()
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                waiting.extend(self._inside(value))

    def _inside(self, value: object) -> Iterable[object]:
        """Return what to look at next; of what travels by its name, take down the module instead."""
        if isinstance(value, ModuleType):
            return list(vars(value).values()) if self._travels(value.__name__) else self._take_down(value.__name__)
        if isinstance(value, functools.partial):
            return (value.func, *value.args, *value.keywords.values())
        if isinstance(value, MethodType):
            return (value.__func__, type(value.__self__))
        if isinstance(value, staticmethod | classmethod):
            return (value.__func__,)
        if isinstance(value, property):
            return (value.fget, value.fset, value.fdel)
        if isinstance(value, list | tuple | set | frozenset):
            return list(value)[:MEMBERS_LIMIT]
        if isinstance(value, dict):
            return list(value.values())[:MEMBERS_LIMIT]
        module = getattr(value, "__module__", None) if callable(value) else type(value).__module__
        if not isinstance(module, str):
            module = type(value).__module__
        if not self._travels(module):
            return self._take_down(module)
        if isinstance(value, FunctionType):
            return self._inside_function(value)
        if isinstance(value, type):
            return (*value.__bases__, *vars(value).values())
        return (type(value), *list(getattr(value, "__dict__", {}).values())[:MEMBERS_LIMIT])

    def _inside_function(self, function: FunctionType) -> Iterable[object]:
        """Return the values that *function* uses, and take down what its code imports."""
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # one that is still empty
                yield cell.cell_contents
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        for code in _codes(function.__code__):
            imported = set(_imports(code, function.__globals__.get("__package__")))
            self.imports |= imported
            self.modules.update(name for name in imported if name.partition(".")[0] not in self._by_value)
            yield from (sys.modules[name] for name in imported & self._by_value if name in sys.modules)
            yield from (function.__globals__[name] for name in code.co_names if name in function.__globals__)

    def _travels(self, module: str) -> bool:
        """Tell whether what *module* defines travels by value."""
        return module == "__main__" or module in self._by_value or module not in sys.modules

    def _take_down(self, module: str) -> Iterable[object]:
        self.modules.add(module)
        return ()


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield *code* and that of the functions and classes defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _imports(code: CodeType, package: str | None) -> Iterator[str]:
    """Yield the modules that *code* itself imports, and what it imports from them: that may be modules too.

    Of relative imports it is the *package* that they are in.
    """
    if _IMPORT not in code.co_code[::2]:  # most functions import nothing, and to disassemble them takes long
        return
    steps = list(dis.get_instructions(code))
    for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opcode == _IMPORT and level.argval and package:
            yield package
        elif step.opcode == _IMPORT and not level.argval:
            yield step.argval
            yield from (f"{step.argval}.{name}" for name in names.argval or ())


# ---- from modules to distributions ---------------------------------------------------------


@functools.lru_cache(4096)
def _distribution_of(module: str) -> tuple[str, str] | None:
    """Return the distribution that *module* is of, and its version; None for Python's own, ours, and local ones."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("__main__", "cloudpickle") or top.startswith("dcengine"):
        return None
    with suppress(Exception):  # metadata that somebody else wrote, in whatever state
        try:  # most are called what they are imported as
            found = metadata.distribution(top)
        except metadata.PackageNotFoundError:
            is_there = top in sys.modules or find_spec(top) is not None
            name = _called(module, set(_distributions().get(top, ()))) if is_there else None
            if name is None:
                return None
            found = metadata.distribution(name)
        return found.metadata["Name"], found.version
    return None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    """Return which distributions there are for each name that can be imported; takes a moment."""
    return dict(metadata.packages_distributions())


def _called(module: str, distributions: set[str]) -> str | None:
    """Return which of *distributions*, that share a name like ``google``, *module* is of; None if that is not clear."""
    if len(distributions) == 1:
        return distributions.pop()
    by_name = {_normal(name): name for name in distributions}
    parts = module.split(".")
    tries = (_normal("-".join(parts[:length])) for length in range(len(parts), 0, -1))
    return next((by_name[name] for name in tries if name in by_name), None)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
