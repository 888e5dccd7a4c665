"""Functions that know how they are run elsewhere: `function`, the decorator, and what it makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial, update_wrapper
from importlib import import_module
from operator import attrgetter
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from .errors import InvalidOption
from .modules import travels_by_value
from .options import CallOptions, SubmitOptions, check_names, options_of, takes, versions_of
from .references import is_collecting

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .batches import BatchHandle
    from .handles import JobHandle

P = ParamSpec("P")
T = TypeVar("T")


class RemoteFunction(Generic[P, T]):
    """A function with the options of its calls. Called, it runs here; its `submit` and `map` run it on workers.

    As a method of a class it is called, submitted and mapped with its object.
    """

    def __init__(self, function: Callable[P, T], given: Mapping[str, Any], bound: tuple[Any, ...] = ()) -> None:
        check_names(given, SubmitOptions, f"the function {function.__name__}" if _has_name(function) else "a function")
        options_of(given), versions_of(given)
        update_wrapper(self, function)
        if bound:
            self.__wrapped__: Any = MethodType(function, *bound)
        self._function, self._given, self._bound = function, dict(given), bound

    def __repr__(self) -> str:
        return f"<dcengine function {getattr(self, '__qualname__', self._function)}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._function(*self._bound, *args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> RemoteFunction[..., T]:
        return self if instance is None else RemoteFunction(self._function, self._given, (instance,))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle:
        """Store a call as a job and return its handle, as `dcengine.submit` does; all arguments are the function's."""
        from .api import caller  # loaded where calls are sent from, not where they run
        from .calls import submission_of

        return caller._submit(submission_of(self, args, kwargs, {}))

    def map(self, *iterables: Iterable[Any]) -> BatchHandle:
        """Store a call for each item of *iterables* as one batch, as `dcengine.map` does."""
        from .api import caller

        return caller.map(self, *iterables)

    @takes(SubmitOptions)
    def options(self, **changes: Unpack[SubmitOptions]) -> RemoteFunction[P, T]:
        """Return the same function with other options; those that are not named stay."""
        return RemoteFunction(self._function, {**self._given, **changes}, self._bound)

    # ---- on its way ------------------------------------------------------------------------

    def as_called(self, given: Mapping[str, Any]) -> tuple[Callable[..., Any], Mapping[str, Any]]:
        """Return what is sent, and the options of a call with those *given*; called by `calls` for each call.

        That is the function itself, by name where workers can import it.
        """
        function = self._travelling()
        return partial(function, *self._bound) if self._bound else function, {**self._given, **given}

    def _travelling(self) -> Callable[..., Any]:
        """Return what travels for the function: itself, or a name where workers can import its module."""
        found = self._found_by_name()
        is_known = found is not None and found._function is self._function and not travels_by_value(self.__module__)
        return _ByName(self._function) if is_known else self._function

    def _found_by_name(self) -> RemoteFunction[..., Any] | None:
        """Return what its module has under the name of this function."""
        module, name = sys.modules.get(self.__module__ or ""), getattr(self, "__qualname__", "")
        try:
            found = attrgetter(name)(module)
        except AttributeError:
            return None
        return found if isinstance(found, RemoteFunction) else None

    def __reduce__(self) -> Any:
        # On its way to a worker it must not be a name in a module that workers lack; elsewhere pickle's own rule holds.
        if self._found_by_name() is self and not (is_collecting() and travels_by_value(self.__module__)):
            return self.__qualname__  # type: ignore[attr-defined]  # set by `update_wrapper`
        return RemoteFunction, (self._travelling(), self._given, self._bound)


class _ByName:
    """Stands for the function of a module on its way; becomes the function itself where it arrives."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]  # set by `update_wrapper`

    def __reduce__(self) -> Any:
        return _named, (self.__module__, self.__qualname__)  # type: ignore[attr-defined]  # the same


def _named(module: str, name: str) -> Callable[..., Any]:
    """Return the function behind the `RemoteFunction` of that name."""
    found: RemoteFunction[..., Any] = attrgetter(name)(import_module(module))
    return found._function


def _has_name(function: object) -> bool:
    return isinstance(getattr(function, "__name__", None), str)


@overload
def function(function: Callable[P, T], /) -> RemoteFunction[P, T]: ...
@overload
def function(**options: Unpack[CallOptions]) -> Callable[[Callable[P, T]], RemoteFunction[P, T]]: ...
@takes(CallOptions)
def function(function: Any = None, /, **options: Any) -> Any:
    """Give the decorated function `submit` and `map`, with the options of `dcengine.submit` set once for all calls.

    Called as it is, it runs here. Raises `InvalidOption` or `InvalidTags` at once for options that cannot be.
    """
    check_names(options, CallOptions, "a function")

    def decorate(function: Callable[P, T]) -> RemoteFunction[P, T]:
        if isinstance(function, RemoteFunction):
            return function.options(**options)
        if not callable(function):
            raise InvalidOption("a function", repr(function)[:100], "something to call")
        return RemoteFunction(function, options)

    if function is None:
        options_of(options), versions_of(options)
        return decorate
    return decorate(function)
