"""Names and their values on the way between a notebook and a worker: one pickle, so that what they share stays shared.

Functions keep their notebook: one that arrives looks its globals up in the namespace it arrived in, as if it had been
defined there. So a cell may replace what a notebook's function uses, and the other way round.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from contextvars import ContextVar
from functools import partial
from types import FunctionType
from typing import Any

import cloudpickle

from dcengine.buffered import PROTOCOL
from dcengine.modules import ship_local_modules_by_value

from .references import RemoteReference
from .still_widget import still, widget_class

_here: ContextVar[dict[str, Any] | None] = ContextVar("dcengine_namespace", default=None)


def pack_for_worker(
    values: Mapping[str, Any],
    namespace: Mapping[str, Any],
    hidden: Set[str] = frozenset(),
    places: dict[str, str] | None = None,
) -> bytes:
    """Return *values* of the notebook's *namespace* as one parcel; raises whatever their pickling raises.

    Functions bring along what they use, but for *hidden* names, which every shell has its own values for. Of what
    stays in sessions, the names of these are put into *places*.
    """
    return _packed(partial(OutgoingPacker, places=places), values, namespace, hidden)


def pack_for_notebook(values: Mapping[str, Any], namespace: Mapping[str, Any], known: Set[str] = frozenset()) -> bytes:
    """Return *values* of a cell's *namespace* as one parcel; raises whatever their pickling raises.

    Functions come without what they use if the notebook will know all these names; else with values of their own.
    """
    return _packed(ReturningPacker, values, namespace, known)


def _packed(
    kind: Callable[..., Packer], values: Mapping[str, Any], namespace: Mapping[str, Any], known: Set[str]
) -> bytes:
    ship_local_modules_by_value()
    buffer = io.BytesIO()
    kind(buffer, namespace, known).dump(dict(values))
    return buffer.getvalue()


def unpack(parcel: bytes, namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the values in *parcel*; their functions belong to *namespace*, which gets what these need."""
    token = _here.set(namespace)
    try:
        values: dict[str, Any] = cloudpickle.loads(parcel)
    finally:
        _here.reset(token)
    return values


def reason_against(pack: Callable[[], object], value: object) -> str:
    """Return why *pack* fails for *value*, empty if it does not."""
    try:
        pack()
    except Exception as error:
        return f"a {type(value).__name__}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    return ""


def held(key: str) -> Any:
    """Return the value that stays as *key* in the session that this process is."""
    from .lasting import held

    return held(key)


class Namespace(dict[str, Any]):
    """Stands for the globals of a function in a parcel; becomes the receiver's own namespace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _receiving_namespace, ()


def _receiving_namespace() -> dict[str, Any]:
    namespace = _here.get()
    return {} if namespace is None else namespace


class Packer(cloudpickle.Pickler, ABC):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles values of *namespace*, its functions linked to that of the receiver, who has *known* names."""

    def __init__(self, file: io.BytesIO, namespace: Mapping[str, Any], known: Set[str]) -> None:
        super().__init__(file, PROTOCOL)
        self._namespace, self._known = namespace, known
        self._linked = Namespace()

    def reducer_override(self, value: Any) -> Any:
        """Reduce functions of the namespace in our way; called by pickle for each object."""
        if isinstance(value, FunctionType) and value.__globals__ is self._namespace:
            return self._function(value)
        return super().reducer_override(value)

    @abstractmethod
    def _function(self, function: FunctionType) -> Any:
        """Reduce a function of the namespace."""

    def _reduced(self, function: FunctionType, globals: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return *function* reduced, to be made with *globals*, and the names that it brings along for them."""
        self.globals_ref[id(function.__globals__)] = globals  # cloudpickle looks there first
        reduced = super().reducer_override(function)
        if isinstance(reduced, tuple):
            return reduced, reduced[2][1]["__globals__"]
        return reduced, {}  # it can be imported


class OutgoingPacker(Packer):
    """Packs for a worker, whose namespace is new, or a session's."""

    def __init__(
        self, file: io.BytesIO, namespace: Mapping[str, Any], known: Set[str], places: dict[str, str] | None = None
    ) -> None:
        super().__init__(file, namespace, known)
        self._places = {} if places is None else places

    def reducer_override(self, value: Any) -> Any:
        """Reduce what stands for a value in a session to that value there; called by pickle for each object."""
        if isinstance(value, RemoteReference):
            self._places[value._session] = value._name
            return held, (value._stayed.key,)
        return super().reducer_override(value)

    def _function(self, function: FunctionType) -> Any:
        reduced, brought = self._reduced(function, self._linked)
        for name in self._known & brought.keys():
            del brought[name]
        return reduced


class ReturningPacker(Packer):
    """Packs for the notebook, whose namespace must not get what nobody asked for."""

    def __init__(self, file: io.BytesIO, namespace: Mapping[str, Any], known: Set[str]) -> None:
        super().__init__(file, namespace, known)
        self._alone: dict[str, Any] = {}  #: globals of functions that need what the notebook lacks
        self._widget = widget_class()

    def reducer_override(self, value: Any) -> Any:
        """Reduce widgets, which live only here, to how they are now; called by pickle for each object."""
        return still(value) if isinstance(value, self._widget) else super().reducer_override(value)

    def _function(self, function: FunctionType) -> Any:
        reduced, brought = self._reduced(function, self._linked)
        if brought.keys() <= self._known:
            brought.clear()  # the notebook's own are as good, and newer
            return reduced
        return self._reduced(function, self._alone)[0]
