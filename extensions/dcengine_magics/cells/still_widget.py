"""What comes back of a widget that a remote cell made: it lives in the front end, its object ended with the cell."""

from __future__ import annotations

import sys
from typing import Any

from dcengine.runner.displays import WIDGET_VIEW


class StillWidget:
    """A widget as it was when its cell ended: its values, and how it is shown again."""

    def __init__(self, looks: dict[str, Any], values: dict[str, Any]) -> None:
        self._looks, self._values = looks, values

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"{name!r}; this is a widget as it was when its remote cell ended: it has values only")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._values})

    def __repr__(self) -> str:
        return str(self._looks["text/plain"])

    def __reduce__(self) -> tuple[Any, ...]:
        return StillWidget, (self._looks, self._values)

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return dict(self._looks)


def widget_class() -> Any:
    """Return the class of widgets, or an empty tuple in a process that has none; for `isinstance`."""
    return getattr(sys.modules.get("ipywidgets.widgets.widget"), "Widget", ())


def still(widget: Any) -> tuple[Any, ...]:
    """Return *widget* reduced, as pickle takes it, to what comes back of it."""
    values = {name: _solid(one) for name, one in widget.get_state().items() if not name.startswith("_")}
    if widget.has_trait("value"):  # as Python knows it: a front end may know it by its place in a list
        values["value"] = _solid(widget.value)
    looks = {"text/plain": repr(widget), WIDGET_VIEW: widget.get_view_spec()}
    return StillWidget, (looks, values)


def _solid(value: Any) -> Any:
    """Return *value* with bytes instead of views of them, which do not travel."""
    if isinstance(value, memoryview):
        return value.tobytes()
    if type(value) in (list, tuple):
        return type(value)(map(_solid, value))
    if isinstance(value, dict):
        return {key: _solid(one) for key, one in value.items()}
    return value
