"""Which part of a value cannot be pickled: a lock in a dictionary of an object that a nested function uses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

DEEPEST = 20  #: steps from a whole to the part
MEMBERS = 1000  #: of one container that are looked at

Why = Callable[[object], Exception | None]  #: tells why a value cannot be pickled, None if it can


class Part(NamedTuple):
    """A part of something that somebody handed in."""

    whole: str  #: what it is a part of: "argument 1"; for what code uses, the name of its function
    is_used: bool  #: it is used by code
    path: str  #: how the whole leads to it, as in ``model.lock``; empty for the whole itself
    value: object

    def __str__(self) -> str:
        if self.is_used:
            return f"{self.path!r}, used inside {self.whole},"
        return f"{self.path} in {self.whole}" if self.path else self.whole

    def member(self, step: str, value: object) -> Part:
        """Return what lies one *step* deeper."""
        return self._replace(path=self.path + step, value=value)


def culprit(what: str, value: object, why: Why, error: Exception) -> tuple[Part, Exception]:
    """Return the innermost part of *value* that cannot be pickled, and why; *error* is why the whole cannot."""
    part = Part(what, False, "", value)
    for _ in range(DEEPEST):
        if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
            break  # no part is to blame but all of them together
        found = next(((inner, reason) for inner in _parts(part) if (reason := why(inner.value)) is not None), None)
        if found is None:
            break
        part, error = found
    return part, error


def _parts(part: Part) -> Iterable[Part]:
    """Return what *part* is pickled with."""
    value = part.value
    if isinstance(value, FunctionType):
        return (Part(value.__qualname__, True, name, used) for name, used in _names_inside(value))
    if isinstance(value, MethodType):
        return [Part(value.__func__.__qualname__, True, "self", value.__self__)]
    if isinstance(value, functools.partial):
        named = {**{f"argument {n}": given for n, given in enumerate(value.args, 1)}, **value.keywords}
        of = f"functools.partial of {getattr(value.func, '__qualname__', type(value.func).__qualname__)}"
        return [part._replace(value=value.func), *(Part(of, True, name, given) for name, given in named.items())]
    if isinstance(value, ModuleType):
        return []
    return _members(part, value)


def _members(part: Part, value: object) -> Iterator[Part]:
    if isinstance(value, Mapping):
        for key, held in islice(value.items(), MEMBERS):
            yield part.member(f"[{_short(key)}]", held)
    elif isinstance(value, (list, tuple)):
        for place, held in enumerate(value[:MEMBERS]):
            yield part.member(f"[{place}]", held)
    for name, held in islice(_attributes(value), MEMBERS):
        yield part.member(f".{name}", held)
    if not isinstance(value, type):
        yield part.member(f".{type(value).__name__}" if part.path else "its class", type(value))


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    """Yield what *value* holds by name; of a class only what its code is: functions."""
    held = getattr(value, "__dict__", {})
    for name, attribute in list(held.items()):
        if not isinstance(value, type):
            yield name, attribute
        elif isinstance(function := getattr(attribute, "__func__", attribute), FunctionType):
            yield name, function


def _names_inside(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what *function*'s code refers to: closure, globals, those of functions inside it too, defaults."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue
    for name in dict.fromkeys(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    code = function.__code__
    given = code.co_varnames[: code.co_argcount][-len(function.__defaults__ or ()) :]
    yield from zip(given, function.__defaults__ or (), strict=False)
    yield from (function.__kwdefaults__ or {}).items()


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _short(key: object) -> str:
    text = repr(key) if isinstance(key, (str, int, float, bytes, tuple)) else f"a key of type {type(key).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}..."
